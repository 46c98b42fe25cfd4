"""A priced plan on the screen: the grid with steps or cells, totals, checks, and what was dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from scaling.cli._screen import print_checks, print_table
from scaling.quantity import format_bytes, format_duration, format_number
from scaling.sweeps.price import CellPrice, Priced, Totals, matrix, matrix_to_come, rank_table

if TYPE_CHECKING:
    from scaling.sweeps.simulate import Expected
    from scaling.sweeps.simulated_comparison import ExpectedComparison

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
    if plan.plan.pending and (cells or not on_cpu):
        title = f"after tuning ({_stages_to_come(plan)}), priced with the first setting"
        _print_cells(matrix_to_come(plan), plan, title=title)
    totals, convention = plan.totals, plan.plan.flops_convention
    words = [
        f"{totals.runs} runs" + ("" if todo is None else f", {todo} to train"),
        f"{totals.spent(convention):.3g} training FLOPs ({convention})",
        f"about {_device_time(totals.gpu_hours, plan)} ({plan.basis})",
    ]
    words += [] if on_cpu else [f"the longest run takes {format_duration(totals.longest_hours * 3600)}"]
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
    on_cpu = plan.device.name.startswith("cpu")
    first = (_SPENT[plan.plan.sweep.grid.kind], "runs", "time" if on_cpu else "GPU-hours")
    for at in range(0, len(sizes), SHAPES_ACROSS):
        shapes = list(sizes)[at : at + SHAPES_ACROSS]
        body: list[tuple[object, ...]] = [
            (plan.plan.params_column, "", "", *(format_number(sizes[shape]) for shape in shapes))
        ]
        for group, cells in groups.items():
            steps = {row.cell.shape: f"{row.steps}" + (f" ×{row.runs}" if row.runs > 1 else "") for row in cells}
            hours = sum(row.hours for row in cells)
            time = format_duration(hours * 3600) if on_cpu else f"{hours:,.1f}"
            spent = (group, sum(row.runs for row in cells), time)
            body.append((*spent, *(steps.get(shape, "") for shape in shapes)))
        print_table((*first, *shapes), body, title=f"{line}: steps")
        click.echo()


def _print_cells(rows: Sequence[CellPrice], plan: Priced, *, title: str | None = None) -> None:
    """One row per cell; on GPUs also the devices of a run, its wall time, and the GPU-hours of the cell."""
    on_cpu, priced = plan.device.name.startswith("cpu"), plan.device.cost_per_hour is not None
    places = (*plan.places, *plan.pending_places)
    shared = any(place.runs_per_gpu > 1 for place in places)
    sharded = any(place.strategy == "fsdp" and place.ranks > 1 for place in places)
    header = ["line", _SPENT[plan.plan.sweep.grid.kind], "shape", plan.plan.params_column, "tokens", "steps", "batch"]
    header += ["micro-batch", "memory", "runs"] if on_cpu else ["GPUs", "micro-batch", "memory/GPU", "runs"]
    header += ["a GPU"] if shared else []
    header += ["time"] if on_cpu else ["longest", "GPU-hours"]
    header += ["money"] if priced else []

    def cells(row: CellPrice) -> Iterator[object]:
        yield from (row.cell.line, row.cell.group, row.cell.shape, format_number(row.params))
        yield from (format_number(row.tokens), row.steps, row.batch_tokens)
        if not on_cpu:
            yield f"{row.place.ranks} {row.place.strategy}" if sharded and row.place.ranks > 1 else row.place.ranks
        yield from (row.split.sequences, format_bytes(row.split.memory.peak), row.runs)
        if shared:
            yield row.place.runs_per_gpu
        if on_cpu:
            yield format_duration(row.hours * 3600)
        else:
            yield from (format_duration(row.wall_hours * 3600), f"{row.hours:,.1f}")
        if priced:
            yield f"{plan.money(row.hours):.2f}"

    print_table(header, map(tuple, map(cells, rows)), left=3, title=title)
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


def print_expected(expected: Sequence[Expected], compared: Sequence[ExpectedComparison]) -> None:
    """Half-widths of the 95 % intervals that every line is expected to give, alone and against the reference."""
    header = ("line", "runs", "N exponent", "at FLOPs", "N_opt", "loss", "fits that fail")
    rows = (
        (
            one.line,
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
    print_table(header, rows, title="95 % intervals to expect, if the law's form is right (simulated)", left=1)
    _echo_messages(expected)
    if compared:
        click.echo()
        print_table(
            ("line", "against", "law", "compute multiplier", "a verdict beyond"),
            (
                (one.line, one.reference, one.model, _factor(one.factor), _factor(one.verdict_beyond))
                for one in compared
            ),
            title="95 % intervals of compute multipliers to expect, from noise of seeds alone (simulated)",
            left=3,
        )
        _echo_messages(compared)


def _factor(factor: float | None) -> str | None:
    return None if factor is None else f"×÷{factor:.2f}"


def _echo_messages(rows: Sequence[Expected | ExpectedComparison]) -> None:
    """Why lines have no number, each reason once with its lines."""
    reasons: dict[str, list[str]] = {}
    for one in rows:
        if one.message:
            reasons.setdefault(one.message, []).append(one.line)
    for reason, lines in reasons.items():
        click.echo(f"{', '.join(lines)}: {reason}")


def _print_pending(totals: Totals, plan: Priced) -> None:
    """What stages to come take, and all stages together."""
    later = _device_time(totals.pending.gpu_hours, plan)
    hours = totals.gpu_hours + totals.pending.gpu_hours
    together = format_duration(hours * 3600) if plan.device.name.startswith("cpu") else f"{hours:,.1f}"
    money = "" if totals.cost is None else f", cost {totals.pending.money:.2f}; {totals.cost:.2f} in all"
    click.echo(
        f"after tuning {totals.pending.runs} more ({_stages_to_come(plan)}): about {later}, {together} in all{money}"
    )


def _device_time(hours: float, plan: Priced) -> str:
    """Device hours in words."""
    if plan.device.name.startswith("cpu"):
        return f"{format_duration(hours * 3600)} of {plan.device.name} time"
    return f"{hours:,.1f} GPU-hours of {plan.device.name}"


def _stages_to_come(plan: Priced) -> str:
    return ", ".join(dict.fromkeys(planned.stage for planned in plan.plan.pending))


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
