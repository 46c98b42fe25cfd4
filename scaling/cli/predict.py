"""`scaling predict`: what a law says of a training compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scaling.checks import Check
from scaling.cli._fit_options import FitOptions, fit_options, study_of
from scaling.cli._options import json_option, root_option
from scaling.cli._quantity import Quantity
from scaling.cli._screen import print_checks, print_json, print_table
from scaling.quantity import format_number


@click.command()
@click.argument("table", metavar="[SWEEP|FILE]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--compute", "-c", type=Quantity(), multiple=True, help="Training FLOPs; may be repeated.")
@click.option("--published", metavar="NAME", help="Predict from this published law; `scaling laws` lists them.")
@fit_options
@root_option
@json_option
def predict(
    table: Path | None,
    compute: tuple[float, ...],
    published: str | None,
    root: Path | None,
    as_json: bool,
    options: FitOptions,
) -> None:
    """Compute-optimal N, D and loss of every line at a training compute, each with an interval."""
    if published is not None and table is not None:
        raise click.UsageError("predict from a sweep or a table, or from a published law, not from both")
    if published is not None:
        document = _predict_published(published, compute)
    elif table is not None:
        document = _predict_study(table, root, compute, options)
    else:
        raise click.UsageError("name a sweep or a table, or a published law with --published NAME")
    if as_json:
        print_json(document)
        return
    header = ("line", "FLOPs", "N", "", "D", "", "loss", "")
    print_table(header, (_prediction_row(one) for one in document["predictions"]))
    print_checks(Check.from_json(check) for one in document["predictions"] for check in one["checks"])


def _predict_study(table: Path, root: Path | None, compute: tuple[float, ...], options: FitOptions) -> dict[str, Any]:
    from scaling.report.documents import predictions_json

    study = study_of(table, root, options)
    study.require_law()
    targets = compute or study.settings.predict
    if not targets:
        raise click.UsageError("say at which compute: --compute 1e22, or analysis.predict in the sweep")
    return predictions_json(study, targets)


def _predict_published(name: str, compute: tuple[float, ...]) -> dict[str, Any]:
    from scaling.laws.published import published

    if not compute:
        raise click.UsageError("say at which compute: --compute 1e22")
    law = published(name)
    return {
        "params_column": law.params_column,
        "predictions": [
            {"family": law.name, "rank_ratio": None, "line": law.name, "compute": target}
            | law.predict(target)
            | {"intervals": {}, "checks": [check.to_json() for check in law.checks(target)]}
            for target in compute
        ],
    }


def _prediction_row(one: dict[str, Any]) -> tuple[object, ...]:
    shown: list[object] = [one["line"], f"{one['compute']:.3g}"]
    for name in ("N", "D", "loss"):
        low_high = one["intervals"].get(name)
        shown.append(None if one[name] is None else _short(name, one[name]))
        shown.append(f"[{_short(name, low_high[0])}, {_short(name, low_high[1])}]" if low_high else "")
    return tuple(shown)


def _short(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if name == "loss" else format_number(value)
