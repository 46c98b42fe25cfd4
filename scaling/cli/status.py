"""`scaling status`: what a launch is doing, and what is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaling.cli._matrix import matrix
from scaling.cli._options import json_option, root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import console, print_json, printable, say
from scaling.quantity import format_duration
from scaling.results.status import code_changes

if TYPE_CHECKING:
    from scaling.project.sweep_status import SweepStatus

_WATCH_SECONDS = 2.0


@click.command()
@sweep_argument
@click.option("--watch", is_flag=True, help="Refresh until every run has ended.")
@root_option
@json_option
def status(sweep: Path, watch: bool, root: Path | None, as_json: bool) -> None:
    """A budget × size matrix of cells, what is left to do, and what failed."""
    project = open_project(sweep, root)
    state = project.status()
    if as_json:
        print_json(state.to_json())
        return
    for note in state.jobs.notes:
        say(note)
    if watch and console().is_terminal:
        with Live(_page(state), console=console(), auto_refresh=False) as live:
            while state.in_progress:
                time.sleep(_WATCH_SECONDS)
                state = project.status(state.launch)
                live.update(_page(state), refresh=True)
    else:
        console().print(_page(state))
    if not (state.in_progress or state.collected or state.jobs.goes_on):
        say(f"next: scaling launch {project.path}" + " --runner FILE" * (not state.packaged_runner))


def _page(state: SweepStatus) -> Table:
    runs = state.runs
    page = Table.grid(padding=(0, 0))
    tally = ", ".join(f"{count} {name}" for name, count in state.counts.items() if count)
    page.add_row(Text(f"{state.launch.sweep}, launch {state.launch.number}: {tally}; {_remaining(state.hours_left)}"))
    for line in dict.fromkeys(run.row.line for run in runs):
        page.add_row(Text(""))
        page.add_row(matrix(line, [run for run in runs if run.row.line == line]))
    shown = ("failed", "diverged", "stale", "queued", "stopped", "damaged")
    messages = [run for run in runs if run.damaged or (run.message and run.status in shown)]
    changes = code_changes(runs)
    if messages or changes:
        page.add_row(Text(""))
    for change in changes:
        page.add_row(Text(change))
    for run in messages:
        page.add_row(Text(f"{run.row.id}  {run.row.cell}  {run.status}: {printable(run.damaged or run.message or '')}"))
    return page


def _remaining(hours: float) -> str:
    return f"about {format_duration(hours * 3600)} of device time left" if hours else "nothing left to train"
