"""A difference of losses at equal cost, with the verdict that its band allows.

A verdict names its axis, because a line that wins per exact FLOP may lose per device second. Differences are a − b in
nats, so a negative one favours a; seed noise stands beside them and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scaling import checks
from scaling.checks import Check
from scaling.laws.draws import Interval
from scaling.laws.simultaneous import VerdictWord

Axis = Literal["exact", "6ND", "device_seconds"]
AXES = {"exact": "exact FLOPs", "6ND": "6·N·D FLOPs", "device_seconds": "device seconds"}  # as people read them


@dataclass(frozen=True)
class Verdict:
    """Loss of line a − loss of line b on one axis at one cost, with its 95 % interval and the verdict on a."""

    axis: Axis
    cost: float
    difference_nats: float
    interval: Interval
    sigma_seed: float | None
    paired: bool
    word: VerdictWord

    @property
    def sigmas(self) -> float | None:
        """The difference in units of seed noise."""
        return None if not self.sigma_seed else self.difference_nats / self.sigma_seed


def word_for(interval: Interval | None) -> VerdictWord:
    """What the interval (or band) of one difference a − b in nats allows, where there is no margin of compute."""
    if interval is None or not (interval[0] > 0 or interval[1] < 0):
        return "not resolved"
    return "better" if interval[1] < 0 else "worse"


def axes_checks(words: Mapping[Axis, VerdictWord], names: tuple[str, str]) -> tuple[Check, ...]:
    """`verdict_depends_on_cost` where the axes disagree on the first of two lines."""
    if len(set(words.values())) < 2:
        return ()
    verdicts = "; ".join(f"at equal {AXES[axis]} {word}" for axis, word in words.items())
    message = f"The verdict on {names[0]} against {names[1]} depends on what is held equal: {verdicts}."
    return (checks.VERDICT_DEPENDS_ON_COST(message),)
