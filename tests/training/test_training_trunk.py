"""A branch of a trunk is the run trained alone: the same loss, weights and diagnostics to the bit, whatever happens
between them.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import scaling.training.trainer as trainer_module
from scaling.run import Run
from scaling.training.checkpoint import Checkpoint, save
from scaling.training.loop import Stopped, train
from scaling.training.model import mean_loss

LENGTHS = {6: 2, 9: 3, 14: 5}  # steps -> decay steps: branches at 4, 6 and 9


def length(run: Run, steps: int) -> Run:
    return replace(run, steps=steps, schedule=replace(run.schedule, kind="wsd", decay_steps=LENGTHS[steps]))


def go(run, data, folder, trunks=None, *, attempt=1, stop=lambda: False, **more):
    records = []
    options = more | {"attempt": attempt, "stop": stop, "owns": lambda: True, "log": records.append, "trunks": trunks}
    return train(run, data=data, folder=folder, **options), [r["message"] for r in records if "message" in r]


def untimed(result):
    known = {name: value for name, value in result.diagnostics.items() if name != "mfu"}
    return replace(result, device_seconds=0.0, inherited_seconds=0.0, diagnostics=known)


def assert_same(one, one_folder, other, other_folder):
    assert untimed(one) == untimed(other)
    weights = [load_file(folder / "weights.safetensors") for folder in (one_folder, other_folder)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.fixture
def trunks(tmp_path):
    return tmp_path / "trunks"


def test_branches_of_every_rule_equal_the_runs_trained_alone(any_run, data, tmp_path, trunks):
    if any_run().self_guided is not None:
        assert length(any_run(), 6).trunk_id is None
        return
    runs = [length(any_run(optimizer={"gradient_clip": 1.0}), steps) for steps in LENGTHS]
    assert len({run.trunk_id for run in runs}) == 1
    assert len({run.id for run in runs}) == 3
    for run in runs:
        alone, _ = go(run, data, tmp_path / f"alone-{run.steps}")
        branch, told = go(run, data, tmp_path / f"branch-{run.steps}", trunks)
        assert_same(alone, tmp_path / f"alone-{run.steps}", branch, tmp_path / f"branch-{run.steps}")
        assert bool(told) == (run.steps > 6)
        assert (0 < branch.inherited_seconds < branch.device_seconds) == (run.steps > 6)
    assert told == [f"went on from trunk {run.trunk_id} at step 6"]
    assert sorted(path.name for path in (trunks / run.trunk_id).iterdir()) == [f"{s:08d}.pt" for s in (4, 6, 9)]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"batch_tokens": 128},
        {"sequence_length": 32},
        {"optimizer": {"lr": 0.03}},
        {"schedule": {"warmup_steps": 3}},
        {"schedule": {"final": 0.1}},
        {"shape": {"layers": 1}},
        {"numerics": 9},
    ],
    ids=lambda change: next(iter(change)),
)
def test_only_the_length_may_differ(a_run, change):
    assert length(a_run(**change), 6).trunk_id != length(a_run(), 6).trunk_id
    assert length(a_run(), 14).trunk_id == length(a_run(), 6).trunk_id


def test_schedules_without_a_stable_phase_have_no_trunk(a_run, data, tmp_path, trunks):
    run = a_run()
    assert (run.trunk_id, run.branch_step) == (None, None)
    assert replace(run, schedule=replace(run.schedule, kind="wsd", decay_steps=run.steps)).trunk_id is None
    go(run, data, tmp_path / "c", trunks)
    assert not trunks.exists()


KILLED = """
import json, os, signal, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from conftest import token_data
from scaling import files
from scaling.run import Run
from scaling.training.loop import train

def die(point):
    if point == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

files.fault_hook = die
run, folder = Run.from_settings(json.loads(sys.argv[4])), Path(sys.argv[2])
train(run, data=token_data(Path()), folder=folder / "c", trunks=folder / "trunks", attempt=1,
      stop=lambda: False, owns=lambda: True, log=lambda record: None)
"""


@pytest.mark.parametrize(("point", "left"), [("replace 00000004.pt", False), ("step 5", True)])
def test_a_run_killed_around_its_branch_continues_and_the_next_branch_is_right(a_run, data, tmp_path, point, left):
    short, long = (length(a_run("spectron"), steps) for steps in (6, 14))
    arguments = [str(Path(__file__).parent), str(tmp_path), point, json.dumps(short.settings())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=False)
    assert child.returncode == -signal.SIGKILL
    trunks = tmp_path / "trunks"
    assert (trunks / short.trunk_id / "00000004.pt").exists() == left
    again, told = go(short, data, tmp_path / "c", trunks, attempt=2)
    assert told == ([f"went on from trunk {short.trunk_id} at step 4"] if left else [])
    assert again.inherited_seconds == 0, "what the run itself left there is its own"
    alone, _ = go(short, data, tmp_path / "alone")
    assert_same(again, tmp_path / "c", alone, tmp_path / "alone")
    branch, told = go(long, data, tmp_path / "b", trunks)
    assert told == [f"went on from trunk {short.trunk_id} at step 4"]
    alone, _ = go(long, data, tmp_path / "alone")
    assert_same(branch, tmp_path / "b", alone, tmp_path / "alone")


@pytest.mark.parametrize("damage", ["cut", "owner", "schema", "corpus", "circumstances"])
def test_a_state_that_cannot_be_used_is_passed_over_with_a_message(a_run, data, tmp_path, trunks, damage):
    short, middle, long = (length(a_run(), steps) for steps in LENGTHS)
    for run in (short, middle):
        go(run, data, tmp_path / str(run.steps), trunks)
    path = trunks / long.trunk_id / "00000006.pt"
    content = torch.load(path, weights_only=True)
    schema = content.pop("schema")
    state = Checkpoint(**content)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "schema":
        torch.save({"schema": schema + 1, **content}, path)
    else:
        changes = {
            "owner": {"run_id": "another"},
            "corpus": {"corpus_hash": "older"},
            "circumstances": {"state": state.state | {"made_by": "torch 1.0, abacus"}},
        }
        with path.open("wb") as file:
            save(replace(state, **changes[damage]), file)
    branch, told = go(long, data, tmp_path / "branch", trunks)
    assert "00000006.pt is passed over: " in told[0]
    named = {"circumstances": "abacus", "corpus": "older", "owner": "another", "schema": "schema"}
    assert named.get(damage, "") in told[0]
    assert told[1] == f"went on from trunk {long.trunk_id} at step 4"
    alone, _ = go(long, data, tmp_path / "alone")
    assert_same(branch, tmp_path / "branch", alone, tmp_path / "alone")


def test_the_further_of_its_own_checkpoint_and_the_trunk_is_used(a_run, data, tmp_path, trunks):
    short, long = length(a_run(), 6), length(a_run(), 14)
    boundaries = iter(range(100))
    stopped, _ = go(long, data, tmp_path / "long", trunks, stop=lambda: next(boundaries) == 5)
    assert stopped == Stopped(5)
    go(short, data, tmp_path / "short", trunks)
    _, told = go(long, data, tmp_path / "long", trunks, attempt=2)
    assert told == ["resumed at step 5"]
    _, told = go(length(a_run(), 9), data, tmp_path / "middle", trunks)
    assert told == [f"went on from trunk {long.trunk_id} at step 4"], "a state beyond its branch is not used"


def test_a_branch_resumes_to_the_bit_and_remembers_what_it_inherited(any_run, data, tmp_path, trunks):
    if any_run().self_guided is not None:
        return
    short, long = length(any_run(), 6), length(any_run(), 14)
    alone, _ = go(long, data, tmp_path / "alone")
    go(short, data, tmp_path / "short", trunks)
    outcome, attempt = None, 0
    while not attempt or isinstance(outcome, Stopped):
        attempt += 1
        boundaries = iter(range(100))
        outcome, _ = go(
            long, data, tmp_path / "branch", trunks, attempt=attempt, stop=lambda b=boundaries: next(b) == 2
        )
    assert attempt == 5, "two steps at a time, from step 4"
    assert_same(alone, tmp_path / "alone", outcome, tmp_path / "branch")
    assert 0 < outcome.inherited_seconds < outcome.device_seconds


def test_a_broken_run_leaves_no_state(a_run, data, tmp_path, trunks):
    result, _ = go(length(a_run("adamw", optimizer={"lr": 1e6, "other_lr": 1e6}), 14), data, tmp_path / "c", trunks)
    assert result.status == "diverged"
    assert not trunks.exists()


def test_a_trunk_split_otherwise_is_passed_over(a_run, data, tmp_path, trunks):
    """The parts of a batch decide the last bits, so a branch goes on from a trunk of its own split only."""
    short, long = (length(a_run(), steps) for steps in (6, 14))
    go(short, data, tmp_path / "short", trunks, micro_sequences=2)
    alone, _ = go(long, data, tmp_path / "alone")
    branch, told = go(long, data, tmp_path / "branch", trunks)
    assert ["2 sequences at once" in message for message in told] == [True]
    assert_same(alone, tmp_path / "alone", branch, tmp_path / "branch")


def test_a_trunk_says_where_its_batches_were_halved(a_run, data, tmp_path, trunks, monkeypatch):
    """It ran out of memory on the way: no run trained alone has these bits, so no other goes on from it."""
    short, long, calls = length(a_run(), 6), length(a_run(), 14), []

    def scarce(model, inputs, targets):
        calls.append(len(inputs))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("simulated")
        return mean_loss(model, inputs, targets)

    with monkeypatch.context() as memory:
        memory.setattr(trainer_module, "mean_loss", scarce)
        _, told = go(short, data, tmp_path / "short", trunks)
    assert told == ["out of memory with 4 sequences at once: step 2 is repeated with 2"]
    alone, _ = go(long, data, tmp_path / "alone")
    branch, told = go(long, data, tmp_path / "branch", trunks)
    assert ["4 sequences at once, 2 from step 2 on" in message for message in told] == [True]
    assert_same(alone, tmp_path / "alone", branch, tmp_path / "branch")
