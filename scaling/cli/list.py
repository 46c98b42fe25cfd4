"""`scaling list`: the sweeps of a folder."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import json_option, root_option
from scaling.cli._screen import print_json, print_table, say
from scaling.project.sweep_list import ListedSweep, list_sweeps
from scaling.quantity import format_duration


@click.command(name="list")
@root_option
@json_option
def list(root: Path | None, as_json: bool) -> None:
    """The sweeps of this folder: launched, finished, spent."""
    root = (root or Path.cwd()).resolve()
    sweeps = list_sweeps(root)
    if as_json:
        print_json({"sweeps": [sweep.to_json() for sweep in sweeps]})
        return
    if not sweeps:
        say(f"no sweep lies in {root / 'sweeps'}\nnext: scaling init NAME")
        return
    header = ("sweep", "file", "launch", "launched", "finished", "device time", "FLOPs")
    print_table(header, (_row(sweep, root) for sweep in sweeps), left=2)
    for sweep in sweeps:
        if sweep.problem:
            say(f"{sweep.sweep}: {sweep.problem}")


def _row(sweep: ListedSweep, root: Path) -> tuple[object, ...]:
    file = None if sweep.file is None else sweep.file.relative_to(root)
    if sweep.launch is None:
        return sweep.sweep, file, "unreadable" if sweep.problem else None, *(None,) * 4
    finished = f"{sweep.finished}/{sweep.runs}"
    hours = format_duration((sweep.device_hours or 0.0) * 3600)
    return sweep.sweep, file, sweep.launch, sweep.launched, finished, hours, f"{sweep.flops:.3g}"
