"""`scaling status`: what a launch is doing, and what is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaling.cli._options import json_option, root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import console, print_json, printable, say
from scaling.quantity import format_duration
from scaling.results.status import RunStatus, code_changes

if TYPE_CHECKING:
    from scaling.project.sweep_status import SweepStatus

_MARKS = {
    "diverged": "div",
    "failed": "FAIL",
    "queued": "que",
    "planned": "·",
    "stale": "old",
    "stopped": "stop",
    "damaged": "BAD",
}
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
        page.add_row(_matrix(line, [run for run in runs if run.row.line == line]))
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


def _matrix(line: str, runs: Sequence[RunStatus]) -> Table:
    """Rows of the grid down, shapes across; a cell shows its loss (mean over finished seeds), progress, or state."""
    cells: dict[tuple[str, str], list[RunStatus]] = {}
    for run in sorted(runs, key=lambda run: run.row.params_total):
        cells.setdefault((run.row.cell.group, run.row.cell.shape), []).append(run)
    shapes = list(dict.fromkeys(shape for _, shape in cells))
    table = Table(title=line, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("", *shapes):
        table.add_column(name, justify="right")
    for group in dict.fromkeys(run.row.cell.group for run in runs):
        table.add_row(group, *(_cell(cells.get((group, shape), [])) for shape in shapes))
    return table


def _cell(runs: Sequence[RunStatus]) -> Text:
    done = [run.loss for run in runs if run.status == "completed" and run.loss is not None]
    waiting = [run for run in runs if run.status != "completed"]
    shown = [f"{sum(done) / len(done):.3f}"] if done else []
    for run in waiting:
        shown.append(f"{run.progress:.0%}" if run.status == "running" else _MARKS[run.status])
    failed = any(run.status in ("failed", "diverged", "damaged") for run in waiting)
    return Text(" ".join(dict.fromkeys(shown)), style="red" if failed else "yellow" if waiting else "")


def _remaining(hours: float) -> str:
    return f"about {format_duration(hours * 3600)} of device time left" if hours else "nothing left to train"
