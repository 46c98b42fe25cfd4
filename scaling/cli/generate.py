"""`scaling generate`: a finished run writes on."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import json_option, root_option, run_argument, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import print_json


@click.command()
@sweep_argument
@run_argument
@click.option("--prompt", required=True, help="The text to go on from.")
@click.option("--tokens", type=click.IntRange(1), default=64, show_default=True, help="New tokens.")
@root_option
@json_option
def generate(sweep: Path, run: str, prompt: str, tokens: int, root: Path | None, as_json: bool) -> None:
    """What a finished RUN writes after a prompt: its most likely tokens, one by one, through a key-value cache."""
    made = open_project(sweep, root).generate(run, prompt, tokens)
    if as_json:
        print_json(made.to_json())
        return
    click.echo(made.prompt + made.text)
