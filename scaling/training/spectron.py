"""Spectron: bound the update of a product of two factors (Janson, Oyallon, Belilovsky, 2602.12429).

W = A·B moves by ΔW = ΔA·B + A·ΔB + ΔA·ΔB. With ‖ΔA‖₂ = ‖ΔB‖₂ = ρ ≤ 1, ‖ΔW‖₂ ≤ ρ(‖A‖₂ + ‖B‖₂ + 1). So

    ρ = η / (σ_A + σ_B + 1),     A ← A − ρ·O_A,     B ← B − ρ·O_B,

with O the orthogonal factor of the momentum, keeps ‖ΔW‖₂ ≤ η. σ is one step of a power iteration whose vector is kept
from step to step: an estimate from below, so the bound is not hard in practice (nor is O exactly orthogonal).
Everything stays on the device.

Shape suffixes: K matrices of a batch, O rows, I columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TINY = 1e-30  # keeps a zero matrix from dividing by zero
START_STEPS = 20  # leaves the first estimate within a few percent for Gaussian matrices


def power_step(
    w_KOI: Tensor, u_KO: Tensor, *, total: Callable[[Tensor], Tensor] = lambda part: part
) -> tuple[Tensor, Tensor, Tensor]:
    """One power iteration per matrix.

    Args:
        w_KOI: the matrices, or this rank's rows of them.
        u_KO: the vectors kept from the last step, unit length over all rows.
        total: adds up over the ranks that share the rows.

    Returns:
        Unit vectors u (K, O) and v (K, I) and the estimate σ (K): v = Wᵀu₀ / ‖Wᵀu₀‖, σ = ‖W v‖, u = W v / σ.
        A matrix that is zero (momentum before the first gradient) keeps its u₀, so that the iteration goes on later.
    """
    v_KI = total(torch.bmm(u_KO.unsqueeze(1), w_KOI).squeeze(1))
    v_KI /= torch.linalg.vector_norm(v_KI, dim=1, keepdim=True).clamp_min(TINY)
    wv_KO = torch.bmm(w_KOI, v_KI.unsqueeze(2)).squeeze(2)
    sigma_K: Tensor = total(wv_KO.square().sum(dim=1)).sqrt()
    size_K1 = sigma_K.unsqueeze(1)
    new_KO: Tensor = torch.where(size_K1 > 0, wv_KO / size_K1, u_KO)
    return new_KO, v_KI, sigma_K


def leading_vectors(w_KOI: Tensor, *, total: Callable[[Tensor], Tensor] = lambda part: part) -> Tensor:
    """Close to the first left singular vector of every matrix (K, O): where the iteration of a run starts.

    `START_STEPS` power steps from the norms of the rows; no random number and no decomposition is needed.
    """
    u_KO: Tensor = torch.linalg.vector_norm(w_KOI, dim=2)
    for _ in range(START_STEPS):
        u_KO, _, _ = power_step(w_KOI, u_KO, total=total)
    return u_KO


def step_size(sigma_a_K: Tensor, sigma_b_K: Tensor, *, lr: float) -> Tensor:
    """ρ = lr / (σ_A + σ_B + 1) for every pair of factors (K)."""
    rho_K: Tensor = lr / (sigma_a_K + sigma_b_K + 1.0)
    return rho_K


def normalise(m_KOI: Tensor, sigma_K: Tensor, *, bound_K: Tensor) -> Tensor:
    """M / ‖M‖₂: the direction of the "renormalise only" ablation.

    σ estimates ‖M‖₂ from below. So does the bound ‖M‖_F / √rank, which keeps a lagging estimate from a huge step.
    """
    return m_KOI / torch.maximum(sigma_K, bound_K).clamp_min(TINY)[:, None, None]
