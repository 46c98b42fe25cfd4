"""Every status is derived from files and the scheduler, and collect loses no run."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.files import to_json, write_atomic
from scaling.results.collect import collect
from scaling.results.launches import all_launches, freeze, last_launch, launches_folder
from scaling.results.owner import Owner, code_version
from scaling.results.status import STATUSES, code_changes, counts, run_status, statuses
from scaling.results.store import Store
from scaling.rows import COLUMNS, PlanRow, SetLoss, write_runs


@pytest.fixture
def world(tmp_path: Path, tiny_run, a_plan_row):
    """A store with one run per seed, and the plan rows of these runs."""
    store = Store(tmp_path / "store")
    runs = [tiny_run(seed=seed) for seed in range(7)]
    for run in runs:
        store.add(run)
    return store, [a_plan_row(run) for run in runs]


def claim(store: Store, row: PlanRow):
    return store.claim(row.id, Owner.current())


def test_each_status(world, a_result) -> None:
    store, rows = world
    store.publish(claim(store, rows[0]), a_result())
    store.publish(claim(store, rows[1]), a_result(status="diverged", loss_nats=None, loss_per_byte_nats=None))
    claim(store, rows[2]).fail("CUDA out of memory", "...")
    claim(store, rows[3]).log({"step": 3, "loss_nats": 3.25})
    store.publish(claim(store, rows[6]), a_result(corpus_hash="older"))
    jobs = {rows[4].id: "pending: Resources", rows[2].id: "pending: Priority"}
    found = statuses(rows, store, corpus_hash="c0ffee", jobs=jobs)
    expected = ["completed", "diverged", "queued", "running", "queued", "planned", "stale"]
    assert [s.status for s in found] == expected
    failed = run_status(rows[2], store, corpus_hash="c0ffee")
    assert (failed.status, failed.message) == ("failed", "CUDA out of memory")
    assert (found[3].loss, found[3].progress) == (3.25, 0.25)
    for inherited, share in ((1, 2 / 11), (3, 0.0), (6, 0.0)):
        branch = run_status(replace(rows[3], inherited_steps=inherited), store, corpus_hash="c0ffee")
        assert branch.progress == pytest.approx(share), "of the steps it makes itself"
    assert list(counts(found)) == list(STATUSES)
    assert sum(counts(found).values()) == len(rows)


def test_a_code_version_that_changed_between_submission_and_start_stays_visible(world, a_result) -> None:
    store, rows = world
    for row, submitted in zip(rows[:3], ("0.0+old", "0.0+old", code_version()), strict=True):
        attempt = store.claim(row.id, Owner.current(submitted=submitted))
        if row is rows[0]:
            store.publish(attempt, a_result())
    found = statuses(rows, store, corpus_hash="c0ffee")
    change = f"code {code_version()}, submitted with 0.0+old"
    assert [run.to_json()["code_change"] for run in found[:3]] == [change, change, None]
    assert [run.status for run in found[:3]] == ["completed", "running", "running"]
    assert code_changes(found) == [f"2 runs trained by {change}"]


def test_an_interrupted_run_says_how_to_go_on(world) -> None:
    store, rows = world
    claim(store, rows[0]).log({"event": "stopped", "step": 6})
    status = run_status(rows[0], store, corpus_hash="c0ffee")
    assert status.status == "stopped"
    assert status.message == "stopped at step 6; `scaling launch` continues it"


def test_collect_keeps_every_run_and_only_completed_ones_have_a_loss(world, a_result, tmp_path: Path) -> None:
    store, rows = world
    store.publish(claim(store, rows[0]), a_result(loss_nats=2.123456789012345))
    broken = {"loss_nats": None, "last_finite_loss_nats": 9.5, "diagnostics": {"largest_matrix_norm": 7.5}}
    store.publish(claim(store, rows[1]), a_result(status="diverged", **broken))
    store.publish(claim(store, rows[2]), a_result(corpus_hash="older"))
    write_runs(tmp_path / "runs.csv", collect(statuses(rows, store, corpus_hash="c0ffee"), store))
    with (tmp_path / "runs.csv").open() as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == list(COLUMNS)
    assert len(read) == len(rows)
    assert [r["status"] for r in read[:4]] == ["completed", "diverged", "stale", "planned"]
    assert float(read[0]["loss"]) == 2.123456789012345
    assert [r["loss"] for r in read[1:4]] == ["", "", ""]
    assert float(read[1]["last_finite_loss"]) == 9.5
    assert [r["largest_matrix_norm"] for r in read[1:3]] == ["7.5", ""]
    assert float(read[0]["other_lr"]) == rows[0].other_lr
    assert read[0]["weight_decay"] == ""  # off


def test_losses_of_every_validation_set_are_collected(world, a_result) -> None:
    store, rows = world
    losses = {"code": {"loss_nats": 1.5, "loss_per_byte_nats": 1.25}}
    for row in rows[:2]:
        store.publish(claim(store, row), a_result(validation=losses))
    store.add_evaluation(rows[0].id, SetLoss("prose", 3.0, 0.5, 2.5), data="old.txt", data_hash="older")
    store.add_evaluation(rows[0].id, SetLoss("prose", 2.0, 0.5, 1.5), data="new.txt", data_hash="newer")
    old = store.folder(rows[1].id) / "evaluations" / "web-pages-c0ffee.json"
    write_atomic(old, to_json({"data": "w", "data_hash": "c0ffee", "loss": 4.0, "loss_se": None, "loss_per_byte": 4.0}))
    first, second, third, *_ = collect(statuses(rows, store, corpus_hash="c0ffee"), store)
    assert first.sets == (SetLoss("code", 1.5, None, 1.25), SetLoss("prose", 2.0, 0.5, 1.5))
    assert second.sets == (SetLoss("code", 1.5, None, 1.25), SetLoss("web-pages", 4.0, None, 4.0)), "as 0.1 wrote it"
    assert third.sets == ()
    for name, change in (("cut", lambda text: text[:50]), ("newer", lambda text: text.replace(": 2,", ": 99,", 1))):
        bad = store.folder(rows[0].id) / "evaluations" / "prose-newer.json"
        whole = bad.read_text()
        bad.write_text(change(whole))
        said: list[str] = []
        first, second, *_ = collect(statuses(rows, store, corpus_hash="c0ffee"), store, say=said.append)
        assert first.sets == (SetLoss("code", 1.5, None, 1.25), SetLoss("prose", 3.0, 0.5, 2.5)), name
        assert second.sets[1].name == "web-pages", "the others go on"
        assert len(said) == 1
        assert str(bad) in said[0]
        bad.write_text(whole)
    store.retire(rows[0].id)
    assert store.evaluations(rows[0].id) == [], "they are of the weights that are trained again"


def test_every_result_is_read_once(world, a_result, monkeypatch) -> None:
    store, rows = world
    store.publish(claim(store, rows[0]), a_result())
    read: list[str] = []
    published = Store.published
    monkeypatch.setattr(Store, "published", lambda self, run_id: read.append(run_id) or published(self, run_id))
    assert collect(statuses(rows, store, corpus_hash="c0ffee"), store)[0].loss == a_result().loss_nats
    assert read == [row.id for row in rows]


def test_launches_are_numbered_and_read_back(tmp_path: Path, a_plan_row) -> None:
    fields = {
        "sweep": "s",
        "sweep_text": "sweep: s\n",
        "runner": "local",
        "runner_text": "runner: local\n",
        "store": str(tmp_path),
        "corpus_hash": "c0ffee",
        "code_version": "1",
        "created": "2026-11-21T00:00:00Z",
        "rows": (a_plan_row(id="a"), a_plan_row(id="b")),
    }
    assert last_launch(tmp_path, "s") is None
    first = freeze(tmp_path, **fields)
    second = freeze(tmp_path, **fields | {"rows": (a_plan_row(id="c"),)})
    assert (first.number, second.number) == (1, 2)
    assert last_launch(tmp_path, "s") == second
    assert all_launches(tmp_path, "s") == [first, second]
    assert first.ids == ["a", "b"]
    assert last_launch(tmp_path, "s") is last_launch(tmp_path, "s"), "parsed once"
    file = launches_folder(tmp_path, "s") / "2.json"
    file.write_text(file.read_text().replace("c0ffee", "decade"))
    assert last_launch(tmp_path, "s") == first, "but looked at again: it was changed, so it is damaged"
