"""A dense matrix: y = W x, W (out × in)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from scaling.parameterizations.interface import Matrix, Parameterization, Product, Stepped, TensorSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Dense(Parameterization):
    """Tensor: `weight` (out × in). No options."""

    name: ClassVar[str] = "dense"
    structured: ClassVar[bool] = False

    def tensors(self, outputs: int, inputs: int) -> tuple[TensorSpec, ...]:
        """The matrix itself."""
        return (TensorSpec("weight", (outputs, inputs)),)

    def products(self, outputs: int, inputs: int) -> tuple[Product, ...]:
        """One."""
        return (Product("weight", outputs, inputs),)

    def saved(self, outputs: int, inputs: int) -> int:
        """Nothing between input and output."""
        return 0

    def matrices(self, outputs: int, inputs: int) -> tuple[Stepped, ...]:
        """The matrix, alone."""
        return (Stepped("alone", (Matrix("weight", outputs, inputs),)),)

    def problem(self, outputs: int, inputs: int) -> str | None:
        """Every size is possible."""
        return None

    def apply(self, tensors: Mapping[str, Tensor], x: Tensor, *, guide: Tensor | None = None) -> Tensor:
        """x Wᵀ."""
        return x @ tensors["weight"].mT

    def transpose_apply(self, tensors: Mapping[str, Tensor], y: Tensor) -> Tensor:
        """y W."""
        return y @ tensors["weight"]

    def start(self, w_OI: Tensor, generator: Generator) -> dict[str, Tensor]:
        """The dense initialisation."""
        return {"weight": w_OI}

    def merged(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The matrix."""
        return tensors["weight"]


DENSE = Dense()
