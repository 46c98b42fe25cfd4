"""`scaling show`: everything about one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scaling.cli._attempts import print_attempt
from scaling.cli._curve_plot import curve_plot
from scaling.cli._options import json_option, root_option, run_argument, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import print_json, print_table, printable
from scaling.quantity import format_number

if TYPE_CHECKING:
    from scaling.project.run_history import RunHistory


@click.command()
@sweep_argument
@run_argument
@root_option
@json_option
def show(sweep: Path, run: str, root: Path | None, as_json: bool) -> None:
    """Settings, attempts, loss curve and error of RUN (an id or its beginning, or a label)."""
    history = open_project(sweep, root).history(run)
    if as_json:
        print_json(history.to_json())
        return
    click.echo(printable(_headline(history)))
    click.echo()
    print_table(("setting", ""), _flat(history.row.settings or {}), left=2)
    if len(history.curve) > 1:
        click.echo("\nTraining loss, nats per token, over steps (logarithmic)")
        click.echo(curve_plot([(int(point["step"] or 0), float(point["loss"] or 0.0)) for point in history.curve]))
    for tried in history.attempts:
        click.echo()
        print_attempt(tried, traceback=False)
    if any(tried.attempt.error() for tried in history.attempts):
        click.echo(f"\nnext: scaling logs {sweep} {history.row.id}   shows the traceback")


def _headline(history: RunHistory) -> str:
    row, status = history.row, history.status
    size = f"{format_number(row.params_total)} parameters, {format_number(row.tokens)} tokens, {row.flops:.3g} FLOPs"
    loss = "" if status.loss is None else f", loss {status.loss:.4f} nats per token"
    why = f": {status.message}" if status.message else ""
    return f"run {row.id}  {row.cell}, seed {row.seed}, lr {row.lr:g}\n{size}\n{status.status}{loss}{why}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every resolved setting with its dotted name."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
