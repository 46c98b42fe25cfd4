"""What happens once, before any training: data, run folders, stale results, the frozen launch."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import DataError
from scaling.locks import hold, unwritable
from scaling.project.opened import OpenSweep
from scaling.results.identity import check_store, identify
from scaling.results.launches import Launch, freeze, last_launch, next_number, set_aside_damaged
from scaling.results.owner import code_version
from scaling.results.store import Store
from scaling.results.tidy import sweep_launches, sweep_run, sweep_store
from scaling.rows import PlanRow
from scaling.runners.packing import in_order
from scaling.runners.runner_file import PACKAGED_LOCAL, Runner, load_runner
from scaling.runners.scheduler import Work
from scaling.sweeps.price import Priced

if TYPE_CHECKING:
    from scaling.data.shards import TokenData

FLUSHES = 16  # side by side: a new run waits for the disk or the file server, twice
LOCK_SECONDS = 60  # another launch prepares data at most about this long; then the user is told who waits for whom


@dataclass(frozen=True)
class Place:
    """Where a launch runs: the runner file, as read, and the store that it names."""

    file: Path
    runner: Runner
    store: Store

    @classmethod
    def of(cls, opened: OpenSweep, file: Path | None) -> Place:
        """Read the runner file, this machine's profile where none is named. Raises SpecError."""
        runner = load_runner(file)
        return cls(file or PACKAGED_LOCAL, runner, Store(runner.store_path(opened.root)))


def prepare(opened: OpenSweep, place: Place, plan: Priced, *, replan: bool) -> Launch:
    """Make the store ready for the workers of a plan, clear what killed processes left, and freeze the plan.

    Raises:
        StoreError: the store cannot be written, or another launch holds it.
        DataError: the corpus cannot be read, is too small, or is built in and not what the last launch saw, unless
            `replan` accepts that.
    """
    store = place.store
    try:
        store.path.mkdir(parents=True, exist_ok=True)
        with hold(store.path / ".launch.lock", timeout_s=LOCK_SECONDS, what="another launch holds the store"):
            store_id = identify(store.path, remembered=_remembered(opened, store))
            data = _prepare_data(opened, store)
            if not replan:
                _refuse_other_corpus(opened, data)
            _prepare_runs(opened, plan, store, corpus_hash=data.hash)
            set_aside_damaged(opened.root, opened.name)
            sweep_store(store.path)
            sweep_launches(opened.launches)
            return _freeze(opened, place, plan, {"corpus_hash": data.hash, "store_id": store_id})
    except OSError as error:
        raise unwritable(store.path, error) from None


def refuse_other_store(opened: OpenSweep, place: Place) -> None:
    """Raises StoreError where the store is not the one that the last launch saw at this path."""
    last = last_launch(opened.root, opened.name)
    if last is not None and last.store == str(place.store.path):
        hint = f"scaling launch {opened.path} --replan   starts again in this one"
        check_store(place.store.path, last.ids, remembered=last.store_id, hint=hint)


def _remembered(opened: OpenSweep, store: Store) -> str | None:
    """The id of the store that the last launch saw at this path."""
    last = last_launch(opened.root, opened.name)
    return last.store_id if last is not None and last.store == str(store.path) else None


def _prepare_data(opened: OpenSweep, store: Store) -> TokenData:
    from scaling.data.shards import prepare as prepare_data

    started = time.monotonic()
    data = prepare_data(opened.sweep.data.ref, root=opened.root, store=store.path)
    if (took := time.monotonic() - started) > 1:
        corpus, tokens = opened.sweep.data.corpus, f"{data.train_tokens:,} training tokens"
        opened.listener.message(f"prepared {corpus}: {tokens} in {took:.1f} s")
    opened.check_data(data)
    return data


def _refuse_other_corpus(opened: OpenSweep, data: TokenData) -> None:
    """Raises DataError where the built-in corpus of this machine is not that of the last launch: every finished run
    would be stale.
    """
    from scaling.data.corpus import BUILT_IN
    from scaling.data.shards import versions_of

    last, corpus = last_launch(opened.root, opened.name), opened.sweep.data.corpus
    if corpus not in BUILT_IN or last is None or not last.corpus_hash or last.corpus_hash == data.hash:
        return
    if last.rows[0].run.data != opened.sweep.data.ref:  # another tokenizer, or other validation sets
        return
    now = data.describe["versions"].get("train", {})
    before = versions_of(Path(last.store), last.corpus_hash).get("train", {})
    changed = [f"{name} {before.get(name)} -> {now.get(name)}" for name in now if before.get(name) != now[name]]
    got = ", ".join(changed) if before and changed else f"data {data.hash}, then {last.corpus_hash}"
    raise DataError(
        f"the corpus {corpus} of this machine is not that of launch {last.number}: its finished runs would be stale",
        where=str(opened.path),
        got=got,
        allowed="the same versions of its packages" if corpus == "python-packages" else "the same version of Python",
        hint=f"install them, or train everything again: scaling launch {opened.path} --replan",
    )


def _prepare_runs(opened: OpenSweep, plan: Priced, store: Store, *, corpus_hash: str) -> None:
    """A folder for every run; what is damaged, stale or left over is out of the way."""
    runs = [planned.run for planned in plan.plan.runs]
    with ThreadPoolExecutor(FLUSHES) as pool:
        list(pool.map(store.add, runs))
    for run in runs:
        if not store.has_result(run.id):
            for name in store.set_aside_damaged(run.id):
                aside = f"run {run.id}: a damaged record was set aside as {name}; the run is trained again"
                opened.listener.message(aside)
        result = store.result(run.id)
        if result is not None and result.corpus_hash != corpus_hash:
            store.retire(run.id)
        sweep_run(store, run.id, keep=opened.sweep.training.keep)


def number_of(opened: OpenSweep, rows: Sequence[PlanRow], fields: Mapping[str, str]) -> int:
    """The number of the last launch where it asked for just this, else the next one."""
    last = last_launch(opened.root, opened.name)
    following = next_number(opened.root, opened.name)
    if last is None:
        return following
    same = last.ids == [row.id for row in rows] and all(getattr(last, key) == v for key, v in fields.items())
    return last.number if same else following


def frozen_fields(opened: OpenSweep, place: Place) -> dict[str, str]:
    """What a launch freezes beside its rows, as far as it is known before the data are prepared."""
    return {
        "sweep_text": opened.text,
        "runner": place.runner.runner,
        "runner_text": place.file.read_text(),
        "store": str(place.store.path),
        "code_version": code_version(),
    }


def open_work(rows: Sequence[PlanRow], store: Store) -> list[Work]:
    """The runs without a result, in the order in which they should be trained."""
    todo = (row for row in rows if not store.has_result(row.id))
    return [
        Work(row.id, row.params_total, None if row.hours is None else row.hours * 3600, row.trunk, row.runs_per_gpu)
        for row in in_order(todo)
    ]


def _freeze(opened: OpenSweep, place: Place, plan: Priced, seen: Mapping[str, str]) -> Launch:
    """The last launch where it asked for just this and saw the same data and store, else a new one."""
    rows = plan.rows(settings=True)
    fields = frozen_fields(opened, place) | dict(seen)
    last = last_launch(opened.root, opened.name)
    if last is not None and last.number == number_of(opened, rows, fields):
        return last
    return freeze(
        opened.root,
        sweep=opened.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        rows=rows,
        dropped=plan.plan.dropped,
        plan_checks=plan.checks,
        **fields,
    )
