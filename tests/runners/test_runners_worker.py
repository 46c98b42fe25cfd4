"""The worker trains for real here: it is killed at every step boundary, stopped, raced and fed bad runs."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.data.shards import prepare
from scaling.results import heartbeat
from scaling.results.owner import Owner
from scaling.results.store import Store
from scaling.run import DataRef, Run, Schedule
from scaling.runners.worker import EXIT_LEFT, EXIT_STOPPED, MAX_DEATHS, MPS, StopFlag, Worker, WorkList
from scaling.sweeps.memory import USABLE, split

PROGRAM = (sys.executable, "-P", "-m", "scaling.runners.program")

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["scaling.runners.worker", "scaling.training.loop"])


class AtStep(StopFlag):
    """Acts at the k-th time the loop asks whether to stop: kills the process, or asks it to stop."""

    def __init__(self, *, kill: int | None = None, stop: int | None = None) -> None:
        super().__init__()
        self.asked, self.kill, self.stop = 0, kill, stop

    def __call__(self) -> bool:
        self.asked += 1
        if self.asked == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.stop is not None and self.asked >= self.stop


def work(store: Path, worklist: Path, kill: int | None, stop: int | None) -> None:
    status = Worker(Store(store), WorkList.read(worklist), AtStep(kill=kill, stop=stop)).work()
    assert not {"torch.distributed.tensor", "torch._dynamo"} & set(sys.modules), "3 of 5 CPU seconds of a start"
    sys.exit(status)


def run_worker(store: Store, worklist: Path, *, kill: int | None = None, stop: int | None = None) -> int:
    process = FORKS.Process(target=work, args=(store.path, worklist, kill, stop))
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def data_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store folder with prepared data in it, linked into the store of every test."""
    path = tmp_path_factory.mktemp("prepared")
    prepare(DataRef(corpus="python-stdlib", tokenizer="bytes", validation_tokens=1024), root=path, store=path)
    return path


@pytest.fixture
def make_store(tmp_path: Path, data_store: Path) -> Callable[..., tuple[Store, Path]]:
    def make(name: str, runs: list[Run]) -> tuple[Store, Path]:
        store = Store(tmp_path / name)
        store.path.mkdir()
        (store.path / "data").symlink_to(data_store / "data")
        for run in runs:
            store.add(run)
        [hash_] = [p.name for p in (data_store / "data").iterdir() if (p / "description.json").exists()]
        worklist = WorkList.of([run.id for run in runs], store, corpus_hash=hash_, keep="none")
        return store, worklist.write(tmp_path / f"{name}.json")

    return make


@pytest.fixture
def undisturbed(make_store, tiny_run) -> float:
    """The loss of a tiny run, trained without disturbance."""
    store, worklist = make_store("undisturbed", [tiny_run(steps=6)])
    assert run_worker(store, worklist) == 0
    return store.result(tiny_run(steps=6).id).loss_nats


def test_killed_or_stopped_at_every_step_boundary_the_loss_is_the_same_to_the_bit(
    make_store, tiny_run, undisturbed
) -> None:
    run = tiny_run(steps=6)
    boundaries = 2 + run.steps  # before the claim twice, then one question per step
    for at in range(1, boundaries + 1):
        store, worklist = make_store(f"disturbed-{at}", [run])
        killed = run_worker(store, worklist, kill=at)
        again = (at * 5) % boundaries + 1
        stopped = run_worker(store, worklist, stop=again) if killed == -signal.SIGKILL else None
        while not store.has_result(run.id):
            assert run_worker(store, worklist) == 0
        assert killed == -signal.SIGKILL
        assert stopped == EXIT_STOPPED
        assert store.result(run.id).loss_nats == undisturbed
        assert not list(store.checkpoints(run.id).glob("*")), "keep: none leaves no checkpoint"


def test_a_crash_is_recorded_and_does_not_stop_the_others(make_store, tiny_run) -> None:
    broken = tiny_run(optimizer=dataclasses.replace(tiny_run().optimizer, name="no_such_rule"))
    good = tiny_run(seed=3)
    store, worklist = make_store("crash", [broken, good])
    dataclasses.replace(WorkList.read(worklist), code_version="0.0+old").write(worklist)
    assert run_worker(store, worklist) == 0
    assert store.has_result(good.id)
    assert not store.has_result(broken.id)
    attempt = store.newest(broken.id)
    assert attempt.number == 1, "a run that fails is tried once per launch"
    assert "no_such_rule" in attempt.error()["message"]
    assert "Traceback" in attempt.error()["traceback"]
    assert store.newest(good.id).owner.submitted_version == "0.0+old", "other code was submitted"


def test_a_run_that_kills_its_worker_is_left_alone_in_the_end(make_store, tiny_run) -> None:
    store, worklist = make_store("killer", [tiny_run()])
    codes = [run_worker(store, worklist, kill=5) for _ in range(MAX_DEATHS + 1)]
    assert codes == [-signal.SIGKILL] * MAX_DEATHS + [0]
    assert not store.has_result(tiny_run().id)


def test_two_workers_on_one_list_train_each_run_once(make_store, tiny_run) -> None:
    runs = [tiny_run(seed=seed) for seed in range(6)]
    store, worklist = make_store("shared", runs)
    workers = [FORKS.Process(target=work, args=(store.path, worklist, None, None)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    # Without `follow` a worker leaves when others hold what is left, and says so by its exit status.
    assert {worker.exitcode for worker in workers} <= {0, EXIT_LEFT}
    assert all(store.has_result(run.id) for run in runs)
    assert [store.newest(run.id).number for run in runs] == [1] * len(runs)


LENGTHS = {20: 5, 40: 8, 60: 12}  # steps -> decay steps


@pytest.mark.parametrize("keep", ["weights", "none"])
def test_two_workers_train_a_trunk_once(make_store, tiny_run, keep) -> None:
    runs = [tiny_run(steps=steps, schedule=Schedule("wsd", 2, 0.0, decay)) for steps, decay in LENGTHS.items()]
    store, path = make_store("trunk", runs)
    dataclasses.replace(WorkList.read(path), keep=keep).write(path)
    workers = [FORKS.Process(target=work, args=(store.path, path, None, None)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {worker.exitcode for worker in workers} <= {0, EXIT_LEFT}
    results = [store.result(run.id) for run in runs]
    assert [result.inherited_seconds > 0 for result in results] == [False, True, True]
    left = [path.name for path in (store.trunks / runs[0].trunk_id).iterdir()]
    assert left == (["00000048.pt"] if keep == "weights" else [])
    apart, path = make_store("apart", runs[1:2])
    assert run_worker(apart, path) == 0
    assert apart.result(runs[1].id).loss_nats == results[1].loss_nats
    assert apart.result(runs[1].id).inherited_seconds == 0


def test_a_branch_waits_for_a_living_worker_to_leave_its_trunk(make_store, tiny_run) -> None:
    """This test claims the first branch; a worker waits for its state, and trains both when it lets go."""
    runs = [tiny_run(steps=steps, schedule=Schedule("wsd", 2, 0.0, 5)) for steps in (20, 30)]
    store, path = make_store("waits", runs)
    claimed = store.claim(runs[0].id, Owner.current())
    worker = FORKS.Process(target=work, args=(store.path, path, None, None))
    worker.start()
    worker.join(timeout=2)
    assert worker.is_alive()
    assert store.newest(runs[1].id) is None
    claimed.log({"event": "stopped", "step": 0})
    worker.join()
    assert worker.exitcode == 0
    assert [store.newest(run.id).number for run in runs] == [2, 1]
    assert store.result(runs[1].id).inherited_seconds > 0


def test_a_run_left_by_a_killed_worker_of_another_host_is_continued(make_store, tiny_run, monkeypatch) -> None:
    """Also by a worker that lives for seconds: the heartbeat is ten minutes old by the file server's clock."""
    monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 1.0)
    run = tiny_run(steps=6)
    store, path = make_store("left", [run])
    gone = store.claim(run.id, dataclasses.replace(Owner.current(), host="elsewhere", machine_id="other"))
    then = time.time() - heartbeat.HEARTBEAT_SECONDS - 1
    os.utime(gone.claim_path, (then, then))
    assert Worker(store, WorkList.read(path), StopFlag()).work() == 0
    assert store.newest(run.id).number == 2
    assert store.has_result(run.id)


def test_a_run_is_left_only_to_a_worker_that_is_seen_to_live(make_store, tiny_run, capsys) -> None:
    runs = [tiny_run(steps=6), tiny_run(seed=1)]
    store, path = make_store("declined", runs)
    other = store.claim(runs[0].id, dataclasses.replace(Owner.current(), host="elsewhere", machine_id="other"))
    beats = threading.Timer(6.0, lambda: heartbeat.touch(other.metrics_path, other.claim_path))
    beats.start()
    started = time.monotonic()
    assert Worker(store, WorkList.read(path), StopFlag()).work() == EXIT_LEFT
    assert time.monotonic() - started >= 5, "until then it may have been dead"
    assert f"run {runs[0].id} is left to elsewhere (pid {other.owner.pid})" in capsys.readouterr().err
    assert store.newest(runs[0].id).number == 1
    assert store.has_result(runs[1].id), "what is nobody's is trained"


def test_the_program_stops_when_its_launcher_is_gone(make_store, tiny_run) -> None:
    """End-of-file on the pipe: the worker checkpoints, exits 75, and the next one continues at that step."""
    run = tiny_run(steps=100_000)
    store, worklist = make_store("orphan", [run])
    command = [*PROGRAM, "--store", str(store.path), "--runs", str(worklist), "--lifeline"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE)
    _wait_for_steps(store, run.id)
    worker.stdin.close()
    assert worker.wait(timeout=30) == EXIT_STOPPED
    record = store.newest(run.id).last_record()
    assert record["event"] == "stopped"
    assert record["step"] > 0
    second = subprocess.Popen(command, stdin=subprocess.PIPE)
    _wait_for_steps(store, run.id, attempt=2)
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=30) == EXIT_STOPPED
    second.stdin.close()
    assert store.newest(run.id).number == 2
    assert store.newest(run.id).last_record()["step"] > record["step"]


@pytest.mark.parametrize("mps", [None, "/tmp/mps"])
def test_a_run_that_shares_a_gpu_has_its_part_of_the_memory_and_says_how(
    make_store, tiny_run, monkeypatch, mps: str | None
) -> None:
    """A device that holds the 64 sequences of a batch once cannot hold them twice."""
    run = tiny_run(batch_tokens=64 * tiny_run().sequence_length, steps=2)
    store, worklist = make_store("shared", [run])
    device = split(run, memory_bytes=1e12).memory.peak / USABLE
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", mps) if mps else monkeypatch.delenv(MPS, raising=False)
    listed = dataclasses.replace(WorkList.read(worklist), memory_bytes=device, runs_per_gpu=2)
    assert Worker(store, listed, StopFlag(), runs_on_device=2).work() == 0
    result = store.result(run.id)
    assert result is not None
    assert (result.runs_per_gpu, result.micro_batch) == (2, 16)
    (attempt,) = (store.folder(run.id) / "attempts").glob("*.jsonl")
    messages = attempt.read_text()
    assert "2 runs share this GPU" in messages
    assert ("by MPS (CUDA_MPS_PIPE_DIRECTORY=/tmp/mps)" in messages) == bool(mps)


def test_a_missing_list_is_one_line(tmp_path: Path) -> None:
    command = [*PROGRAM, "--store", str(tmp_path), "--runs", "nowhere.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("scaling worker: ")
    assert "Traceback" not in done.stderr


def _wait_for_steps(store: Store, run_id: str, attempt: int = 1) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        newest = store.newest(run_id)
        if newest and newest.number == attempt and newest.last_record().get("step", 0) > 0:
            return
        time.sleep(0.05)
    raise AssertionError("the worker never made a step")
