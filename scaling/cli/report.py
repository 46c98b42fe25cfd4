"""`scaling report`: figures, tables and the page."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option
from scaling.cli._project import open_project
from scaling.cli._report import say_report
from scaling.project.table_report import report_of_table


@click.command()
@click.argument("source", metavar="SWEEP|RESULTS|FILE", type=click.Path(path_type=Path))
@root_option
def report(source: Path, root: Path | None) -> None:
    """Figures, tables and report.html from what is finished now, from a folder results/<sweep> (its runs.csv), or from
    a table of your own (lines in a column `family`), into the folder <table>_report beside it.
    """
    if source.suffix in (".yaml", ".yml"):
        say_report(open_project(source, root).report())
    else:
        say_report(report_of_table(source, root))
