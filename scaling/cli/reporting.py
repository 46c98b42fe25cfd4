"""`scaling collect`, `fit`, `predict`, `compare`, `report`, `laws`: from finished runs to laws, tables and figures."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli.options import root_option, sweep_argument
from scaling.cli.project import Project
from scaling.cli.screen import say
from scaling.results.collect import collect as collect_rows
from scaling.results.collect import write_runs
from scaling.results.launches import Launch
from scaling.results.status import RunStatus, counts
from scaling.results.store import Store


@click.command()
@sweep_argument
@root_option
def collect(sweep: Path, root: Path | None) -> None:
    """Write the store's results of the last launch to results/<sweep>/runs.csv."""
    project = Project.open(sweep, root)
    launch = project.launch()
    runs = project.statuses(launch)
    path = write_table(project, launch, runs)
    tally = ", ".join(f"{count} {name}" for name, count in counts(runs).items() if count)
    say(f"{path}: {len(runs)} runs, {tally}")


def write_table(project: Project, launch: Launch, runs: list[RunStatus]) -> Path:
    """Write runs.csv and return its path."""
    path = project.results / "runs.csv"
    write_runs(path, collect_rows(runs, Store(Path(launch.store))))
    return path


def collect_and_report(project: Project, launch: Launch, runs: list[RunStatus]) -> tuple[str, Path]:
    """Everything after training: the report's first sentence and its path."""
    return "", write_table(project, launch, runs)
