"""From a sweep file to workers and to the report: plan, price, refuse, ask, prepare, freeze, submit, stay, report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import ScalingError
from scaling.project.following import stay
from scaling.project.opened import OpenSweep
from scaling.project.planning import priced, refuse_errors, refuse_other_plan
from scaling.project.preparing import Place, frozen_fields, number_of, open_work, prepare, refuse_other_store
from scaling.project.reporting import report_on
from scaling.quantity import format_duration
from scaling.results.launches import Launch, worklist_path
from scaling.results.status import RunStatus
from scaling.runners.scheduler import Order, Outcome, Scheduler, Work
from scaling.runners.worker import WorkList
from scaling.sweeps.price import Priced

if TYPE_CHECKING:
    from scaling.report.html import WrittenReport

Confirm = Callable[[Priced, int], bool]
"""Asked once, with the plan and how many of its runs would be trained, whether to go on."""


@dataclass(frozen=True)
class Launched:
    """What a launch did.

    Attributes:
        number: of the frozen launch; None after a dry run, which freezes nothing.
        planned: ids of all runs of the plan.
        submitted: ids of the runs that were handed to the scheduler now; of a dry run, that would have been.
        jobs: ids of the new jobs.
        scripts: of a dry run: exactly what would have been handed over.
        runs: every run at the end, where the launch stayed until then; else none.
        report: what was written at the end; None where jobs go on, or nothing was launched.
    """

    number: int | None
    planned: tuple[str, ...]
    submitted: tuple[str, ...]
    jobs: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    runs: tuple[RunStatus, ...] = ()
    report: WrittenReport | None = None

    @property
    def failed(self) -> tuple[RunStatus, ...]:
        """Runs that the launch stayed with and that have no result; a run that diverged has one."""
        return tuple(run for run in self.runs if run.status not in ("completed", "diverged"))


def launch(
    opened: OpenSweep, runner: Path | None, *, dry_run: bool, wait: bool, replan: bool, confirm: Confirm | bool
) -> Launched:
    """`Project.launch`, which says what it does."""
    place = Place.of(opened, runner)
    plan = priced(opened, place.runner)
    refuse_errors(opened, plan)
    if not replan:
        refuse_other_plan(opened, plan)
        refuse_other_store(opened, place)
    rows = plan.rows(settings=True)
    number = number_of(opened, rows, frozen_fields(opened, place))
    scheduler = _scheduler(opened, place, number)
    todo = open_work(rows, place.store)
    opened.listener.planned(plan, len(todo))
    if dry_run:
        order = _order(opened, place, number, corpus_hash="", continuation=None)
        scripts = tuple(scheduler.scripts(todo, order)) if todo else ()
        return Launched(None, tuple(row.id for row in rows), tuple(run.run_id for run in todo), scripts=scripts)
    if todo:
        scheduler.check(todo)
        _ask(opened, plan, len(todo), confirm)
    return _train(opened, place, plan, wait=wait, replan=replan)


def _ask(opened: OpenSweep, plan: Priced, todo: int, confirm: Confirm | bool) -> None:
    if not (confirm(plan, todo) if callable(confirm) else confirm):
        raise ScalingError(f"the launch of {todo} runs was not confirmed", where=str(opened.path))


def _train(opened: OpenSweep, place: Place, plan: Priced, *, wait: bool, replan: bool) -> Launched:
    """Hand the open runs to the scheduler; where the launch stays, go on stage by stage, then collect, fit and report.

    A launch stays with `wait` and where jobs would not outlive it.
    """
    outcomes: list[Outcome] = []
    while True:
        frozen = prepare(opened, place, plan, replan=replan)
        scheduler = _scheduler(opened, place, frozen.number)
        stays = wait or scheduler.attached
        todo = open_work(frozen.rows, place.store)
        outcomes.append(_submit(opened, place, scheduler, frozen, todo, None if stays else _again(opened, place)))
        if not stays or not todo:
            break
        stay(opened, scheduler, frozen, outcomes[-1])
        following = priced(opened, place.runner)
        if len(following.plan.runs) == len(plan.plan.runs):
            break
        plan = following
        opened.listener.message(f"next stage: {len(plan.plan.runs) - len(frozen.rows)} runs")
    done = _launched(frozen, outcomes)
    if not stays and (done.submitted or outcomes[-1].held):
        return done
    if not done.submitted and not todo:
        opened.listener.message(f"all {len(frozen.rows)} runs are finished: nothing to train")
    return _conclude(opened, frozen, replace(done, runs=tuple(opened.statuses(frozen, scheduler=scheduler))))


def _launched(frozen: Launch, outcomes: Sequence[Outcome]) -> Launched:
    submitted = dict.fromkeys(run_id for outcome in outcomes for run_id in outcome.submitted)
    jobs = dict.fromkeys(job for outcome in outcomes for job in outcome.jobs)
    return Launched(frozen.number, tuple(frozen.ids), tuple(submitted), tuple(jobs))


def _conclude(opened: OpenSweep, frozen: Launch, done: Launched) -> Launched:
    """Name what failed, and report on whatever there is."""
    for run in done.failed:
        opened.listener.message(f"{run.status}: {run.row.id} {run.row.cell}: {run.damaged or run.message}")
    started = time.monotonic()
    report = report_on(opened, frozen, done.runs)
    opened.listener.message(f"collected, fitted and reported in {format_duration(time.monotonic() - started)}")
    return replace(done, report=report)


def _submit(
    opened: OpenSweep,
    place: Place,
    scheduler: Scheduler,
    frozen: Launch,
    todo: Sequence[Work],
    continuation: tuple[str, ...] | None,
) -> Outcome:
    """Write the list of the launch, and submit what no job holds."""
    order = _order(opened, place, frozen.number, corpus_hash=frozen.corpus_hash, continuation=continuation)
    if todo:
        if remark := scheduler.check_store():
            opened.listener.message(remark)
        ids = [run.run_id for run in todo]
        _worklist(ids, todo, place, order).write(order.worklist)
    opened.listener.submitting(frozen, attached=scheduler.attached)
    outcome = scheduler.submit(todo, order) if todo else Outcome((), {}, ())
    for message in _submission(scheduler, outcome, finished=len(frozen.rows) - len(todo)):
        opened.listener.message(message)
    return outcome


def _worklist(ids: Sequence[str], todo: Sequence[Work], place: Place, order: Order) -> WorkList:
    """The list of a launch, with what its workers split batches by."""
    rules = {run.run_id: place.runner.resources_for(run.params).micro_batch for run in todo}
    return WorkList.of(
        ids,
        place.store,
        corpus_hash=order.corpus_hash,
        keep=order.keep,
        memory_bytes=place.runner.hardware().memory_bytes,
        micro_batches={run_id: part for run_id, part in rules.items() if part is not None},
        runs_per_gpu=max(run.runs_per_gpu for run in todo),
    )


def _submission(scheduler: Scheduler, outcome: Outcome, *, finished: int) -> list[str]:
    """What a person should know of a submission."""
    if scheduler.attached:
        return list(outcome.messages)
    submitted, held = len(outcome.submitted), len(outcome.held)
    lines = [f"submitted {submitted} runs; {held} are held by jobs already, {finished} are finished"]
    lines += [f"jobs: {', '.join(outcome.jobs)}"] if outcome.jobs else []
    return [*lines, *outcome.messages]


def _scheduler(opened: OpenSweep, place: Place, number: int) -> Scheduler:
    return opened.scheduler(place.runner, place.store.path, number=number, where=str(place.file))


def _order(
    opened: OpenSweep, place: Place, number: int, *, corpus_hash: str, continuation: tuple[str, ...] | None
) -> Order:
    launch = opened.launches / f"{number}.json"
    python = (sys.executable, "-P", "-m", "scaling.cli")
    worker = (*python, "work", "--store", str(place.store.path.resolve()), "--launch", str(launch))
    return Order(worker, worklist_path(launch), corpus_hash, opened.sweep.training.keep, continuation)


def _again(opened: OpenSweep, place: Place) -> tuple[str, ...]:
    """The command that goes on from a node: the next stage, or collect, fit and report."""
    sweep, root = str(opened.path.resolve()), str(opened.root)
    python = (sys.executable, "-P", "-m", "scaling.cli")
    return (*python, "launch", sweep, "--yes", "--root", root, "--runner", str(place.file.resolve()))
