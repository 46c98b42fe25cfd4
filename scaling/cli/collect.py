"""`scaling collect`: from the store to a table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from scaling.cli._options import root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import say
from scaling.results.status import STATUSES


@click.command()
@sweep_argument
@click.option("--records", is_flag=True, help="Also records.jsonl, which `scaling import` reads, and curves.csv.")
@root_option
def collect(sweep: Path, records: bool, root: Path | None) -> None:
    """Write the store's results of the last launch to results/<sweep>/runs.csv."""
    project = open_project(sweep, root)
    rows = project.collect(records=records)
    counts = Counter(row.status for row in rows)
    tally = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    say(f"{project.table}: {len(rows)} runs, {tally}")
