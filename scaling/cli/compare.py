"""`scaling compare`: lines of a sweep or a table, at equal loss and at equal compute, and what to serve."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scaling.cli._fit_options import FitOptions, fit_options
from scaling.cli._options import json_option, root_option, table_argument
from scaling.cli._screen import print_json, print_table, say
from scaling.cli._serving_options import ServingOptions, serving_options
from scaling.cli._studies import studies_of, tables_json
from scaling.packages import require_torch
from scaling.quantity import format_duration, format_number

if TYPE_CHECKING:
    from scaling.analysis.study import Study
    from scaling.inference.curve import LadderModel
    from scaling.inference.measure import MeasuredCost

TIMED = ((1, 1024), (1, 8192), (8, 1024), (64, 1024))  # batch and context: prefill of the context, then decoding
_LONGEST = 60.0  # seconds of one case (assumption: what a person waits for)
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(e[+-]?[0-9]+)?")


@click.command()
@table_argument
@click.option("--measure", is_flag=True, help="Also time the chosen models here, factorized and merged.")
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
    from scaling.analysis.serving_decision import serving_decision
    from scaling.report.documents import comparisons_json
    from scaling.report.serving_document import measured_json
    from scaling.report.terminal import compare_text, decision_text

    options, serving = _loss_to_serve(options, serving)
    studies = studies_of(table, root, options, serving)
    if len(studies) > 1:
        raise click.UsageError("compare takes one --loss")
    study, asked = studies[0].study, serving != ServingOptions()
    if asked:
        serving_decision(study)  # an error here, where a report has a check
    rows = measured_rows(study) if measure else []
    if as_json:
        measured = {"measured": [measured_json(line, row) for line, row in rows]} if measure else {}
        print_json(comparisons_json(study) | measured | tables_json(studies))
        return
    studies[0].print_report()
    click.echo(decision_text(study) if asked else compare_text(study))
    if rows:
        click.echo()
        print_table(_MEASURED, map(_measured_row, rows), title="Predicted and measured on this machine", left=3)


_MEASURED = ("line", "N", "form", "batch", "context", "prefill", "measured", "a decode step", "measured", "tokens/s")


def _measured_row(named: tuple[str, MeasuredCost]) -> tuple[object, ...]:
    line, row = named
    predicted = row.predicted
    times = (predicted.prefill_seconds, row.prefill_seconds, predicted.decode_seconds, row.decode_seconds)
    shown = (f"{seconds * 1e3:.3g} ms" for seconds in times)
    where = (line, format_number(predicted.params), predicted.form, predicted.batch, f"{predicted.context:,}")
    return *where, *shown, format_number(row.tokens_per_second)


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
    """Each line's name with the times of its model on this machine, beside the calibrated prediction.

    The models are those of the serving decision where one is asked for, as the nearest real shape, else the largest of
    every line. What would take over a minute is left out and named.
    """
    from scaling.inference.cost import Setting, cost, forms
    from scaling.inference.measure import ROUNDS, calibrate, device_here, measure

    row, place = device_here()
    device = calibrate(row, torch_device=place)
    timed: list[tuple[str, LadderModel, Setting]] = []
    for (line, model), (batch, context) in itertools.product(_chosen(study), TIMED):
        setting = Setting(device, batch=batch, context=context)
        costs = [cost(model.shape, model.ranks, setting, form) for form in forms(model.ranks)]
        seconds = (ROUNDS + 1) * sum(one.prefill_seconds for one in costs)
        case = f"{line} at batch {batch}, {context:,} tokens"
        if not all(one.fits for one in costs):
            say(f"not timed: {case}: weights and cache are larger than the memory of {device.name}")
        elif seconds > _LONGEST:
            say(f"not timed: {case}: about {format_duration(seconds)} on {device.name}")
        else:
            timed.append((line, model, setting))
    say(f"timing {len(timed)} cases on {device.name}")
    return [(line, row) for line, model, at in timed for row in measure(model.shape, model.ranks, at, device=place)]


def _chosen(study: Study) -> list[tuple[str, LadderModel]]:
    from scaling.report.decision_tables import made_decision

    made = made_decision(study)
    if made is None:
        return [(line.name, line.curve.rungs[-1]) for line in study.lines if line.curve is not None]
    rows = [(row.line, made.served.get((row.line, row.form)), row.params) for row in made.decision.best]
    return [(line, served.line.curve.nearest(params)) for line, served, params in rows if served and params]
