"""The ranks that train one run together.

Data parallel: every rank takes its contiguous part of the same global batch, gradients are averaged. Under `ddp` each
rank holds the whole model; under `fsdp` (`fully_shard`) rows of every parameter are spread over the ranks and gathered
block by block. Ranks decide together: a stop asked of one stops all, and rank 0's clock says when to log and save.
Files are written by rank 0 alone and hold whole tensors, so any number of ranks can go on from them.

Ranks are read from torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT). One process is a team of one
without communication, and never loads torch's sharding, which takes a third of a worker's start-up (1.0 of 3.3 CPU
seconds, 2026-11-22, torch 2.13.0).
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scaling.errors import TrainingError
from scaling.files import JsonObject
from scaling.parameterizations import HELPER
from scaling.training.flat import Flat, Named
from scaling.training.model import Decoder

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Strategy = Literal["ddp", "fsdp"]
# The tables of positions never change, so nothing is broadcast before a forward pass; newer torch renamed the option.
_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_SYNC = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"


@dataclass(frozen=True)
class Team:
    """All ranks of one run, seen from one of them.

    Attributes:
        rank: this process, from 0.
        world: how many there are.
        strategy: how a model is spread over more than one.
        control: a gloo group for decisions, so that they never wait for a GPU; None where there is one rank.
    """

    rank: int = 0
    world: int = 1
    strategy: Strategy = "ddp"
    control: dist.ProcessGroup | None = None

    @property
    def sharded(self) -> bool:
        """Whether parameters are spread over the ranks; a group of one is a test of that on a single device."""
        return self.control is not None and self.strategy == "fsdp"

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For every flag, whether any rank raised it."""
        if self.control is None:
            return flags
        raised = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(flag) for flag in raised.tolist())

    def told(self, number: int) -> int:
        """Rank 0's number, on every rank."""
        if self.control is None:
            return number
        box = torch.tensor([number])
        dist.broadcast(box, 0, group=self.control)
        return int(box.item())

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over ranks."""
        return self.total(tensor) / self.world if self.world > 1 else tensor

    def spread(self, model: Decoder) -> nn.Module:
        """The module to call for a forward pass: the model itself, or what keeps the ranks together.

        A guided model has parameters that stop taking part, which DDP must be told.
        """
        if self.control is None:
            return model
        if self.sharded:
            from torch.distributed.fsdp import fully_shard

            for block in model.layers:
                fully_shard(block)
            fully_shard(model)
            return model
        guided = any(name.endswith(f".{HELPER}") for name, _ in model.named_parameters())
        options: JsonObject = {"find_unused_parameters": guided, _SYNC: False}
        return DistributedDataParallel(model, **options)

    def flat(self, stacks: list[Named]) -> Flat:
        """The buffers of some parameters, whole or this rank's rows."""
        if not self.sharded:
            return Flat(stacks)
        from scaling.training.sharded import ShardedFlat

        return ShardedFlat(stacks, rank=self.rank, world=self.world)

    @contextlib.contextmanager
    def accumulating(self, network: nn.Module, *, last: bool) -> Iterator[None]:
        """Around one part of a batch: gradients are averaged over the ranks with the last part only; sharded ones with
        every part, because waiting would keep the gradients of the whole model on every rank.
        """
        waits = network.no_sync() if isinstance(network, DistributedDataParallel) and not last else None
        with waits or contextlib.nullcontext():
            yield


ALONE = Team()


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without their spreading over ranks; every rank must ask."""
    return {name: t.full_tensor() if _spread(t) else t for name, t in tensors.items()}


def load_whole(model: Decoder, tensors: Mapping[str, Tensor]) -> None:
    """Give every rank its part of a whole state dict."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if _spread(parameter):
                from scaling.training.sharded import own_rows

                local = parameter.to_local()
                local.copy_(own_rows(tensors[name], rank=dist.get_rank(), world=dist.get_world_size()))
            else:
                parameter.copy_(tensors[name])


def join(strategy: Strategy, device: torch.device) -> Team:
    """The team this process was started into; alone where the environment names no other rank.

    Raises:
        TrainingError: the environment names other ranks and not where to meet them.
    """
    rank, world = (_number(name) for name in ("RANK", "WORLD_SIZE"))
    if world in (None, 1):
        return Team()
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if rank is None or missing:
        raise TrainingError(
            "The environment names several ranks and not where they meet.",
            got=f"{world} ranks, without {', '.join(missing) or 'a rank'}",
            allowed="RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them",
        )
    if not dist.is_initialized():
        options: JsonObject = {"device_id": device} if device.type == "cuda" else {}
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=world, **options)
    return Team(rank, world or 1, strategy, dist.new_group(backend="gloo"))


def _spread(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether this is one rank's part of a tensor."""
    return hasattr(tensor, "full_tensor")


def _number(name: str) -> int | None:
    return int(os.environ[name]) if name in os.environ else None
