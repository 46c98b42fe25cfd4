"""Several runs on one GPU: how many, by memory and by measured throughput.

A small model leaves most of a large GPU idle, because its kernels are short. Runs that share a GPU are one process
each. Each has an equal share of the memory that the device's row states, so that any runs of the list fit side by
side, and splits its batches by that share (`sweeps.memory`).

`auto` takes the largest power of two (few kinds of tasks then) that passes every limit:

- memory: the run fits its share with the micro-batch that it would take alone;
- context: the tenth of a share that `USABLE` leaves holds the CUDA context of a process, `CONTEXT_BYTES`;
- throughput: so many that together they would reach the device's `assumed_mfu`, where a run of the line was measured
  alone, or the device's row has measured shares of the peak by width; no limit where neither was;
- cores: no more than the runner gives a GPU, or this machine has; every process needs one;
- `MOST`.

Prices assume that k runs on a GPU do together what one would do alone: each takes k times as long, and 1/k of the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scaling.hardware import Device
from scaling.run import Run
from scaling.sweeps.memory import USABLE, Placement, split

CONTEXT_BYTES = 0.6e9  # of one process: CUDA context, cuBLAS workspaces, loaded kernels (assumption)
MOST = 32  # assumption: MPS serves 48 clients of a GPU (NVIDIA, Multi-Process Service), and others may use it too


@dataclass(frozen=True)
class Sharing:
    """What a runner file says about runs that share a GPU.

    Attributes:
        runs: on one GPU, or `auto`.
        below_seconds: a run whose predicted wall time in company is not below it has a GPU to itself; None: all share.
        uniform: one number for all runs: that of the run which allows the fewest.
    """

    runs: int | Literal["auto"] = 1
    below_seconds: float | None = None
    uniform: bool = False


ALONE = Sharing()


@dataclass(frozen=True)
class Candidate:
    """A run, its place alone, the cores beside its GPU (0: it is not on one GPU; None: as many as it needs), predicted
    seconds alone, and the measured rate alone in FLOP/s (None: not measured).
    """

    run: Run
    place: Placement
    cores: int | None
    seconds: float
    rate: float | None


def shared_places(candidates: Sequence[Candidate], sharing: Sharing, device: Device) -> list[Placement]:
    """The place of every run, with the number of runs on its GPU."""
    counts = [_count(one, sharing, device) for one in candidates]
    if sharing.uniform:
        counts = [min(counts)] * len(counts) if counts else []
    return [replace(one.place, runs_per_gpu=count) for one, count in zip(candidates, counts, strict=True)]


def _count(one: Candidate, sharing: Sharing, device: Device) -> int:
    if sharing.runs == 1 or one.place.ranks > 1 or one.cores == 0:
        return 1
    counts = [sharing.runs] if sharing.runs != "auto" else _allowed(one, device)
    limit = math.inf if sharing.below_seconds is None else sharing.below_seconds
    return max((count for count in counts if count * one.seconds < limit), default=1)


def _allowed(one: Candidate, device: Device) -> list[int]:
    """The powers of two that pass every limit of `auto`."""
    most = min(MOST, one.cores or MOST, int((1 - USABLE) * device.memory_bytes / CONTEXT_BYTES))
    if one.rate is not None:
        most = min(most, round(device.assumed_mfu * device.peak(one.run.precision) / one.rate))
    alone = split(one.run, memory_bytes=device.memory_bytes, placement=one.place)
    allowed = []
    for count in (2**n for n in range(1, MOST.bit_length())):
        shared = split(one.run, memory_bytes=device.memory_bytes, placement=replace(one.place, runs_per_gpu=count))
        if count > most or not shared.fits or shared.sequences != alone.sequences:
            break
        allowed.append(count)
    return allowed
