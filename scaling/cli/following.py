"""`scaling status`, `scaling logs`, `scaling cancel`: what a launch is doing, why a run failed, and how to stop."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaling.cli.options import json_option, root_option, sweep_argument
from scaling.cli.project import Project, find_run
from scaling.cli.screen import console, print_json, printable, say
from scaling.quantity import format_duration
from scaling.results.launches import Launch, all_launches
from scaling.results.status import RunStatus, code_changes, counts
from scaling.results.store import Store
from scaling.runners.runner_file import PACKAGED_LOCAL
from scaling.runners.scheduler import JobsView, Scheduler

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
    project = Project.open(sweep, root)
    launch = project.launch()
    jobs = project.scheduler_of(launch).poll(set(launch.ids))
    runs = project.statuses(launch, jobs=jobs)
    if as_json:
        document = {"sweep": project.name, "counts": counts(runs), "runs": [run.to_json() for run in runs]}
        print_json(document | {"notes": list(jobs.notes)})
        return
    for note in jobs.notes:
        say(note)
    if watch and console().is_terminal:
        with Live(_page(launch, runs), console=console(), auto_refresh=False) as live:
            while _in_progress(runs):
                time.sleep(_WATCH_SECONDS)
                runs = project.statuses(launch)
                live.update(_page(launch, runs), refresh=True)
    else:
        console().print(_page(launch, runs))
    if not _in_progress(runs) and not _concluded(project, launch, runs, jobs):
        default = launch.runner_text == PACKAGED_LOCAL.read_text()
        say(f"next: scaling launch {project.path}" + " --runner FILE" * (not default))


@click.command()
@sweep_argument
@click.argument("run")
@root_option
def logs(sweep: Path, run: str, root: Path | None) -> None:
    """Every attempt of RUN (an id or its beginning): who, when, its last metrics, and its error."""
    project = Project.open(sweep, root)
    launch = project.launch()
    run_id = find_run(launch, run, sweep)
    store = Store(Path(launch.store))
    newest = store.newest(run_id)
    if newest is None:
        [status] = [one for one in project.statuses(launch) if one.row.id == run_id]
        say(f"run {run_id} was not started yet: {status.message or status.status}")
        return
    for number in range(1, newest.number + 1):
        _print_attempt(store, run_id, number, project.scheduler_of(launch))


@click.command()
@sweep_argument
@root_option
def cancel(sweep: Path, root: Path | None) -> int:
    """Ask this sweep's own launches to checkpoint and stop; the next launch continues."""
    project = Project.open(sweep, root)
    newest = {(one.runner, one.store): one for one in all_launches(project.root, project.name)}
    cancelled = [project.scheduler_of(launch).cancel(set(launch.ids)) for launch in newest.values()]
    for message in dict.fromkeys(message for one in cancelled for message in one.messages):
        say(message)
    if not any(one.jobs for one in cancelled):
        say(f"no launch of {project.name} runs on this machine or has jobs on a cluster")
    return 0


def _in_progress(runs: Sequence[RunStatus]) -> bool:
    return any(run.status in ("running", "queued") for run in runs)


def _concluded(project: Project, launch: Launch, runs: Sequence[RunStatus], jobs: JobsView) -> bool:
    """True where all is trained and collected, or a job of the launch will go on by itself."""
    if jobs.goes_on:
        return True
    table = project.results / "runs.csv"
    if not table.exists() or any(run.status not in ("completed", "diverged") for run in runs):
        return False
    results = (Store(Path(launch.store)).folder(run_id) / "result.json" for run_id in launch.ids)
    return table.stat().st_mtime >= max(path.lstat().st_mtime for path in results)


def _page(launch: Launch, runs: Sequence[RunStatus]) -> Table:
    page = Table.grid(padding=(0, 0))
    tally = ", ".join(f"{count} {name}" for name, count in counts(runs).items() if count)
    page.add_row(Text(f"{launch.sweep}, launch {launch.number}: {tally}; {_remaining(runs)}"))
    for line in dict.fromkeys(run.row.line for run in runs):
        page.add_row(Text(""))
        page.add_row(_matrix(line, [run for run in runs if run.row.line == line]))
    told = ("failed", "diverged", "stale", "queued", "stopped", "damaged")
    messages = [run for run in runs if run.damaged or (run.message and run.status in told)]
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


def _remaining(runs: Sequence[RunStatus]) -> str:
    left = [run for run in runs if run.status not in ("completed", "diverged")]
    hours = sum((1 - run.progress) * (run.row.hours or 0.0) for run in left)
    return f"about {format_duration(hours * 3600)} of device time left" if hours else "nothing left to train"


def _print_attempt(store: Store, run_id: str, number: int, scheduler: Scheduler) -> None:
    attempt = store.attempt(run_id, number)
    owner = attempt.owner
    job = f", job {owner.job_id}" if owner.job_id else ""
    code = owner.code_change or f"code {owner.code_version}"
    lines = [f"attempt {number} on {owner.host} (pid {owner.pid}{job}), {code}", f"  metrics: {attempt.metrics_path}"]
    if attempt.damaged:
        lines[0] = f"attempt {number}: {attempt.damaged}"
    lines += [f"  job log: {path}" for path in (scheduler.logs(owner.job) if owner.job else ())]
    if record := attempt.last_record():
        lines.append(f"  last:    {json.dumps(record)}")
    if error := attempt.error():
        lines += [f"  error:   {error['message']}", "  " + error["traceback"].rstrip().replace("\n", "\n  ")]
    click.echo(printable("\n".join(lines)))
