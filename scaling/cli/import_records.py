"""`scaling import`: the records of finished runs, brought from another machine or out of version control."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option
from scaling.cli._screen import say
from scaling.results.folder import ResultsFolder
from scaling.results.records_file import NAME
from scaling.results.restore import restore
from scaling.results.store import Store
from scaling.runners.runner_file import load_runner

SHOWN = 20  # problems


@click.command(name="import")
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Default: the store of the root.")
@root_option
def import_records(results: Path, store: Path | None, root: Path | None) -> int:
    """Restore the finished runs of RESULTS, a folder results/<sweep> with records.jsonl, into a store.

    A later launch then trains only what is left. Results in the store already are kept; weights are not restored.
    """
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
