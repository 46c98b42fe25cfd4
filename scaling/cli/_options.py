"""The arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(dir_okay=False, path_type=Path)

sweep_argument = click.argument("sweep", type=_FILE)
table_argument = click.argument("table", metavar="SWEEP|FILE", type=click.Path(path_type=Path))
run_argument = click.argument("run")
root_option = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where .scaling/ and results/ lie (default: beside the sweeps/ folder).",
)
runner_option = click.option("--runner", type=_FILE, help="A runner file (default: this machine, one worker per core).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
