"""The runs to add to a sweep: those that decide a comparison first, then those that sharpen a prediction.

What is proposed is a sweep of its own: the same file with further points of its grid. Its launch trains only these,
because the store has the others, and its report is of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import yaml

from scaling.errors import PlanError, ScalingError
from scaling.files import JsonObject
from scaling.project.opened import OpenSweep
from scaling.project.planning import refuse_errors
from scaling.project.reporting import rows_of, settings_of_sweep
from scaling.results.launches import last_launch
from scaling.rows import CellKey, RunRow, read_runs
from scaling.runners.runner_file import Runner, load_runner, parse_runner
from scaling.sweeps.candidates import Candidate, candidates, extended, values_of
from scaling.sweeps.price import Splits, price

if TYPE_CHECKING:
    from scaling.analysis.decisive_runs import Decisive
    from scaling.analysis.study import Study
    from scaling.sweeps.optimal_design import Sharper

EVEN_ODDS = 0.5  # chance of a verdict below which no run is proposed for it (assumption)
_AS_LIKELY = 0.05  # difference of two chances that is worth no further runs (assumption)
FORM = "chinchilla"  # of the law whose prediction is sharpened, whatever the report shows


@dataclass(frozen=True)
class Proposal:
    """Runs to add and what they are for.

    Attributes:
        name: of the sweep that runs them. text: of its file.
        cells: to add, each with its runs. compute: of all of them, FLOPs.
        decided: what would give comparisons a verdict. sharper: what sharpens the prediction.
        sentences: about comparisons for which nothing is proposed.
    """

    name: str
    text: str
    cells: tuple[Candidate, ...]
    compute: float
    decided: tuple[Decisive, ...]
    sharper: Sharper | None
    sentences: tuple[str, ...]

    @property
    def runs(self) -> int:
        """How many runs that is."""
        return sum(len(cell.runs) for cell in self.cells)

    def purpose(self, cell: Candidate) -> str:
        """What a cell is for, in words."""
        for one in self.decided:
            if cell in one.cells:
                return f"{one.line} against {one.reference}"
        return "prediction"

    def to_json(self) -> JsonObject:
        """The proposal as a document."""
        sharper = self.sharper
        return {
            "sweep": self.name,
            "compute": self.compute,
            "cells": [
                cell.key.to_json()
                | {
                    "seeds": [planned.run.seed for planned in cell.points],
                    "tokens": cell.points[0].run.tokens,
                    "steps": cell.points[0].run.steps,
                    "runs": [planned.run.id for planned in cell.runs],
                    "compute": cell.compute,
                    "purpose": self.purpose(cell),
                }
                for cell in self.cells
            ],
            "verdicts": [
                {"line": one.line, "reference": one.reference, "what": one.what, "chance": one.chance}
                for one in self.decided
            ],
            "prediction": None
            if sharper is None
            else {"target": sharper.target, "before": dict(sharper.before), "after": dict(sharper.after)},
            "messages": list(self.sentences),
        }


def proposed(opened: OpenSweep, *, spend: float, target: float | None) -> Proposal:
    """The runs to add to a sweep for at most `spend` FLOPs.

    Args:
        target: compute at which predictions should sharpen, FLOPs; None decides comparisons only.

    Raises:
        ScalingError: nothing is finished, nothing can be paid, or nothing would help; the message says why.
    """
    study, runner = _study(opened)
    ended = [row for row in study.rows if row.id and row.status in ("completed", "diverged")]
    losses = {row.id: math.inf if row.loss is None else row.loss for row in ended if row.id}
    own = opened.planned(losses)
    offered = _fitting(candidates(own, vocab_size=opened.vocab_size, root=opened.root), runner)
    _refuse_too_small(opened, offered, spend)
    convention = own.flops_convention
    decided, sentences = _decided(study, offered, spend, convention)
    cells = list(dict.fromkeys(cell for one in decided for cell in one.cells))
    left, sharper = spend - math.fsum(cell.compute for cell in cells), None
    if target is not None:
        keys = {cell.key for cell in cells}
        free = [one for one in offered if one.key not in keys]
        try:
            sharper = _sharper(study, free, cells, left, target, (own.params_column, convention))
            cells += sharper.cells
            if not sharper.cells:
                sentences.append(f"no run for {left:.3g} FLOPs sharpens the prediction at {target:.3g} by 2 %")
        except ScalingError as error:
            sentences.append(f"nothing is proposed for the prediction: {error.what}")
    if not cells:
        hint = (
            f"a larger --spend, or --target 1e12 for a prediction; scaling compare {opened.path}   says what is decided"
        )
        raise PlanError("nothing to add", where=str(opened.path), got="; ".join(sentences) or None, hint=hint)
    name = free_name(opened)
    text = _header(opened, cells, decided, sharper) + yaml.safe_dump(
        values_of(opened.sweep, _points(cells), name), sort_keys=False, allow_unicode=True, width=110
    )
    larger = replace(opened, sweep=extended(opened.sweep, _points(cells), name), text=text)
    _refuse_what_cannot_run(larger, losses, runner)
    compute = math.fsum(cell.compute for cell in cells)
    return Proposal(name, text, tuple(cells), compute, tuple(decided), sharper, tuple(sentences))


def _refuse_too_small(opened: OpenSweep, offered: Sequence[Candidate], spend: float) -> None:
    least = min((one.compute for one in offered), default=math.inf)
    if least > spend:
        raise PlanError(
            "no run can be added for which the recipe of this sweep is valid",
            where=str(opened.path),
            got=f"{spend:.3g} FLOPs to spend",
            allowed=f"{least:.3g} or more" if offered else "a runner whose devices hold the models",
        )


def free_name(opened: OpenSweep) -> str:
    """`<sweep>-next`, or `<sweep>-next-2` and so on, where neither a file, results nor a launch have that name."""
    base = opened.name.split("-next")[0] or opened.name
    number = 1
    while True:
        name = f"{base}-next" + (f"-{number}" if number > 1 else "")
        taken = opened.path.with_name(f"{name}.yaml").exists() or (opened.root / "results" / name).exists()
        if not taken and last_launch(opened.root, name) is None:
            return name
        number += 1


def _study(opened: OpenSweep) -> tuple[Study, Runner]:
    """The study of the last launch and its runner; of the committed table where nothing was launched here."""
    from scaling.analysis.study import study_rows

    settings = replace(settings_of_sweep(opened), law=FORM)
    if last_launch(opened.root, opened.name) is None and opened.table.exists():
        opened.listener.message(f"never launched here: {opened.table} is read")
        return study_rows(_own(read_runs(opened.table)), settings=settings), load_runner(None)
    launch = opened.current_launch()
    rows = rows_of(opened, launch, opened.statuses(launch))
    return study_rows(_own(rows), settings=settings), parse_runner(launch.runner_text, opened.path)


def _own(rows: Sequence[RunRow]) -> list[RunRow]:
    """Without runs that were trained elsewhere, whose lines the sweep cannot train."""
    return [row for row in rows if row.imported is None]


def _fitting(offered: Sequence[Candidate], runner: Runner) -> list[Candidate]:
    """Those whose batches can be cut for the runner's devices, and whose models fit them."""
    device = runner.hardware()
    splits = Splits(device.memory_bytes)

    def fits(cell: Candidate) -> bool:
        cuts = [splits(run, runner.resources_for(run.counts.params_total).placement) for run in cell.runs]
        return all(cut.fits and cut.problem is None for cut in cuts)

    return [cell for cell in offered if fits(cell)]


def _decided(
    study: Study, offered: Sequence[Candidate], spend: float, convention: str
) -> tuple[list[Decisive], list[str]]:
    """What would resolve comparisons, the cheapest first, and a sentence for every comparison without it."""
    from scaling.analysis.decisive_runs import decisive_runs

    tried = {
        f"{one.line.name} against {one.reference.name}": decisive_runs(one, offered, convention=convention)
        for one in study.comparisons
        if one.word == "not resolved"
    }
    decided: list[Decisive] = []
    sentences: list[str] = []
    chosen: set[Candidate] = set()
    for name, ways in sorted(tried.items(), key=lambda item: item[1][0].compute if item[1] else math.inf):
        paid = [way for way in ways if math.fsum(cell.compute for cell in chosen.union(way.cells)) <= spend]
        best = preferred(paid)
        if best is not None:
            decided.append(best)
            chosen.update(best.cells)
        elif ways:
            wanted = preferred(ways)
            about = f"it would take {wanted}" if wanted else f"nothing tried is likely to, the best of it {_best(ways)}"
            sentences.append(f"{name} is not resolved; {about}")
        else:
            sentences.append(f"{name} is not resolved, and no further runs of both lines can be tried")
    return decided, sentences


def preferred(ways: Sequence[Decisive]) -> Decisive | None:
    """The cheapest with a chance of 80 %, else the likeliest with at least even odds; None where there is neither."""
    likely = [way for way in ways if way.likely]
    if likely:
        return min(likely, key=lambda way: way.compute)
    best = _best(ways) if ways else None
    return best if best is not None and best.chance >= EVEN_ODDS else None


def _best(ways: Sequence[Decisive]) -> Decisive:
    """The cheapest of those that are about as likely as the likeliest."""
    most = max(way.chance for way in ways)
    return min((way for way in ways if way.chance >= most - _AS_LIKELY), key=lambda way: way.compute)


def _sharper(
    study: Study,
    offered: Sequence[Candidate],
    taken: Sequence[Candidate],
    spend: float,
    target: float,
    counts: tuple[str, str],
) -> Sharper:
    from scaling.sweeps.optimal_design import sharpen

    draws = {line.name: line.law.draws for line in study.lines if line.law and line.law.draws and not line.undetermined}
    if not draws:
        raise ScalingError("no line has a law with draws to design from")
    column, convention = counts
    return sharpen(offered, draws, spend=spend, target=target, column=column, convention=convention, taken=taken)


def _points(cells: Sequence[Candidate]) -> list[JsonObject]:
    """The entries of `grid.further`: one for every cell, with all its further seeds."""
    points: dict[CellKey, JsonObject] = {}
    for cell in cells:
        point = points.setdefault(cell.key, {name: value for name, value in cell.point.items() if name != "seeds"})
        if seeds := cell.point.get("seeds"):
            point["seeds"] = sorted([*point.get("seeds", ()), *seeds])
    return list(points.values())


def _header(opened: OpenSweep, cells: Sequence[Candidate], decided: Sequence[Decisive], sharper: Sharper | None) -> str:
    """Comments at the top of the file: what the further points are for."""
    runs, compute = sum(len(cell.runs) for cell in cells), math.fsum(cell.compute for cell in cells)
    lines = [f"{opened.name} and {runs} further runs for {compute:.3g} FLOPs, under grid.further."]
    lines += [f"{one.line} against {one.reference}: {one}" for one in decided]
    if sharper:
        lines.append(f"Standard deviation of the log loss predicted at {sharper.target:.3g} FLOPs, before and after:")
        lines += [f"  {line} {before:.4f} {sharper.after[line]:.4f}" for line, before in sharper.before.items()]
    return "".join(f"# {line}\n" for line in lines)


def _refuse_what_cannot_run(larger: OpenSweep, losses: Mapping[str, float], runner: Runner) -> None:
    """Raises ScalingError where a check says that the proposed sweep cannot be run."""
    priced = price(
        larger.planned(losses),
        device=runner.hardware(),
        placed=lambda run: runner.resources_for(run.counts.params_total).placement,
    )
    refuse_errors(larger, priced)
