import numpy as np
import pytest
import torch

from scaling.parameterizations import DENSE, LowRank
from scaling.training import stability
from scaling.training.flat import group
from scaling.training.linear import Linear
from scaling.training.model import Decoder, initialise
from scaling.training.stability import Stability, is_measured, spectral_norm
from scaling.training.update_rules import Optimizers


def built(run):
    model = Decoder(run.shape, run.ranks, sequence_length=16)
    initialise(model, run.initialisation, seed=0)
    return model, Optimizers(group(model), run.optimizer)


def products(model):
    return [layer.merged().double().numpy().copy() for layer in model.hidden().values()]


def norm(matrices):
    return max(np.linalg.norm(m, 2) for m in matrices)


@pytest.mark.parametrize("batch_numbers", [1, 2**20])
@pytest.mark.parametrize("structure", [DENSE, LowRank(5), LowRank(5, guided=True)])
def test_norms_from_products_are_those_of_the_matrices(structure, batch_numbers, monkeypatch):
    """Of the maps and of their updates, one matrix at a time and in batches; helpers do not count."""
    monkeypatch.setattr(stability, "MEASURED_NUMBERS", batch_numbers)
    g = torch.Generator().manual_seed(0)
    layers = [Linear(structure, *size) for size in [(8, 8), (24, 8), (8, 24), (8, 8)]]
    for parameter in (p for layer in layers for p in layer.parameters()):
        parameter.data.normal_(generator=g)
    old = [layer.merged().clone() for layer in layers]
    before = [{name: t.clone() for name, t in stability.own_tensors(layer).items()} for layer in layers]
    for parameter in (p for layer in layers for p in layer.parameters()):
        parameter.data += 1e-3 * torch.randn(parameter.shape, generator=g)
    assert spectral_norm(layers).item() == pytest.approx(norm(m.merged().numpy() for m in layers), rel=0.05)
    moved = norm((m.merged() - w).numpy() for m, w in zip(layers, old, strict=True))
    assert spectral_norm(layers, before).item() == pytest.approx(moved, rel=0.05)


@pytest.mark.parametrize("name", ["muon", "spectron"])
def test_updates_are_measured_as_they_happen(a_run, name):
    run = a_run(name)
    model, optimizers = built(run)
    watch, seen = Stability(), []
    for step in (6, 8, 9):
        for parameter in model.parameters():
            parameter.grad.normal_(generator=torch.Generator().manual_seed(step))
        before = products(model)
        slope = sum(p.grad.double().square().sum().item() for p in model.parameters()) ** 0.5
        with watch.watch(model, step, lr=0.02, grad_norm=optimizers.gradient_norm):
            optimizers.step(1.0)
        moved = norm(a - b for a, b in zip(products(model), before, strict=True)) / 0.02
        if step != 9:
            assert watch.newest["update_norm_over_lr"] == pytest.approx(moved, rel=0.1)
            assert watch.newest["matrix_norm"] == pytest.approx(norm(before), rel=0.1)
            assert watch.newest["grad_norm"] == pytest.approx(slope, rel=1e-4)
            seen.append(watch.newest)
    assert watch.steps == [6, 8]
    final = watch.final(model)
    assert final["matrix_norm"] == pytest.approx(norm(products(model)), rel=0.1)
    assert final["update_norm_over_lr"] == max(norms["update_norm_over_lr"] for norms in seen)
    assert final["largest_grad_norm"] == max(norms["grad_norm"] for norms in seen)
    assert final["largest_matrix_norm"] == max(final["matrix_norm"], *(norms["matrix_norm"] for norms in seen))
    assert ("factor_norm" in final) == (name == "spectron")
    if name == "spectron":
        factors = [f.detach().numpy() for m in model.hidden().values() for f in (m.a, m.b)]
        assert final["factor_norm"] == pytest.approx(norm(factors), rel=0.1)


def test_spectron_keeps_its_bound_within_the_error_of_its_operators(a_run):
    """Over 30 random gradients no product moves by more than 1.2 times the rate; with exact operators it would be 1."""
    model, optimizers = built(a_run("spectron"))
    watch = Stability()
    for step in range(30):
        for parameter in model.parameters():
            parameter.grad.normal_(generator=torch.Generator().manual_seed(step))
        with watch.watch(model, step % 8, lr=0.02, grad_norm=optimizers.gradient_norm):
            optimizers.step(1.0)
    assert 0.3 < watch.largest(broken=None)["update_norm_over_lr"] < 1.2


def test_the_steps_measured_do_not_depend_on_the_length_of_a_run():
    assert [step for step in range(40) if is_measured(step)] == [*range(8), 8, 10, 12, 14, 16, 20, 24, 28, 32]


def test_measuring_nothing_changes_nothing(a_run):
    model, optimizers = built(a_run())
    watch = Stability(measures=False)
    with watch.watch(model, 0, lr=1.0, grad_norm=optimizers.gradient_norm):
        optimizers.step(1.0)
    assert watch.newest == {}
    assert set(watch.final(model)) == {"matrix_norm", "largest_matrix_norm"}


def test_what_follows_the_break_of_a_run_does_not_count():
    watch = Stability()
    watch.steps = [0, 1, 2, 3]
    watch.norms = [torch.tensor(v) for v in ([1.0, 5.0, 2.0], [3.0, 4.0, torch.inf], [2.0, 9.0, 7.0], [8.0, 9.0, 9.0])]
    assert watch.largest(broken=2) == {"update_norm_over_lr": 3.0, "largest_matrix_norm": 5.0, "largest_grad_norm": 2.0}
    assert watch.largest(broken=None)["largest_grad_norm"] == 9.0
    assert watch.largest(broken=0) == {}
