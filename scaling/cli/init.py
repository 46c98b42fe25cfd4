"""`scaling init`: a sweep to start from."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option
from scaling.cli._screen import say


@click.command()
@click.argument("name")
@root_option
def init(name: str, root: Path | None) -> None:
    """Write a commented sweep sweeps/NAME.yaml, and a runner, to start from."""
    from scaling.sweeps.templates import start

    sweep, runner = start(name, (root or Path.cwd()).resolve())
    say(f"{sweep}\n{runner}\nnext: scaling plan {sweep}")
