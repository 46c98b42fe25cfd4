"""`scaling work`: one worker, for any scheduler that can start a process.

It takes the next run of a launch that has no result and no live attempt, trains it, publishes, and goes on. Any number
of these may work on one launch, beside the launch's own jobs.

Exit status: 0 every run of the launch has a result; 1 a run failed, or the worker could not work; 75 stopped by TERM,
INT or USR2 after a checkpoint, or runs are left because another worker may be training them: start it again later.
"""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._screen import say
from scaling.errors import ScalingError, StoreError
from scaling.hardware import Device
from scaling.results.launches import Launch, launches_folder, read_launch, worklist_path
from scaling.results.store import Store
from scaling.runners.packing import in_order
from scaling.runners.program import WorkerOptions, ignore_stop_signals, run_worker
from scaling.runners.runner_file import parse_runner
from scaling.runners.worker import EXIT_LEFT, EXIT_STOPPED, WorkList


@click.command()
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the runs lie.")
@click.option("--launch", required=True, help="A launch file, SWEEP or SWEEP/NUMBER (below --root/.scaling/launches).")
@click.option("--device", help="In torch's words (default: cpu or cuda, by the launch's runner file).")
@click.option("--strategy", type=click.Choice(["ddp", "fsdp"]), help="One rank of several, as torchrun says.")
@click.option("--follow", is_flag=True, help="Stay while other workers train runs, to take over should they die.")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where .scaling/ lies (default: this folder).",
)
def work(store: Path, launch: str, device: str | None, strategy: str | None, follow: bool, root: Path) -> int:
    """One worker: train what is open of a launch. Exit status 75: stopped, or runs are left to other workers."""
    path = _launch_file(launch, root)
    frozen = read_launch(path)
    if not any((store / run_id / "run.json").exists() for run_id in frozen.ids):
        hint = f"launch {frozen.number} prepared {frozen.store}; mount that folder, or name where it is here"
        raise StoreError("this store holds no run of the launch", where=str(store), hint=hint)
    worklist = _worklist(frozen, path, Store(store))
    place = device or _device(frozen)
    try:
        options = WorkerOptions(place, follow=follow, strategy=strategy, scheduler=frozen.runner)
        status = run_worker(store, worklist, options)
        return status if status not in (0, EXIT_LEFT) else _conclude(frozen, worklist, Store(store))
    finally:
        ignore_stop_signals()


def _launch_file(launch: str, root: Path) -> Path:
    """The file that `--launch` names. Raises ScalingError where there is none."""
    if launch.endswith(".json"):
        path = Path(launch)
    else:
        sweep, _, number = launch.partition("/")
        folder = launches_folder(root, sweep)
        numbers = sorted(int(file.stem) for file in folder.glob("*.json") if file.stem.isdigit())
        path = folder / f"{number or max(numbers, default=1)}.json"
    if not path.exists():
        hint = "scaling launch SWEEP writes it; --root says where .scaling/ lies"
        raise ScalingError("no such launch", where=f"--launch {launch}", got=f"no file {path}", hint=hint)
    return path


def _worklist(frozen: Launch, path: Path, store: Store) -> WorkList:
    """The list that the launch wrote; a launch of 0.1 wrote none for others."""
    written = worklist_path(path)
    if written.exists():
        return WorkList.read(written)
    ids = [row.id for row in in_order(frozen.rows)]
    memory_bytes = _hardware(frozen).memory_bytes
    return WorkList.of(ids, store, corpus_hash=frozen.corpus_hash, keep="weights", memory_bytes=memory_bytes)


def _device(frozen: Launch) -> str:
    return "cpu" if _hardware(frozen).name.startswith("cpu") else "cuda"


def _hardware(frozen: Launch) -> Device:
    return parse_runner(frozen.runner_text, Path(f"launch {frozen.number}")).hardware()


def _conclude(frozen: Launch, worklist: WorkList, store: Store) -> int:
    """Say what is left, and the exit status."""
    left = [run_id for run_id in frozen.ids if not store.has_result(run_id)]
    spent = [run_id for run_id in left if run_id in worklist.attempts and worklist.spent(run_id, store.newest(run_id))]
    if others := len(left) - len(spent):
        say(f"{others} runs are left: another worker may be training them; start this again to take over should it die")
        return EXIT_STOPPED
    for run_id in spent:
        attempt = store.newest(run_id)
        error = attempt.error() if attempt else None
        say(f"failed: {run_id}: {error['message'] if error else 'its worker died again and again'}")
    if spent:
        say("`scaling launch` lets them be tried again")
        return 1
    say(f"all {len(frozen.ids)} runs of launch {frozen.number} of {frozen.sweep} have a result")
    return 0
