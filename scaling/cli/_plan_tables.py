"""A priced plan on the screen: the grid with steps or cells, totals, checks, and what was dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from scaling.cli._screen import print_checks, print_table
from scaling.quantity import format_bytes, format_duration, format_number
from scaling.sweeps.price import CellPrice, Priced, Totals, matrix, rank_table

if TYPE_CHECKING:
    from scaling.sweeps.simulate import Expected

SHOWN_DROPPED = 10
SHAPES_ACROSS = 12  # columns of a matrix: more do not fit a terminal


def print_plan(plan: Priced, *, cells: bool = False, todo: int | None = None) -> None:
    """A budget × size matrix of steps per line, or one row per cell; then totals, checks and dropped cells."""
    rows, on_cpu = matrix(plan), plan.device.name.startswith("cpu")
    if cells or plan.plan.sweep.grid.kind == "points":
        _print_cells(rows, plan)
    else:
        for line in dict.fromkeys(row.cell.line for row in rows):
            _print_steps([row for row in rows if row.cell.line == line], line, plan)
        if not on_cpu:  # where money is spent, every cell is shown
            _print_cells(rows, plan)
    totals, convention = plan.totals, plan.plan.flops_convention
    time = format_duration(totals.hours * 3600) if on_cpu else f"{totals.gpu_hours:,.1f} hours"
    words = [
        f"{totals.runs} runs" + ("" if todo is None else f", {todo} to train"),
        f"{totals.spent(convention):.3g} training FLOPs ({convention})",
        f"about {time} of {plan.device.name} time ({plan.basis})",
    ]
    words += [f"{totals.epochs:.2g} epochs at most"] if totals.epochs is not None else []
    words += [f"cost {totals.money:.2f}"] if totals.money is not None else []
    click.echo("; ".join(words))
    if totals.pending.runs:
        _print_pending(totals, plan)
    if totals.trunks:
        _print_trunks(totals, convention)
    _print_dropped(plan)
    print_checks(plan.checks)


_SPENT = {"isoflop": "FLOPs", "tokens_per_param": "tokens/N", "points": "tokens"}  # what a row of the grid holds equal


def _print_steps(rows: Sequence[CellPrice], line: str, plan: Priced) -> None:
    """Budgets down, shapes across: the steps of every cell, and how many runs it takes where not one."""
    sizes = dict(sorted({row.cell.shape: row.params for row in rows}.items(), key=lambda size: size[1]))
    groups: dict[str, list[CellPrice]] = {}
    for row in rows:
        groups.setdefault(row.cell.group, []).append(row)
    first = (_SPENT[plan.plan.sweep.grid.kind], "runs", "time")
    for at in range(0, len(sizes), SHAPES_ACROSS):
        shapes = list(sizes)[at : at + SHAPES_ACROSS]
        body: list[tuple[object, ...]] = [
            (plan.plan.params_column, "", "", *(format_number(sizes[shape]) for shape in shapes))
        ]
        for group, cells in groups.items():
            steps = {row.cell.shape: f"{row.steps}" + (f" ×{row.runs}" if row.runs > 1 else "") for row in cells}
            hours = sum(row.hours for row in cells)
            spent = (group, sum(row.runs for row in cells), format_duration(hours * 3600))
            body.append((*spent, *(steps.get(shape, "") for shape in shapes)))
        print_table((*first, *shapes), body, title=f"{line}: steps")
        click.echo()


def _print_cells(rows: Sequence[CellPrice], plan: Priced) -> None:
    spent = _SPENT[plan.plan.sweep.grid.kind]
    priced, shared = plan.device.cost_per_hour is not None, max(plan.runs_per_gpu, default=1) > 1
    header = ("line", spent, "shape", plan.plan.params_column, "tokens", "steps", "batch", "micro-batch", "memory",
              *(("per GPU",) if shared else ()), "runs", "time", *(("money",) if priced else ()))  # fmt: skip
    table = (
        (
            row.cell.line,
            row.cell.group,
            row.cell.shape,
            format_number(row.params),
            format_number(row.tokens),
            row.steps,
            row.batch_tokens,
            row.split.sequences,
            format_bytes(row.split.memory.peak),
            *((row.runs_per_gpu,) if shared else ()),
            row.runs,
            format_duration(row.hours * 3600),
            *((f"{plan.money(row.hours):.2f}",) if priced else ()),
        )
        for row in rows
    )
    print_table(header, table, left=3)
    click.echo()


def print_ranks(plan: Priced) -> None:
    """Rank, rank / min(in, out) and kept share of every factorized matrix."""
    header = ("line", "shape", "matrix", "out", "in", "rank", "rank/min", "kept")
    rows = (
        (
            *(one.line, one.shape, one.matrix, one.outputs, one.inputs, one.rank),
            f"{one.rank_over_min:.3f}",
            f"{one.kept:.1%}",
        )
        for one in rank_table(plan.plan)
    )
    print_table(header, rows, left=3)


def print_expected(expected: Sequence[Expected]) -> None:
    """Half-widths of the 95 % intervals that every line is expected to give."""
    header = ("line", "", "runs", "N exponent", "at FLOPs", "N_opt", "loss", "fits that fail")
    rows = (
        (
            one.line,
            one.message or "",
            one.runs,
            None if one.exponent_n is None else f"±{one.exponent_n:.2f}",
            f"{one.target_compute:.3g}",
            None if one.factor_n is None else f"×÷{one.factor_n:.2f}",
            None if one.loss_relative is None else f"±{one.loss_relative:.1%}",
            None if one.failed is None else f"{one.failed:.0%}",
        )
        for one in expected
    )
    click.echo()
    print_table(header, rows, title="95 % intervals to expect, if the law's form is right (simulated)", left=2)


def _print_pending(totals: Totals, plan: Priced) -> None:
    """What stages to come take, and all stages together."""
    hours = (totals.pending.gpu_hours, totals.gpu_hours + totals.pending.gpu_hours)
    on_cpu = plan.device.name.startswith("cpu")
    later, together = (format_duration(one * 3600) if on_cpu else f"{one:,.1f} hours" for one in hours)
    money = "" if totals.cost is None else f", cost {totals.pending.money:.2f}; {totals.cost:.2f} in all"
    stages = ", ".join(dict.fromkeys(planned.stage for planned in plan.plan.pending))
    click.echo(f"after tuning {totals.pending.runs} more ({stages}): about {later}, {together} in all{money}")


def _print_trunks(totals: Totals, convention: str) -> None:
    saved = totals.shared(convention)
    share = saved / (saved + totals.spent(convention))
    disk = f"their states take up to {totals.trunk_bytes / 1e6:.3g} MB of the store"
    click.echo(f"{totals.trunks} trunks are trained once: {saved:.3g} FLOPs ({share:.0%}) saved; {disk}")


def _print_dropped(plan: Priced) -> None:
    dropped = plan.plan.dropped
    for cell in dropped[:SHOWN_DROPPED]:
        click.echo(f"dropped: {cell.cell}: {cell.reason}")
    if len(dropped) > SHOWN_DROPPED:
        click.echo(f"... and {len(dropped) - SHOWN_DROPPED} more cells dropped (--json lists all)")
