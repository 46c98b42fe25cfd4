"""One sweep and where its things lie: the place where the parts are joined.

Root = the parent of the `sweeps/` folder that holds the sweep file, else the file's own folder; `--root` overrides it.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.screen import say
from scaling.data.tokenizer import vocab_size
from scaling.errors import ScalingError, SpecError
from scaling.results.identity import check_store
from scaling.results.launches import Launch, damaged_launches, last_launch, launch_name, launches_folder
from scaling.results.status import RunStatus, statuses
from scaling.results.store import Store
from scaling.runners.runner_file import Runner, parse_runner
from scaling.runners.scheduler import JobsView, Scheduler, scheduler_class
from scaling.sweeps.grids import Plan, plan
from scaling.sweeps.schema import Sweep, load_sweep, sweep_root

if TYPE_CHECKING:
    from scaling.data.shards import TokenData


@dataclass(frozen=True)
class Project:
    """A sweep file that reads well, and its root."""

    path: Path
    root: Path
    sweep: Sweep

    @classmethod
    def open(cls, path: Path, root: Path | None = None) -> Project:
        """Read the sweep file. Raises SpecError with file and line."""
        root = (root or sweep_root(path)).resolve()
        return cls(path, root, load_sweep(path, root=root))

    @property
    def name(self) -> str:
        """The sweep's own name."""
        return self.sweep.sweep

    @property
    def results(self) -> Path:
        """Where tables, figures and the report go."""
        return self.root / "results" / self.name

    @property
    def launches(self) -> Path:
        """Where the launches of this sweep are frozen."""
        return launches_folder(self.root, self.name)

    @property
    def vocab_size(self) -> int:
        """Entries of the sweep's tokenizer. Raises SpecError where the file says fewer than it has."""
        data = self.sweep.data
        if data.vocab_size is None:
            return vocab_size(data.tokenizer, root=self.root)
        if ":" not in data.tokenizer or data.tokenizer.startswith("bpe:"):  # known without a network
            has = vocab_size(data.tokenizer)
            if data.vocab_size < has:
                where = self.sweep.where("data", "vocab_size")
                what = f"the tokenizer {data.tokenizer} has token ids beyond the vocabulary"
                raise SpecError(what, where=where, got=data.vocab_size, allowed=f"at least {has}, or leave it out")
        return data.vocab_size

    def check_data(self, data: TokenData) -> None:
        """Refuse prepared data that the sweep's models cannot read. Raises DataError."""
        from scaling.data.batches import check_data

        check_data(data, sequence_length=self.sweep.training.sequence_length, vocab_size=self.vocab_size)

    def plan(self, store: Store, *, corpus_tokens: float | None = None) -> Plan:
        """Every run of the sweep, planned anew; tuning stages go as far as the store's results let them."""
        losses: dict[str, float] = {}
        while True:
            made = plan(
                self.sweep,
                vocab_size=self.vocab_size,
                root=self.root,
                corpus_tokens=corpus_tokens,
                losses=losses,
            )
            known = _losses(made, store) if made.pending else losses
            if known.keys() == losses.keys():
                return made
            losses = known

    def launch(self) -> Launch:
        """The last launch; says so where the sweep file asks for other runs by now.

        Raises:
            ScalingError: there is none, or its store is not the one that was launched on.
        """
        for sentence in damaged_launches(self.root, self.name):
            say(f"a damaged launch is passed over: {sentence}")
        launch = last_launch(self.root, self.name)
        if launch is None:
            raise ScalingError(
                "this sweep was never launched", where=str(self.path), hint=f"scaling launch {self.path}"
            )
        hint = f"scaling launch {self.path} --replan   starts again in this one"
        check_store(Path(launch.store), launch.ids, remembered=launch.store_id, hint=hint)
        stale = self.path.read_text() != launch.sweep_text
        if stale and (change := difference(launch, self.plan(Store(Path(launch.store))))):
            say(f"the sweep file has changed since launch {launch.number}, which this is about: {change}")
            say(f"next: scaling launch {self.path} --replan")
        return launch

    def scheduler(self, runner: Runner, store: Path, *, number: int, where: str) -> Scheduler:
        """What starts the jobs of launch `number`. Raises SpecError, RunnerError."""
        return _open(self.name, self.root, number, runner, store, where)

    def scheduler_of(self, launch: Launch) -> Scheduler:
        """What started the jobs of a frozen launch; one object for all questions of this process, so that a cluster is
        asked rarely.
        """
        return _scheduler_of(self.name, self.root, launch.number, launch.runner_text, Path(launch.store))

    def statuses(
        self, launch: Launch, *, scheduler: Scheduler | None = None, jobs: JobsView | None = None
    ) -> list[RunStatus]:
        """Every run of a launch as it stands.

        Args:
            launch: the frozen launch.
            scheduler: that submitted it, where this process did.
            jobs: the scheduler's answer, where it was asked already.
        """
        scheduler = scheduler or self.scheduler_of(launch)
        jobs = jobs or scheduler.poll(set(launch.ids))
        store = Store(Path(launch.store))
        told = {"jobs": jobs.held, "endings": jobs.endings, "job_active": scheduler.active}
        return statuses(launch.rows, store, corpus_hash=launch.corpus_hash, **told)


@functools.cache
def _scheduler_of(sweep: str, root: Path, number: int, runner_text: str, store: Path) -> Scheduler:
    where = f"launch {number} of {sweep}"
    return _open(sweep, root, number, parse_runner(runner_text, Path(where)), store, where)


def _open(sweep: str, root: Path, number: int, runner: Runner, store: Path, where: str) -> Scheduler:
    name, folder = launch_name(sweep, number, root=root, store=store), launches_folder(root, sweep) / str(number)
    return scheduler_class(runner.runner)(runner, store, launch=name, folder=folder, where=where)


def find_run(launch: Launch, run: str, sweep: Path) -> str:
    """The id that begins with `run`. Raises ScalingError where none or several do."""
    matches = [run_id for run_id in launch.ids if run_id.startswith(run)]
    if len(matches) != 1:
        raise ScalingError(
            f"{len(matches)} runs begin with '{run}'",
            where=str(sweep),
            allowed="the id of one run, or its beginning",
            hint=f"scaling status {sweep} --json   lists the ids",
        )
    return matches[0]


def _losses(plan: Plan, store: Store) -> dict[str, float]:
    """Run id -> final loss of what is finished, infinite where it diverged."""
    results = {planned.run.id: store.result(planned.run.id) for planned in plan.runs}
    return {
        run_id: math.inf if result.loss_nats is None else result.loss_nats
        for run_id, result in results.items()
        if result is not None
    }


def difference(launch: Launch, plan: Plan) -> str | None:
    """How a plan differs from a frozen launch, in words; None where it asks for the same runs.

    The settings of runs that both have under the same place in the grid are compared, so that the answer names the
    setting.
    """
    old = {row.id: row for row in launch.rows}
    planned = {one.run.id: one for one in plan.runs}
    gone, new = old.keys() - planned.keys(), planned.keys() - old.keys()
    if not gone and not new:
        return None
    before = {(old[i].cell, old[i].seed): _flat(old[i].settings or {}) for i in gone}
    after = {(planned[i].cell, planned[i].run.seed): _flat(planned[i].run.settings()) for i in new}
    changed = Counter(
        f"{key}: {before[place].get(key)} -> {after[place].get(key)}"
        for place in before.keys() & after.keys()
        for key in before[place].keys() | after[place].keys()
        if before[place].get(key) != after[place].get(key)
    )
    reasons = "; ".join(f"{change} ({count} runs)" for change, count in changed.most_common(5))
    return f"{len(new)} new runs, {len(gone)} no longer planned" + (f"; {reasons}" if reasons else "")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
