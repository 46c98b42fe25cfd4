"""The budget × size matrix of one line: losses that are there, progress and state of what is not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from scaling.results.status import RunStatus

_MARKS = {
    "diverged": "div",
    "failed": "FAIL",
    "queued": "que",
    "planned": "·",
    "stale": "old",
    "stopped": "stop",
    "damaged": "BAD",
}


def matrix(line: str, runs: Sequence[RunStatus]) -> Table:
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
