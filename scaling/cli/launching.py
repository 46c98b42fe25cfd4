"""`scaling launch`: plan, price, confirm, act; the way to go on after anything that stopped it."""

from __future__ import annotations

import datetime
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from scaling.cli.options import json_option, root_option, runner_option, sweep_argument
from scaling.cli.planning import priced, print_plan
from scaling.cli.progress import Progress
from scaling.cli.project import Project, difference
from scaling.cli.screen import print_json, say
from scaling.errors import ScalingError
from scaling.locks import hold, unwritable
from scaling.quantity import format_duration
from scaling.results.identity import check_store, identify
from scaling.results.launches import Launch, freeze, last_launch, next_number, set_aside_damaged, worklist_path
from scaling.results.owner import code_version
from scaling.results.status import RunStatus
from scaling.results.store import Store
from scaling.results.tidy import sweep_launches, sweep_run, sweep_store
from scaling.rows import PlanRow
from scaling.runners.packing import in_order
from scaling.runners.runner_file import PACKAGED_LOCAL, Runner, load_runner
from scaling.runners.scheduler import Order, Outcome, Scheduler, Work
from scaling.runners.worker import WorkList
from scaling.sweeps.price import Priced

if TYPE_CHECKING:
    from scaling.data.shards import TokenData

FLUSHES = 16  # side by side: a new run waits for the disk or the file server, twice
LOCK_SECONDS = 60  # another launch prepares data at most about this long; then the user is told who waits for whom


@click.command()
@sweep_argument
@runner_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print what would be submitted, and submit nothing.")
@click.option("--wait", is_flag=True, help="On a cluster: stay until every run has ended, with progress.")
@click.option("--replan", is_flag=True, help="Accept that the plan differs from the last launch.")
@root_option
@json_option
def launch(
    sweep: Path,
    runner: Path | None,
    yes: bool,
    dry_run: bool,
    wait: bool,
    replan: bool,
    root: Path | None,
    as_json: bool,
) -> int:
    """Train what has no result yet, then collect, fit and report. Safe to repeat at any moment."""
    project = Project.open(sweep, root)
    profile = load_runner(runner)
    plan = priced(project, profile)
    _refuse_errors(project, plan)
    _refuse_other_plan(project, plan, replan)
    store = Store(profile.store_path(project.root))
    if not replan:
        _refuse_other_store(project, store)
    rows = _rows(plan)
    number = _next_number(project, rows, _frozen_fields(project, profile, runner, store))
    where = str(runner or PACKAGED_LOCAL)
    scheduler = project.scheduler(profile, store.path, number=number, where=where)
    todo = _open_work(rows, store)
    if not as_json:
        print_plan(plan, todo=len(todo))
    if dry_run:
        order = _order(project, store.path, number, corpus_hash="", continuation=None)
        _dry_run(scheduler, order, todo, of=len(rows), as_json=as_json)
        return 0
    if todo:
        scheduler.check(todo)
    if todo and not yes:
        _confirm(f"Train {len(todo)} runs?")
    return _launch(project, profile, runner, plan, store, wait=wait, as_json=as_json)


def prepare(project: Project, profile: Runner, runner: Path | None, plan: Priced, store: Store) -> Launch:
    """Everything that happens once, before any training: data, run folders, stale and damaged results, what killed
    processes left, the frozen launch.

    Raises:
        StoreError: the store cannot be written, or another launch holds it.
    """
    try:
        store.path.mkdir(parents=True, exist_ok=True)
        with hold(store.path / ".launch.lock", timeout_s=LOCK_SECONDS, what="another launch holds the store"):
            store_id = identify(store.path, remembered=_remembered(project, store))
            data = _prepare_data(project, store)
            _prepare_runs(project, plan, store, corpus_hash=data.hash)
            set_aside_damaged(project.root, project.name)
            sweep_store(store.path)
            sweep_launches(project.launches)
            return _freeze(project, profile, runner, plan, store, {"corpus_hash": data.hash, "store_id": store_id})
    except OSError as error:
        raise unwritable(store.path, error) from None


def _remembered(project: Project, store: Store) -> str | None:
    """The id of the store that the last launch saw at this path."""
    last = last_launch(project.root, project.name)
    return last.store_id if last is not None and last.store == str(store.path) else None


def _prepare_data(project: Project, store: Store) -> TokenData:
    from scaling.data.shards import prepare as prepare_data

    started = time.monotonic()
    data = prepare_data(project.sweep.data.ref, root=project.root, store=store.path)
    if (took := time.monotonic() - started) > 1:
        say(f"prepared {project.sweep.data.corpus}: {data.train_tokens:,} training tokens in {took:.1f} s")
    project.check_data(data)
    return data


def _prepare_runs(project: Project, plan: Priced, store: Store, *, corpus_hash: str) -> None:
    """A folder for every run; what is damaged, stale or left over is out of the way."""
    runs = [planned.run for planned in plan.plan.runs]
    with ThreadPoolExecutor(FLUSHES) as pool:
        list(pool.map(store.add, runs))
    for run in runs:
        if not store.has_result(run.id):
            for name in store.set_aside_damaged(run.id):
                say(f"run {run.id}: a damaged record was set aside as {name}; the run is trained again")
        result = store.result(run.id)
        if result is not None and result.corpus_hash != corpus_hash:
            store.retire(run.id)
        sweep_run(store, run.id, keep=project.sweep.training.keep)


def _freeze(
    project: Project, profile: Runner, runner: Path | None, plan: Priced, store: Store, seen: Mapping[str, str]
) -> Launch:
    """The last launch where it asked for just this and saw the same data and store, else a new one."""
    rows = _rows(plan)
    fields = _frozen_fields(project, profile, runner, store) | dict(seen)
    last = last_launch(project.root, project.name)
    if last is not None and last.number == _next_number(project, rows, fields):
        return last
    return freeze(
        project.root,
        sweep=project.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        rows=rows,
        dropped=plan.plan.dropped,
        plan_checks=plan.checks,
        **fields,
    )


def _frozen_fields(project: Project, profile: Runner, runner: Path | None, store: Store) -> dict[str, str]:
    """What a launch freezes beside its rows, as far as it is known before the data are prepared."""
    return {
        "sweep_text": project.path.read_text(),
        "runner": profile.runner,
        "runner_text": (runner or PACKAGED_LOCAL).read_text(),
        "store": str(store.path),
        "code_version": code_version(),
    }


def _next_number(project: Project, rows: Sequence[PlanRow], fields: Mapping[str, str]) -> int:
    """The number of the last launch where it asked for just this, else the next one."""
    last = last_launch(project.root, project.name)
    following = next_number(project.root, project.name)
    if last is None:
        return following
    same = last.ids == [row.id for row in rows] and all(getattr(last, key) == v for key, v in fields.items())
    return last.number if same else following


def _rows(plan: Priced) -> tuple[PlanRow, ...]:
    """The plan's rows with the settings of each run beside its numbers."""
    pairs = zip(plan.plan.runs, plan.hours, strict=True)
    return tuple(planned.row(hours, planned.run.settings()) for planned, hours in pairs)


def _open_work(rows: Sequence[PlanRow], store: Store) -> list[Work]:
    """The runs without a result, in the order in which they should be trained."""
    todo = (row for row in rows if not store.has_result(row.id))
    return [
        Work(row.id, row.params_total, None if row.hours is None else row.hours * 3600, row.trunk)
        for row in in_order(todo)
    ]


def _dry_run(scheduler: Scheduler, order: Order, todo: Sequence[Work], *, of: int, as_json: bool) -> None:
    """Print exactly what would be submitted."""
    scripts = scheduler.scripts(todo, order) if todo else []
    if as_json:
        print_json({"launch": None, "submitted": 0, "skipped": of - len(todo), "jobs": [], "scripts": scripts})
    elif scripts:
        click.echo("\n".join(scripts))
    say(f"dry run: {len(todo)} of {of} runs would be trained; nothing was started")


def _launch(
    project: Project, profile: Runner, runner: Path | None, plan: Priced, store: Store, *, wait: bool, as_json: bool
) -> int:
    """Hand the open runs to the scheduler; where the launch stays, go on stage by stage, then collect, fit and report.

    A launch stays with `--wait` and where jobs would not outlive it.
    """
    submitted: set[str] = set()
    jobs: list[str] = []
    where = str(runner or PACKAGED_LOCAL)
    while True:
        frozen = prepare(project, profile, runner, plan, store)
        scheduler = project.scheduler(profile, store.path, number=frozen.number, where=where)
        stays = wait or scheduler.attached
        todo = _open_work(frozen.rows, store)
        outcome = _submit(project, scheduler, frozen, todo, None if stays else _again(project, where))
        submitted |= set(outcome.submitted)
        jobs += outcome.jobs
        if not stays or not todo:
            break
        _stay(project, scheduler, frozen, outcome)
        following = priced(project, profile)
        if len(following.plan.runs) == len(plan.plan.runs):
            break
        plan = following
        say(f"next stage: {len(plan.plan.runs) - len(frozen.rows)} runs")
    if as_json:
        skipped = len(frozen.rows) - len(submitted)
        jobs = list(dict.fromkeys(jobs))
        print_json({"launch": frozen.number, "submitted": len(submitted), "skipped": skipped, "jobs": jobs})
    if not stays and (submitted or outcome.held):
        say(f"next: scaling status {project.path}")
        return 0
    if not submitted and not todo:
        say(f"all {len(frozen.rows)} runs are finished: nothing to train")
    return _conclude(project, frozen, project.statuses(frozen, scheduler=scheduler))


def _submit(
    project: Project,
    scheduler: Scheduler,
    frozen: Launch,
    todo: Sequence[Work],
    continuation: tuple[str, ...] | None,
) -> Outcome:
    """Write the list of the launch, and submit what no job holds."""
    store = Store(Path(frozen.store))
    order = _order(project, store.path, frozen.number, corpus_hash=frozen.corpus_hash, continuation=continuation)
    if todo:
        if remark := scheduler.check_store():
            say(remark)
        ids = [run.run_id for run in todo]
        WorkList.of(ids, store, corpus_hash=order.corpus_hash, keep=order.keep).write(order.worklist)
    if scheduler.attached:
        signal.signal(signal.SIGTERM, _raise_interrupt)
    outcome = scheduler.submit(todo, order) if todo else Outcome((), {}, ())
    if not scheduler.attached:
        finished = len(frozen.rows) - len(todo)
        held, submitted = len(outcome.held), len(outcome.submitted)
        say(f"submitted {submitted} runs; {held} are held by jobs already, {finished} are finished")
        if outcome.jobs:
            say(f"jobs: {', '.join(outcome.jobs)}")
    for message in outcome.messages:
        say(message)
    return outcome


def _order(
    project: Project, store: Path, number: int, *, corpus_hash: str, continuation: tuple[str, ...] | None
) -> Order:
    launch = project.launches / f"{number}.json"
    python = (sys.executable, "-P", "-m", "scaling.cli")
    worker = (*python, "work", "--store", str(store.resolve()), "--launch", str(launch))
    return Order(worker, worklist_path(launch), corpus_hash, project.sweep.training.keep, continuation)


def _again(project: Project, runner: str) -> tuple[str, ...]:
    """The command that goes on from a node: the next stage, or collect, fit and report."""
    sweep, root = str(project.path.resolve()), str(project.root)
    python = (sys.executable, "-P", "-m", "scaling.cli")
    return (*python, "launch", sweep, "--yes", "--root", root, "--runner", str(Path(runner).resolve()))


def _conclude(project: Project, frozen: Launch, runs: list[RunStatus]) -> int:
    """Name what failed, and report on whatever there is."""
    failed = [run for run in runs if run.status not in ("completed", "diverged")]
    for run in failed:
        say(f"{run.status}: {run.row.id} {run.row.cell}: {run.damaged or run.message}")
    _report(project, frozen, runs)
    return 1 if failed else 0


def _stay(project: Project, scheduler: Scheduler, frozen: Launch, outcome: Outcome) -> None:
    """Show progress until no job holds a run; Ctrl-C and TERM let the workers of an attached scheduler checkpoint."""
    started = time.monotonic()
    try:
        _follow(project, scheduler, frozen, outcome)
    except KeyboardInterrupt:
        if scheduler.attached:
            say("stopping: every run checkpoints at its next step ...")
        scheduler.leave(interrupted=True)
        _say_continues(project, scheduler)
        raise
    except BaseException:
        scheduler.leave(interrupted=True)
        raise
    try:
        scheduler.leave(interrupted=False)
    except KeyboardInterrupt:
        _say_continues(project, scheduler)
        raise
    if scheduler.attached:
        took, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = f"{used.ru_utime + used.ru_stime:.0f} CPU seconds"
        count = len(outcome.submitted)
        say(f"trained {count} runs in {format_duration(took)} on {outcome.slots} workers, {cpu}")


def _follow(project: Project, scheduler: Scheduler, frozen: Launch, outcome: Outcome) -> None:
    ids = set(frozen.ids)
    with Progress(frozen, slots=outcome.slots or len(ids)) as progress:
        while True:
            jobs = scheduler.poll(ids)
            if progress.due() or not jobs.held:
                runs = project.statuses(frozen, scheduler=scheduler, jobs=jobs)
                progress.show(runs)
                others = not scheduler.attached and any(run.status in ("running", "queued") for run in runs)
                if not jobs.held and not others:
                    return
            time.sleep(scheduler.poll_seconds)


def _say_continues(project: Project, scheduler: Scheduler) -> None:
    if scheduler.attached:
        say(f"stopped; `scaling launch {project.path}` continues where it was")
    else:
        say(f"the jobs go on; next: scaling status {project.path}")


def _report(project: Project, frozen: Launch, runs: list[RunStatus]) -> None:
    from scaling.cli.reporting import collect_and_report, say_report

    started = time.monotonic()
    report = collect_and_report(project, frozen, runs)
    say(f"collected, fitted and reported in {format_duration(time.monotonic() - started)}")
    say("")
    say_report(report)


def _refuse_errors(project: Project, plan: Priced) -> None:
    for check in plan.checks:
        if check.severity == "error":
            raise ScalingError(check.message, where=str(project.path), hint=f"scaling plan {project.path}")


def _refuse_other_plan(project: Project, plan: Priced, replan: bool) -> None:
    frozen = last_launch(project.root, project.name)
    if frozen is None or replan:
        return
    change = difference(frozen, plan.plan)
    ids = {planned.run.id for planned in plan.plan.runs}
    next_stage = project.path.read_text() == frozen.sweep_text and ids.issuperset(frozen.ids)
    if change and not next_stage:
        raise ScalingError(
            f"the plan differs from launch {frozen.number}: {change}",
            where=str(project.path),
            hint=f"scaling launch {project.path} --replan   (finished runs that are still planned are kept)",
        )


def _refuse_other_store(project: Project, store: Store) -> None:
    last = last_launch(project.root, project.name)
    if last is not None and last.store == str(store.path):
        hint = f"scaling launch {project.path} --replan   starts again in this one"
        check_store(store.path, last.ids, remembered=last.store_id, hint=hint)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to answer on: add --yes, or --dry-run to look first.")
    click.confirm(question, abort=True, err=True)


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
