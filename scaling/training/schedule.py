"""The learning rate over a run, as a factor of its peak.

Steps count from zero. Over the first `warmup_steps` = w the factor is (t + 1) / w; after that, with progress
p = (t − w) / (steps − w) in [0, 1),

    constant   1
    linear     1 − (1 − final)·p
    cosine     final + (1 − final)·(1 + cos πp) / 2
    wsd        1, then linear down to `final` over the last `decay_steps` (warm-up, stable, decay: Hu et al. 2404.06395)

Also here: the share of the dense helper in self-guided training, a cosine from 1 to 0 (Wei et al. 2406.16450).
"""

from __future__ import annotations

import math

from scaling.errors import TrainingError
from scaling.run import Schedule

KINDS = ("constant", "linear", "cosine", "wsd")


def rate_factor(schedule: Schedule, step: int, *, steps: int) -> float:
    """Factor of the peak rate at `step` of `steps`.

    Raises:
        TrainingError: the kind does not exist, or a wsd schedule does not say how long it decays.
    """
    if schedule.kind not in KINDS:
        raise TrainingError(
            "There is no such schedule.", where="schedule.kind", got=schedule.kind, allowed=", ".join(KINDS)
        )
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.kind == "wsd":
        return _stable_decay(schedule, step, steps)
    progress = (step - schedule.warmup_steps) / (steps - schedule.warmup_steps)
    shape = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[schedule.kind]
    return schedule.final + (1 - schedule.final) * shape if schedule.kind != "constant" else 1.0


def _stable_decay(schedule: Schedule, step: int, steps: int) -> float:
    if not schedule.decay_steps:
        raise TrainingError("A wsd schedule needs the length of its decay.", where="schedule.decay_steps")
    left = (steps - step) / schedule.decay_steps
    return schedule.final + (1 - schedule.final) * min(1.0, left)


def helper_share(step: int, *, steps: int, fraction: float) -> float | None:
    """Share of the dense helper at `step`: cosine from 1 to 0 over `fraction` of the steps, None afterwards."""
    length = fraction * steps
    return (1 + math.cos(math.pi * step / length)) / 2 if step < length else None
