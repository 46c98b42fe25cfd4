"""`scaling fit`: from finished runs, or any table, to laws."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scaling.cli._fit_options import FitOptions, fit_options
from scaling.cli._options import json_option, root_option, table_argument
from scaling.cli._screen import print_json
from scaling.cli._studies import named_by_loss, studies_of, tables_json

if TYPE_CHECKING:
    from scaling.analysis.study import Study


@click.command()
@table_argument
@click.option(
    "--approach", type=click.Choice(["1", "2", "3"]), help="Only this approach (default: all that the points allow)."
)
@fit_options
@root_option
@json_option
def fit(table: Path, approach: str | None, root: Path | None, as_json: bool, options: FitOptions) -> None:
    """Laws of a sweep's finished runs, or of any table of params, tokens and loss, with intervals."""
    from scaling.report.documents import fits_json
    from scaling.report.terminal import fit_text

    studies = studies_of(table, root, options)
    if as_json:
        parts = [fits_json(one.study) for one in studies]
        fits = [fit for fit in named_by_loss(studies, parts, "fits") if approach in (None, str(fit["approach"]))]
        print_json(parts[0] | {"fits": fits} | tables_json(studies))
    for one in () if as_json else studies:
        one.print_report()
        text = fit_text(one.study, approach=None if approach is None else int(approach))
        click.echo(text or _nothing(one.study, approach))
    for one in studies:
        one.study.require_law()


def _nothing(study: Study, approach: str | None) -> str:
    """Why no line has the approach asked for."""
    name = {"1": "envelope", "2": "isoflop"}.get(approach or "", "")
    reasons = [
        f"{line.name}: {line.law.skipped[name]}" for line in study.lines if line.law and name in line.law.skipped
    ]
    return "\n".join([f"Approach {approach} has nothing to read here.", *reasons])
