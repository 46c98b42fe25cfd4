"""The training losses of a run, and what they say about its stability.

Losses stay on the device until they are read. `collect` copies them without making the device wait; on a GPU they
arrive with the next call. A run is *broken* at its first loss that is not finite or has blown up (above `BLOW_UP`
times the ln V of guessing, an assumption); what happened after that does not count, so the answer does not depend on
when it was noticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOW_UP = 3.0  # times ln V
SPIKE_WINDOW = 50  # steps before a step that say what is usual (assumption)
SPIKE_SIGMAS = 6.0  # robust deviations above their median (assumption)
MAD_TO_SIGMA = 1.4826  # of a normal distribution
SPIKE_FLOOR = 0.05  # nats: less is not called a spike (assumption)


class History:
    """Losses of the steps so far, in nats per token.

    Args:
        vocab_size: V of the blow-up rule.
        mean: averages a tensor over the ranks of a team.
    """

    def __init__(self, vocab_size: int, *, mean: Callable[[Tensor], Tensor]) -> None:
        self.limit = BLOW_UP * math.log(vocab_size)
        self.values: list[float] = []
        self.mean = mean
        self.waiting: list[Tensor] = []
        self.flying: tuple[Tensor, Any] | None = None
        self.broken: int | None = None

    def put(self, loss: Tensor) -> None:
        """Remember the loss of one more step."""
        self.waiting.append(loss.detach())

    def collect(self, *, wait: bool) -> None:
        """Bring losses to this side: all of them with `wait`, otherwise those that are there without waiting."""
        if self.flying and (wait or self.flying[1].query()):
            self.flying[1].synchronize()
            self._land(self.flying[0])
            self.flying = None
        if self.waiting and self.flying is None:
            losses = self.mean(torch.stack(self.waiting).float())
            self.waiting = []
            if losses.device.type == "cpu":
                self._land(losses)
            else:
                self._fly(losses)
                if wait:
                    self.collect(wait=True)

    def _fly(self, losses: Tensor) -> None:
        there = torch.empty(losses.shape, dtype=losses.dtype, pin_memory=True)
        there.copy_(losses, non_blocking=True)
        event = torch.get_device_module(losses.device).Event()
        event.record()
        self.flying = (there, event)

    def _land(self, losses: Tensor) -> None:
        self.values += losses.tolist()
        if self.broken is None:
            bad = (i for i, loss in enumerate(self.values) if not loss <= self.limit)
            self.broken = next(bad, None)

    @property
    def last_finite(self) -> float | None:
        """Loss of the last step before the run broke."""
        sound = self.values[: self.broken]
        return sound[-1] if sound else None

    def spikes(self) -> int:
        """Steps whose loss stands out of the `SPIKE_WINDOW` before it; neighbours count once."""
        return count_spikes(np.array(self.values[: self.broken]))


def count_spikes(losses: NDArray[np.float64]) -> int:
    """Excursions above median + `SPIKE_SIGMAS` robust deviations (at least `SPIKE_FLOOR`) of the window before."""
    if len(losses) <= SPIKE_WINDOW:
        return 0
    windows = np.lib.stride_tricks.sliding_window_view(losses, SPIKE_WINDOW)[:-1]
    usual = np.median(windows, axis=1)
    spread = MAD_TO_SIGMA * np.median(np.abs(windows - usual[:, None]), axis=1)
    above = losses[SPIKE_WINDOW:] > usual + np.maximum(SPIKE_SIGMAS * spread, SPIKE_FLOOR)
    return int(above[0]) + int(np.count_nonzero(above[1:] & ~above[:-1]))
