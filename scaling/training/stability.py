"""How large the matrices and their updates are: the picture of a run's stability.

Spectron promises that a product W = A·B moves by at most the rate per step, ‖ΔW‖₂ ≤ η, with an estimated σ and an
approximate orthogonal factor; so ‖ΔW‖₂ / η, ‖W‖₂ and the gradient's norm are measured at a few steps of every run and
their largest values reported: a norm that swelled and shrank again before the end is seen too. Dense matrices are
measured the same way.

No product is formed. ΔW v = ΔA (B v) + A (ΔB v) + ΔA (ΔB v) is the map of the moved tensors less that of the old ones,
so a measurement holds the hidden tensors once more, and besides them one matrix at a time (small ones in batches).

Shape suffixes: K matrices of one shape, O rows, I columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from scaling.parameterizations import DENSE, HELPER, Parameterization
from scaling.sweeps.memory import MEASURED_NUMBERS
from scaling.training.linear import Linear
from scaling.training.model import Decoder
from scaling.training.spectron import TINY

SAMPLED = ("update_norm_over_lr", "matrix_norm", "grad_norm")
POWER_STEPS = 12  # an estimate from below, within a few percent unless the two largest values are close

Tensors = Mapping[str, Tensor]  # those of one structure by name, (K, ...)


@dataclass(frozen=True)
class Alike:
    """Maps of one structure and size, K at once: their tensors and, where an update is meant, those before it."""

    structure: Parameterization
    inputs: int
    tensors: Tensors
    before: Tensors | None

    def apply(self, x_KI: Tensor) -> Tensor:
        """W x or ΔW x, (K, O)."""
        return self._both(self.structure.apply, x_KI)

    def transpose_apply(self, y_KO: Tensor) -> Tensor:
        """Wᵀ y or ΔWᵀ y, (K, I)."""
        return self._both(self.structure.transpose_apply, y_KO)

    def _both(self, product: Callable[[Tensors, Tensor], Tensor], x: Tensor) -> Tensor:
        y = product(self.tensors, x[:, None])[:, 0]
        return y if self.before is None else y - product(self.before, x[:, None])[:, 0]

    def norm(self) -> Tensor:
        """The largest spectral norm, by power iteration from the sum of the columns and the first one."""
        start_KI = next(iter(self.tensors.values())).new_ones(len(next(iter(self.tensors.values()))), self.inputs)
        start_KI[:, 0] += 1
        u_KO = self.apply(start_KI)
        for _ in range(POWER_STEPS):
            v_KI = self.transpose_apply(u_KO)
            v_KI /= torch.linalg.vector_norm(v_KI, dim=1, keepdim=True).clamp_min(TINY)
            wv_KO = self.apply(v_KI)
            size_K1 = torch.linalg.vector_norm(wv_KO, dim=1, keepdim=True)
            u_KO = torch.where(size_K1 > 0, wv_KO / size_K1, u_KO)
        largest: Tensor = size_K1.max()
        return largest


def spectral_norm(layers: Sequence[Linear], before: Sequence[Tensors] | None = None) -> Tensor:
    """The largest spectral norm of all maps without their helpers, or of their changes since `before`; a number on the
    device, estimated by power iteration from a fixed start.
    """
    return torch.stack([alike.norm() for alike in batches(layers, before)]).max()


def batches(layers: Sequence[Linear], before: Sequence[Tensors] | None = None) -> Iterator[Alike]:
    """Maps of one structure and size together, as many as stay below `MEASURED_NUMBERS`."""
    kinds: dict[tuple[Parameterization, int, int], list[int]] = {}
    for index, layer in enumerate(layers):
        kinds.setdefault((layer.structure, layer.outputs, layer.inputs), []).append(index)
    for (structure, outputs, inputs), members in kinds.items():
        at_once = max(1, MEASURED_NUMBERS // structure.params(outputs, inputs))
        for first in range(0, len(members), at_once):
            some = members[first : first + at_once]
            now = _together([own_tensors(layers[i]) for i in some])
            yield Alike(structure, inputs, now, None if before is None else _together([before[i] for i in some]))


def own_tensors(layer: Linear) -> Tensors:
    """The tensors of a map, detached, without a helper."""
    return {name: tensor.detach() for name, tensor in layer.tensors.items() if name != HELPER}


def _together(members: Sequence[Tensors]) -> Tensors:
    if len(members) == 1:
        return {name: tensor[None] for name, tensor in members[0].items()}
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


def largest_factor_norm(layers: Sequence[Linear]) -> Tensor | None:
    """The largest spectral norm of all factors of products; None where there are none."""
    factors = [Alike(DENSE, f.shape[1], {"weight": f[None]}, None).norm() for one in layers for f in one.factors()]
    return torch.stack(factors).max() if factors else None


def is_measured(step: int) -> bool:
    """The first eight steps and four of every doubling: the same steps however long the run is, so that runs can share
    a trunk.
    """
    return step % (1 << max(0, step.bit_length() - 3)) == 0


class Stability:
    """Measures the updates of some steps, of none with `measures` off. Measured norms stay on the device.

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
        gradient, size = grad_norm(), spectral_norm(layers)
        before = [{name: tensor.clone() for name, tensor in own_tensors(layer).items()} for layer in layers]
        yield
        self.steps.append(step)
        self.norms.append(torch.stack((spectral_norm(layers, before) / lr, size, gradient)))

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
        values = self.largest(broken=None) | {"matrix_norm": spectral_norm(layers).item()}
        values["largest_matrix_norm"] = max(values.get("largest_matrix_norm", 0.0), values["matrix_norm"])
        factor = largest_factor_norm(layers)
        return values if factor is None else values | {"factor_norm": factor.item()}
