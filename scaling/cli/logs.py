"""`scaling logs`: every attempt of a run, with its whole error."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._attempts import print_attempt
from scaling.cli._options import root_option, run_argument, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import say


@click.command()
@sweep_argument
@run_argument
@root_option
def logs(sweep: Path, run: str, root: Path | None) -> None:
    """Every attempt of RUN (an id or its beginning, or a label): who, when, its last metrics, and its error."""
    history = open_project(sweep, root).history(run)
    if not history.attempts:
        status = history.status
        say(f"run {history.row.id} was not started yet: {status.message or status.status}")
    for tried in history.attempts:
        print_attempt(tried, traceback=True)
