"""Many parameters in one buffer, their gradients in another.

Modules keep their own parameters; each is a view into `values`, its `.grad` a view into `gradients`. Matrices that the
update rule treats alike lie side by side, so a stack of k matrices is a view too and one batched product serves them
all; zeroing, the gradient norm and AdamW are one operation over everything. Gradients are therefore zeroed, never set
to None.

Shape suffixes: K matrices of a stack, N numbers of a buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

from scaling.parameterizations import HELPER
from scaling.training.linear import Linear
from scaling.training.model import Decoder
from scaling.training.orthogonal import orthogonalise

ALIGNMENT = 16  # float32 numbers: every stack starts on a cache line of 64 bytes
Named = list[tuple[str, Tensor]]
Sizes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Groups:
    """The parameters of a model, as the update rules see them.

    Attributes:
        others: embedding, head, norms: always AdamW.
        matrices: lists of equal shape, those stepped alone first. The rest are pairs of lists, A then B, in the same
            order.
        helpers: dense helpers of self-guided training, lists of equal shape.
        factorized: whether all matrices are pairs of factors.
    """

    others: Named
    matrices: list[Named]
    helpers: list[Named]
    factorized: bool


def group(model: Decoder) -> Groups:
    """The groups of a model; the order depends on the shape alone."""
    alone: dict[Sizes, list[Named]] = {}
    pairs: dict[Sizes, list[Named]] = {}
    helpers: dict[Sizes, list[Named]] = {}
    for name, layer in model.hidden().items():
        for stepped in layer.structure.matrices(layer.outputs, layer.inputs):
            assert all(matrix.blocks == 1 for matrix in stepped.matrices), "stacks hold whole matrices"
            if stepped.kind != "elementwise":
                members = [matrix.tensor for matrix in stepped.matrices]
                _stack(alone if stepped.kind == "alone" else pairs, layer, name, members)
        if HELPER in layer.tensors:
            _stack(helpers, layer, name, [HELPER])
    stacks = [[stack for side in kind.values() for stack in side] for kind in (alone, pairs, helpers)]
    taken = {name for kind in stacks for stack in kind for name, _ in stack}
    others: Named = [(name, p) for name, p in model.named_parameters() if name not in taken]
    return Groups(others, stacks[0] + stacks[1], stacks[2], factorized=bool(pairs) and not alone)


def _stack(stacks: dict[Sizes, list[Named]], layer: Linear, name: str, members: Sequence[str]) -> None:
    """Add tensors that are stepped together to the lists of their sizes."""
    sizes = tuple(tuple(layer.tensors[member].shape) for member in members)
    for stack, member in zip(stacks.setdefault(sizes, [[] for _ in members]), members, strict=True):
        stack.append((f"{name}.{member}", layer.tensors[member]))


class Flat:
    """Parameters of several stacks as views of `values`, their gradients as views of `gradients`.

    Args:
        stacks: lists of named parameters of equal shape, all on one device and of one dtype.
    """

    def __init__(self, stacks: Sequence[Named]) -> None:
        self.names = [[name for name, _ in stack] for stack in stacks]
        self.rows = [stack[0][1].shape[0] for stack in stacks]
        self.shapes = [(len(stack), *stack[0][1].shape) for stack in stacks]
        sizes = [math.prod(shape) for shape in self.shapes]
        self.offsets = list(accumulate((-(-size // ALIGNMENT) * ALIGNMENT for size in sizes), initial=0))
        like = stacks[0][0][1]
        self.values, self.gradients = (like.detach().new_zeros(self.offsets[-1]) for _ in range(2))
        self._bind(stacks)

    def _bind(self, stacks: Sequence[Named]) -> None:
        for stack, values, gradients in zip(stacks, self.views(self.values), self.views(self.gradients), strict=True):
            for (_, parameter), value, gradient in zip(stack, values, gradients, strict=True):
                value.copy_(parameter.detach())
                parameter.data, parameter.grad = value, gradient

    def refresh(self) -> None:
        """The parameters have new values: views have them already."""

    def load(self) -> None:
        """A backward pass is over: views have the gradients already."""

    def store(self) -> None:
        """`values` have moved: so have the views."""

    def zero(self) -> None:
        """Set every gradient to zero."""
        self.gradients.zero_()

    def total(self, tensor: Tensor) -> Tensor:
        """A sum over rows is whole where all rows are here."""
        return tensor

    def whole(self, stack_K: Tensor, rows: int) -> Tensor:
        """All `rows` of a stack: they are here."""
        return stack_K

    def own(self, tensor: Tensor) -> Tensor:
        """The part of a parameter's tensor that is here: all of it."""
        return tensor

    def orthogonalise(self, stacks_KOI: Sequence[Tensor], *, steps: int) -> list[Tensor]:
        """The orthogonal factors of stacks laid out like `values`."""
        return orthogonalise(stacks_KOI, steps=steps)

    def views(self, buffer_N: Tensor) -> list[Tensor]:
        """The stacks (K, ...) of a buffer laid out like `values`."""
        pairs = zip(self.offsets[:-1], self.shapes, strict=True)
        return [buffer_N[offset : offset + math.prod(shape)].view(shape) for offset, shape in pairs]

    def named(self, stacks: Sequence[Tensor]) -> dict[str, Tensor]:
        """The members of stacks (K, ...) by parameter name, as views of what is here."""
        pairs = zip(self.names, stacks, strict=True)
        return {name: member for names, stack in pairs for name, member in zip(names, stack, strict=True)}
