"""Buffers of parameters whose rows are spread over ranks (FSDP2).

Every rank holds consecutive rows of every parameter, as `torch.chunk` cuts them, so averages and steps are local. What
needs whole matrices is done together:

- a power step sums Wᵀu and ‖W v‖² over the ranks: two messages for a stack, whatever its size;
- for the orthogonal factor every matrix is sent to one owner, which has the matrices of its share whole, and sent back:
  two messages for all stacks, each rank orthogonalising 1 / world of the matrices.

Shape suffixes: K matrices of a stack, L rows of this rank, O all rows, I columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from scaling.training.flat import Flat, Named
from scaling.training.orthogonal import orthogonalise


def row_counts(rows: int, world: int) -> list[int]:
    """Rows of each rank when `rows` are cut as `torch.chunk` does: equal parts, the last ones shorter or empty."""
    part = -(-rows // world)
    return [max(0, min(part, rows - rank * part)) for rank in range(world)]


def own_rows(tensor: Tensor, *, rank: int, world: int) -> Tensor:
    """The rows of `tensor` that `rank` holds."""
    counts = row_counts(tensor.shape[0], world)
    return tensor.narrow(0, sum(counts[:rank]), counts[rank])


class ShardedFlat(Flat):
    """This rank's rows of several stacks: copies, loaded before a step and stored after it."""

    def __init__(self, stacks: Sequence[Named], *, rank: int, world: int) -> None:
        self.parameters = [[parameter for _, parameter in stack] for stack in stacks]
        self.rank, self.world = rank, world
        super().__init__([[(name, _local(p)) for name, p in stack] for stack in stacks])
        self.rows = [stack[0][1].shape[0] for stack in stacks]  # of all ranks together

    def _bind(self, stacks: Sequence[Named]) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Take over the parameters' values."""
        for stack, values in zip(self.parameters, self.views(self.values), strict=True):
            for parameter, value in zip(stack, values, strict=True):
                value.copy_(_local(parameter))

    def load(self) -> None:
        """Take over the gradients of the last backward pass."""
        for stack, gradients in zip(self.parameters, self.views(self.gradients), strict=True):
            for parameter, gradient in zip(stack, gradients, strict=True):
                if parameter.grad is None:
                    gradient.zero_()
                else:
                    gradient.copy_(_local(parameter.grad))

    def store(self) -> None:
        """Give the values to the parameters."""
        for stack, values in zip(self.parameters, self.views(self.values), strict=True):
            for parameter, value in zip(stack, values, strict=True):
                _local(parameter).copy_(value)

    def zero(self) -> None:
        """Forget the gradients."""
        for stack in self.parameters:
            for parameter in stack:
                parameter.grad = None

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        dist.all_reduce(tensor)
        return tensor

    def whole(self, stack_KL: Tensor, rows: int) -> Tensor:
        """All rows of a stack (K, O, ...) from this rank's (K, L, ...); numbers per matrix (K) are whole already."""
        if stack_KL.dim() < 2:
            return stack_KL
        counts = row_counts(rows, self.world)
        padded = stack_KL.new_zeros(stack_KL.shape[0], counts[0], *stack_KL.shape[2:])
        padded[:, : stack_KL.shape[1]] = stack_KL
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:, :count] for part, count in zip(parts, counts, strict=True)], dim=1)

    def own(self, tensor: Tensor) -> Tensor:
        """This rank's rows of the whole tensor of one parameter."""
        return own_rows(tensor, rank=self.rank, world=self.world) if tensor.dim() else tensor

    def orthogonalise(self, stacks_KLI: Sequence[Tensor], *, steps: int) -> list[Tensor]:
        """The orthogonal factors of stacks spread by rows; matrix i of stack s belongs to rank (i + s) mod world."""
        shares = [[self._share(s, owner, len(stack)) for s, stack in enumerate(stacks_KLI)] for owner in self._ranks()]
        mine = shares[self.rank]
        outgoing = [[stack[share] for stack, share in zip(stacks_KLI, theirs, strict=True)] for theirs in shares]
        incoming = self._exchange(outgoing, [self._shapes(stacks_KLI, mine, source) for source in self._ranks()])
        matrices = [torch.cat(parts, dim=1) for parts in zip(*incoming, strict=True)]
        done = orthogonalise(matrices, steps=steps)
        back = [
            [torch.split(m, row_counts(rows, self.world), dim=1)[rank] for m, rows in zip(done, self.rows, strict=True)]
            for rank in self._ranks()
        ]
        returned = self._exchange(back, [self._shapes(stacks_KLI, theirs, self.rank) for theirs in shares])
        answers = [torch.empty_like(stack) for stack in stacks_KLI]
        for theirs, parts in zip(shares, returned, strict=True):
            for answer, share, part in zip(answers, theirs, parts, strict=True):
                answer[share] = part
        return answers

    def _ranks(self) -> range:
        return range(self.world)

    def _share(self, stack: int, owner: int, count: int) -> slice:
        return slice((owner - stack) % self.world, count, self.world)

    def _shapes(self, stacks: Sequence[Tensor], share: Sequence[slice], rank: int) -> list[tuple[int, int, int]]:
        """Shapes of the rows that `rank` holds of the matrices in `share`."""
        counts = [row_counts(rows, self.world)[rank] for rows in self.rows]
        return [
            (len(range(stack.shape[0])[part]), count, stack.shape[2])
            for stack, part, count in zip(stacks, share, counts, strict=True)
        ]

    def _exchange(
        self, outgoing: Sequence[Sequence[Tensor]], shapes: Sequence[Sequence[tuple[int, int, int]]]
    ) -> list[list[Tensor]]:
        """Send `outgoing[r]` to every rank r and return what each sent, of the shapes given, in one message per
        pair.
        """
        messages = [torch.cat([part.reshape(-1) for part in parts]) for parts in outgoing]
        sizes = [[a * b * c for a, b, c in wanted] for wanted in shapes]
        received = messages[0].new_empty(sum(map(sum, sizes)))
        dist.all_to_all_single(received, torch.cat(messages), [sum(s) for s in sizes], [len(m) for m in messages])
        answers = []
        for message, wanted, lengths in zip(torch.split(received, [sum(s) for s in sizes]), shapes, sizes, strict=True):
            parts = torch.split(message, lengths)
            answers.append([part.view(shape) for part, shape in zip(parts, wanted, strict=True)])
        return answers


def _local(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    local: Tensor = tensor.to_local()
    return local.detach()
