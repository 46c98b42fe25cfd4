"""Linear maps, dense or factorized.

A dense map is y = W x with W (out × in). A factorized one is y = A (B x) with A (out × r) and B (r × in): r·(out + in)
parameters and 2·r·(out + in) FLOPs per token instead of 2·out·in. Both start from the same dense matrix: the factors
are its truncated singular value decomposition W = U S Vᵀ with the spectrum split evenly, A = U √S, B = √S Vᵀ (Janson et
al. 2602.12429).

Self-guided training (Wei et al. 2406.16450) adds a dense helper that fades: y = g·W x + (1 − g)·A (B x), g from 1 to 0.

Shape suffixes: O out, I in, R rank.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def split(w_OI: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors A (out × rank), B (rank × in) of the best rank-`rank` approximation of `w_OI`, with equal spectra.

    The decomposition is done in float64 on CPUs, in float32 elsewhere.
    """
    assert 1 <= rank <= min(w_OI.shape), (rank, w_OI.shape)
    precise = w_OI.double() if w_OI.device.type == "cpu" else w_OI.float()
    u_OK, s_K, vh_KI = torch.linalg.svd(precise, full_matrices=False)
    root_R = s_K[:rank].sqrt()
    return (u_OK[:, :rank] * root_R).to(w_OI.dtype), (root_R[:, None] * vh_KI[:rank]).to(w_OI.dtype)


class Dense(nn.Module):
    """y = W x. Parameter: `weight` (out × in)."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return F.linear(x, self.weight)

    @torch.no_grad()
    def set_dense(self, w_OI: Tensor) -> None:
        """Start from `w_OI`."""
        self.weight.copy_(w_OI)

    def merged(self) -> Tensor:
        """The matrix this map applies, out × in."""
        return self.weight.detach()


class LowRank(nn.Module):
    """y = A (B x). Parameters: `a` (out × rank), `b` (rank × in), and, when guided, `helper` (out × in)."""

    def __init__(self, outputs: int, inputs: int, rank: int, *, guided: bool = False) -> None:
        super().__init__()
        assert 1 <= rank <= min(outputs, inputs), (rank, outputs, inputs)
        self.a = nn.Parameter(torch.empty(outputs, rank))
        self.b = nn.Parameter(torch.empty(rank, inputs))
        self.helper = nn.Parameter(torch.empty(outputs, inputs)) if guided else None
        self.guide: Tensor | None = None  # share of the helper, a number on the device; None: the helper is off

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        y = F.linear(F.linear(x, self.b), self.a)
        if self.guide is None or self.helper is None:
            return y
        return torch.lerp(y, F.linear(x, self.helper), self.guide.to(y.dtype))

    @torch.no_grad()
    def set_dense(self, w_OI: Tensor) -> None:
        """Start from the split of `w_OI`; a helper starts from `w_OI` itself."""
        a_OR, b_RI = split(w_OI, self.a.shape[1])
        self.a.copy_(a_OR)
        self.b.copy_(b_RI)
        if self.helper is not None:
            self.helper.copy_(w_OI)

    def merged(self) -> Tensor:
        """The matrix A·B that this map applies without its helper, out × in."""
        return self.a.detach() @ self.b.detach()
