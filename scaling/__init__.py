"""Scaling laws of dense and natively low-rank transformers, from one YAML file to a report.

The public API, imported when it is used:

    import scaling

    rows = scaling.read_table("results/quickstart/runs.csv")      # or any table of params, tokens, loss
    study = scaling.study_rows(rows, settings=scaling.settings_for_table(rows, scaling.Settings()))
    fit = scaling.fit(scaling.Points(params, tokens, loss))       # arrays in, a law out
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Run": "run",
    "Shape": "run",
    "Result": "run",
    "ScalingError": "errors",
    "load_sweep": "sweeps.schema",
    "plan": "sweeps.grids",
    "price": "sweeps.price",
    "Store": "results.store",
    "Points": "laws.points",
    "fit": "laws.fitting",
    "bootstrap": "laws.draws",
    "study_line": "laws.line_study",
    "published": "laws.published",
    "read_table": "analysis.table_reader",
    "Settings": "analysis.settings",
    "settings_for_table": "analysis.study",
    "study_rows": "analysis.study",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'scaling' has no attribute {name!r}; it has {', '.join(_PLACES)}")
    return getattr(import_module(f"scaling.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*_PLACES, "__version__"]
