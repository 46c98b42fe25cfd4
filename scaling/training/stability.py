"""How large the matrices and their updates are: the picture of a run's stability.

Spectron promises that a product W = A·B moves by at most the rate per step, ‖ΔW‖₂ ≤ η, with an estimated σ and an
approximate orthogonal factor; so ‖ΔW‖₂ / η is measured at a few steps of every run and its largest value reported.
Dense matrices are measured the same way.

Shape suffixes: K matrices of one shape, O rows, I columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from scaling.training.linear import LowRank
from scaling.training.model import Decoder
from scaling.training.spectron import power_step

POWER_STEPS = 12  # an estimate from below, within a few percent unless the two largest values are close


def spectral_norm(matrices_OI: Sequence[Tensor]) -> Tensor:
    """The largest of all spectral norms, estimated by power iteration from a fixed start; a number on the device."""
    alike: dict[torch.Size, list[Tensor]] = {}
    for matrix_OI in matrices_OI:
        alike.setdefault(matrix_OI.shape, []).append(matrix_OI)
    largest = []
    for members in alike.values():
        w_KOI = torch.stack(members)
        u_KO = w_KOI.sum(dim=2) + w_KOI[:, :, 0]
        for _ in range(POWER_STEPS):
            u_KO, _, sigma_K = power_step(w_KOI, u_KO)
        largest.append(sigma_K.max())
    return torch.stack(largest).max()


class Stability:
    """Measures the update of every `every`-th step, of none with None."""

    def __init__(self, *, every: int | None) -> None:
        self.every = every
        self.largest_update = 0.0
        self.newest: dict[str, float] = {}

    @contextmanager
    def watch(self, model: Decoder, step: int, *, lr: float) -> Iterator[None]:
        """Around an update at the rate `lr`: measure it where it is this step's turn."""
        if self.every is None or step % self.every:
            yield
            return
        layers = list(model.hidden().values())
        before = [layer.merged().clone() for layer in layers]
        yield
        moved = [layer.merged() - old for layer, old in zip(layers, before, strict=True)]
        norms = torch.stack((spectral_norm(moved) / lr, spectral_norm(before))).tolist()
        self.newest = {"update_norm_over_lr": norms[0], "matrix_norm": norms[1]}
        self.largest_update = max(self.largest_update, norms[0])

    def final(self, model: Decoder) -> dict[str, float]:
        """Spectral norms of the final model: the largest of all matrices, of all factors, and of the updates seen."""
        layers = list(model.hidden().values())
        factors = [f.detach() for layer in layers if isinstance(layer, LowRank) for f in (layer.a, layer.b)]
        values = {
            "matrix_norm": spectral_norm([layer.merged() for layer in layers]).item(),
            "update_norm_over_lr": self.largest_update,
        }
        return values | ({"factor_norm": spectral_norm(factors).item()} if factors else {})
