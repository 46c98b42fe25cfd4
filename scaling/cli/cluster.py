"""`scaling launch` on SLURM: dry run, checks, submission, `--wait`. Here the scheduler meets the project."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from scaling.cli.progress import Progress
from scaling.cli.project import Project
from scaling.cli.screen import print_json, say
from scaling.results.launches import Launch, last_launch
from scaling.results.status import RunStatus
from scaling.results.store import Store
from scaling.runners.packing import in_order
from scaling.runners.runner_file import Runner
from scaling.runners.slurm.arrays import Work
from scaling.runners.slurm.preflight import check_cluster, check_shared
from scaling.runners.slurm.scheduler import Slurm
from scaling.runners.slurm.script import check_runner
from scaling.runners.slurm.submissions import launch_name

WAIT_SECONDS = 5.0

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Cluster:
    """One sweep and one slurm runner file."""

    project: Project
    profile: Runner
    runner: Path

    @classmethod
    def of(cls, project: Project, profile: Runner, runner: Path | None) -> Cluster | None:
        """The cluster of a runner file; None where it describes this machine. Raises SpecError."""
        if profile.runner != "slurm" or runner is None:
            return None
        check_runner(profile, where=str(runner))
        return cls(project, profile, runner)

    def dry_run(self, rows: Rows, store: Store, *, as_json: bool) -> None:
        """Print the sbatch text of every array that a launch would submit now."""
        last = last_launch(self.project.root, self.project.name)
        same = last is not None and last.ids == [row["id"] for row in rows]
        number = (last.number if last else 0) + (not same)
        work = _work(rows, store)
        scripts = self._slurm(number, store).scripts(work)
        if as_json:
            skipped = len(rows) - len(work)
            print_json({"launch": None, "submitted": 0, "skipped": skipped, "jobs": [], "scripts": scripts})
        else:
            click.echo("\n".join(scripts))

    def check(self, rows: Rows, store: Store) -> None:
        """Refuse what this cluster will not run, before the question. Raises RunnerError."""
        slurm = self._slurm(0, store)
        check_cluster(self.profile, slurm.samples(_work(rows, store)), where=str(self.runner))

    def launch(self, frozen: Launch, store: Store, *, wait: bool, as_json: bool) -> list[RunStatus] | None:
        """Submit what no job holds; the runs where there is nothing left to wait for, else None."""
        work = _work(frozen.rows, store)
        slurm = self._slurm(frozen.number, store)
        if work and (remark := check_shared(self.profile, store.path, where=str(self.runner))):
            say(remark)
        outcome = slurm.submit(
            work,
            corpus_hash=frozen.corpus_hash,
            keep=self.project.sweep.training.keep,
            continuation=None if wait else self._again(),
        )
        submitted, held = len(outcome.submitted), len(outcome.held)
        say(f"submitted {submitted} runs; {held} are held by jobs already, {len(frozen.rows) - len(work)} are finished")
        if outcome.jobs:
            say(f"jobs: {', '.join(outcome.jobs)}")
        if as_json:
            skipped = len(frozen.rows) - submitted
            print_json(
                {"launch": frozen.number, "submitted": submitted, "skipped": skipped, "jobs": list(outcome.jobs)}
            )
        if wait:
            return self._follow(frozen)
        if submitted or held:
            say(f"next: scaling status {self.project.path}")
            return None
        return self.project.statuses(frozen)

    def _follow(self, frozen: Launch) -> list[RunStatus]:
        """Show progress until no run is running or queued."""
        with Progress(frozen, slots=self.profile.max_concurrent or len(frozen.rows)) as progress:
            while True:
                runs = self.project.statuses(frozen)
                if progress.due():
                    progress.show(runs)
                if not any(run.status in ("running", "queued") for run in runs):
                    return runs
                time.sleep(WAIT_SECONDS)

    def _slurm(self, number: int, store: Store) -> Slurm:
        return Slurm(
            self.profile,
            store.path,
            launch=launch_name(self.project.name, number, root=self.project.root, store=store.path),
        )

    def _again(self) -> list[str]:
        """The command that goes on from a node: the next stage, or collect, fit and report."""
        sweep, root, runner = self.project.path.resolve(), self.project.root, self.runner.resolve()
        command = [sys.executable, "-P", "-m", "scaling.cli", "launch", str(sweep), "--yes"]
        return [*command, "--root", str(root), "--runner", str(runner)]


def _work(rows: Rows, store: Store) -> list[Work]:
    """The runs without a result, as resource rules and packing look at them."""
    open_rows = (row for row in rows if not store.has_result(row["id"]))
    return [Work(row["id"], row["params_total"], row["hours"] * 3600, row.get("trunk")) for row in in_order(open_rows)]
