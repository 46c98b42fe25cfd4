"""Where a line's optima are expected: from numbers, from a published law, or from the results of an earlier sweep.

- `{n_opt: 28k, at: 2e11, exponent: 0.6}`: N_opt = n_opt · (C / at)^exponent, N in the sweep's own column.
- `hoffmann-2022-3`: a law of the catalogue (`scaling laws`) with published optima; its N is taken as it is.
- `results/quickstart`: the law E + A/N^alpha + B/D^beta fitted to that sweep's `runs.csv`, in this sweep's column of N
  and with the FLOPs per parameter and token its runs really had. A line takes its own rows, else those of its family.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from scaling.errors import DataError, FitError, PlanError
from scaling.rows import RunRow, read_runs
from scaling.spec import did_you_mean
from scaling.sweeps.schema import Centre, IsoFlopGrid, Sweep

Law = Callable[[float], float]


def centre_of(sweep: Sweep, *, family: str, line: str, root: Path | None) -> Law | None:
    """The expected N_opt of a line as a function of C, in the sweep's own column; None where the grid asks for none.

    Args:
        root: what `results/<sweep>` is relative to.

    Raises:
        PlanError: no centre for this line, an unknown law, a law without optima, or results that give none.
    """
    if not isinstance(sweep.grid, IsoFlopGrid) or sweep.grid.centre is None:
        return None
    given = sweep.grid.centre
    key = next((name for name in (line, family, "*") if name in given), None)
    if key is None:
        raise PlanError(f"no centre for {line}", where=sweep.where("grid", "centre"), allowed=f"a centre for {family}")
    centre, where = given[key], sweep.where("grid", "centre", key)
    if isinstance(centre, Centre):
        return lambda budget: centre.n_opt * (budget / centre.at) ** centre.exponent
    if centre.startswith("results/"):
        return _of_results(sweep, (root or Path()) / centre / "runs.csv", family, line, where)
    return _of_catalogue(centre, where)


def _of_catalogue(name: str, where: str) -> Law:
    from scaling.laws.published import CATALOGUE  # NumPy: only for the sweeps that ask

    usable = [law.name for law in CATALOGUE.values() if law.optimum or law.law == "chinchilla"]
    if name not in usable:
        hint = did_you_mean(name, usable)
        allowed = f"{{n_opt, at, exponent}}, results/<sweep>, or one of {', '.join(usable)}"
        raise PlanError("no published law of that name has optima", where=where, got=name, allowed=allowed, hint=hint)
    law = CATALOGUE[name]

    def n_opt(budget: float) -> float:
        params = law.predict(budget)["N"]
        assert params is not None
        return params

    return n_opt


def _of_results(sweep: Sweep, path: Path, family: str, line: str, where: str) -> Law:
    from scaling.laws.fitting import fit
    from scaling.laws.points import Points

    rows = _finished(path, where)
    own = [row for row in rows if row.line == line] or [row for row in rows if row.family == family]
    if not own:
        allowed = ", ".join(sorted({row.line for row in rows if row.line})) or "rows with a loss"
        raise PlanError(f"{path} has no finished run of {line} or {family}", where=where, allowed=allowed)
    column = "flops" if sweep.grid.flops == "exact" else "flops_6nd"
    names = (sweep.params_column, "tokens", "loss", column)
    params, tokens, loss, flops = ([value for row in own if (value := row.number(name))] for name in names)
    if not len(params) == len(tokens) == len(flops) == len(own):
        raise PlanError(f"{path} has rows without {sweep.params_column} or {column}", where=where)
    try:
        values = fit(Points(params, tokens, loss), "chinchilla").parameters  # type: ignore[arg-type]
    except FitError as error:
        raise PlanError(f"no law can be fitted to {path}: {error.what}", where=where) from error
    alpha, beta = values["alpha"], values["beta"]
    per_pair = math.exp(
        math.fsum(math.log(c / (n * d)) for n, d, c in zip(params, tokens, flops, strict=True)) / len(own)
    )
    scale = (alpha * values["A"] / (beta * values["B"])) ** (1 / (alpha + beta))
    return lambda budget: float(scale * (budget / per_pair) ** (beta / (alpha + beta)))


def _finished(path: Path, where: str) -> list[RunRow]:
    try:
        return [row for row in read_runs(path) if row.loss is not None]
    except DataError as error:
        hint = f"scaling launch sweeps/{path.parent.name}.yaml"
        what = f"the results cannot be read: {error.what}"
        raise PlanError(what, where=where, got=error.where, allowed=error.allowed, hint=hint) from error
