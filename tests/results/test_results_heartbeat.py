"""Who lives, where nobody can be asked: by the file server's clock, with the same judgement for every observer."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from scaling.results import heartbeat, status
from scaling.results.heartbeat import HEARTBEAT_SECONDS, WATCH_SECONDS, Heartbeats, beating
from scaling.results.jobs import HeldRun, JobState
from scaling.results.owner import Owner
from scaling.results.status import statuses
from scaling.results.store import Attempt, Store


@pytest.fixture
def store(tmp_path: Path, tiny_run) -> Store:
    store = Store(tmp_path / "store")
    store.add(tiny_run())
    return store


@pytest.fixture
def attempt(store: Store, tiny_run) -> Attempt:
    """An attempt of a worker on another machine, which has logged three steps."""
    attempt = store.claim(tiny_run().id, foreign())
    attempt.log({"step": 3, "loss_nats": 3.5})
    return attempt


def foreign(**changes: object) -> Owner:
    return dataclasses.replace(Owner.current(), host="elsewhere", machine_id="other", **changes)


def age(attempt: Attempt, seconds: float) -> None:
    """As if the attempt had last written `seconds` ago by the file server's clock."""
    then = time.time() - seconds
    for path in (attempt.metrics_path, attempt.claim_path):
        if path.exists():
            os.utime(path, (then, then))


def test_observers_of_seconds_agree_that_a_worker_of_another_host_is_dead(store: Store, attempt: Attempt) -> None:
    """A killed local launch was continued by no task, because each watched less than ten minutes."""
    age(attempt, HEARTBEAT_SECONDS - 5)
    now = 0.0
    for _ in range(3):
        observer = Store(store.path, clock=lambda: now)  # noqa: B023  (it is to see the change)
        assert observer.is_alive(attempt)
        now += 200
        assert observer.is_alive(attempt), "its own clock says nothing"
    age(attempt, HEARTBEAT_SECONDS + 5)
    observer = Store(store.path, clock=lambda: now)
    assert observer.liveness(attempt) == "silent"
    now += WATCH_SECONDS - 1
    assert observer.claim(attempt.run_id, Owner.current()) is None
    now += 1
    assert observer.claim(attempt.run_id, Owner.current()).number == 2


@pytest.mark.parametrize("write", [lambda attempt: attempt.log({"step": 4}), lambda attempt: age(attempt, 1e3)])
def test_a_write_in_the_last_ten_seconds_begins_the_watch_anew(store: Store, attempt: Attempt, write) -> None:
    now = 0.0
    observer = Store(store.path, clock=lambda: now)
    age(attempt, 2e3)
    assert observer.liveness(attempt) == "silent"
    now += WATCH_SECONDS - 1
    write(attempt)
    assert observer.is_alive(attempt)
    now += 1
    assert observer.is_alive(attempt)


def test_an_observer_s_clock_is_not_asked_and_a_negative_age_is_life(tmp_path: Path) -> None:
    metrics, claim = tmp_path / "0001.jsonl", tmp_path / "0001.json"
    claim.touch()
    written = claim.stat().st_mtime
    for server, pulse in ((written - 5000, "quiet"), (written + 599, "quiet"), (written + 601, "silent")):
        assert Heartbeats(server_clock=lambda _, now=server: now).pulse(metrics, claim) == pulse


def test_who_may_not_write_decides_nothing(store: Store, attempt: Attempt, a_plan_row, tiny_run) -> None:
    age(attempt, 1e6)
    observer = Store(store.path)
    observer._heartbeats = Heartbeats(server_clock=lambda folder: None)
    assert observer.is_alive(attempt)
    [run] = statuses([a_plan_row(tiny_run())], observer, corpus_hash="c0ffee")
    assert (run.status, run.message.partition(":")[0]) == ("running", "on elsewhere, no heartbeat visible")


def test_status_and_launch_come_to_one_view_after_a_host_was_renamed(
    store: Store, attempt: Attempt, a_plan_row, tiny_run, monkeypatch
) -> None:
    waits = []
    monkeypatch.setattr(status.time, "sleep", lambda seconds: (waits.append(seconds), age(attempt, 900)))
    monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 0.0)
    age(attempt, HEARTBEAT_SECONDS - 60)
    [run] = statuses([a_plan_row(tiny_run())], Store(store.path), corpus_hash="c0ffee")
    assert (run.status, waits) == ("running", [])
    assert store.claim(attempt.run_id, Owner.current()) is None
    age(attempt, 900)
    [run] = statuses([a_plan_row(tiny_run())], Store(store.path), corpus_hash="c0ffee")
    assert run.status == "failed"
    assert "its process on elsewhere" in run.message
    assert store.claim(attempt.run_id, Owner.current()).number == 2


def test_status_watches_ten_seconds_more_once_for_all_runs(
    store: Store, attempt: Attempt, a_plan_row, tiny_run, monkeypatch
) -> None:
    waits, now = [], [0.0]
    monkeypatch.setattr(status.time, "sleep", lambda seconds: (waits.append(seconds), now.append(now[-1] + seconds)))
    other = store.claim(_added(store, tiny_run(seed=1)), foreign())
    for one in (attempt, other):
        age(one, 900)
    rows = [a_plan_row(tiny_run()), a_plan_row(tiny_run(seed=1)), a_plan_row(tiny_run(seed=2))]
    observer = Store(store.path, clock=lambda: now[-1])
    assert [run.status for run in statuses(rows, observer, corpus_hash="c0ffee")] == ["failed", "failed", "planned"]
    assert waits == [WATCH_SECONDS]
    held = {attempt.run_id: HeldRun("grid-1-abcd", "7_1", JobState("PENDING", True))}
    again = statuses(rows, Store(store.path, clock=lambda: now[-1]), corpus_hash="c0ffee", jobs=held)
    assert [run.status for run in again] == ["queued", "failed", "planned"]


def test_a_job_that_runs_without_a_heartbeat_is_named(store: Store, a_plan_row, tiny_run) -> None:
    attempt = store.claim(tiny_run().id, foreign(job_id="7_1", job_submitted="1800000000"))
    rows, runs = [a_plan_row(tiny_run())], lambda job: True
    [run] = statuses(rows, store, corpus_hash="c0ffee", job_active=runs)
    assert (run.status, run.message) == ("running", "on elsewhere")
    age(attempt, 900)
    [run] = statuses(rows, store, corpus_hash="c0ffee", job_active=runs)
    assert run.status == "running"
    assert "without a heartbeat for ten minutes although job 7_1 runs" in run.message
    started = HeldRun("grid-1-abcd", "7_1", JobState("RUNNING", True), started=False)
    assert str(started) == "job 7_1 is running, without a heartbeat: no worker of it has taken a run yet"


def test_a_worker_touches_its_metrics_while_it_writes_nothing(attempt: Attempt, monkeypatch) -> None:
    """Also while it compiles, validates and saves."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    age(attempt, 900)
    size = attempt.metrics_path.stat().st_size
    with beating(attempt.metrics_path, attempt.claim_path):
        deadline = time.monotonic() + 20
        while attempt.metrics_path.stat().st_mtime < time.time() - 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert attempt.metrics_path.stat().st_size == size
    attempt.metrics_path.unlink()
    age(attempt, 900)
    heartbeat.touch(attempt.metrics_path, attempt.claim_path)
    assert attempt.claim_path.stat().st_mtime > time.time() - 60
    assert not attempt.metrics_path.exists()


def _added(store: Store, run) -> str:
    store.add(run)
    return run.id
