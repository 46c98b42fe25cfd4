"""`scaling plan`: the grid and its price, before anything is spent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from scaling.cli._options import json_option, root_option, runner_option, sweep_argument
from scaling.cli._plan_tables import print_expected, print_plan, print_ranks
from scaling.cli._project import open_project
from scaling.cli._screen import print_json, say


@click.command()
@sweep_argument
@runner_option
@click.option("--cells", is_flag=True, help="One row per cell: N, tokens, steps, batch, runs, time.")
@click.option("--ranks", is_flag=True, help="Also show the rank of every factorized matrix and the share it keeps.")
@click.option("--simulate", is_flag=True, help="Also fit simulated outcomes: the interval widths to expect.")
@root_option
@json_option
def plan(
    sweep: Path, runner: Path | None, cells: bool, ranks: bool, simulate: bool, root: Path | None, as_json: bool
) -> int:
    """The grid of runs and its price; nothing is run. Exit status 1: the plan cannot be run as it is."""
    plan = open_project(sweep, root).plan(runner)
    impossible, expected = any(check.severity == "error" for check in plan.checks), None
    if simulate:
        from scaling.sweeps.simulate import simulate as simulated

        targets = plan.plan.sweep.analysis.predict
        expected = simulated(plan.plan, target=targets[0] if targets else None)
    if as_json:
        print_json(plan.document() | ({} if expected is None else {"expected": [asdict(one) for one in expected]}))
        return int(impossible)
    print_plan(plan, cells=cells)
    if ranks:
        print_ranks(plan)
    if expected is not None:
        print_expected(expected)
    if impossible:
        say(f"\nnext: change the sweep, or name a runner that can: scaling plan {sweep} --runner FILE")
    else:
        say(f"\nnext: scaling launch {sweep}" + (f" --runner {runner}" if runner else ""))
    return int(impossible)
