"""Spectron: bound the update of a product of two factors (Janson, Oyallon, Belilovsky, 2602.12429).

W = A·B moves by ΔW = ΔA·B + A·ΔB + ΔA·ΔB. With ‖ΔA‖₂ = ‖ΔB‖₂ = ρ ≤ 1, ‖ΔW‖₂ ≤ ρ(‖A‖₂ + ‖B‖₂ + 1). So

    ρ = η / (σ_A + σ_B + 1),     A ← A − ρ·O_A,     B ← B − ρ·O_B,

with O the orthogonal factor of the momentum, keeps ‖ΔW‖₂ ≤ η. σ is one step of a power iteration whose vector is kept
from step to step: an estimate from below, so the bound is not hard in practice (nor is O exactly orthogonal).
Everything stays on the device. `spectron_update` is the whole rule; what it needs stands below it.

Shape suffixes: K matrices of a batch, O rows, I columns, R rank, N numbers of a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-30  # keeps a zero matrix from dividing by zero
START_STEPS = 20  # leaves the first estimate within a few percent for Gaussian matrices


def _alone(part: Tensor) -> Tensor:
    return part


@dataclass(frozen=True, slots=True)
class SpectronStep:
    """What one step leaves: the moved factors, and what the rule remembers."""

    factors: list[Tensor]
    momentum_N: Tensor
    vectors: list[Tensor]


def spectron_update(
    factors: Sequence[Tensor],
    gradient_N: Tensor,
    momentum_N: Tensor,
    vectors: Sequence[Tensor],
    *,
    lr: float,
    beta: float,
    nesterov: bool,
    batches: Callable[[Tensor], Sequence[Tensor]],
    orthogonal: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    total: Callable[[Tensor], Tensor] = _alone,
    scales: Sequence[float] | None = None,
    weight_decay: float = 0.0,
    spectral_weight_decay: float = 0.0,
) -> SpectronStep:
    """One step of Spectron (arXiv 2602.12429, its algorithm; the numbers are its steps). Changes none of its inputs.

    Args:
        factors: batches of same-shaped factors in pairs: A (K, O, R), B (K, R, I), A, B, ...; or a rank's rows of them.
        gradient_N, momentum_N: of all factors, as one buffer each.
        vectors: for every batch the vectors of its power iterations (K, O), kept from the last step.
        lr: η, the most that a product may move in spectral norm.
        beta, nesterov: of the average of the gradients.
        batches: the batches of a buffer, laid out like `factors`.
        orthogonal: the orthogonal factors of the directions (Newton–Schulz); an ablation normalises them instead.
        total: adds up over the ranks that share the rows of a matrix.
        scales: per batch a factor on its steps; above one the bound does not hold. None: one.
        weight_decay: W ← W − lr·weight_decay·W, off in the paper.
        spectral_weight_decay: the same on the leading direction alone, W ← W − lr·spectral_weight_decay·σ u vᵀ; ours.
    """
    momentum_N = momentum_N.lerp(gradient_N, 1 - beta)  # 1: M ← βM + (1−β)G
    direction_N = gradient_N.lerp(momentum_N, beta) if nesterov else momentum_N  # 1: as in the public code
    moves = orthogonal(batches(direction_N))  # 2: O ← orthogonalise(M)
    leading = [power_step(w, u, total=total) for w, u in zip(factors, vectors, strict=True)]  # 3: u, v, σ of A, B
    kept = list(factors)
    if spectral_weight_decay:
        kept = [shrink(w, *own, share=lr * spectral_weight_decay) for w, own in zip(kept, leading, strict=True)]
    if weight_decay:
        kept = [w * (1 - lr * weight_decay) for w in kept]
    moved = []
    for i, (w, move) in enumerate(zip(kept, moves, strict=True)):
        sigma_a_K, sigma_b_K = (leading[side][2] for side in (i - i % 2, i - i % 2 + 1))
        rho_K = step_size(sigma_a_K, sigma_b_K, lr=lr)  # ρ = η / (σ_A + σ_B + 1)
        moved.append(w.addcmul(move, rho_K[:, None, None], value=-(scales[i] if scales else 1.0)))  # 4: A ← A − ρ O_A
    return SpectronStep(moved, momentum_N, [u_KO for u_KO, _, _ in leading])


def shrink(w_KOI: Tensor, u_KO: Tensor, v_KI: Tensor, sigma_K: Tensor, *, share: float) -> Tensor:
    """W − share·σ u vᵀ: less of the leading direction."""
    leading_KO1 = (u_KO * sigma_K[:, None])[:, :, None]
    return w_KOI.baddbmm(leading_KO1, v_KI[:, None], alpha=-share)


def power_step(
    w_KOI: Tensor, u_KO: Tensor, *, total: Callable[[Tensor], Tensor] = _alone
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


def leading_vectors(w_KOI: Tensor, *, total: Callable[[Tensor], Tensor] = _alone) -> Tensor:
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
