"""`scaling plan`: the grid and its price, before anything is spent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scaling.cli._options import json_option, root_option, runner_option, sweep_argument
from scaling.cli._plan_tables import print_expected, print_plan, print_ranks
from scaling.cli._project import open_project
from scaling.cli._screen import print_json, say

if TYPE_CHECKING:
    from scaling.sweeps.grids import Plan
    from scaling.sweeps.simulate import Expected
    from scaling.sweeps.simulated_comparison import ExpectedComparison


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
    impossible = any(check.severity == "error" for check in plan.checks)
    expected, compared = _simulated(plan.plan) if simulate else ([], [])
    if as_json:
        rows = {
            "expected": [asdict(one) for one in expected],
            "expected_comparisons": [asdict(one) for one in compared],
        }
        print_json(plan.document() | (rows if simulate else {}))
        return int(impossible)
    print_plan(plan, cells=cells)
    if ranks:
        print_ranks(plan)
    if simulate:
        print_expected(expected, compared)
    if impossible:
        say(f"\nnext: change the sweep, or name a runner that can: scaling plan {sweep} --runner FILE")
    else:
        say(f"\nnext: scaling launch {sweep}" + (f" --runner {runner}" if runner else ""))
    return int(impossible)


def _simulated(plan: Plan) -> tuple[list[Expected], list[ExpectedComparison]]:
    """What every line of a plan is expected to give alone, and compared with the reference."""
    from scaling.sweeps.simulate import simulate
    from scaling.sweeps.simulated_comparison import simulate_comparisons

    targets = plan.sweep.analysis.predict
    return simulate(plan, target=targets[0] if targets else None), simulate_comparisons(plan)
