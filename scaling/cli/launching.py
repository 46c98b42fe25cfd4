"""`scaling launch`: plan, price, confirm, act; the way to go on after anything that stopped it."""

from __future__ import annotations

import contextlib
import datetime
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click
from filelock import FileLock, Timeout

from scaling.cli.cluster import Cluster
from scaling.cli.options import json_option, root_option, runner_option, sweep_argument
from scaling.cli.planning import priced, print_plan
from scaling.cli.progress import Progress
from scaling.cli.project import Project, difference
from scaling.cli.screen import print_json, say
from scaling.errors import RunnerError, ScalingError, StoreError
from scaling.files import to_json, write_atomic
from scaling.quantity import format_duration
from scaling.results.launches import Launch, freeze, last_launch
from scaling.results.owner import Owner, code_version
from scaling.results.status import RunStatus
from scaling.results.store import Store
from scaling.runners.local import LocalPool, local_devices
from scaling.runners.packing import in_order
from scaling.runners.runner_file import PACKAGED_LOCAL, Runner, load_runner
from scaling.runners.worker import WorkList
from scaling.sweeps.price import Priced

Rows = Sequence[Mapping[str, Any]]

POLL_SECONDS = 0.5
FLUSHES = 16  # side by side: a new run waits for the disk or the file server, twice
LOCK_SECONDS = 60  # another launch prepares data at most about this long; then the user is told who waits for whom


@click.command()
@sweep_argument
@runner_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print what would be submitted, and submit nothing.")
@click.option("--wait", is_flag=True, help="On SLURM: stay until every run has ended, with progress.")
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
    cluster = Cluster.of(project, profile, runner)
    plan = priced(project, profile)
    _refuse_errors(project, plan)
    _refuse_other_plan(project, plan, replan)
    store = Store(profile.store_path(project.root))
    todo = [run for run in plan.plan.runs if not store.has_result(run.run.id)]
    if not as_json:
        print_plan(plan, todo=len(todo))
    if dry_run and cluster is not None:
        cluster.dry_run(_rows(plan), store, as_json=as_json)
        return 0
    if dry_run:
        say(f"dry run: {len(todo)} of {len(plan.plan.runs)} runs would be trained; nothing was started")
        return 0
    if todo and cluster is not None:
        cluster.check(_rows(plan), store)
    if todo and not yes:
        _confirm(f"Train {len(todo)} runs?")
    if cluster is None:
        return _launch_locally(project, profile, runner, plan, store, as_json=as_json)
    frozen = prepare(project, profile, runner, plan, store)
    runs = cluster.launch(frozen, store, wait=wait, as_json=as_json)
    return 0 if runs is None else _conclude(project, frozen, runs)


def prepare(project: Project, profile: Runner, runner: Path | None, plan: Priced, store: Store) -> Launch:
    """Everything that happens once, before any training: data, run folders, stale results, the frozen launch."""
    from scaling.data.shards import prepare as prepare_data

    with _hold(store.path):
        started = time.monotonic()
        data = prepare_data(project.sweep.data.ref, root=project.root, store=store.path)
        if (took := time.monotonic() - started) > 1:
            say(f"prepared {project.sweep.data.corpus}: {data.train_tokens:,} training tokens in {took:.1f} s")
        project.check_data(data)
        with ThreadPoolExecutor(FLUSHES) as pool:
            list(pool.map(store.add, [planned.run for planned in plan.plan.runs]))
        for planned in plan.plan.runs:
            result = store.result(planned.run.id)
            if result is not None and result.corpus_hash != data.hash:
                store.retire(planned.run.id)
        return _freeze(project, profile, runner, plan, store, data.hash)


@contextlib.contextmanager
def _hold(store: Path) -> Iterator[None]:
    """Make the store, and hold its launch lock. Raises StoreError."""
    lock = FileLock(store / ".launch.lock", timeout=LOCK_SECONDS)
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        hint = "wait for it, or find it with `ps`"
        raise StoreError("another launch holds the store", where=str(store), hint=hint) from None
    except OSError as error:
        hint = "name a folder that you can write to under `store:` in the runner file"
        raise StoreError("the store cannot be written", where=str(store), got=str(error), hint=hint) from None
    try:
        yield
    finally:
        lock.release()


def _freeze(
    project: Project, profile: Runner, runner: Path | None, plan: Priced, store: Store, corpus_hash: str
) -> Launch:
    """The last launch where it asked for just this, else a new one."""
    rows = _rows(plan)
    fields = {
        "sweep_text": project.path.read_text(),
        "runner": profile.runner,
        "runner_text": (runner or PACKAGED_LOCAL).read_text(),
        "store": str(store.path),
        "corpus_hash": corpus_hash,
        "code_version": code_version(),
    }
    last = last_launch(project.root, project.name)
    if last and last.ids == [row["id"] for row in rows] and all(getattr(last, k) == v for k, v in fields.items()):
        return last
    return freeze(
        project.root,
        sweep=project.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        rows=rows,
        dropped=tuple(asdict(dropped) for dropped in plan.plan.dropped),
        plan_checks=tuple(check.to_json() for check in plan.checks),
        **fields,
    )


def _rows(plan: Priced) -> tuple[dict[str, Any], ...]:
    """The plan's rows with the settings of each run beside its numbers."""
    pairs = zip(plan.plan.runs, plan.hours, strict=True)
    return tuple(planned.row(hours) | {"settings": planned.run.settings()} for planned, hours in pairs)


def _launch_locally(
    project: Project, profile: Runner, runner: Path | None, plan: Priced, store: Store, *, as_json: bool
) -> int:
    """Train on this machine, stage by stage, and stay; then collect, fit and report whatever there is."""
    submitted: set[str] = set()
    while True:
        frozen = prepare(project, profile, runner, plan, store)
        todo = [row for row in frozen.rows if not store.has_result(row["id"])]
        submitted |= {row["id"] for row in todo}
        runs = _train(project, profile, frozen, todo) if todo else project.statuses(frozen)
        following = priced(project, profile)
        if len(following.plan.runs) == len(plan.plan.runs):
            break
        plan = following
        say(f"next stage: {len(plan.plan.runs) - len(frozen.rows)} runs")
    if not submitted:
        say(f"all {len(frozen.rows)} runs are finished: nothing to train")
    if as_json:
        skipped, jobs = len(frozen.rows) - len(submitted), ["local"] if submitted else []
        print_json({"launch": frozen.number, "submitted": len(submitted), "skipped": skipped, "jobs": jobs})
    return _conclude(project, frozen, runs)


def _conclude(project: Project, frozen: Launch, runs: list[RunStatus]) -> int:
    """Name what failed, and report on whatever there is."""
    failed = [run for run in runs if run.status not in ("completed", "diverged")]
    for run in failed:
        say(f"failed: {run.row['id']} {run.row['cell']}: {run.message}")
    _report(project, frozen, runs)
    return 1 if failed else 0


def _train(project: Project, profile: Runner, frozen: Launch, todo: Rows) -> list[RunStatus]:
    """Run the pool to its end, showing progress; Ctrl-C and TERM let the workers checkpoint first."""
    worklist = WorkList.of(
        [row["id"] for row in in_order(todo)],
        Store(Path(frozen.store)),
        corpus_hash=frozen.corpus_hash,
        keep=project.sweep.training.keep,
    )
    folder = project.launches / str(frozen.number)
    owner = Owner.current()
    launcher = folder / f"launcher-{owner.pid}.json"
    write_atomic(launcher, to_json(owner.to_json()))
    devices = local_devices(profile.hardware().name, profile.slots)[: max(1, len(worklist.runs))]
    runs_file = worklist.write(folder / f"runs-{owner.pid}.json")
    pool = LocalPool(Path(frozen.store), runs_file, devices=devices, log_folder=folder)
    signal.signal(signal.SIGTERM, _raise_interrupt)
    started, interrupted = time.monotonic(), False
    try:
        pool.submit()
        with Progress(frozen, slots=len(devices)) as progress:
            while pool.poll():
                if progress.due():
                    progress.show(project.statuses(frozen))
                time.sleep(POLL_SECONDS)
            progress.show(project.statuses(frozen))
    except KeyboardInterrupt:
        interrupted = True
        say("stopping: every run checkpoints at its next step ...")
        pool.cancel()
    except BaseException:
        pool.cancel()
        raise
    finally:
        pool.wait()
        launcher.unlink()
        runs_file.unlink()
    if interrupted or pool.stopped():
        say(f"stopped; `scaling launch {project.path}` continues where it was")
        raise KeyboardInterrupt
    if failures := pool.failures():
        raise RunnerError("a worker could not work", where=f"{folder}/worker-*.log", got=failures[0])
    took, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = f"{used.ru_utime + used.ru_stime:.0f} CPU seconds"
    say(f"trained {len(todo)} runs in {format_duration(took)} on {len(devices)} workers, {cpu}")
    return project.statuses(frozen)


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


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to answer on: add --yes, or --dry-run to look first.")
    click.confirm(question, abort=True, err=True)


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
