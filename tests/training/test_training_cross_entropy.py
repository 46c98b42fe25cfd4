"""The chunked head and cross-entropy against the plain functions of torch."""

import pytest
import torch
import torch.nn.functional as F

from scaling.sweeps import memory
from scaling.training.cross_entropy import cross_entropies, mean_cross_entropy
from scaling.training.model import mean_loss
from scaling.training.trainer import Trainer


def inputs(tokens=50, width=24, vocabulary=300):
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(n, width, generator=g, requires_grad=True) for n in (tokens, vocabulary))
    return x, w, torch.randint(vocabulary, (tokens,), generator=g)


def gradients(loss, *tensors):
    return [loss.detach(), *torch.autograd.grad(loss, tensors)]


@pytest.fixture
def _chunks_of_seven(monkeypatch):
    monkeypatch.setattr(memory, "CHUNK_BYTES", 7 * 4 * 300)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("_chunks_of_seven")
def test_loss_and_gradients_are_those_of_the_whole(precision):
    x, w, y = inputs()
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        chunked = gradients(3 * mean_cross_entropy(x, w, y), x, w)
        whole = gradients(3 * F.cross_entropy(F.linear(x, w).float(), y), x, w)
    tolerance = {"atol": 1e-6, "rtol": 1e-5} if precision == torch.float32 else {"atol": 2e-3, "rtol": 2e-2}
    for ours, theirs in zip(chunked, whole, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.usefixtures("_chunks_of_seven")
def test_the_losses_of_tokens_are_those_of_the_whole():
    x, w, y = inputs()
    with torch.no_grad():
        losses = cross_entropies(x, w, y)
    torch.testing.assert_close(losses, F.cross_entropy(F.linear(x, w), y, reduction="none"))


def test_small_logits_keep_their_bits():
    """Every run of a tiny model has the losses that it had before there were chunks."""
    x, w, y = inputs()
    ours = gradients(mean_cross_entropy(x, w, y), x, w)
    theirs = gradients(F.cross_entropy(F.linear(x, w), y), x, w)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_compiled_model_with_chunks_learns_like_an_eager_one(a_run, data, monkeypatch):
    monkeypatch.setattr(memory, "CHUNK_BYTES", 7 * 4 * 64)
    run = a_run("adamw", shape={"layers": 1, "tied": True})
    losses = []
    for compiler in (None, "aot_eager"):
        trainer = Trainer(run, data, device=torch.device("cpu"), compiler=compiler)
        for _ in range(3):
            trainer.step()
        trainer.wait()
        losses.append(trainer.history.values)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(losses[0]) == 3


def test_a_loss_without_gradients_needs_none(a_run, data, monkeypatch):
    trainer = Trainer(a_run(), data, device=torch.device("cpu"))
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        whole = mean_loss(trainer.model, tokens, tokens)
        monkeypatch.setattr(memory, "CHUNK_BYTES", 7 * 4 * 64)
        torch.testing.assert_close(mean_loss(trainer.model, tokens, tokens), whole)
