"""Claims, fencing and publication, with real processes that race and are killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scaling.errors import DamagedRecord, StoreError
from scaling.results.owner import Owner
from scaling.results.store import Store

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
import scaling.files as files
from scaling.results.owner import Owner
from scaling.results.store import Store
from scaling.run import Run, Result
import json
store = Store(Path(sys.argv[1])); run_id = sys.argv[2]
result = Result.from_json(json.loads(sys.argv[3])) if len(sys.argv) > 3 else None
"""


def start(code: str, store: Store, run_id: str, *more: str) -> subprocess.Popen[str]:
    program = PRELUDE + textwrap.dedent(code)
    command = [sys.executable, "-c", program, str(store.path), run_id, *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def store(tmp_path: Path, tiny_run) -> Store:
    store = Store(tmp_path / "store")
    store.add(tiny_run())
    return store


@pytest.fixture
def run_id(tiny_run) -> str:
    return tiny_run().id


def foreign(**changes: object) -> Owner:
    """An owner on another machine, whose life nobody here can see."""
    return dataclasses.replace(Owner.current(), host="elsewhere", machine_id="other", **changes)


def test_of_many_processes_one_claims(store: Store, run_id: str) -> None:
    race = """
    print('ready', flush=True)
    sys.stdin.readline()
    attempt = store.claim(run_id, Owner.current())
    print(attempt.number if attempt else '-', flush=True)
    sys.stdin.read()
    """
    racers = [start(race, store, run_id) for _ in range(6)]
    for racer in racers:
        racer.stdout.readline()
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    claims = [racer.stdout.readline().strip() for racer in racers]
    for racer in racers:
        racer.communicate()
    assert sorted(claims) == ["-", "-", "-", "-", "-", "1"]


def test_a_dead_owner_is_succeeded_once_and_fenced(store: Store, run_id: str, a_result) -> None:
    claim = "store.claim(run_id, Owner.current()); print('claimed', flush=True); sys.stdin.read()"
    first = start(claim, store, run_id)
    first.stdout.readline()
    assert store.claim(run_id, Owner.current()) is None, "the owner is alive"
    first.kill()
    first.communicate()
    old = store.newest(run_id)
    new = store.claim(run_id, Owner.current())
    assert (old.number, new.number) == (1, 2)
    assert not old.owns()
    assert new.owns()
    assert not store.publish(old, a_result())
    assert not store.has_result(run_id)
    assert store.publish(new, a_result(loss_nats=2.0))
    assert store.result(run_id).loss_nats == 2.0
    assert store.claim(run_id, Owner.current()) is None, "a finished run is never claimed"


def test_of_many_publications_the_first_stays(store: Store, run_id: str, a_result) -> None:
    attempt = store.claim(run_id, Owner.current())
    assert store.publish(attempt, a_result(loss_nats=1.0))
    assert not store.publish(attempt, a_result(loss_nats=3.0))
    assert store.result(run_id).loss_nats == 1.0


def test_killed_at_every_observable_step_nothing_is_lost_or_half_written(tmp_path: Path, tiny_run, a_result) -> None:
    """A process that adds, claims and publishes is killed at its k-th file operation, for every k; the next one
    finishes the job.
    """
    life = """
    steps = 0
    def die(point):
        global steps
        steps += 1
        if steps == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
    files.fault_hook = die
    store.add(Run.from_settings(json.loads(sys.argv[5])))
    attempt = store.claim(run_id, Owner.current())
    attempt.log({"step": 1})
    store.publish(attempt, result)
    """
    run = tiny_run()
    arguments = [json.dumps(a_result().to_json())]
    outcomes = []
    for k in range(1, 30):
        store = Store(tmp_path / f"store-{k}")
        process = start(life, store, run.id, *arguments, str(k), json.dumps(run.settings()))
        process.communicate()
        outcomes.append(process.returncode)
        store.add(run)
        if not store.has_result(run.id):
            assert store.publish(store.claim(run.id, Owner.current()), a_result())
        assert store.result(run.id) == a_result()
        if process.returncode == 0:
            break
    assert outcomes[:-1] == [-signal.SIGKILL] * (len(outcomes) - 1)
    assert len(outcomes) == 14, "write, flush, link and linked of run.json, 0001.json and result.json, and one line"


def test_a_later_start_of_the_same_job_takes_over_and_the_scheduler_is_believed(store: Store, run_id: str) -> None:
    attempt = store.claim(run_id, foreign(job_id="7_1", restart_count=0))
    assert store.is_alive(attempt, job_active=lambda job: True)
    assert store.is_alive(attempt, job_active=lambda job: None)
    assert not store.is_alive(attempt, job_active=lambda job: False)
    assert store.claim(run_id, foreign(job_id="7_2", restart_count=1)) is None
    assert store.claim(run_id, foreign(job_id="7_1", restart_count=1)).number == 2


def test_a_recycled_pid_is_not_the_owner(store: Store, run_id: str) -> None:
    recycled = dataclasses.replace(Owner.current(), started="1")
    assert Owner.current().alive() is True
    assert recycled.alive() is False
    assert dataclasses.replace(Owner.current(), boot_id="before the reboot").alive() is False


def test_letting_go_ends_an_attempt_whose_process_lives_on(store: Store, run_id: str) -> None:
    store.claim(run_id, Owner.current()).log({"event": "stopped", "step": 3})
    second = store.claim(run_id, Owner.current())
    second.fail("out of memory", "Traceback ...")
    assert second.error()["message"] == "out of memory"
    assert store.claim(run_id, Owner.current()).number == 3


def test_a_retired_result_is_kept_aside_and_the_run_is_free(store: Store, run_id: str, a_result) -> None:
    attempt = store.claim(run_id, Owner.current())
    store.publish(attempt, a_result())
    attempt.log({"event": "completed", "step": 12})
    store.checkpoints(run_id).mkdir()
    (store.checkpoints(run_id) / "00000012-0001.pt").write_bytes(b"old corpus")
    store.retire(run_id)
    assert store.result(run_id) is None
    assert (store.folder(run_id) / "attempts" / "0001.stale.json").exists()
    assert not list(store.checkpoints(run_id).iterdir())
    assert store.claim(run_id, Owner.current()).number == 2


def test_the_last_whole_record_survives_a_torn_line(store: Store, run_id: str) -> None:
    attempt = store.claim(run_id, Owner.current())
    assert attempt.last_record() == {}
    attempt.log({"step": 1})
    with attempt.metrics_path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert attempt.last_record() == {"step": 1}


def test_damage_is_named(store: Store, run_id: str, tiny_run) -> None:
    path = store.folder(run_id) / "run.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"steps": 13}))
    with pytest.raises(StoreError, match="does not hash"):
        store.run(run_id)
    path.write_text(json.dumps(settings | {"colour": "blue"}))
    with pytest.raises(DamagedRecord, match="does not hash"):
        store.run(run_id)
    path.write_text('{"steps": ')
    with pytest.raises(StoreError, match=r"run\.json"):
        store.run(run_id)
    with pytest.raises(StoreError, match="no such run"):
        store.run("0" * 16)


def test_no_temporary_file_is_left(store: Store, run_id: str, a_result) -> None:
    store.publish(store.claim(run_id, Owner.current()), a_result())
    left = [name for _, _, names in os.walk(store.path) for name in names if name.endswith(".tmp")]
    assert left == []
