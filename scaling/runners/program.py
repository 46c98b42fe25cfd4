"""The program that trains, everywhere: `python -P -m scaling.runners.program --store S --runs LIST`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from scaling.errors import ScalingError
from scaling.results.store import Store
from scaling.runners.ranks import TeamWorker
from scaling.runners.slurm.queue import SlurmQueue
from scaling.runners.worker import STOP_SIGNALS, StopFlag, Worker, WorkList


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, install the stop rule, work."""
    parser = argparse.ArgumentParser(prog="python -P -m scaling.runners.program", description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="a list written by a launch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lifeline", action="store_true", help="stop at end-of-file on standard input")
    parser.add_argument("--follow", action="store_true", help="stay until runs that others train have their result")
    parser.add_argument("--strategy", choices=("ddp", "fsdp"), help="one rank of several, as srun or torchrun says")
    options = parser.parse_args(argv)
    stop = StopFlag(lifeline=0 if options.lifeline else None)
    stop.install()
    try:
        worklist, store = WorkList.read(options.runs), Store(options.store)
        job_active = SlurmQueue().active if "SLURM_JOB_ID" in os.environ else None
        if options.strategy:
            rank = TeamWorker(
                store, worklist, stop, strategy=options.strategy, device=options.device, job_active=job_active
            )
            return rank.work()
        worker = Worker(store, worklist, stop, device=options.device, follow=options.follow, job_active=job_active)
        return worker.work()
    except (ScalingError, OSError, json.JSONDecodeError) as error:
        print(f"scaling worker: {error}", file=sys.stderr)  # noqa: T201
        return 1


def run_as_program() -> int:
    """`main`, and no stop signal after it."""
    status = main()
    for number in STOP_SIGNALS:  # the interpreter's last moments would give them back their deadly default
        signal.signal(number, signal.SIG_IGN)
    return status


if __name__ == "__main__":
    sys.exit(run_as_program())
