"""What a plan costs: hours, memory, epochs and money, before anything is spent.

A run takes (training FLOPs + optimizer FLOPs) / (devices · FLOP/s per device); a branch of a shared trunk only those
of its own steps. The rate is the device's peak times its assumed MFU; once runs of the same line have finished, their
measured rate replaces it, interpolated in log(params_matmul). `memory_bytes` is the least a run needs (one sequence at
a time) on a device that holds all of it; under `fsdp` each holds a part. A run that does not fit is a check of severity
error, which `launch` refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scaling import checks
from scaling.checks import Check
from scaling.hardware import Device
from scaling.parameterizations import parameterization_of, structures
from scaling.quantity import format_number
from scaling.rows import CellKey
from scaling.sweeps.grids import Plan
from scaling.sweeps.memory import training_memory
from scaling.sweeps.resolve import PlannedRun
from scaling.sweeps.trunks import trunk_bytes


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a finished run of a line reached: (flops + optimizer_flops) / device_seconds."""

    line: str
    params_matmul: int
    flops_per_second: float


@dataclass(frozen=True)
class Priced:
    """A plan with the price of every run, in the order of `plan.runs`."""

    plan: Plan
    device: Device
    hours: tuple[float, ...]  # wall clock of one run on its devices
    device_hours: tuple[float, ...]
    pending_hours: tuple[float, ...]  # device hours of the runs of later stages, in the order of `plan.pending`
    corpus_tokens: float | None
    cost: float | None
    basis: str  # what the hours rest on: measured runs, or an assumed share of the device's peak
    checks: tuple[Check, ...]  # those of the plan and those of the price

    @property
    def totals(self) -> Totals:
        """Of the whole plan. What runs share is counted once."""
        runs = self.plan.runs
        epochs = max((r.run.tokens for r in runs), default=0) / self.corpus_tokens if self.corpus_tokens else None
        return Totals(
            runs=len(runs),
            flops=math.fsum(r.flops * r.own_share for r in runs),
            flops_6nd=math.fsum(r.flops_6nd * r.own_share for r in runs),
            optimizer_flops=math.fsum(r.optimizer_flops * r.own_share for r in runs),
            tokens=sum(r.own_steps * r.run.batch_tokens for r in runs),
            trunks=len({r.trunk for r in runs if r.trunk is not None}),
            shared_flops=math.fsum(r.flops * (1 - r.own_share) for r in runs),
            shared_flops_6nd=math.fsum(r.flops_6nd * (1 - r.own_share) for r in runs),
            trunk_bytes=trunk_bytes(runs),
            hours=math.fsum(self.device_hours),
            pending_runs=len(self.plan.pending),
            pending_hours=math.fsum(self.pending_hours),
            longest_hours=max((h / r.own_share for r, h in zip(runs, self.hours, strict=True)), default=0.0),
            epochs=epochs,
            cost=self.cost,
        )

    def document(self) -> dict[str, Any]:
        """`plan --json`, without its schema version."""
        plan = self.plan
        return {
            "sweep": plan.sweep.name,
            "flops_convention": plan.flops_convention,
            "params_column": plan.params_column,
            "device": self.device.name,
            "basis": self.basis,
            "runs": [run.row(hours).to_json() for run, hours in zip(plan.runs, self.hours, strict=True)],
            "dropped": [dropped.to_json() for dropped in plan.dropped],
            "stages": [asdict(stage) for stage in stages(self)],
            "totals": asdict(self.totals),
            "checks": [check.to_json() for check in self.checks],
        }


@dataclass(frozen=True)
class Totals:
    """What a plan takes: FLOPs, device hours, money, the longest run and the most epochs.

    `shared_flops` are those that runs of one trunk need not spend again.
    """

    runs: int
    flops: float
    flops_6nd: float
    optimizer_flops: float
    tokens: int
    trunks: int
    shared_flops: float
    shared_flops_6nd: float
    trunk_bytes: float
    hours: float
    pending_runs: int
    pending_hours: float
    longest_hours: float
    epochs: float | None
    cost: float | None

    def spent(self, convention: str) -> float:
        """Training FLOPs, counted as `exact` or `6ND`."""
        return self.flops if convention == "exact" else self.flops_6nd

    def shared(self, convention: str) -> float:
        """Training FLOPs saved by trunks, counted as `exact` or `6ND`."""
        return self.shared_flops if convention == "exact" else self.shared_flops_6nd


@dataclass(frozen=True)
class StagePrice:
    """The runs of one family and stage; `pending` where they wait for the losses of an earlier stage."""

    family: str
    stage: str
    pending: bool
    runs: int
    flops: float
    hours: float


@dataclass(frozen=True)
class CellPrice:
    """The runs of one cell; `params` in the sweep's own column, `hours` of device time."""

    cell: CellKey
    params: int
    tokens: int
    steps: int
    batch_tokens: int
    runs: int
    hours: float


@dataclass(frozen=True)
class MatrixRank:
    """The rank of one factorized matrix (outputs × inputs) of a low-rank line's shape."""

    line: str
    shape: str
    matrix: str
    outputs: int
    inputs: int
    rank: int
    params: int

    @property
    def rank_over_min(self) -> float:
        """Rank relative to the full one."""
        return self.rank / min(self.outputs, self.inputs)

    @property
    def kept(self) -> float:
        """Share of the matrix's parameters that its factors have."""
        return self.params / (self.inputs * self.outputs)


def price(
    plan: Plan,
    *,
    device: Device,
    devices: Callable[[PlannedRun], int] = lambda run: 1,
    sharded: Callable[[PlannedRun], bool] = lambda run: False,
    measured: Iterable[Throughput] = (),
    corpus_tokens: float | None = None,
) -> Priced:
    """Hours, memory, epochs and money of every run.

    Args:
        devices: how many devices train a run together.
        sharded: whether each of them holds a part of the model (`fsdp`) or all of it (`ddp`).
        measured: what finished runs reached, in place of the assumed MFU.
        corpus_tokens: training tokens of the corpus; epochs are unknown where None.
    """
    rates = _rates(measured)

    def device_hours(planned: PlannedRun) -> float:
        rate = _measured_rate(rates.get(planned.line, []), planned) or _assumed_rate(device, planned)
        return (planned.flops + planned.optimizer_flops) * planned.own_share / rate / 3600

    counts = [devices(planned) for planned in plan.runs]
    spent = tuple(device_hours(planned) for planned in plan.runs)
    pending = tuple(device_hours(planned) for planned in plan.pending)
    needs = [
        (
            planned,
            training_memory(planned.run, sequences=1, ranks=n, strategy="fsdp" if sharded(planned) else "ddp").peak,
        )
        for planned, n in zip(plan.runs, counts, strict=True)
    ]
    misfits = [(planned, needed) for planned, needed in needs if needed > device.memory_bytes]
    return Priced(
        plan=plan,
        device=device,
        hours=tuple(hours / count for hours, count in zip(spent, counts, strict=True)),
        device_hours=spent,
        pending_hours=pending,
        corpus_tokens=corpus_tokens,
        cost=None if device.cost_per_hour is None else device.cost_per_hour * math.fsum((*spent, *pending)),
        basis=_basis(device, plan, rates),
        checks=(
            *plan.checks,
            *_misfit(misfits, device),
            *_short_steps(device, plan, spent, rates),
            *_epochs(plan, corpus_tokens),
        ),
    )


def stages(priced: Priced) -> list[StagePrice]:
    """What tuning costs each family, and what is still to be decided."""
    groups: dict[tuple[str, str, bool], list[tuple[PlannedRun, float]]] = {}
    known = zip(priced.plan.runs, priced.device_hours, strict=True)
    pending = zip(priced.plan.pending, priced.pending_hours, strict=True)
    for waits, pairs in ((False, known), (True, pending)):
        for planned, hours in pairs:
            groups.setdefault((planned.family, planned.stage, waits), []).append((planned, hours))
    return [
        StagePrice(
            *group, len(pairs), sum(run.flops * run.own_share for run, _ in pairs), sum(hours for _, hours in pairs)
        )
        for group, pairs in groups.items()
    ]


def matrix(priced: Priced) -> list[CellPrice]:
    """Every cell in the order of the plan: what a person checks at a glance before paying."""
    cells: dict[CellKey, list[tuple[PlannedRun, float]]] = {}
    for planned, hours in zip(priced.plan.runs, priced.device_hours, strict=True):
        cells.setdefault(planned.cell, []).append((planned, hours))
    return [
        CellPrice(
            cell,
            first.counts.column(priced.plan.params_column),
            first.run.tokens,
            first.run.steps,
            first.run.batch_tokens,
            len(pairs),
            sum(hours for _, hours in pairs),
        )
        for cell, pairs in cells.items()
        for first in [pairs[0][0]]
    ]


def rank_table(plan: Plan) -> list[MatrixRank]:
    """Every factorized matrix, once for each line and shape."""
    found: dict[tuple[str, str, str], MatrixRank] = {}
    for planned in plan.runs:
        for name, rank in (planned.run.ranks or {}).items():
            place = (planned.line, planned.cell.shape, name)
            if place not in found:
                outputs, inputs = planned.run.shape.matrices()[name]
                params = structures(planned.run.shape, planned.run.ranks)[name].params(outputs, inputs)
                found[place] = MatrixRank(*place, outputs, inputs, rank, params)
    return list(found.values())


def _assumed_rate(device: Device, planned: PlannedRun) -> float:
    low_rank = parameterization_of(planned.run.ranks).structured
    precision = planned.run.precision if planned.run.precision in device.peak_flops else "float32"
    return device.peak(precision) * device.mfu(planned.run.shape.width, low_rank=low_rank)


def _basis(device: Device, plan: Plan, rates: Mapping[str, object]) -> str:
    """What the hours rest on, in words."""
    lines = dict.fromkeys(planned.line for planned in plan.runs)
    known = [line for line in lines if line in rates]
    table = "MFU by width from the device table" if device.mfu_by_width else f"assumed MFU {device.assumed_mfu:.0%}"
    if not known:
        return table
    return "measured throughput" if len(known) == len(lines) else f"measured for {', '.join(known)}, else {table}"


def _rates(measured: Iterable[Throughput]) -> dict[str, list[tuple[float, float]]]:
    """Per line: (log params_matmul, log FLOP/s), sorted by size; the mean where one size was measured more than
    once.
    """
    found: dict[str, dict[float, list[float]]] = {}
    for one in measured:
        sizes = found.setdefault(one.line, {})
        sizes.setdefault(math.log(one.params_matmul), []).append(math.log(one.flops_per_second))
    return {
        line: [(size, math.fsum(rates) / len(rates)) for size, rates in sorted(sizes.items())]
        for line, sizes in found.items()
    }


def _measured_rate(rates: Sequence[tuple[float, float]], planned: PlannedRun) -> float | None:
    if not rates:
        return None
    size = math.log(planned.counts.params_matmul)
    above = next((n for n, (measured, _) in enumerate(rates) if measured >= size), len(rates))
    if above in (0, len(rates)):
        return math.exp(rates[min(above, len(rates) - 1)][1])
    (low, low_rate), (high, high_rate) = rates[above - 1], rates[above]
    share = (size - low) / (high - low)
    return math.exp((1 - share) * low_rate + share * high_rate)


def _misfit(misfits: Sequence[tuple[PlannedRun, float]], device: Device) -> list[Check]:
    """Runs of which one device cannot hold its part, with the bytes that it needs."""
    if not misfits:
        return []
    worst, needed = max(misfits, key=lambda one: one[1])
    message = (
        f"{len(misfits)} runs cannot fit {device.name}: {worst.cell} needs {format_number(needed)} bytes on each "
        f"device, {format_number(needed - device.memory_bytes)} more than it has."
    )
    return [checks.DOES_NOT_FIT(message)]


def _short_steps(device: Device, plan: Plan, hours: Sequence[float], rates: Mapping[str, object]) -> list[Check]:
    """Steps too short for an assumed MFU to mean anything."""
    if device.mfu_by_width:
        return []
    seconds = [
        hour * 3600 / planned.own_steps
        for planned, hour in zip(plan.runs, hours, strict=True)
        if planned.line not in rates and hour * 3600 / planned.own_steps < checks.MIN_STEP_SECONDS.value
    ]
    if not seconds:
        return []
    message = (
        f"{len(seconds)} runs have steps of under {checks.MIN_STEP_SECONDS.value * 1e3:.0f} ms of arithmetic on "
        f"{device.name}: kernel launches will take longer than that, so their time is a lower bound."
    )
    return [checks.SHORT_STEPS(message)]


def _epochs(plan: Plan, corpus_tokens: float | None) -> list[Check]:
    most = max((planned.run.tokens for planned in plan.runs), default=0)
    if corpus_tokens is None or most <= checks.MAX_EPOCHS.value * corpus_tokens:
        return []
    message = (
        f"The longest run sees the corpus {most / corpus_tokens:.1f} times; above {checks.MAX_EPOCHS.value:g} epochs "
        "data repeats."
    )
    return [checks.MANY_EPOCHS(message)]
