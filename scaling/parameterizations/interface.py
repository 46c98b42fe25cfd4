"""What a parameterization is: which tensors stand for one matrix (out × in), and how they apply.

Counting, price, memory, the trainer, sharding, export and serving know a structure through this interface alone. Its
facts (tensors, counts, products) need no torch; what computes uses tensor methods and loads torch in function bodies.
There is no module here: `training/linear.py` holds the one that every structure uses.

Shape suffixes: O out, I in, ... any batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Generator, Tensor

HELPER = "helper"  # the name of a dense helper in every structure that takes one


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a structure. Its name is part of every checkpoint.

    Attributes:
        name: `weight`; `a`, `b`; `helper`.
        shape: its size.
        role: `trained`; `helper`: trained while it helps and no part of the model; `buffer`: fixed.
    """

    name: str
    shape: tuple[int, ...]
    role: Literal["trained", "helper", "buffer"] = "trained"

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Product:
    """One kernel of the forward pass: x (rows × inputs) times a matrix (outputs × inputs), `blocks` of them at once."""

    name: str  # the tensor it multiplies by
    outputs: int
    inputs: int
    blocks: int = 1

    @property
    def weights(self) -> int:
        """Numbers of the matrix."""
        return self.blocks * self.outputs * self.inputs


@dataclass(frozen=True, slots=True)
class Matrix:
    """A tensor as an optimizer sees it: `blocks` matrices (fan_out × fan_in) that rates scale by."""

    tensor: str
    fan_out: int
    fan_in: int
    blocks: int = 1


@dataclass(frozen=True, slots=True)
class Stepped:
    """What an optimizer steps together.

    `alone`: one tensor; `pair`: the two factors A, B of a product A·B, in this order; `elementwise`: not as a matrix,
    by AdamW with embedding, head and norms.
    """

    kind: Literal["alone", "pair", "elementwise"]
    matrices: tuple[Matrix, ...]


class Parameterization(ABC):
    """One structure with its options, for a matrix of any size.

    An implementation is a frozen dataclass: its fields are its typed options. What is derived here (`params`, `flops`,
    `bytes`, `trained_matrices`) follows from `tensors`, `products` and `matrices`.

    Attributes:
        name: the word after `parameterization:` in a sweep.
        structured: whether its parameters count as factorized ones (N_fact of the `rank` law) and are served in a
            form of their own.
        mergeable: whether a dense matrix applies the same map (no nonlinearity inside).
        keys: key of a family -> whether a sweep must give it.
    """

    name: ClassVar[str]
    structured: ClassVar[bool]
    mergeable: ClassVar[bool] = True
    keys: ClassVar[Mapping[str, bool]] = {}

    @abstractmethod
    def tensors(self, outputs: int, inputs: int) -> tuple[TensorSpec, ...]:
        """The tensors, in the order in which they are parameters of a module."""

    @abstractmethod
    def products(self, outputs: int, inputs: int) -> tuple[Product, ...]:
        """The matrix products of one forward pass in order, without a helper."""

    @abstractmethod
    def saved(self, outputs: int, inputs: int) -> int:
        """Numbers per token kept for the backward pass beside the input and the output of the map."""

    @abstractmethod
    def matrices(self, outputs: int, inputs: int) -> tuple[Stepped, ...]:
        """What an optimizer steps, helpers left out: each of those is one matrix alone."""

    @abstractmethod
    def problem(self, outputs: int, inputs: int) -> str | None:
        """What options this matrix would allow, where it does not allow these; None where all is well."""

    @abstractmethod
    def apply(self, tensors: Mapping[str, Tensor], x: Tensor, *, guide: Tensor | None = None) -> Tensor:
        """x (..., in) -> (..., out).

        Args:
            tensors: by the names of `tensors`.
            x: the input.
            guide: share of the helper in the answer, a number on the device; None: the helper is off.
        """

    @abstractmethod
    def transpose_apply(self, tensors: Mapping[str, Tensor], y: Tensor) -> Tensor:
        """y (..., out) -> (..., in): the transposed map without a helper, for norms from products."""

    @abstractmethod
    def start(self, w_OI: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Every tensor at the start of a training.

        Args:
            w_OI: the dense initialisation; structures of one seed all start from the same one.
            generator: a stream of this matrix alone, keyed by the seed and the layer's name.
        """

    @abstractmethod
    def merged(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The dense matrix (out × in) that applies the same map without a helper; asked only where `mergeable`."""

    def params(self, outputs: int, inputs: int) -> int:
        """Trained numbers, helpers left out."""
        return sum(t.size for t in self.tensors(outputs, inputs) if t.role == "trained")

    def structured_params(self, outputs: int, inputs: int) -> int:
        """How many of `params` are structured."""
        return self.params(outputs, inputs) if self.structured else 0

    def helper_params(self, outputs: int, inputs: int) -> int:
        """Numbers of the helpers."""
        return sum(t.size for t in self.tensors(outputs, inputs) if t.role == "helper")

    def flops(self, outputs: int, inputs: int) -> int:
        """FLOPs of one token's forward pass: two per number of every product."""
        return 2 * sum(product.weights for product in self.products(outputs, inputs))

    def bytes(self, outputs: int, inputs: int, *, value_bytes: int) -> int:
        """Bytes of the matrices that a forward pass reads."""
        return value_bytes * sum(product.weights for product in self.products(outputs, inputs))

    def trained_matrices(self, outputs: int, inputs: int) -> list[tuple[int, int]]:
        """(rows, columns) of every matrix that an optimizer steps as one."""
        return [
            (matrix.fan_out, matrix.fan_in)
            for stepped in self.matrices(outputs, inputs)
            if stepped.kind != "elementwise"
            for matrix in stepped.matrices
            for _ in range(matrix.blocks)
        ]
