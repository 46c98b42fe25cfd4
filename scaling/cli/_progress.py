"""Progress of a local launch, on standard error: a live picture on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scaling.cli._matrix import matrix
from scaling.cli._screen import console, say
from scaling.quantity import format_duration
from scaling.results.status import RunStatus, counts

LINE_SECONDS = 20.0  # between two lines where there is no terminal
LIVE_SECONDS = 1.0  # between two pictures on a terminal
_DONE = ("completed", "diverged")


class Progress:
    """Shows the runs of one launch between `start` and `stop`."""

    def __init__(self) -> None:
        screen = console(err=True)
        self._live = Live(console=screen, auto_refresh=False, transient=True) if screen.is_terminal else None
        self.interval_s = LIVE_SECONDS if self._live else LINE_SECONDS

    def start(self, slots: int) -> None:
        """The runs train from now on, `slots` of them side by side."""
        self._slots = slots
        self._started = time.monotonic()
        self._hours_at_start: float | None = None
        if self._live:
            self._live.start()

    def stop(self) -> None:
        """Take the live picture away."""
        if self._live:
            self._live.stop()

    def show(self, runs: Sequence[RunStatus]) -> None:
        """Draw the state of all runs."""
        if self._live:
            drawn: list[RenderableType] = [self._summary(runs), self._bar(runs), self._table(runs), *_matrices(runs)]
            self._live.update(Group(*drawn), refresh=True)
        else:
            say("; ".join([str(self._summary(runs)), *(_line(run) for run in runs if run.status == "running")]))

    def _summary(self, runs: Sequence[RunStatus]) -> Text:
        tally = counts(runs)
        done = sum(tally[name] for name in _DONE)
        elapsed = time.monotonic() - self._started
        words = [f"{done}/{len(runs)} runs", f"{format_duration(elapsed)} passed", self._time_left(runs, elapsed)]
        crashed = sum(run.crashed for run in runs)
        words += [f"{count} {name}" for name, count in (("diverged", tally["diverged"]), ("failed", crashed)) if count]
        return Text(", ".join(words))

    def _time_left(self, runs: Sequence[RunStatus], elapsed: float) -> str:
        """Planned hours, scaled by how long the planned hours done so far really took."""
        done, total = _hours(runs)
        if self._hours_at_start is None:
            self._hours_at_start = done
        trained = done - self._hours_at_start
        pace = elapsed / trained if trained > 0.03 * total else 3600 / self._slots
        return f"about {format_duration((total - done) * pace)} left"

    def _bar(self, runs: Sequence[RunStatus]) -> Table:
        done, total = _hours(runs)
        line = Table.grid()  # a bar alone ends without a new line
        line.add_row(ProgressBar(total=total or 1.0, completed=done, width=60))
        return line

    def _table(self, runs: Sequence[RunStatus]) -> Table:
        table = Table.grid(padding=(0, 2))
        for run in runs:
            if run.status == "running":
                record = run.record
                loss = "starting" if run.loss is None else f"{run.loss:.3f} nats"
                rate = f"lr {record['lr']:.2g}" if "lr" in record else ""
                table.add_row(str(run.row.cell), f"{run.progress:.0%}", loss, rate)
        return table


def _matrices(runs: Sequence[RunStatus]) -> list[Table]:
    """Every line's budgets × sizes, as they fill in."""
    return [matrix(line, [r for r in runs if r.row.line == line]) for line in dict.fromkeys(r.row.line for r in runs)]


def _hours(runs: Sequence[RunStatus]) -> tuple[float, float]:
    """(done, planned) device hours."""
    planned = [(run, run.row.hours or 0.0) for run in runs]
    done = sum(hours * (1.0 if run.status in _DONE else run.progress) for run, hours in planned)
    return done, sum(hours for _, hours in planned)


def _line(run: RunStatus) -> str:
    loss = "" if run.loss is None else f" loss {run.loss:.3f}"
    return f"{run.row.cell} {run.progress:.0%}{loss}"
