"""`scaling predict`: what a law says of a training compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from scaling.checks import Check
from scaling.cli._fit_options import FitOptions, fit_options
from scaling.cli._options import json_option, root_option
from scaling.cli._quantity import Quantity
from scaling.cli._screen import print_checks, print_json, print_table
from scaling.cli._studies import StudyOfTable, named_by_loss, studies_of, tables_json
from scaling.files import JsonObject
from scaling.quantity import format_number

_ALWAYS = 8  # columns shown also where nothing fills them


@click.command()
@click.argument("table", metavar="[SWEEP|FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--compute", "-c", type=Quantity(), multiple=True, help="Training FLOPs; may be repeated.")
@click.option("--params", "-n", type=Quantity(), help="Parameters N, with --tokens: the loss there.")
@click.option("--tokens", "-d", type=Quantity(), help="Training tokens D, with --params.")
@click.option("--published", metavar="NAME", help="Predict from this published law; `scaling laws` lists them.")
@fit_options
@root_option
@json_option
def predict(
    table: Path | None,
    compute: tuple[float, ...],
    params: float | None,
    tokens: float | None,
    published: str | None,
    root: Path | None,
    as_json: bool,
    options: FitOptions,
) -> None:
    """Compute-optimal N, D and loss of every line at a training compute, or its loss at N and D, with intervals."""
    place = _place(compute, params, tokens, published)
    if published is not None and table is not None:
        raise click.UsageError("predict from a sweep or a table, or from a published law, not from both")
    studies: list[StudyOfTable] = []
    if published is not None:
        document = _predict_published(published, compute)
    elif table is not None:
        studies = studies_of(table, root, options)
        document = _predictions(studies, compute, place)
    else:
        raise click.UsageError("name a sweep or a table, or a published law with --published NAME")
    if as_json:
        print_json(document)
        return
    for one in studies:
        one.print_report()
    header = ("line", "FLOPs", "N", "", "D", "", "loss", "", "one run", "forms")
    rows = [_prediction_row(one) for one in document["predictions"]]
    kept = [n for n in range(len(header)) if n < _ALWAYS or any(row[n] for row in rows)]
    print_table([header[n] for n in kept], ([row[n] for n in kept] for row in rows))
    print_checks(Check.from_json(check) for one in document["predictions"] for check in one["checks"])


def _place(
    compute: tuple[float, ...], params: float | None, tokens: float | None, published: str | None
) -> tuple[float, float] | None:
    """N and D, where the loss at a size is asked for."""
    if params is None and tokens is None:
        return None
    if params is None or tokens is None:
        raise click.UsageError("a loss at a size takes both --params and --tokens")
    if compute or published:
        raise click.UsageError("ask at a compute (--compute) or at a size (--params --tokens) of a table, not both")
    return params, tokens


def _predictions(
    studies: Sequence[StudyOfTable], compute: tuple[float, ...], place: tuple[float, float] | None
) -> JsonObject:
    from scaling.report.documents import losses_json, predictions_json

    parts = []
    for one in studies:
        one.study.require_law()
        targets = compute or one.study.settings.predict
        if place is None and not targets:
            raise click.UsageError("say at which compute: --compute 1e22, or analysis.predict in the sweep")
        parts.append(predictions_json(one.study, targets) if place is None else losses_json(one.study, *place))
    return parts[0] | {"predictions": named_by_loss(studies, parts, "predictions")} | tables_json(studies)


def _predict_published(name: str, compute: tuple[float, ...]) -> JsonObject:
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


def _prediction_row(one: JsonObject) -> tuple[object, ...]:
    line = f"{one['line']}, {one['metric']}" if "metric" in one else one["line"]
    shown: list[object] = [line, None if one["compute"] is None else f"{one['compute']:.3g}"]
    for name in ("N", "D", "loss"):
        shown.append(None if one[name] is None else _short(name, one[name]))
        shown.append(_pair(name, one["intervals"].get(name)))
    shown += [_pair("loss", one["intervals"].get("loss_of_run")), _pair("loss", one.get("form_range", {}).get("loss"))]
    return tuple(shown)


def _pair(name: str, pair: list[float | None] | None) -> str:
    return f"[{_short(name, pair[0])}, {_short(name, pair[1])}]" if pair else ""


def _short(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if name == "loss" else format_number(value)
