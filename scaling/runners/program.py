"""The program that trains, everywhere: `python -P -m scaling.runners.program --store S --runs LIST`.

`scaling work` is the same with a launch in place of a list.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import ScalingError
from scaling.packages import require_torch
from scaling.results.store import Store
from scaling.runners.ranks import TeamWorker
from scaling.runners.scheduler import current_job
from scaling.runners.worker import STOP_SIGNALS, StopFlag, Worker, WorkList


@dataclass(frozen=True)
class WorkerOptions:
    """How one worker works.

    Attributes:
        device: in torch's words.
        lifeline: stop at end-of-file on standard input.
        follow: stay until runs that others train have their result.
        runs_on_device: workers that share the device, this one included.
        strategy: how several ranks hold a model (``ddp``, ``fsdp``); None where this process trains alone.
        scheduler: asked before the built-in ones whether this process is in a job of it.
    """

    device: str = "cpu"
    lifeline: bool = False
    follow: bool = False
    runs_on_device: int = 1
    strategy: str | None = None
    scheduler: str | None = None


def run_worker(store: Path, worklist: WorkList, options: WorkerOptions) -> int:
    """Install the stop rule and work through the list; the exit status: 0, 75 where it was asked to stop, or 69 where
    it left runs because other workers may be training them.

    Raises:
        ScalingError: the worker could not start; what goes wrong in a run is recorded with the run.
    """
    require_torch("training")
    stop = StopFlag(lifeline=0 if options.lifeline else None)
    stop.install()
    environment = current_job(options.scheduler)
    if options.strategy:
        rank = TeamWorker(
            Store(store), worklist, stop, strategy=options.strategy, device=options.device, environment=environment
        )
        return rank.work()
    worker = Worker(
        Store(store),
        worklist,
        stop,
        device=options.device,
        follow=options.follow,
        runs_on_device=options.runs_on_device,
        environment=environment,
    )
    return worker.work()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, work."""
    parser = argparse.ArgumentParser(prog="python -P -m scaling.runners.program", description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="a list written by a launch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lifeline", action="store_true", help="stop at end-of-file on standard input")
    parser.add_argument("--follow", action="store_true", help="stay until runs that others train have their result")
    parser.add_argument("--runs-on-device", type=int, default=1, help="workers that share the device")
    parser.add_argument("--strategy", choices=("ddp", "fsdp"), help="one rank of several, as torchrun says")
    parser.add_argument("--scheduler", help="asked first whether this is a job of it")
    values = vars(parser.parse_args(argv))
    store, runs = values.pop("store"), values.pop("runs")
    try:
        return run_worker(store, WorkList.read(runs), WorkerOptions(**values))
    except (ScalingError, OSError, json.JSONDecodeError) as error:
        print(f"scaling worker: {error}", file=sys.stderr)  # noqa: T201
        return 1


def run_as_program() -> int:
    """`main`, with stop signals ignored after it."""
    status = main()
    ignore_stop_signals()
    return status


def ignore_stop_signals() -> None:
    """While it shuts down, the interpreter would restore the default action of the stop signals, which kills."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(run_as_program())
