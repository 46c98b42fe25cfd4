"""Parts of a report are made one by one: what fails is named with its reason, and everything else is written.

A report follows hours of training, so one figure that cannot be drawn must not cost the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Made = TypeVar("Made")


@dataclass(frozen=True)
class Failure:
    """A part that could not be made, such as ``figure frontier``, and the error's type and message."""

    part: str
    reason: str


class Attempts:
    """Makes parts and remembers those that failed, in `failures`."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def make(self, part: str, function: Callable[[], Made]) -> Made | None:
        """What `function` returns; None where it raised, with a failure noted."""
        try:
            return function()
        # Any error of one part: the training is done, and the page says what is missing and why.
        except Exception as error:  # noqa: BLE001
            self.failures.append(Failure(part, f"{type(error).__name__}: {error}"))
            return None
