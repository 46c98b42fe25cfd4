"""A scheduler in one page: every job is a shell loop that starts `scaling work` until nothing is left.

A runner file names it: `runner: shell_scheduler:ShellLoop`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence

import psutil

from scaling.results.jobs import HeldRun, JobRef, JobState
from scaling.runners.scheduler import Cancelled, JobEnvironment, JobsView, Order, Outcome, Scheduler, Work


class ShellLoop(Scheduler):
    keys = frozenset({"options"})

    def scripts(self, work: Sequence[Work], order: Order) -> list[str]:
        loop = f"until {shlex.join(order.worker)}; do [ $? = 75 ] || exit 1; sleep 1; done"
        return [f"{line}\n{loop}" for line in [self.runner.options.get("before", ":")]]

    def submit(self, work: Sequence[Work], order: Order) -> Outcome:
        held = self.poll({run.run_id for run in work}).held
        free = tuple(run.run_id for run in work if run.run_id not in held)
        jobs = [self._start(script, free) for script in self.scripts(work, order)] if free else []
        return Outcome(free, held, tuple(jobs), slots=1)

    def poll(self, run_ids: set[str]) -> JobsView:
        held, endings = {}, {}
        for job, runs in self._jobs():
            alive = self.active(JobRef(job))
            for run_id in run_ids.intersection(runs):
                if alive:
                    held[run_id] = HeldRun(self.launch, job, JobState("LOOPING", True))
                else:
                    endings[run_id] = f"job {job} ended"
        return JobsView(held, endings)

    def cancel(self, run_ids: set[str]) -> Cancelled:
        jobs = tuple(job for job, _ in self._jobs() if self.active(JobRef(job)))
        for job in jobs:
            os.killpg(int(job), signal.SIGTERM)
        return Cancelled(jobs, tuple(f"told the loop {job} to stop" for job in jobs))

    @classmethod
    def environment(cls) -> JobEnvironment | None:
        job = os.environ.get("SHELL_LOOP_JOB")
        return JobEnvironment(JobRef(job, submitted=os.environ["SHELL_LOOP_SINCE"])) if job else None

    def active(self, job: JobRef) -> bool | None:
        try:
            return psutil.Process(int(job.id)).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def _start(self, script: str, runs: Sequence[str]) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = f"export SHELL_LOOP_JOB=$$ SHELL_LOOP_SINCE=$(date +%s)\n{script}"
        with (self.folder / "loop.log").open("ab") as log:
            loop = subprocess.Popen(["sh", "-c", text], stdout=log, stderr=log, start_new_session=True)
        (self.folder / f"loop-{loop.pid}.json").write_text(json.dumps(list(runs)))
        return str(loop.pid)

    def _jobs(self) -> Iterator[tuple[str, list[str]]]:
        for path in sorted(self.folder.parent.glob("*/loop-*.json")):
            yield path.stem.removeprefix("loop-"), json.loads(path.read_text())
