"""What a plan costs: hours, memory, epochs and money, before anything is spent.

A run takes (training FLOPs + optimizer FLOPs) / (devices · FLOP/s per device); a branch of a shared trunk only those
of its own steps; then its validation, a forward pass at the same rate. The rate is the device's peak times its assumed
MFU; once runs of the same line have finished, their measured rate replaces it, interpolated in log(params_matmul).
Memory is that of `sweeps.memory`, for the devices and the strategy of the runner. A run that does not fit, whose batch
cannot be cut equally, or whose precision the device lacks is a check of severity error, which `launch` refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from scaling import checks
from scaling.checks import Check
from scaling.files import JsonObject
from scaling.hardware import Device
from scaling.parameterizations import parameterization_of, structures
from scaling.quantity import format_bytes
from scaling.rows import CellKey, PlanRow
from scaling.sweeps.grids import Plan
from scaling.sweeps.memory import ONE_DEVICE, USABLE, Placement, Split, split
from scaling.sweeps.resolve import PlannedRun
from scaling.sweeps.sharing import ALONE, Candidate, Sharing, shared_places
from scaling.sweeps.trunks import trunk_bytes

_Rates = Mapping[str, Sequence[tuple[float, float]]]  # per line: (log params_matmul, log FLOP/s), by size


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a finished run of a line reached: (flops + optimizer_flops) / device_seconds. Of a GPU that runs share it is
    what they reached together.
    """

    line: str
    params_matmul: int
    flops_per_second: float
    runs_per_gpu: int = 1


@dataclass(frozen=True)
class Priced:
    """A plan with the price of every run, in the order of `plan.runs`."""

    plan: Plan
    device: Device
    hours: tuple[float, ...]  # wall clock of one run on its devices
    device_hours: tuple[float, ...]
    pending_hours: tuple[float, ...]  # device hours of the runs of later stages, in the order of `plan.pending`
    longest_hours: float  # wall clock of the longest run, trained alone
    splits: tuple[Split, ...]  # how the batches of each run go through a device, and the memory that takes
    places: tuple[Placement, ...]  # the devices of each run
    pending_splits: tuple[Split, ...]
    pending_places: tuple[Placement, ...]
    corpus_tokens: float | None
    cost: float | None
    basis: str  # what the hours rest on: measured runs, or an assumed share of the device's peak
    checks: tuple[Check, ...]  # those of the plan and those of the price

    @property
    def runs_per_gpu(self) -> tuple[int, ...]:
        """Runs that share the GPU of each run, itself included."""
        return tuple(place.runs_per_gpu for place in self.places)

    def money(self, hours: float) -> float | None:
        """The price of some device hours; None where the runner states none."""
        return None if self.device.cost_per_hour is None else self.device.cost_per_hour * hours

    def rows(self, *, settings: bool = False) -> tuple[PlanRow, ...]:
        """The runs as `plan --json` lists them and, with their settings, as a launch freezes them."""
        columns = zip(self.plan.runs, self.hours, self.device_hours, self.splits, self.runs_per_gpu, strict=True)
        return tuple(
            replace(
                planned.row(hours, planned.run.settings() if settings else None),
                device_hours=device_hours,
                money=self.money(device_hours),
                micro_batch=one.sequences,
                memory_bytes_per_device=one.memory.peak,
                memory_parts=asdict(one.memory),
                runs_per_gpu=shared,
            )
            for planned, hours, device_hours, one, shared in columns
        )

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
            longest_hours=self.longest_hours,
            epochs=epochs,
            cost=self.cost,
            gpu_hours=math.fsum(self.device_hours),
            money=self.money(math.fsum(self.device_hours)),
            pending=Pending(
                runs=len(self.plan.pending),
                flops=math.fsum(r.flops * r.own_share for r in self.plan.pending),
                gpu_hours=math.fsum(self.pending_hours),
                money=self.money(math.fsum(self.pending_hours)),
            ),
        )

    def document(self) -> JsonObject:
        """`plan --json`, without its schema version."""
        plan = self.plan
        return {
            "sweep": plan.sweep.name,
            "flops_convention": plan.flops_convention,
            "params_column": plan.params_column,
            "device": self.device.name,
            "basis": self.basis,
            "runs": [row.to_json() for row in self.rows()],
            "dropped": [dropped.to_json() for dropped in plan.dropped],
            "stages": [asdict(stage) for stage in stages(self)],
            "totals": asdict(self.totals),
            "checks": [check.to_json() for check in self.checks],
        }


@dataclass(frozen=True)
class Pending:
    """What stages take whose settings wait for losses; their runs are priced with the first setting as a stand-in."""

    runs: int
    flops: float
    gpu_hours: float
    money: float | None


@dataclass(frozen=True)
class Totals:
    """What a plan takes: FLOPs, device hours, money, the longest run and the most epochs.

    `shared_flops` are those that runs of one trunk need not spend again. `hours` and `gpu_hours` are the device hours
    of the runs whose settings are known, and `money` their price; `cost` is that of `pending` runs too.
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
    gpu_hours: float
    money: float | None
    pending: Pending

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
    """The runs of one cell: `params` in the sweep's own column, device hours of all, `wall_hours` of the longest,
    `split` and `place` of the first.
    """

    cell: CellKey
    params: int
    tokens: int
    steps: int
    batch_tokens: int
    runs: int
    hours: float
    wall_hours: float
    split: Split
    place: Placement


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
    placed: Callable[[PlannedRun], Placement] = lambda run: ONE_DEVICE,
    sharing: Sharing = ALONE,
    cores: Callable[[PlannedRun], int | None] = lambda run: None,
    measured: Iterable[Throughput] = (),
    corpus_tokens: float | None = None,
) -> Priced:
    """Hours, memory, epochs and money of every run.

    Args:
        placed: the devices that train a run together, and how.
        sharing: runs that share a GPU.
        cores: beside the GPU of a run; 0 where it trains on none, None where it may have as many as it needs.
        measured: what finished runs reached, in place of the assumed MFU.
        corpus_tokens: training tokens of the corpus; epochs are unknown where None.
    """
    measured = list(measured)
    rates, splits = _rates(measured), Splits(device.memory_bytes)
    alone = _rates(one for one in measured if one.runs_per_gpu == 1)

    def seconds(planned: PlannedRun, runs: int = 1) -> tuple[float, float]:
        """Of one device, of which `runs` runs have equal parts: training, and validation. Launches of several runs
        go on side by side.
        """
        rate = _measured_rate(rates.get(planned.line, []), planned) or _assumed_rate(device, planned, runs)
        forward = planned.flops / (3 * planned.run.tokens)  # per token
        trained = (planned.flops + planned.optimizer_flops) * planned.own_share
        return trained / rate, forward * planned.run.data.validation_tokens / rate

    everything = (*plan.runs, *plan.pending)
    candidates = [
        Candidate(
            planned.run, placed(planned), cores(planned), sum(seconds(planned)), _rate_alone(device, planned, alone)
        )
        for planned in everything
    ]
    places = shared_places(candidates, sharing, device)
    times = [seconds(planned, place.runs_per_gpu) for planned, place in zip(everything, places, strict=True)]
    taken = times[: len(plan.runs)]
    spent, pending = ([sum(parts) / 3600 for parts in some] for some in (taken, times[len(plan.runs) :]))
    cut = [splits(planned, place) for planned, place in zip(everything, places, strict=True)]
    return Priced(
        plan=plan,
        device=device,
        hours=tuple(hours * place.runs_per_gpu / place.ranks for hours, place in zip(spent, places, strict=False)),
        device_hours=tuple(spent),
        pending_hours=tuple(pending),
        longest_hours=max(
            (
                (training / planned.own_share + validation) * place.runs_per_gpu / place.ranks / 3600
                for planned, place, (training, validation) in zip(plan.runs, places, taken, strict=False)
            ),
            default=0.0,
        ),
        splits=tuple(cut[: len(plan.runs)]),
        places=tuple(places[: len(plan.runs)]),
        pending_splits=tuple(cut[len(plan.runs) :]),
        pending_places=tuple(places[len(plan.runs) :]),
        corpus_tokens=corpus_tokens,
        cost=None if device.cost_per_hour is None else device.cost_per_hour * math.fsum((*spent, *pending)),
        basis=_basis(device, plan, rates),
        checks=(
            *plan.checks,
            *_misplaced(list(zip(everything, places, cut, strict=True)), device),
            *_precision(everything, device),
            *_short_steps(device, plan, [training for training, _ in taken], rates),
            *_epochs(plan, corpus_tokens),
        ),
    )


class Splits:
    """The split of every run on devices of one size; runs that differ in no size share it."""

    def __init__(self, memory_bytes: float) -> None:
        self.memory_bytes = memory_bytes
        self._splits: dict[tuple[object, ...], Split] = {}

    def __call__(self, planned: PlannedRun, place: Placement) -> Split:
        """How the batches of a run go through one of its devices."""
        run, rule = planned.run, planned.run.optimizer
        ranks = None if run.ranks is None else tuple(run.ranks.values())
        key = (run.shape, ranks, rule.name, rule.nesterov, bool(rule.newton_schulz_steps), run.batch_tokens,
               run.sequence_length, run.precision, run.self_guided, place)  # fmt: skip
        if key not in self._splits:
            self._splits[key] = split(run, memory_bytes=self.memory_bytes, placement=place)
        return self._splits[key]


def stages(priced: Priced) -> list[StagePrice]:
    """What tuning costs each family, and what is still to be decided."""
    groups: dict[tuple[str, str, bool], list[tuple[PlannedRun, float]]] = {}
    resolved = zip(priced.plan.runs, priced.device_hours, strict=True)
    pending = zip(priced.plan.pending, priced.pending_hours, strict=True)
    for waits, pairs in ((False, resolved), (True, pending)):
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
    columns = (priced.plan.runs, priced.device_hours, priced.splits, priced.places)
    return _by_cell(zip(*columns, strict=True), priced.plan.params_column)


def matrix_to_come(priced: Priced) -> list[CellPrice]:
    """The cells of the stages whose settings wait for losses, with their first setting as a stand-in."""
    columns = (priced.plan.pending, priced.pending_hours, priced.pending_splits, priced.pending_places)
    return _by_cell(zip(*columns, strict=True), priced.plan.params_column)


def _by_cell(runs: Iterable[tuple[PlannedRun, float, Split, Placement]], column: str) -> list[CellPrice]:
    cells: dict[CellKey, list[tuple[PlannedRun, float, Split, Placement]]] = {}
    for one in runs:
        cells.setdefault(one[0].cell, []).append(one)
    return [
        CellPrice(
            cell,
            first.counts.column(column),
            first.run.tokens,
            first.run.steps,
            first.run.batch_tokens,
            len(members),
            math.fsum(hours for _, hours, _, _ in members),
            max(hours * place.runs_per_gpu / place.ranks for _, hours, _, place in members),
            split,
            place,
        )
        for cell, members in cells.items()
        for first, _, split, place in members[:1]
    ]


def rank_table(plan: Plan) -> list[MatrixRank]:
    """Every factorized matrix, once for each line and shape."""
    ranks: dict[tuple[str, str, str], MatrixRank] = {}
    for planned in plan.runs:
        for name, rank in (planned.run.ranks or {}).items():
            place = (planned.line, planned.cell.shape, name)
            if place not in ranks:
                outputs, inputs = planned.run.shape.matrices()[name]
                params = structures(planned.run.shape, planned.run.ranks)[name].params(outputs, inputs)
                ranks[place] = MatrixRank(*place, outputs, inputs, rank, params)
    return list(ranks.values())


def _assumed_rate(device: Device, planned: PlannedRun, runs: int = 1) -> float:
    """FLOP/s of `runs` such runs together: by the MFU at their width, and no more than their launches let through."""
    low_rank = parameterization_of(planned.run.ranks).structured
    precision = planned.run.precision if planned.run.precision in device.peak_flops else "float32"
    rate = device.peak(precision) * device.mfu(planned.run.shape.width, low_rank=low_rank)
    if not device.layer_seconds:
        return rate
    step = (planned.flops + planned.optimizer_flops) / planned.run.steps
    return min(rate, runs * step / (planned.run.shape.layers * device.layer_seconds))


def _rate_alone(device: Device, planned: PlannedRun, alone: _Rates) -> float | None:
    """The measured rate of a run that has a GPU to itself, FLOP/s; None where neither its line nor its width was
    measured on this device.
    """
    if planned.run.precision not in device.peak_flops:
        return None
    rate = _measured_rate(alone.get(planned.line, []), planned)
    return rate or (_assumed_rate(device, planned) if device.mfu_by_width else None)


def _basis(device: Device, plan: Plan, rates: Mapping[str, object]) -> str:
    """What the hours rest on, in words."""
    lines = dict.fromkeys(planned.line for planned in plan.runs)
    measured = [line for line in lines if line in rates]
    table = "MFU by width from the device table" if device.mfu_by_width else f"assumed MFU {device.assumed_mfu:.0%}"
    if not measured:
        return table
    return "measured throughput" if len(measured) == len(lines) else f"measured for {', '.join(measured)}, else {table}"


def _rates(measured: Iterable[Throughput]) -> dict[str, list[tuple[float, float]]]:
    """Per line: (log params_matmul, log FLOP/s), sorted by size; the mean where one size was measured more than
    once.
    """
    by_size: dict[str, dict[float, list[float]]] = {}
    for one in measured:
        sizes = by_size.setdefault(one.line, {})
        sizes.setdefault(math.log(one.params_matmul), []).append(math.log(one.flops_per_second))
    return {
        line: [(size, math.fsum(rates) / len(rates)) for size, rates in sorted(sizes.items())]
        for line, sizes in by_size.items()
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


def _misplaced(runs: Sequence[tuple[PlannedRun, Placement, Split]], device: Device) -> list[Check]:
    """Runs whose batch cannot be cut equally, and runs that a device cannot hold, the worst by name and in numbers."""
    result = []
    if uneven := [(planned, one.problem) for planned, _, one in runs if one.problem is not None]:
        planned, problem = uneven[0]
        result.append(checks.BATCH_NOT_EVEN(f"{len(uneven)} runs cannot cut their batches: {planned.cell}, {problem}."))
    if misfits := [one for one in runs if not one[2].fits]:
        planned, place, one = max(misfits, key=lambda misfit: misfit[2].memory.peak)
        usable = USABLE * device.memory_bytes / place.runs_per_gpu
        held = "" if place.ranks == 1 else f" ({place.strategy})"
        at_once = f"{one.sequences or 1} sequence{'s' if (one.sequences or 1) > 1 else ''} at once"
        devices = f"{place.ranks} {device.name}{held}"
        message = (
            f"{len(misfits)} runs cannot fit {device.name}: {planned.cell} with {at_once} on {devices} needs "
            f"{format_bytes(one.memory.peak)} on each, {format_bytes(one.memory.peak - usable)} more than the "
            f"{format_bytes(usable)} that may be used of its {format_bytes(device.memory_bytes)}"
            + ("." if place.runs_per_gpu == 1 else f", which {place.runs_per_gpu} runs share.")
        )
        result.append(checks.DOES_NOT_FIT(message))
    return result


def _precision(runs: Sequence[PlannedRun], device: Device) -> list[Check]:
    """Precisions that the device's row does not list."""
    asked = dict.fromkeys(planned.run.precision for planned in runs)
    missing = [precision for precision in asked if precision not in device.peak_flops]
    if not missing:
        return []
    count = sum(planned.run.precision in missing for planned in runs)
    message = f"{count} runs ask for {', '.join(missing)}; the row of {device.name} has {', '.join(device.peak_flops)}."
    return [checks.PRECISION_NOT_ON_DEVICE(message)]


def _short_steps(device: Device, plan: Plan, spent: Sequence[float], rates: Mapping[str, object]) -> list[Check]:
    """Steps too short for an assumed MFU to mean anything."""
    if device.mfu_by_width:
        return []
    seconds = [
        trained / planned.own_steps
        for planned, trained in zip(plan.runs, spent, strict=True)
        if planned.line not in rates and trained / planned.own_steps < checks.MIN_STEP_SECONDS.value
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
