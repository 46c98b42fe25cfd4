"""What a user can get wrong, said so that it can be put right.

Every error a user meets is a `ScalingError`: what is wrong, where, what was found, what is allowed, and the next
command. The command line prints it without a traceback. A broken invariant of our own is an `assert`.
"""

from __future__ import annotations


class ScalingError(Exception):
    """A mistake or a state of the world the user must see.

    Args:
        what: one sentence, without the place.
        where: the place, for example ``sweeps/x.yaml:14: grid.budgets[2]``.
        got: what was found there.
        allowed: what would have been right.
        hint: the next command, or the thing to do.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        allowed: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.where, self.got, self.allowed, self.hint = what, where, got, allowed, hint
        super().__init__(what)

    @property
    def sentence(self) -> str:
        """What and where, with what was found, in one line."""
        place = f"{self.where}: " if self.where else ""
        return place + self.what + ("" if self.got is None else f" ({self.got})")

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.got is not None:
            text = self.got if isinstance(self.got, str) else repr(self.got)
            lines.append(f"  found:   {text if len(text) <= 300 else text[:297] + '...'}")
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.hint:
            lines.append(f"  next:    {self.hint}")
        return "\n".join(lines)


class SpecError(ScalingError):
    """A sweep or runner file that cannot be read as one."""


class PlanError(ScalingError):
    """A sweep that reads well and cannot be planned."""


class DataError(ScalingError):
    """A corpus, tokenizer or table that is missing, too small or unreadable."""


class StoreError(ScalingError):
    """A store that is damaged, unwritable, or holds another thing than expected."""


class DamagedRecord(StoreError):
    """A durable record that cannot be believed: cut, changed, of another run, or with values that cannot be."""


class NewerRecord(StoreError):
    """A durable record that a later version of scaling wrote; it is left as it is."""


class TrainingError(ScalingError):
    """A run that cannot be trained as written."""


class FitError(ScalingError):
    """Points from which the asked law cannot be identified."""


class RunnerError(ScalingError):
    """A place that cannot execute what it was asked to."""
