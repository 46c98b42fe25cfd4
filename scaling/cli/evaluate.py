"""`scaling evaluate`: finished runs on one more text."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import json_option, root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import print_json, print_table


@click.command()
@sweep_argument
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Text, JSONL or Parquet.")
@click.option("--name", help="What to call the set (default: the name of the file).")
@root_option
@json_option
def evaluate(sweep: Path, data: Path, name: str | None, root: Path | None, as_json: bool) -> None:
    """The loss of every finished run on one more validation set; `scaling collect` has it as column `loss:NAME`."""
    project = open_project(sweep, root)
    evaluations = project.evaluate(data, name)
    if as_json:
        print_json({"sweep": project.name, "evaluations": [one.to_json() for one in evaluations]})
        return
    header = ("run", "cell", "nats/token", "± se", "nats/byte")
    losses = ((one.loss.loss, one.loss.loss_se, one.loss.loss_per_byte) for one in evaluations)
    shown = (
        (one.row.id, one.row.cell, *(None if n is None else f"{n:.4f}" for n in three))
        for one, three in zip(evaluations, losses, strict=True)
    )
    print_table(header, shown, title=f"{project.name} on {evaluations[0].loss.name}", left=2)
