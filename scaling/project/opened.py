"""One sweep file, where its things lie, and what is known of its launches.

Root = the parent of the `sweeps/` folder that holds the sweep file, else the file's own folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from scaling.data.tokenizer import vocab_size
from scaling.errors import ScalingError, SpecError
from scaling.project.listener import Listener
from scaling.project.plan_changes import difference
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
    from scaling.rows import PlanRow


@dataclass(frozen=True)
class OpenSweep:
    """A sweep file that reads well, and its root. `text` is the file as it was read."""

    path: Path
    root: Path
    sweep: Sweep
    text: str
    listener: Listener = field(default_factory=Listener, repr=False, compare=False)
    _schedulers: dict[int, Scheduler] = field(default_factory=dict, init=False, repr=False, compare=False)
    _stores: dict[str, Store] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str, root: Path | str | None = None, *, listener: Listener | None = None) -> Self:
        """Read the sweep file.

        Args:
            path: of the sweep file.
            root: where `.scaling/` and `results/` lie; beside the `sweeps/` folder unless it is named.
            listener: hears what happens on the way.

        Raises:
            SpecError: the file cannot be read as a sweep; with file and line.
        """
        path = Path(path)
        root = Path(root or sweep_root(path)).resolve()
        return cls(path, root, load_sweep(path), path.read_text(), listener or Listener())

    @property
    def name(self) -> str:
        """The sweep's own name."""
        return self.sweep.sweep

    @property
    def results(self) -> Path:
        """Where tables, figures and the report go."""
        return self.root / "results" / self.name

    @property
    def table(self) -> Path:
        """Where `collect` writes the runs."""
        return self.results / "runs.csv"

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

    def grid(self, store: Store, *, corpus_tokens: float | None = None) -> Plan:
        """Every run of the sweep, planned anew; tuning stages go as far as the store's results let them."""
        losses: dict[str, float] = {}
        while True:
            planned = self.planned(losses, corpus_tokens=corpus_tokens)
            known_losses = _losses(planned, store) if planned.pending else losses
            if known_losses.keys() == losses.keys():
                return planned
            losses = known_losses

    def planned(self, losses: Mapping[str, float], *, corpus_tokens: float | None = None) -> Plan:
        """Every run of the sweep, with these losses of the finished ones by id."""
        return plan(
            self.sweep,
            vocab_size=self.vocab_size,
            root=self.root,
            corpus_tokens=corpus_tokens,
            losses=losses,
        )

    @property
    def last_launch(self) -> Launch:
        """The newest launch. Raises ScalingError without one."""
        launch = last_launch(self.root, self.name)
        if launch is None:
            hint = f"scaling launch {self.path}"
            raise ScalingError("this sweep was never launched", where=str(self.path), hint=hint)
        return launch

    def current_launch(self) -> Launch:
        """The newest launch, with a message where the sweep file asks for other runs by now.

        Raises:
            ScalingError: there is none, or its store is not the one that was launched on.
        """
        for sentence in damaged_launches(self.root, self.name):
            self.listener.message(f"a damaged launch is passed over: {sentence}")
        launch = self.last_launch
        hint = f"scaling launch {self.path} --replan   starts again in this one"
        check_store(Path(launch.store), launch.ids, remembered=launch.store_id, hint=hint)
        if self.text != launch.sweep_text and (change := difference(launch, self.grid(Store(Path(launch.store))))):
            changed = f"the sweep file has changed since launch {launch.number}, which this is about: {change}"
            self.listener.message(changed)
            self.listener.message(f"next: scaling launch {self.path} --replan")
        return launch

    def scheduler(self, runner: Runner, store: Path, *, number: int, where: str) -> Scheduler:
        """What starts the jobs of launch `number`. Raises SpecError, RunnerError."""
        name = launch_name(self.name, number, root=self.root, store=store)
        folder = self.launches / str(number)
        return scheduler_class(runner.runner)(runner, store, launch=name, folder=folder, where=where)

    def scheduler_of(self, launch: Launch) -> Scheduler:
        """What started the jobs of a frozen launch; one object for all questions, so that a cluster is asked rarely."""
        if launch.number not in self._schedulers:
            where = f"launch {launch.number} of {self.name}"
            runner = parse_runner(launch.runner_text, Path(where))
            scheduler = self.scheduler(runner, Path(launch.store), number=launch.number, where=where)
            self._schedulers[launch.number] = scheduler
        return self._schedulers[launch.number]

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
        store = self._stores.setdefault(launch.store, Store(Path(launch.store)))  # it remembers heartbeats
        return statuses(
            launch.rows,
            store,
            corpus_hash=launch.corpus_hash,
            jobs=jobs.held,
            job_active=scheduler.active,
            endings=jobs.endings,
        )

    def find(self, launch: Launch, run: str) -> PlanRow:
        """The run of a launch that `run` names.

        Args:
            launch: the frozen launch.
            run: an id or its beginning, or the label of a cell, ``dense/2e+10/d16L1``; where the cell has several
                runs with ``/seed=0``, ``/lr=0.02`` or ``/lr=0.02/seed=0`` after it.

        Raises:
            ScalingError: no run has that name, or several have.
        """
        matches = [row for row in launch.rows if row.id.startswith(run) or run in _labels(row)]
        if len(matches) == 1:
            return matches[0]
        several = ", ".join(f"{row.id} ({_labels(row)[-1]})" for row in matches[:8])
        raise ScalingError(
            f"{len(matches) or 'no'} runs are named '{run}'",
            where=str(self.path),
            got=several or None,
            allowed="the id of one run or its beginning, or a label such as dense/2e+10/d16L1/seed=0",
            hint=f"scaling status {self.path} --json   lists ids, cells, seeds and rates",
        )


def _labels(row: PlanRow) -> tuple[str, ...]:
    """The names of a run beside its id, the most exact last."""
    cell, seed, rate = str(row.cell), f"/seed={row.seed}", f"/lr={row.lr:g}"
    return cell, cell + seed, cell + rate, cell + rate + seed


def _losses(plan: Plan, store: Store) -> dict[str, float]:
    """Run id -> final loss of what is finished, infinite where it diverged."""
    results = {planned.run.id: store.result(planned.run.id) for planned in plan.runs}
    return {
        run_id: math.inf if result.loss_nats is None else result.loss_nats
        for run_id, result in results.items()
        if result is not None
    }
