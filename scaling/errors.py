"""Errors for users: what is wrong, and what to do about it.

Every error a user meets is a `ScalingError`: what is wrong, where, what was found, what is allowed, and the next
command. The command line prints it without a traceback. A broken invariant of our own is an `assert`.
"""

from __future__ import annotations


class ScalingError(Exception):
    """An error that the user has to act on.

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
    """An invalid sweep or runner file."""


class PlanError(ScalingError):
    """A valid sweep file that cannot be planned."""


class DataError(ScalingError):
    """A corpus, tokenizer or table that is missing, too small or unreadable."""


class StoreError(ScalingError):
    """A store that is damaged, not writable, or does not hold what was expected."""


class DamagedRecord(StoreError):
    """A damaged record: truncated, changed, of another run, or with invalid values."""


class NewerRecord(StoreError):
    """A record that a later version of scaling wrote; it is left as it is."""


class TrainingError(ScalingError):
    """A run that cannot be trained as written."""


class FitError(ScalingError):
    """Points that do not determine the requested law."""


class RunnerError(ScalingError):
    """A scheduler or a machine that cannot run what was requested."""
