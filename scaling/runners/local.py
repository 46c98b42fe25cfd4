"""This machine as a scheduler: a pool of workers, one per core or GPU, which lives as long as the launch.

A launch leaves a file that says which process it is, so that `scaling cancel` in another terminal can ask it to stop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import RunnerError
from scaling.files import read_json, to_json, write_atomic
from scaling.hardware import usable_cores
from scaling.packages import require_torch
from scaling.results.jobs import HeldRun, JobState
from scaling.results.owner import Owner
from scaling.runners.gpus import visible_gpus
from scaling.runners.pool import LocalPool, WorkerDevice
from scaling.runners.scheduler import Cancelled, JobEnvironment, JobsView, Order, Outcome, Scheduler, Work

if TYPE_CHECKING:
    from scaling.runners.runner_file import Runner

JOB = "local"


class LocalScheduler(Scheduler):
    """The pool of one launch, in the process that submits; other processes see its launcher file only."""

    keys = frozenset({"slots", "runs_per_gpu"})
    attached = True
    poll_seconds = 0.5

    def __init__(
        self, runner: Runner, store: Path, *, launch: str, folder: Path, where: str = "the runner file"
    ) -> None:
        super().__init__(runner, store, launch=launch, folder=folder, where=where)
        self._pool: LocalPool | None = None

    def check(self, work: Sequence[Work]) -> None:
        """Refuse to train where torch is not installed. Raises ScalingError."""
        require_torch("training on this machine")

    def scripts(self, work: Sequence[Work], order: Order) -> list[str]:
        """The command of every worker."""
        return self._new_pool(work, order).shell_lines

    def submit(self, work: Sequence[Work], order: Order) -> Outcome:
        """Start one worker per slot, all on the list of the launch."""
        self._pool = self._new_pool(work, order)
        owner = Owner.current()
        write_atomic(self._launcher(owner), to_json(owner.to_json()))
        try:
            self._pool.submit()
        except BaseException:
            self.leave(interrupted=True)
            raise
        return Outcome(tuple(run.run_id for run in work), {}, (JOB,), slots=len(self._pool.commands))

    def poll(self, run_ids: set[str]) -> JobsView:
        """Every run, while a worker of this process's pool lives; one killed from outside is started again."""
        if self._pool is None or not self._pool.poll():
            return JobsView()
        held = HeldRun(self.launch, JOB, JobState("RUNNING", True))
        return JobsView(dict.fromkeys(run_ids, held))

    def cancel(self, run_ids: set[str]) -> Cancelled:
        """Ask the launchers of this sweep on this machine to stop; name those on other machines."""
        jobs, messages = [], []
        for owner in self._launchers():
            alive = owner.alive()
            if alive:
                os.kill(owner.pid, signal.SIGTERM)
                jobs.append(f"pid {owner.pid}")
                what = f"asked the launcher on this machine (pid {owner.pid}) to stop"
                messages.append(f"{what}; its runs checkpoint at their next step")
            elif alive is None:
                messages.append(f"a launcher may run on {owner.host} (pid {owner.pid}): cancel it there")
        return Cancelled(tuple(jobs), tuple(messages))

    @classmethod
    def environment(cls) -> JobEnvironment | None:
        """None: a worker on this machine is in no job."""
        return None

    def leave(self, *, interrupted: bool) -> None:
        """Wait for the workers; interrupted, they checkpoint at their next step."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if interrupted:
            pool.cancel()
        pool.wait()
        self._launcher(Owner.current()).unlink(missing_ok=True)
        if interrupted:
            return
        if pool.stopped():
            raise KeyboardInterrupt
        if failures := pool.failures():
            raise RunnerError("a worker could not work", where=f"{self.folder}/worker-*.log", got=failures[0])

    def _new_pool(self, work: Sequence[Work], order: Order) -> LocalPool:
        devices = local_devices(self.runner.hardware().name, self.runner.slots)
        devices *= max((run.runs_per_gpu for run in work), default=1)  # GPU after GPU, then each once more
        return LocalPool(self.store, order.worklist, devices=devices[: max(1, len(work))], log_folder=self.folder)

    def _launcher(self, owner: Owner) -> Path:
        return self.folder / f"launcher-{owner.pid}.json"

    def _launchers(self) -> Iterator[Owner]:
        for path in sorted(self.folder.parent.glob("*/launcher-*.json")):
            yield Owner.from_json(read_json(path))


def local_devices(device: str, slots: int | None) -> list[WorkerDevice]:
    """The device of each worker: a CPU core this process may use, or a GPU (or MIG instance) it may use alone.

    Args:
        device: the hardware row's name; ``cpu`` rows use cores.
        slots: how many workers, None for as many as there are devices.

    Raises:
        RunnerError: the hardware row is a GPU, and there is none here, or fewer than `slots`.
    """
    if device.startswith("cpu"):
        return [WorkerDevice("cpu")] * (slots or usable_cores())
    gpus = visible_gpus()
    if slots is not None and slots > len(gpus):
        allowed = f"1 to {len(gpus)}: {', '.join(gpus)}"
        raise RunnerError("more workers than GPUs", where="slots", got=slots, allowed=allowed, hint="leave `slots` out")
    return [WorkerDevice("cuda:0", visible=gpu) for gpu in gpus[:slots]]
