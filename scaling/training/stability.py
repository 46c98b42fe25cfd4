"""How large the matrices and their updates are: the picture of a run's stability.

Spectron promises that a product W = A·B moves by at most the rate per step, ‖ΔW‖₂ ≤ η, with an estimated σ and an
approximate orthogonal factor; so ‖ΔW‖₂ / η, ‖W‖₂ and the gradient's norm are measured at a few steps of every run and
their largest values reported: a norm that swelled and shrank again before the end is seen too. Dense matrices are
measured the same way.

Shape suffixes: K matrices of one shape, O rows, I columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from scaling.training.model import Decoder
from scaling.training.spectron import power_step

SAMPLED = ("update_norm_over_lr", "matrix_norm", "grad_norm")
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


def is_measured(step: int) -> bool:
    """The first eight steps and four of every doubling: the same steps however long the run is, so that runs can share
    a trunk.
    """
    return step % (1 << max(0, step.bit_length() - 3)) == 0


class Stability:
    """Measures the updates of some steps, of none where told so. Measured norms stay on the device.

    Attributes:
        steps: the steps measured.
        norms: for each of them `SAMPLED`, (3,).
    """

    def __init__(self, *, measures: bool = True) -> None:
        self.measures = measures
        self.steps: list[int] = []
        self.norms: list[Tensor] = []

    @contextmanager
    def watch(self, model: Decoder, step: int, *, lr: float, grad_norm: Callable[[], Tensor]) -> Iterator[None]:
        """Around an update at the rate `lr`: measure it where it is this step's turn."""
        if not (self.measures and is_measured(step)):
            yield
            return
        layers = list(model.hidden().values())
        before = [layer.merged().clone() for layer in layers]
        gradient = grad_norm()
        yield
        moved = [layer.merged() - old for layer, old in zip(layers, before, strict=True)]
        self.steps.append(step)
        self.norms.append(torch.stack((spectral_norm(moved) / lr, spectral_norm(before), gradient)))

    @property
    def newest(self) -> dict[str, float]:
        """The last measurement; empty before the first."""
        return dict(zip(SAMPLED, self.norms[-1].tolist(), strict=True)) if self.norms else {}

    def largest(self, *, broken: int | None) -> dict[str, float]:
        """The largest finite value of each norm, over the steps before `broken` (None: over all of them)."""
        sound = [norms for step, norms in zip(self.steps, self.norms, strict=True) if broken is None or step < broken]
        columns = torch.stack(sound).T.tolist() if sound else []
        finite = ([value for value in column if math.isfinite(value)] for column in columns)
        names = ("update_norm_over_lr", "largest_matrix_norm", "largest_grad_norm")
        return {name: max(values) for name, values in zip(names, finite, strict=False) if values}

    def final(self, model: Decoder) -> dict[str, float]:
        """Of a sound run: spectral norms of the final model, the largest of all matrices and of all factors, and the
        largest norms measured on the way.
        """
        layers = list(model.hidden().values())
        factors = [factor for layer in layers for factor in layer.factors()]
        values = self.largest(broken=None) | {"matrix_norm": spectral_norm([m.merged() for m in layers]).item()}
        values["largest_matrix_norm"] = max(values.get("largest_matrix_norm", 0.0), values["matrix_norm"])
        return values | ({"factor_norm": spectral_norm(factors).item()} if factors else {})
