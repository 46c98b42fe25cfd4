"""`scaling import`: records of finished runs from another machine, or a table of runs that were trained elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option
from scaling.cli._project import open_project
from scaling.cli._screen import say
from scaling.cli._table_options import TableChoice, table_options
from scaling.results.folder import ResultsFolder
from scaling.results.records_file import NAME
from scaling.results.restore import restore
from scaling.results.store import Store
from scaling.runners.runner_file import load_runner

SHOWN = 20  # problems


@click.command(name="import")
@click.argument("source", metavar="RESULTS|TABLE", type=click.Path(path_type=Path))
@click.option(
    "--sweep",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Take the final losses of TABLE, trained elsewhere, into the studies of this sweep.",
)
@click.option(
    "--line", help="With --sweep: the line that the runs join (default: column `family`, or the file's name)."
)
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Default: the store of the root.")
@table_options
@root_option
def import_records(
    source: Path, sweep: Path | None, line: str | None, store: Path | None, root: Path | None, choice: TableChoice
) -> int:
    """Restore the finished runs of RESULTS, a folder results/<sweep> with records.jsonl, into a store: a later launch
    then trains only what is left. Results in the store already are kept; weights are not restored.

    With --sweep: take TABLE, any table of sizes, tokens and losses (docs/tables.md), into the studies of a sweep.
    Its rows are marked as imported in every table, and a file of the same name is replaced.
    """
    if sweep is not None:
        if store is not None:
            raise click.UsageError("--store: a table goes to results/<sweep>, not to a store")
        return _import_table(source, sweep, line, root, choice)
    choice.refuse_for_ours("records are read as they are; a table takes --sweep SWEEP")
    if line is not None:
        raise click.UsageError("--line: a table takes --sweep SWEEP")
    return _restore(source, store, root)


def _import_table(table: Path, sweep: Path, line: str | None, root: Path | None, choice: TableChoice) -> int:
    project = open_project(sweep, root)
    options = choice.options()
    if len(options) > 1:
        raise click.UsageError("import takes one --loss")
    imported = project.import_table(table, options[0], line=line)
    say("\n".join([*imported.report.lines(), *(f"note: {note}" for note in imported.notes)]))
    lines = sorted({str(row.line) for row in imported.rows if row.imported == table.name})
    replaced = f" in place of {imported.replaced}" if imported.replaced else ""
    say(f"{imported.path}: {imported.new} runs of {table.name}{replaced}, as {', '.join(lines)}")
    say(f"next: scaling compare {sweep}")
    return 0


def _restore(results: Path, store: Path | None, root: Path | None) -> int:
    """Records into a store."""
    path = results / NAME if results.is_dir() else results
    place = ResultsFolder.of(path, root)
    store = store or load_runner(None).store_path(place.root)
    restored = restore(path, Store(store))
    for problem in restored.problems[:SHOWN]:
        say(f"not restored: {problem}")
    if len(restored.problems) > SHOWN:
        say(f"... and {len(restored.problems) - SHOWN} more")
    say(f"{store}: {len(restored.new)} runs restored, {len(restored.present)} were there already")
    say(f"next: scaling launch {place.sweep}")
    return 1 if restored.problems else 0
