"""Whole optimizer steps against torch.optim and against float64 NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scaling.errors import TrainingError
from scaling.training.flat import group
from scaling.training.model import Decoder, initialise, mean_loss
from scaling.training.spectron import leading_vectors
from scaling.training.update_rules import SHAPE_FACTORS, Optimizers


def build(run, **optimizer):
    run = replace(run, optimizer=replace(run.optimizer, **optimizer)) if optimizer else run
    model = Decoder(run.shape, run.ranks, sequence_length=16, guided=run.self_guided is not None)
    initialise(model, run.initialisation, seed=run.seed)
    return model, Optimizers(group(model), run.optimizer)


def fill_gradients(model, step):
    """Gradients drawn by parameter name, so that any other implementation can draw the same."""
    for index, (_, parameter) in enumerate(sorted(model.named_parameters())):
        g = torch.Generator().manual_seed(1000 * step + index)
        parameter.grad.copy_(torch.randn(parameter.shape, generator=g))


def copies(model):
    return {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}


def hidden_names(model):
    return [n for n, p in model.named_parameters() if any(n.startswith(f"{h}.") for h in model.hidden())]


def test_gradients_through_views_equal_those_of_plain_parameters(any_run):
    run = any_run()
    model, optimizers = build(run)
    plain = Decoder(run.shape, run.ranks, sequence_length=16, guided=run.self_guided is not None)
    plain.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 64, (4, 16))
    for _ in range(2):
        optimizers.zero()
        mean_loss(model, tokens, tokens).backward()
    mean_loss(plain, tokens, tokens).backward()
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        grad = torch.zeros_like(b) if b.grad is None else b.grad
        assert torch.equal(a.grad, grad), name
    norm = torch.nn.utils.get_total_norm([p.grad for p in plain.parameters() if p.grad is not None])
    torch.testing.assert_close(optimizers.gradient_norm(), norm)


@pytest.mark.parametrize("ratio", [None, 0.5])
def test_adamw_is_torch_adamw_on_every_parameter(a_run, ratio):
    model, optimizers = build(a_run("adamw", ratio=ratio), weight_decay=0.1)
    twin = copies(model)
    hidden = hidden_names(model)
    others = [n for n in twin if n not in hidden]
    options = {"betas": (0.9, 0.95), "eps": 1e-8, "foreach": False}
    oracle = torch.optim.AdamW(
        [
            {"params": [twin[n] for n in hidden], "lr": 0.02, "weight_decay": 0.1},
            {"params": [twin[n] for n in others], "lr": 0.02, "weight_decay": 0.0},
        ],
        **options,
    )
    for step in range(4):
        fill_gradients(model, step)
        for name, parameter in model.named_parameters():
            twin[name].grad = parameter.grad.clone()
        optimizers.step(1.0)
        oracle.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), twin[name].detach(), rtol=1e-5, atol=1e-6, msg=name)


def step_both(model, optimizers, twin, oracle):
    """Three steps on the same gradients for ours and for an oracle over the parameters `twin`."""
    for step in range(3):
        fill_gradients(model, step)
        for name, parameter in model.named_parameters():
            if name in twin:
                twin[name].grad = parameter.grad.clone()
        optimizers.step(1.0)
        oracle.step()


@pytest.mark.parametrize("ratio", [None, 0.5])
@pytest.mark.parametrize("nesterov", [True, None])
@pytest.mark.parametrize("factor", ["original", "match_rms_adamw"])
def test_muon_is_torch_muon_up_to_its_bfloat16(a_run, ratio, nesterov, factor):
    constants = {"nesterov": nesterov, "shape_factor": factor, "weight_decay": 0.1}
    model, optimizers = build(a_run("muon", ratio=ratio), **constants)
    names = hidden_names(model)
    twin = copies(model)
    oracle = torch.optim.Muon(
        [twin[n] for n in names], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=bool(nesterov),
        adjust_lr_fn=factor,
    )  # fmt: skip
    start = copies(model)
    step_both(model, optimizers, twin, oracle)
    for name in names:
        ours, theirs = (p[name].detach() - start[name].detach() for p in (dict(model.named_parameters()), twin))
        assert (ours - theirs).norm() < 0.03 * theirs.norm(), name


def test_steps_agree_with_emerging_optimizers(a_run):
    """Release 0.3.0 has Muon and no Spectron, so Muon on factors is compared: closer than bfloat16 allows."""
    reason = "emerging-optimizers is not installed (0.3.0 needs Python 3.12 or newer, and Triton)"
    theirs = pytest.importorskip("emerging_optimizers.orthogonalized_optimizers", reason=reason)
    model, optimizers = build(a_run("muon", ratio=0.5))
    names, twin = hidden_names(model), copies(model)
    oracle = theirs.Muon(
        [twin[n] for n in names], lr=0.02, momentum=0.95, weight_decay=0.0, nesterov=True,
        fp32_matmul_prec="highest", coefficient_type="simple", scale_mode="shape_scaling",
    )  # fmt: skip
    step_both(model, optimizers, twin, oracle)
    for name, parameter in model.named_parameters():
        if name in names:
            torch.testing.assert_close(parameter.detach(), twin[name].detach(), rtol=1e-4, atol=1e-5, msg=name)


def reference_step(name, w, g, state, *, lr, nesterov):
    """One step of a pair of factors in float64: the polynomial on exact singular values, the power step by hand."""

    def orthogonal(m):
        u, s, vh = np.linalg.svd(m, full_matrices=False)
        x = s / np.sqrt((s**2).sum())
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
        return (u * x) @ vh

    def power(m, key):
        v = m.T @ state[key]
        v /= np.linalg.norm(v)
        sigma = np.linalg.norm(m @ v)
        state[key] = m @ v / sigma
        return sigma

    moves = {}
    for key in "ab":
        state["m" + key] = 0.95 * state["m" + key] + 0.05 * g[key]
        d = 0.95 * state["m" + key] + 0.05 * g[key] if nesterov else state["m" + key]
        if name == "spectron_renormalise_only":
            bound = np.linalg.norm(d) / np.sqrt(min(d.shape))
            moves[key] = d / max(power(d, "du" + key), bound)
        else:
            moves[key] = orthogonal(d)
    rho = lr / (power(w["a"], "ua") + power(w["b"], "ub") + 1) if name != "spectron_orthogonalise_only" else lr
    return {key: w[key] - rho * moves[key] for key in "ab"}


@pytest.mark.parametrize("nesterov", [True, None])
@pytest.mark.parametrize("name", ["spectron", "spectron_orthogonalise_only", "spectron_renormalise_only"])
def test_spectron_is_the_algorithm_of_the_paper_in_float64(a_run, name, nesterov):
    model, optimizers = build(a_run(name), nesterov=nesterov)
    parameters = dict(model.named_parameters())
    for layer in model.hidden():
        keys = {key: f"{layer}.{key}" for key in "ab"}
        w = {key: parameters[n].detach().double().numpy().copy() for key, n in keys.items()}
        state = {"ma": 0 * w["a"], "mb": 0 * w["b"]}
        for key in "ab":
            start = leading_vectors(torch.tensor(w[key])[None])[0].numpy()
            state["u" + key] = state["du" + key] = start
        parameters[layer] = (w, state)
    for step in range(4):
        fill_gradients(model, step)
        gradients = {n: p.grad.double().numpy().copy() for n, p in model.named_parameters()}
        optimizers.step(1.0)
        for layer in model.hidden():
            w, state = parameters[layer]
            g = {key: gradients[f"{layer}.{key}"] for key in "ab"}
            parameters[layer] = (reference_step(name, w, g, state, lr=0.02, nesterov=nesterov), state)
    for layer in model.hidden():
        for key in "ab":
            ours = dict(model.named_parameters())[f"{layer}.{key}"].detach().numpy()
            np.testing.assert_allclose(ours, parameters[layer][0][key], atol=2e-4, err_msg=f"{layer}.{key}")


def test_spectral_weight_decay_shrinks_the_leading_direction_only(a_run):
    model, optimizers = build(a_run("spectron"), spectral_weight_decay=0.5)
    plain, others = build(a_run("spectron"))
    before = model.layers[0].q.a.detach().clone()
    for m, o in ((model, optimizers), (plain, others)):
        fill_gradients(m, 0)
        o.step(1.0)
    u, s, vh = torch.linalg.svd(before, full_matrices=False)
    shrunk = 0.02 * 0.5 * s[0] * torch.outer(u[:, 0], vh[0])
    difference = plain.layers[0].q.a.detach() - model.layers[0].q.a.detach()
    assert (difference - shrunk).norm() < 0.05 * shrunk.norm()


def test_weight_decay_shrinks_hidden_matrices_only(a_run):
    for name in ("muon", "spectron"):
        model, optimizers = build(a_run(name), weight_decay=0.5)
        before = copies(model)
        optimizers.zero()
        optimizers.step(1.0)
        for n, p in model.named_parameters():
            factor = 1 - 0.02 * 0.5 if n in hidden_names(model) else 1.0
            torch.testing.assert_close(p.detach(), factor * before[n].detach(), msg=n)


def test_clipping_scales_all_gradients_to_the_norm(a_run):
    model, optimizers = build(a_run("muon"), gradient_clip=0.5)
    fill_gradients(model, 0)
    norm = optimizers.gradient_norm()
    assert norm > 1
    optimizers.clip()
    torch.testing.assert_close(optimizers.gradient_norm(), torch.tensor(0.5), rtol=1e-4, atol=0)


def test_state_round_trips_and_continues_bit_for_bit(any_run):
    first, one = build(any_run())
    second, two = build(any_run())
    for step in range(2):
        fill_gradients(first, step)
        one.step(1.0, helped=True)
    second.load_state_dict(first.state_dict())
    two.load_state_dict(one.state_dict())
    for step in range(2, 4):
        for model, optimizers in ((first, one), (second, two)):
            fill_gradients(model, step)
            optimizers.step(0.5, helped=True)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_helper_that_no_longer_helps_does_not_move(a_run):
    model, optimizers = build(a_run("muon", ratio=0.5, self_guided=0.5))
    before = copies(model)
    fill_gradients(model, 0)
    optimizers.step(1.0, helped=False)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == name.endswith(".helper"), name


def test_shape_factors():
    assert SHAPE_FACTORS["original"](40, 10) == 2
    assert SHAPE_FACTORS["original"](10, 40) == 1
    assert SHAPE_FACTORS["match_rms_adamw"](10, 100) == pytest.approx(2)


@pytest.mark.parametrize(
    ("run", "change", "where"),
    [
        ({"name": "muon"}, {"name": "no_such_rule"}, "optimizer.name"),
        ({"name": "muon"}, {"shape_factor": "wide"}, "optimizer.shape_factor"),
        ({"name": "muon"}, {"name": "spectron"}, "optimizer.name"),
        ({"name": "muon", "ratio": 0.5, "self_guided": 0.5}, {"name": "spectron"}, "optimizer.name"),
    ],
)
def test_rules_that_do_not_exist_or_fit_are_refused(a_run, run, change, where):
    with pytest.raises(TrainingError) as error:
        build(a_run(run.pop("name"), **run), **change)
    assert error.value.where == where
