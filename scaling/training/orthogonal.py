"""The orthogonal factor of a matrix, by Newton–Schulz.

For M = U S Vᵀ the nearest (semi-)orthogonal matrix is U Vᵀ. The quintic iteration X ← aX + b(XXᵀ)X + c(XXᵀ)²X, started
at M / ‖M‖_F, pushes every singular value towards one; Jordan's coefficients (Keller Jordan, "Muon", 2024) trade
exactness for speed: after five steps the values lie in about 0.7–1.2. Only matrix products, so matrices of one shape
are done as one batch.

Shape suffixes: K matrices of a batch, O rows, I columns, S the shorter and L the longer of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Keller Jordan 2024, "Muon"
EPS = 1e-7  # the same source; a zero gradient stays zero


def newton_schulz(m_KSL: Tensor, *, steps: int) -> Tensor:
    """The orthogonal factors of a batch of wide matrices (S ≤ L), approximately, in the dtype given."""
    a, b, c = COEFFICIENTS
    x_KSL: Tensor = m_KSL / torch.linalg.vector_norm(m_KSL, dim=(1, 2), keepdim=True).clamp_min(EPS)
    for _ in range(steps):
        gram_KSS = torch.bmm(x_KSL, x_KSL.mT)
        polynomial_KSS = torch.baddbmm(gram_KSS, gram_KSS, gram_KSS, beta=b, alpha=c)
        x_KSL = torch.baddbmm(x_KSL, polynomial_KSS, x_KSL, beta=a)
    return x_KSL


def orthogonalise(batches_KOI: Sequence[Tensor], *, steps: int) -> list[Tensor]:
    """The orthogonal factors of several batches; shapes that agree up to transposition share one batch.

    Products are float32 on CPUs and bfloat16 elsewhere; the answers come in the dtype of the batches.
    """
    wide = [m.mT if m.shape[1] > m.shape[2] else m for m in batches_KOI]
    alike: dict[torch.Size, list[int]] = {}
    for index, m_KSL in enumerate(wide):
        alike.setdefault(m_KSL.shape[1:], []).append(index)
    answers: list[Tensor] = list(batches_KOI)
    for members in alike.values():
        joined_KSL = torch.cat([wide[i] for i in members]) if len(members) > 1 else wide[members[0]]
        dtype = torch.float32 if joined_KSL.device.type == "cpu" else torch.bfloat16
        done_KSL = newton_schulz(joined_KSL.to(dtype), steps=steps).to(joined_KSL.dtype)
        for i, part in zip(members, torch.split(done_KSL, [len(wide[i]) for i in members]), strict=True):
            answers[i] = part.mT if wide[i] is not batches_KOI[i] else part
    return answers
