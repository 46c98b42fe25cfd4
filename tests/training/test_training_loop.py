import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scaling import files
from scaling.errors import TrainingError
from scaling.run import Result
from scaling.sweeps.counting import count, training_flops
from scaling.training import loop as loop_module
from scaling.training import trainer as trainer_module
from scaling.training.checkpoint import Checkpoint, write_checkpoint
from scaling.training.loop import Stopped, Superseded, train
from scaling.training.model import mean_loss
from scaling.training.trainer import Trainer


def go(run, data, folder, *, stop=lambda: False, owns=lambda: True, attempt=1, **options):
    records = []
    outcome = train(run, data=data, folder=folder, attempt=attempt, stop=stop, owns=owns, log=records.append, **options)
    return outcome, records


class StopAt:
    """Asks to stop at the n-th step boundary."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left < 0


def same_result(a: Result, b: Result) -> bool:
    one, other = (replace(r, device_seconds=0.0, diagnostics=untimed(r)) for r in (a, b))
    return one == other


def untimed(result: Result) -> dict[str, float]:
    return {name: value for name, value in result.diagnostics.items() if name != "mfu"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def test_a_run_learns_and_reports(a_run, data, tmp_path):
    run = a_run("muon", steps=60, batch_tokens=128)
    result, records = go(run, data, tmp_path / "c")
    assert result.status == "completed"
    assert result.loss_nats < np.log(64) - 0.5
    assert 0 < result.loss_se_nats < 0.2
    assert set(result.validation) == {"other"}
    assert set(result.validation["other"]) == {"loss_nats", "loss_se_nats", "loss_per_byte_nats"}
    assert (result.steps, result.tokens) == (60, 60 * 128)
    assert result.flops == training_flops(run.shape, None, sequence_length=16, tokens=result.tokens)
    assert result.flops_6nd == 6 * count(run.shape).params_total * result.tokens
    assert result.epochs == pytest.approx(result.tokens / data.train_tokens, rel=0.01)
    assert result.corpus_hash == data.hash
    assert result.device == "cpu"
    assert result.diagnostics["largest_matrix_norm"] >= result.diagnostics["matrix_norm"] > 0
    assert result.diagnostics["largest_grad_norm"] > 0
    assert Result.from_json(result.to_json()) == result
    assert records[0]["step"] == 0
    assert records[-1]["step"] == records[-1]["steps"] == 60
    assert all(isinstance(v, (int, float, str)) or v is None for r in records for v in r.values())
    assert not list((tmp_path / "c").glob("*.pt"))
    assert (tmp_path / "c" / "documents.npz").exists()


def test_stopping_at_every_step_changes_no_bit(any_run, data, tmp_path):
    run = any_run(steps=5, schedule={"kind": "cosine"})
    whole, _ = go(run, data, tmp_path / "whole")
    outcome, attempt = None, 0
    while not isinstance(outcome, Result):
        attempt += 1
        outcome, _ = go(run, data, tmp_path / "parts", stop=StopAt(1), attempt=attempt)
        assert isinstance(outcome, Result) or outcome == Stopped(attempt)
    assert attempt == 5
    assert same_result(outcome, whole)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["constant", "linear", "wsd"])
def test_schedules_resume_too(a_run, data, tmp_path, kind):
    run = a_run("spectron", schedule={"kind": kind, "decay_steps": 3 if kind == "wsd" else None})
    whole, _ = go(run, data, tmp_path / "whole")
    go(run, data, tmp_path / "parts", stop=StopAt(4))
    resumed, _ = go(run, data, tmp_path / "parts", attempt=2)
    assert same_result(resumed, whole)


KILLED = """
import os, signal, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from conftest import tiny_run, token_data
from scaling import files
from scaling.training.loop import train

def die(point):
    if point == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

files.fault_hook = die
train(tiny_run("spectron"), data=token_data(Path()), folder=Path(sys.argv[2]), attempt=int(sys.argv[4]),
      stop=lambda: False, owns=lambda: True, log=lambda record: None, checkpoint_seconds=0)
"""


def test_killed_processes_lose_nothing_but_time(a_run, data, tmp_path):
    run = a_run("spectron")
    whole, _ = go(run, data, tmp_path / "whole")
    folder = tmp_path / "killed"
    for attempt, point in enumerate(["step 2", "replace 00000003-0002.pt"], start=1):
        arguments = [str(Path(__file__).parent), str(folder), point, str(attempt)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        child = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=False)
        assert child.returncode == -signal.SIGKILL
    assert sorted(p.name for p in folder.glob("*.pt")) == ["00000001-0001.pt", "00000002-0001.pt"]
    resumed, _ = go(run, data, folder, attempt=3)
    assert same_result(resumed, whole)


def test_a_corrupted_newest_checkpoint_costs_steps_and_is_told(a_run, data, tmp_path):
    run = a_run()
    whole, _ = go(run, data, tmp_path / "whole")
    go(run, data, tmp_path / "c", stop=StopAt(3))
    go(run, data, tmp_path / "c", stop=StopAt(1), attempt=2)
    (tmp_path / "c" / "00000004-0002.pt").write_bytes(b"damaged")
    resumed, records = go(run, data, tmp_path / "c", attempt=3)
    messages = [r["message"] for r in records if "message" in r]
    assert "00000004-0002.pt" in messages[0]
    assert "step 3" in messages[1]
    assert same_result(resumed, whole)


def test_a_checkpoint_of_another_run_or_far_beyond_the_end_changes_no_loss(a_run, data, tmp_path):
    run = a_run(seed=2)
    whole, _ = go(run, data, tmp_path / "whole")
    go(a_run(seed=1), data, tmp_path / "c", stop=StopAt(2))
    far = Checkpoint(run.id, data.hash, 10**6, {"losses": torch.zeros(10**6)})
    write_checkpoint(tmp_path / "c", far, attempt=7)
    result, records = go(run, data, tmp_path / "c")
    messages = [r["message"] for r in records if "message" in r]
    assert [("another run" in m, "step 1000000" in m) for m in messages] == [(False, True), (True, False)]
    assert same_result(result, whole)


def test_a_superseded_attempt_writes_nothing(a_run, data, tmp_path):
    with pytest.raises(Superseded):
        go(a_run(), data, tmp_path / "c", stop=StopAt(2), owns=lambda: False)
    with pytest.raises(Superseded):
        go(a_run(), data, tmp_path / "c", owns=lambda: False)
    assert not (tmp_path / "c").exists()


def test_divergence_is_a_result(a_run, data, tmp_path, monkeypatch):
    run = a_run("adamw", steps=30, optimizer={"lr": 1e6, "other_lr": 1e6})
    result, _ = go(run, data, tmp_path / "c")
    assert result.status == "diverged"
    assert result.loss_nats is None
    assert result.last_finite_loss_nats is not None
    assert 0 < result.steps < 30
    assert result.diagnostics["largest_matrix_norm"] > 1
    assert not (tmp_path / "c" / "weights.safetensors").exists()
    result.to_json()
    stopped, _ = go(run, data, tmp_path / "d", stop=StopAt(result.steps + 3))
    assert same_result(stopped, result)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(a_run, data, at_once):
    run = a_run("adamw", batch_tokens=8 * 16)
    whole, parts = (Trainer(run, data, device=torch.device("cpu"), micro_sequences=n) for n in (None, at_once))
    for _ in range(3):
        whole.step()
        parts.step()
        for (name, a), b in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-5, msg=name)
    whole.wait()
    parts.wait()
    assert parts.history.values == pytest.approx(whole.history.values, abs=1e-6)
    assert parts.validate()["validation"].loss_nats == pytest.approx(whole.validate()["validation"].loss_nats, abs=1e-5)


def test_the_split_of_a_run_is_kept_when_it_resumes(a_run, data, tmp_path):
    run = a_run("muon", steps=8)
    parts, _ = go(run, data, tmp_path / "parts", micro_sequences=2)
    go(run, data, tmp_path / "stopped", micro_sequences=2, stop=StopAt(4))
    resumed, _ = go(run, data, tmp_path / "stopped", micro_sequences=4)
    assert resumed.micro_batch == 2
    assert same_result(resumed, parts)


def test_out_of_memory_halves_the_part_and_repeats_the_step(a_run, data, tmp_path, monkeypatch):
    """The third step of a run finds no memory for four sequences, nor for two: it goes on with one."""
    run, calls = a_run("muon", steps=6), []

    def scarce(model, inputs, targets):
        calls.append(len(inputs))
        if len(calls) > 2 and len(inputs) > 1:
            raise torch.OutOfMemoryError("made up")
        return mean_loss(model, inputs, targets)

    monkeypatch.setattr(trainer_module, "mean_loss", scarce)
    result, log = go(run, data, tmp_path / "scarce")
    assert calls == [4, 4, 4, 2] + [1] * 16
    assert result.micro_batch == 1
    messages = [record["message"] for record in log if "message" in record]
    assert messages == [
        "out of memory with 4 sequences at once: step 2 is repeated with 2",
        "out of memory with 2 sequences at once: step 2 is repeated with 1",
    ]
    monkeypatch.undo()
    whole, _ = go(run, data, tmp_path / "whole")
    assert result.loss_nats == pytest.approx(whole.loss_nats, abs=1e-3)


def test_memory_that_one_sequence_lacks_ends_the_run(a_run, data, tmp_path, monkeypatch):
    def none(model, inputs, targets):
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(trainer_module, "mean_loss", none)
    with pytest.raises(torch.OutOfMemoryError):
        go(a_run(), data, tmp_path)


def test_every_one_of_twelve_models_in_one_process_is_compiled(a_run, data):
    """Dynamo gives up after eight shapes of one function, unless it is told to forget them."""
    for n in range(12):
        run = a_run("adamw", shape={"width": 4 + 4 * n, "layers": 1})
        trainer = Trainer(run, data, device=torch.device("cpu"), compiler="aot_eager")
        trainer.step()
        assert trainer.compiler.compiled, n


def test_a_compiled_run_says_so_and_has_the_loss_of_an_eager_one(a_run, data, tmp_path):
    run = a_run("muon", steps=4, shape={"layers": 1})
    compiled, log = go(run, data, tmp_path / "compiled", compiler="aot_eager")
    eager, _ = go(run, data, tmp_path / "eager")
    assert (compiled.compiled, eager.compiled) == (True, False)
    assert log[-1]["compiled"] is True
    assert not [record for record in log if "message" in record]
    assert compiled.loss_nats == pytest.approx(eager.loss_nats, abs=1e-4)


def test_a_run_that_is_not_compiled_says_so(a_run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, backend: function)
    result, log = go(a_run(), data, tmp_path, compiler="aot_eager")
    assert result.compiled is False
    assert "nothing was compiled: the run is trained eagerly" in [record.get("message") for record in log]


def test_compiling_is_timed_apart_from_the_steps(a_run, data, tmp_path, monkeypatch):
    """A clock that only steps move: a second each, and a hundred for the first of an attempt."""
    clock = FakeClock(monkeypatch)
    run = a_run("muon", steps=10, shape={"layers": 1})
    whole, _ = go(run, data, tmp_path / "whole", compiler="aot_eager")
    assert (whole.device_seconds, whole.warmup_seconds) == (10, 100)
    clock.first = True
    go(run, data, tmp_path / "stopped", compiler="aot_eager", stop=StopAt(4))
    clock.first = True
    resumed, _ = go(run, data, tmp_path / "stopped", compiler="aot_eager")
    assert (resumed.device_seconds, resumed.warmup_seconds) == (10, 200)
    assert resumed.diagnostics.get("mfu") == whole.diagnostics.get("mfu")
    eager, _ = go(run, data, tmp_path / "eager")
    assert (eager.device_seconds, eager.warmup_seconds) == (10, 0)


def test_seconds_on_a_cpu_are_those_it_computed(a_run, data, tmp_path, monkeypatch):
    """What other processes take of the core in the meantime is no part of them."""
    step = trainer_module.Trainer.step

    def kept_waiting(trainer):
        step(trainer)
        time.sleep(0.02)

    monkeypatch.setattr(trainer_module.Trainer, "step", kept_waiting)
    begun = time.process_time()
    result, _ = go(a_run(steps=20), data, tmp_path)
    assert 0 < result.device_seconds <= time.process_time() - begun
    assert result.device_seconds < 20 * 0.02


def test_runs_that_share_a_device_count_their_part_of_its_time(a_run, data, tmp_path, monkeypatch):
    clock = FakeClock(monkeypatch)
    run = a_run("muon", steps=10, shape={"layers": 1})
    alone, _ = go(run, data, tmp_path / "alone", compiler="aot_eager")
    clock.first = True
    shared, _ = go(run, data, tmp_path / "shared", compiler="aot_eager", runs_on_device=4)
    assert (shared.device_seconds, shared.warmup_seconds) == (alone.device_seconds / 4, alone.warmup_seconds / 4)
    assert (shared.runs_per_gpu, alone.runs_per_gpu) == (4, 1)
    assert shared.loss_nats == alone.loss_nats


class FakeClock:
    """Time that passes while a step is made, and at no other time."""

    def __init__(self, monkeypatch):
        self.now, self.first = 0.0, True
        step = trainer_module.Trainer.step

        def timed(trainer):
            step(trainer)
            self.now += 100.0 if self.first else 1.0
            self.first = False

        monkeypatch.setattr(trainer_module.Trainer, "step", timed)
        monkeypatch.setattr(loop_module.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(loop_module.time, "process_time", lambda: self.now)


def test_the_gradient_norm_is_that_before_clipping(a_run, data):
    run = a_run("adamw", optimizer={"gradient_clip": 1e-3})
    trainer = Trainer(run, data, device=torch.device("cpu"))
    trainer.step()
    assert trainer.optimizers.gradient_norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert trainer.optimizers.last_norm().item() > 0.01
    free = Trainer(a_run("adamw"), data, device=torch.device("cpu"))
    free.step()
    assert free.optimizers.last_norm().item() == pytest.approx(trainer.optimizers.last_norm().item())


def test_checkpoints_come_by_wall_time(a_run, data, tmp_path, monkeypatch):
    points = []
    monkeypatch.setattr(files, "fault_hook", points.append)
    go(a_run(), data, tmp_path / "often", checkpoint_seconds=0)
    assert [p for p in points if p.startswith("replace ") and p.endswith(".pt")] == [
        f"replace {n:08d}-0001.pt" for n in range(1, 6)
    ]
    points.clear()
    go(a_run(), data, tmp_path / "seldom")
    assert not [p for p in points if p.endswith(".pt")]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"precision": "float8"}, "precision"),
        ({"batch_tokens": 65}, "batch_tokens"),
        ({"self_guided": 0.5}, "self_guided"),
        ({"shape": {"vocab_size": 63}}, "shape.vocab_size"),
        ({"parameterization": "low_rank"}, "ranks"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused_by_name(a_run, data, tmp_path, changes, where):
    with pytest.raises(TrainingError) as error:
        go(a_run(**changes), data, tmp_path)
    assert error.value.where == where


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_an_unknown_device_is_refused(a_run, data, tmp_path, device):
    with pytest.raises(TrainingError, match="device"):
        go(a_run(), data, tmp_path, device=device)


def test_bfloat16_autocast_trains(a_run, data, tmp_path):
    result, _ = go(a_run("muon", steps=30, precision="bfloat16"), data, tmp_path)
    exact, _ = go(a_run("muon", steps=30), data, tmp_path / "exact")
    assert result.loss_nats == pytest.approx(exact.loss_nats, abs=0.1)
    assert result.loss_nats != exact.loss_nats


def test_dense_and_low_rank_see_the_same_tokens(a_run, data, tmp_path, monkeypatch):
    from scaling.data.batches import Batches

    seen: list[np.ndarray] = []
    original = Batches.batch

    def spy(self, *arguments):
        batch = original(self, *arguments)
        seen.append(batch[0])
        return batch

    monkeypatch.setattr(Batches, "batch", spy)
    go(a_run("muon"), data, tmp_path / "a")
    go(a_run("spectron"), data, tmp_path / "b")
    assert all(np.array_equal(a, b) for a, b in zip(seen[:6], seen[6:], strict=True))
