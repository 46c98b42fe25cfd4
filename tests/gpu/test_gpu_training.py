"""One run on the device: against the CPU, against itself, in parts, compiled, in bfloat16, sharded, out of memory."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from gpu_device import DEVICE

from scaling.run import Shape
from scaling.training.loop import Stopped, train
from scaling.training.parallel import Team
from scaling.training.trainer import Trainer

RULES = [("adamw", None), ("spectron", 0.25)]
if DEVICE != "cpu":
    RULES += [("muon", None), ("adamw", 0.25)]
# Orthogonalised in bfloat16 on GPUs and in float32 on CPUs, so rules with Newton-Schulz take slightly other steps.
PARITY_NATS = {"adamw": 5e-3, "muon": 2e-2, "spectron": 2e-2}
COMPILED_NATS = 5e-3  # other order of sums, grown over the steps of a run
BFLOAT16_NATS = 0.05
SHARDED_NATS = 1e-3


def go(run, data, folder, place, *, attempt=1, stop=lambda: False, compiler=None, **options):
    return train(
        run, data=data, folder=folder, attempt=attempt, stop=stop, owns=lambda: True, log=lambda record: None,
        device=place.name, compiler=compiler or place.compiler, **options,
    )  # fmt: skip


def losses(run, data, place, *, compiler=None, steps=8, micro=None, team=None):
    options = {} if team is None else {"team": team}
    trainer = Trainer(run, data, device=place.device, compiler=compiler, micro_sequences=micro, **options)
    for _ in range(steps):
        trainer.step()
    trainer.wait()
    return trainer.history.values


@pytest.mark.parametrize(("name", "ratio"), RULES)
def test_a_run_ends_as_on_the_cpu(place, a_run, data, tmp_path, name, ratio):
    run = a_run(name, ratio=ratio, steps=40)
    here = go(run, data, tmp_path / "here", place)
    cpu = train(
        run, data=data, folder=tmp_path / "cpu", attempt=1, stop=lambda: False, owns=lambda: True, log=lambda r: None
    )
    print(f"{name}: {here.loss_nats - cpu.loss_nats:+.2e} nats")
    assert here.compiled
    assert here.loss_nats == pytest.approx(cpu.loss_nats, abs=PARITY_NATS[name])
    assert cpu.loss_nats < 5.0  # of ln 256 = 5.5: it has learned


@pytest.mark.parametrize(("name", "ratio"), RULES)
def test_a_resumed_run_has_the_bits_of_an_undisturbed_one(place, a_run, data, tmp_path, name, ratio):
    run, boundaries = a_run(name, ratio=ratio), iter(range(10**6))
    whole = go(run, data, tmp_path / "whole", place)
    stopped = go(run, data, tmp_path / "stopped", place, stop=lambda: next(boundaries) == 11)
    assert stopped == Stopped(11)
    resumed = go(run, data, tmp_path / "stopped", place, attempt=2)
    assert (resumed.loss_nats, resumed.last_finite_loss_nats) == (whole.loss_nats, whole.last_finite_loss_nats)


@pytest.mark.parametrize(("name", "ratio"), [("muon", None), ("spectron", 0.25)])
def test_a_compiled_run_learns_as_an_eager_one(place, a_run, data, name, ratio):
    run = a_run(name, ratio=ratio)
    eager, compiled = losses(run, data, place), losses(run, data, place, compiler=place.compiler)
    print(f"{name}: {max(abs(a - b) for a, b in zip(eager, compiled, strict=True)):.2e} nats at most")
    assert compiled == pytest.approx(eager, abs=COMPILED_NATS)


@pytest.mark.parametrize(("name", "ratio"), [("muon", None), ("spectron", 0.25)])
def test_bfloat16_learns_as_float32(place, a_run, data, name, ratio):
    run = a_run(name, ratio=ratio)
    half = losses(replace(run, precision="bfloat16"), data, place, compiler=place.compiler)
    single = losses(run, data, place, compiler=place.compiler)
    assert half == pytest.approx(single, abs=BFLOAT16_NATS)
    assert half != single


@pytest.mark.parametrize("micro", [8, 2])
def test_parts_of_a_batch_have_its_loss(place, a_run, data, micro):
    run = a_run("adamw")
    whole, parts = (losses(run, data, place, steps=4, micro=n) for n in (None, micro))
    assert parts[0] == pytest.approx(whole[0], abs=1e-6)
    assert parts == pytest.approx(whole, abs=1e-4)


def test_a_large_vocabulary_is_done_in_chunks(place, a_run, data, monkeypatch):
    """Chunked and whole logits: one loss, compiled too."""
    run = a_run("muon", shape=Shape(2, 64, 4, 172, 4096))
    whole = losses(run, data, place, steps=4)
    monkeypatch.setattr("scaling.training.cross_entropy.chunk_rows", lambda vocabulary: 100)
    for compiler in (None, place.compiler):
        assert losses(run, data, place, steps=4, compiler=compiler) == pytest.approx(whole, abs=1e-3)


def test_one_rank_of_fsdp_trains_as_a_device_alone(place, a_run, data, tmp_path):
    run = a_run("spectron", ratio=0.25)
    alone = losses(run, data, place)
    with a_group(place, tmp_path) as team:
        sharded = losses(run, data, place, team=team)
        compiled = losses(run, data, place, team=team, compiler=place.compiler)
    assert sharded == pytest.approx(alone, abs=SHARDED_NATS)
    assert compiled == pytest.approx(alone, abs=SHARDED_NATS)


@contextlib.contextmanager
def a_group(place, folder):
    backend = "nccl" if place.is_gpu else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder / 'group'}", rank=0, world_size=1)
    try:
        yield Team(0, 1, "fsdp", dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()


def test_out_of_memory_halves_the_part(place, a_run, data):
    """A batch whose activations cannot fit beside what already lies on the device."""
    if not place.is_gpu:
        pytest.skip("a CPU does not raise torch.OutOfMemoryError; tests/training raises it by hand")
    run = a_run("muon", shape=Shape(4, 512, 8, 1408, 256), batch_tokens=128 * 64)
    whole = losses(run, data, place, steps=1)
    torch.cuda.empty_cache()
    messages = []
    trainer = Trainer(run, data, device=place.device, tell=messages.append)
    free, total = torch.cuda.mem_get_info(place.device)
    used = torch.cuda.memory_reserved(place.device)
    torch.cuda.set_per_process_memory_fraction((used + 500e6) / total, place.device)
    try:
        trainer.step()
        trainer.wait()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, place.device)
    assert trainer.micro_sequences < trainer.share, (free, used)
    assert messages[0].startswith("out of memory with 128 sequences at once: step 0 is repeated with 64")
    assert trainer.history.values == pytest.approx(whole, abs=1e-5)
