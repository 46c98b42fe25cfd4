"""Which class the `runner:` line of a runner file names. This is the one place that knows schedulers by name.

A name is a built-in one, an entry point of the group ``scaling.schedulers``, or ``module:Class``; a class is imported
when it is asked for, so that a launch on this machine loads nothing of a cluster.
"""

from __future__ import annotations

import importlib
import importlib.metadata

from scaling.errors import RunnerError

GROUP = "scaling.schedulers"
BUILT_IN = {
    "local": "scaling.runners.local:LocalScheduler",
    "external": "scaling.runners.external:ExternalScheduler",
    "slurm": "scaling.runners.slurm.scheduler:SlurmScheduler",
}
MEMBERS = ("keys", "scripts", "submit", "poll", "cancel", "environment", "active", "check", "leave")  # of a `Scheduler`


def names() -> list[str]:
    """Every name that needs no ``module:Class``."""
    return [*BUILT_IN, *(point.name for point in importlib.metadata.entry_points(group=GROUP))]


def load_class(name: str) -> type:
    """The class called `name`.

    Raises:
        RunnerError: nothing has this name, it cannot be imported, or it is no scheduler.
    """
    points = {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)} | BUILT_IN
    target = points.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        allowed = f"{', '.join(points)}, or module:Class"
        raise RunnerError("no such scheduler", where=f"runner: {name}", got=name, allowed=allowed)
    try:
        loaded = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        hint = "install the package, or add its folder to PYTHONPATH"
        raise RunnerError(
            "the scheduler cannot be imported", where=f"runner: {name}", got=str(error), hint=hint
        ) from None
    missing = [member for member in MEMBERS if not hasattr(loaded, member)]
    if not isinstance(loaded, type) or missing:
        got = f"{target} without {', '.join(missing)}" if isinstance(loaded, type) else f"{target}, which is no class"
        allowed = "a class that derives from scaling.runners.scheduler.Scheduler"
        raise RunnerError("this is no scheduler", where=f"runner: {name}", got=got, allowed=allowed)
    return loaded
