"""Where a line's optima are expected: N_opt(C) from numbers, from a published law, or from the fit of an earlier
sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scaling.errors import PlanError
from scaling.sweeps.schema import Centre, IsoFlop, Sweep

Law = Callable[[float], float]


def centre_of(sweep: Sweep, *, family: str, line: str, root: Path | None) -> Law | None:
    """The expected N_opt of a line as a function of C, in the sweep's own column; None where the grid asks for none."""
    if not isinstance(sweep.grid, IsoFlop) or sweep.grid.centre is None:
        return None
    given = sweep.grid.centre
    key = next((name for name in (line, family, "*") if name in given), None)
    if key is None:
        raise PlanError(f"no centre for {line}", where=sweep.where("grid", "centre"), allowed=f"a centre for {family}")
    centre = given[key]
    if isinstance(centre, Centre):
        return lambda budget: centre.n_opt * (budget / centre.at) ** centre.exponent
    raise PlanError("not a centre", where=sweep.where("grid", "centre", key), got=centre)
