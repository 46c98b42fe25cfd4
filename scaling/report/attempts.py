"""Parts of a report are made one by one: what fails is named with its reason, and everything else is written.

A report follows hours of training, so one figure that cannot be drawn must not cost the others. A report of many runs
takes a minute: a listener hears every few seconds what is being made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Made = TypeVar("Made")
_QUIET_SECONDS = 4.0  # without a message


@dataclass(frozen=True)
class Failure:
    """A part that could not be made, such as ``figure frontier``, and the error's type and message."""

    part: str
    reason: str


class Attempts:
    """Makes parts and remembers those that failed, in `failures`; `message` hears what is made, now and then."""

    def __init__(self, message: Callable[[str], None]) -> None:
        self.failures: list[Failure] = []
        self._message = message
        self._spoken = time.monotonic()

    def make(self, part: str, function: Callable[[], Made]) -> Made | None:
        """What `function` returns; None where it raised, with a failure noted."""
        if time.monotonic() - self._spoken > _QUIET_SECONDS:
            self._message(f"report: {part}")
            self._spoken = time.monotonic()
        try:
            return function()
        # Any error of one part: the training is done, and the page says what is missing and why.
        except Exception as error:  # noqa: BLE001
            self.failures.append(Failure(part, f"{type(error).__name__}: {error}"))
            return None
