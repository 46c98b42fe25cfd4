"""Scaling laws of dense and natively low-rank transformers, from one YAML file to a report.

The public API. A name is imported when it is first used, so `import scaling` costs nothing; type checkers see all of
them (`py.typed`). Where to start:

| with | call | for |
|---|---|---|
| arrays | `fit(Points(params, tokens, loss))`, then `bootstrap(result)` | one law |
| the points of one line | `study_line(points)` | law, frontier, checks |
| the points of one line | `extrapolate(points)` | predictions of stacked forms, calibrated on held-out budgets |
| results, a sweep or a table, in a notebook | `load("results/quickstart")` | DataFrames, figures, the answer |
| a table | `study_rows(rows, settings=settings_for_table(rows, Settings()))` | lines and comparisons |
| a sweep file | `Project.open(path)`, then `.plan()`, `.launch()`, `.study()` | everything the command line does |
| a sweep file | `plan(load_sweep(path), vocab_size=256)`, then `price(grid, device=device)` | the grid, its price |
| a store | `Store(path)`; `Run` and `Result` are what it holds | finished runs |
| a paper | `published("hoffmann-2022-3")` | a law of the catalogue |

    import scaling

    rows = scaling.read_table("results/quickstart/runs.csv")      # or any table of params, tokens, loss
    study = scaling.study_rows(rows, settings=scaling.settings_for_table(rows, scaling.Settings()))

What a user can get wrong raises a `ScalingError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.analysis.settings import Settings
    from scaling.analysis.study import Study, settings_for_table, study_rows
    from scaling.analysis.table_reader import read_table
    from scaling.errors import ScalingError
    from scaling.laws.draws import bootstrap
    from scaling.laws.extrapolation import extrapolate
    from scaling.laws.fitting import Fit, fit
    from scaling.laws.line_study import study_line
    from scaling.laws.points import Points
    from scaling.laws.published import published
    from scaling.project import Project
    from scaling.project.notebook import load
    from scaling.results.store import Store
    from scaling.run import Result, Run, Shape
    from scaling.sweeps.grids import Plan, plan
    from scaling.sweeps.price import price
    from scaling.sweeps.schema import Sweep, load_sweep

__version__ = "0.2.0"
__all__ = [
    "Run",
    "Shape",
    "Result",
    "ScalingError",
    "Project",
    "Sweep",
    "load_sweep",
    "Plan",
    "plan",
    "price",
    "Store",
    "Points",
    "Fit",
    "fit",
    "bootstrap",
    "study_line",
    "extrapolate",
    "published",
    "load",
    "read_table",
    "Settings",
    "settings_for_table",
    "Study",
    "study_rows",
]

_PLACES = {
    "Run": "run",
    "Shape": "run",
    "Result": "run",
    "ScalingError": "errors",
    "Project": "project",
    "Sweep": "sweeps.schema",
    "load_sweep": "sweeps.schema",
    "Plan": "sweeps.grids",
    "plan": "sweeps.grids",
    "price": "sweeps.price",
    "Store": "results.store",
    "Points": "laws.points",
    "Fit": "laws.fitting",
    "fit": "laws.fitting",
    "bootstrap": "laws.draws",
    "study_line": "laws.line_study",
    "extrapolate": "laws.extrapolation",
    "published": "laws.published",
    "load": "project.notebook",
    "read_table": "analysis.table_reader",
    "Settings": "analysis.settings",
    "settings_for_table": "analysis.study",
    "Study": "analysis.study",
    "study_rows": "analysis.study",
}

if not TYPE_CHECKING:  # a type checker that saw this would take every name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module 'scaling' has no attribute {name!r}; it has {', '.join(_PLACES)}")
        return getattr(import_module(f"scaling.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
