"""`scaling cancel`: how to stop."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import say


@click.command()
@sweep_argument
@root_option
def cancel(sweep: Path, root: Path | None) -> int:
    """Ask this sweep's own launches to checkpoint and stop; the next launch continues."""
    project = open_project(sweep, root)
    cancelled = project.cancel()
    for message in cancelled.messages:
        say(message)
    if not cancelled.jobs:
        say(f"no launch of {project.name} runs on this machine or has jobs on a cluster")
    return 0
