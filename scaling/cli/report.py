"""`scaling report`: figures, tables and the page."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from scaling.cli._options import root_option
from scaling.cli._project import open_project
from scaling.cli._report import say_report
from scaling.cli._screen import say
from scaling.cli._table_options import TableChoice, table_options
from scaling.project.table_report import report_of_table


@click.command()
@click.argument("source", metavar="SWEEP|RESULTS|FILE", type=click.Path(path_type=Path))
@table_options
@root_option
def report(source: Path, root: Path | None, choice: TableChoice) -> None:
    """Figures, tables and report.html from what is finished now, from a folder results/<sweep> (its runs.csv), or from
    a table of your own (docs/tables.md), into the folder <table>_report beside it.
    """
    if source.suffix in (".yaml", ".yml"):
        choice.refuse_for_ours()
        say_report(open_project(source, root).report())
        return
    options = choice.options()
    if len(options) > 1:
        raise click.UsageError("report takes one --loss")
    command = shlex.join(["scaling", "report", source.name, *choice.arguments()])
    written = report_of_table(
        source,
        root,
        options[0],
        command=command,
        on_read=lambda read: click.echo("\n".join(read.lines()) + "\n"),
        message=say,
    )
    say_report(written)
