"""Spectron: bound the update of a product of two factors (Janson, Oyallon, Belilovsky, 2602.12429).

W = A·B moves by ΔW = ΔA·B + A·ΔB + ΔA·ΔB. With ‖ΔA‖₂ = ‖ΔB‖₂ = ρ ≤ 1, ‖ΔW‖₂ ≤ ρ(‖A‖₂ + ‖B‖₂ + 1). So

    ρ = η / (σ_A + σ_B + 1),     A ← A − ρ·O_A,     B ← B − ρ·O_B,

with O the orthogonal factor of the momentum, keeps ‖ΔW‖₂ ≤ η. σ is one step of a power iteration whose vector is kept
from step to step: an estimate from below, so the bound is not hard in practice (nor is O exactly orthogonal).
Everything stays on the device.

Shape suffixes: K matrices of a batch, O rows, I columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-30  # keeps a zero matrix from dividing by zero


def leading_vectors(w_KOI: Tensor) -> Tensor:
    """The first left singular vector of every matrix (K, O): where the power iteration starts."""
    u_KOO, _, _ = torch.linalg.svd(w_KOI.double(), full_matrices=False)
    first_KO: Tensor = u_KOO[:, :, 0].to(w_KOI.dtype)
    return first_KO.contiguous()


def power_step(w_KOI: Tensor, u_KO: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One power iteration per matrix.

    Returns:
        Unit vectors u (K, O) and v (K, I) and the estimate σ (K): v = Wᵀu₀ / ‖Wᵀu₀‖, σ = ‖W v‖, u = W v / σ.
        A matrix that is zero (momentum before the first gradient) keeps its u₀, so that the iteration goes on later.
    """
    v_KI = torch.bmm(u_KO.unsqueeze(1), w_KOI).squeeze(1)
    v_KI = v_KI / torch.linalg.vector_norm(v_KI, dim=1, keepdim=True).clamp_min(TINY)
    wv_KO = torch.bmm(w_KOI, v_KI.unsqueeze(2)).squeeze(2)
    sigma_K = torch.linalg.vector_norm(wv_KO, dim=1)
    size_K1 = sigma_K.unsqueeze(1)
    return torch.where(size_K1 > 0, wv_KO / size_K1, u_KO), v_KI, sigma_K


def step_size(sigma_a_K: Tensor, sigma_b_K: Tensor, *, lr: float) -> Tensor:
    """ρ = lr / (σ_A + σ_B + 1) for every pair of factors (K)."""
    return lr / (sigma_a_K + sigma_b_K + 1.0)


def normalise(m_KOI: Tensor, sigma_K: Tensor) -> Tensor:
    """M / ‖M‖₂: the direction of the "renormalise only" ablation.

    σ estimates ‖M‖₂ from below; ‖M‖_F / √rank is a lower bound too, and keeps a lagging estimate from a huge step.
    """
    bound_K = torch.linalg.vector_norm(m_KOI, dim=(1, 2)) * min(m_KOI.shape[1:]) ** -0.5
    return m_KOI / torch.maximum(sigma_K, bound_K).clamp_min(TINY)[:, None, None]
