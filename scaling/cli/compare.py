"""`scaling compare`: lines of a sweep or a table, at equal loss and at equal compute, and what to serve."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scaling.cli._fit_options import FitOptions, fit_options
from scaling.cli._options import json_option, root_option, table_argument
from scaling.cli._screen import print_json, print_table
from scaling.cli._serving_options import ServingOptions, serving_options
from scaling.cli._studies import studies_of, tables_json
from scaling.packages import require_torch
from scaling.quantity import format_number

if TYPE_CHECKING:
    from scaling.analysis.study import Study
    from scaling.inference.measure import MeasuredCost

_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(e[+-]?[0-9]+)?")


@click.command()
@table_argument
@click.option("--measure", is_flag=True, help="Also time the largest model of every line here, factorized and merged.")
@serving_options
@fit_options
@root_option
@json_option
def compare(
    table: Path, measure: bool, root: Path | None, as_json: bool, options: FitOptions, serving: ServingOptions
) -> None:
    """Compute that each line needs for the loss of the reference, loss at equal compute, inference cost at equal loss.

    With --served, what to serve: the line, form and size that is cheapest over its life at a loss (--loss 2.31, or
    what the reference reaches with --compute). A table of your own names its lines in a column `family`.
    """
    if measure:
        require_torch("scaling compare --measure")
    from scaling.report.documents import comparisons_json
    from scaling.report.serving_document import measured_json
    from scaling.report.terminal import compare_text, decision_text

    options, serving = _loss_to_serve(options, serving)
    studies = studies_of(table, root, options, serving)
    if len(studies) > 1:
        raise click.UsageError("compare takes one --loss")
    study = studies[0].study
    rows = measured_rows(study) if measure else []
    if as_json:
        measured = {"measured": [measured_json(line, row) for line, row in rows]} if measure else {}
        print_json(comparisons_json(study) | measured | tables_json(studies))
        return
    studies[0].print_report()
    click.echo(compare_text(study) if serving == ServingOptions() else decision_text(study))
    if rows:
        click.echo()
        header = ("line", "form", "batch", "N", "predicted", "measured", "tokens/s")
        shown = (
            (
                line,
                row.predicted.form,
                row.predicted.batch,
                format_number(row.predicted.params),
                f"{row.predicted.decode_seconds * 1e3:.2f} ms",
                f"{row.decode_seconds * 1e3:.2f} ms",
                format_number(row.tokens_per_second),
            )
            for line, row in rows
        )
        print_table(header, shown, title="One decode step of the largest model of each line, on this machine", left=2)


def _loss_to_serve(options: FitOptions, serving: ServingOptions) -> tuple[FitOptions, ServingOptions]:
    """A number given to `--loss` is the loss to serve at, a word the column of a table."""
    numbers = [float(given) for given in options.table.loss if _NUMBER.fullmatch(given)]
    if len(numbers) > 1:
        raise click.UsageError("serve at one loss: one --loss with a number")
    if not numbers:
        return options, serving
    columns = tuple(given for given in options.table.loss if not _NUMBER.fullmatch(given))
    options = replace(options, table=replace(options.table, loss=columns))
    return options, replace(serving, loss=numbers[0])


def measured_rows(study: Study) -> list[tuple[str, MeasuredCost]]:
    """Each line's name with the times of its largest model on this machine's CPU, beside the calibrated prediction."""
    from scaling.analysis.serving import BATCHES, context_of
    from scaling.hardware import find_device
    from scaling.inference.cost import Setting
    from scaling.inference.measure import calibrate, measure

    device = calibrate(find_device("cpu"))
    result = []
    for line in study.lines:
        if line.curve is None:
            continue
        model = line.curve.rungs[-1]
        for batch in BATCHES:
            setting = Setting(device, batch=batch, context=context_of(study), precision="float32")
            result += [(line.name, row) for row in measure(model.shape, model.ranks, setting)]
    return result
