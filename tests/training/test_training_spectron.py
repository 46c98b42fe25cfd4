"""The update rules against float64 NumPy with exact polar factors and exact norms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.training.orthogonal import newton_schulz, orthogonalise
from scaling.training.spectron import leading_vectors, normalise, power_step, spectron_update, step_size


def batch(k, rows, columns, seed, spread=0.0):
    g = torch.Generator().manual_seed(seed)
    m = torch.randn(k, rows, columns, generator=g)
    return m * 10 ** (spread * torch.randn(k, 1, 1, generator=g))


def polar(m):
    u, _, vh = np.linalg.svd(m.double().numpy(), full_matrices=False)
    return u @ vh


sizes = st.tuples(st.integers(1, 4), st.integers(1, 10), st.integers(1, 10), st.integers(0, 999))


@settings(deadline=None, max_examples=40)
@given(sizes)
def test_newton_schulz_keeps_directions_and_brings_singular_values_near_one(size):
    m = batch(*size, spread=2.0)
    (o,) = orthogonalise([m], steps=5)
    u, s, vh = np.linalg.svd(m.double().numpy(), full_matrices=False)
    x = s / np.sqrt((s**2).sum(1, keepdims=True))
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    np.testing.assert_allclose(o.numpy(), (u * x[:, None]) @ vh, atol=3e-4)
    large = s > 0.1 * np.sqrt((s**2).sum(1, keepdims=True))
    assert np.all((x[large] > 0.6) & (x[large] < 1.3))


def test_batches_of_different_shapes_are_done_together_as_if_alone():
    batches = [batch(2, 4, 6, 0), batch(3, 6, 4, 1), batch(1, 4, 4, 2), batch(2, 4, 6, 3)]
    together = orthogonalise(batches, steps=5)
    for m, o in zip(batches, together, strict=True):
        assert o.shape == m.shape
        wide = m.mT if m.shape[1] > m.shape[2] else m
        alone = newton_schulz(wide, steps=5)
        torch.testing.assert_close(o, alone.mT if m.shape[1] > m.shape[2] else alone)


def test_a_zero_gradient_stays_zero():
    (o,) = orthogonalise([torch.zeros(2, 3, 5)], steps=5)
    assert torch.equal(o, torch.zeros(2, 3, 5))


@settings(deadline=None, max_examples=40)
@given(sizes)
def test_power_steps_rise_to_the_spectral_norm_from_below(size):
    w = batch(*size)
    exact = np.linalg.norm(w.double().numpy(), 2, axis=(1, 2))
    u, estimates = torch.ones(w.shape[:2]) + w[:, :, 0], []
    for _ in range(200):
        u, v, sigma = power_step(w, u)
        estimates.append(sigma.double().numpy())
    assert np.all(np.array(estimates) <= exact * (1 + 1e-5))
    assert np.all(np.diff(estimates, axis=0) >= -1e-5 * exact)
    np.testing.assert_allclose(estimates[-1], exact, rtol=0.02)
    np.testing.assert_allclose(torch.linalg.vector_norm(v, dim=1), 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 16), (16, 40)])
def test_leading_vectors_make_the_first_estimate_good(shape):
    w = batch(5, *shape, 0)
    _, _, sigma = power_step(w, leading_vectors(w))
    np.testing.assert_allclose(sigma.numpy(), np.linalg.norm(w.numpy(), 2, axis=(1, 2)), rtol=0.06)


def test_a_zero_matrix_keeps_its_vector():
    u = torch.ones(2, 3)
    new, _, sigma = power_step(torch.zeros(2, 3, 4), u)
    assert torch.equal(new, u)
    assert torch.equal(sigma, torch.zeros(2))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.data(), st.integers(0, 999), st.floats(1e-4, 1.0))
def test_with_exact_operators_the_product_never_moves_by_more_than_the_rate(rows, columns, data, seed, lr):
    rank = data.draw(st.integers(1, min(rows, columns)))
    a, b = (batch(1, *shape, seed + i, spread=1.0) for i, shape in enumerate([(rows, rank), (rank, columns)]))
    sigma_a, sigma_b = (torch.linalg.matrix_norm(m.double(), 2) for m in (a, b))
    rho = step_size(sigma_a, sigma_b, lr=lr).numpy()[:, None, None]
    move_a, move_b = (polar(batch(1, *m.shape[1:], seed + 7)) for m in (a, b))
    a64, b64 = a.double().numpy(), b.double().numpy()
    moved = (a64 - rho * move_a) @ (b64 - rho * move_b) - a64 @ b64
    assert np.linalg.norm(moved, 2, axis=(1, 2)) <= lr * (1 + 1e-12)


def batches_like(factors):
    """The batches of a buffer that holds batches of the shapes of `factors` one after another."""
    sizes = [f.numel() for f in factors]
    return lambda buffer: [p.view(f.shape) for p, f in zip(buffer.split(sizes), factors, strict=True)]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9), st.booleans(), st.integers(0, 99))
def test_a_step_is_the_algorithm_of_the_paper_and_changes_no_input(k, rows, columns, nesterov, seed):
    """One step against float64 NumPy with exact polar factors, matrix by matrix."""
    rank, lr, beta = min(rows, columns) // 2 or 1, 0.1, 0.9
    factors = [batch(k, rows, rank, seed).double(), batch(k, rank, columns, seed + 1).double()]
    gradient, momentum = (torch.cat([batch(k, *f.shape[1:], s).double().flatten() for f in factors]) for s in (7, 8))
    vectors, batches = [leading_vectors(f) for f in factors], batches_like(factors)
    inputs = [*factors, gradient, momentum, *vectors]
    before = [one.clone() for one in inputs]
    step = spectron_update(
        factors, gradient, momentum, vectors, lr=lr, beta=beta, nesterov=nesterov, batches=batches,
        orthogonal=lambda directions: [torch.from_numpy(polar(m)) for m in directions],
    )  # fmt: skip
    assert all(torch.equal(one, was) for one, was in zip(inputs, before, strict=True))
    average = beta * momentum.numpy() + (1 - beta) * gradient.numpy()
    np.testing.assert_allclose(step.momentum_N, average, atol=1e-12)
    directions = batches(torch.from_numpy(beta * average + (1 - beta) * gradient.numpy() if nesterov else average))
    for i in range(k):
        sigmas = []
        for f, u in zip(factors, vectors, strict=True):
            v = f[i].numpy().T @ u[i].numpy()
            sigmas.append(np.linalg.norm(f[i].numpy() @ v) / np.linalg.norm(v))
        for f, moved, direction in zip(factors, step.factors, directions, strict=True):
            expected = f[i].numpy() - lr / (sum(sigmas) + 1) * polar(direction[i : i + 1])[0]
            np.testing.assert_allclose(moved[i], expected, atol=1e-9)
    change = [moved - f for moved, f in zip(step.factors, factors, strict=True)]
    torch.testing.assert_close(torch.linalg.matrix_norm(change[0], 2), torch.linalg.matrix_norm(change[1], 2))


def test_decay_shrinks_all_of_a_factor_or_its_leading_direction_only():
    factors = [batch(2, 6, 3, 0), batch(2, 3, 5, 1)]
    zero, vectors = torch.zeros(sum(f.numel() for f in factors)), [leading_vectors(f) for f in factors]
    common = {"lr": 0.1, "beta": 0.9, "nesterov": False, "batches": batches_like(factors), "orthogonal": list}
    plain = spectron_update(factors, zero, zero, vectors, weight_decay=0.5, **common)
    for f, moved in zip(factors, plain.factors, strict=True):
        torch.testing.assert_close(moved, 0.95 * f)
    spectral = spectron_update(factors, zero, zero, vectors, spectral_weight_decay=0.5, **common)
    for f, moved, u in zip(factors, spectral.factors, spectral.vectors, strict=True):
        shrunk = torch.linalg.svdvals(f)
        shrunk[:, 0] *= 0.95
        torch.testing.assert_close(
            torch.linalg.svdvals(moved).sort().values, shrunk.sort().values, rtol=0.01, atol=0.01
        )
        torch.testing.assert_close(torch.linalg.vector_norm(u, dim=1), torch.ones(2))


def test_normalise_never_exceeds_a_unit_step_by_more_than_the_root_of_the_rank():
    m = batch(4, 6, 9, 0)
    exact = torch.linalg.matrix_norm(m, 2)
    bound = torch.linalg.matrix_norm(m) / 6**0.5
    torch.testing.assert_close(torch.linalg.matrix_norm(normalise(m, exact, bound_K=bound), 2), torch.ones(4))
    lagging = normalise(m, torch.zeros(4), bound_K=bound)
    assert torch.all(torch.linalg.matrix_norm(lagging, 2) <= 6**0.5 + 1e-5)
    zero = torch.zeros(1)
    assert torch.equal(normalise(torch.zeros(1, 2, 2), zero, bound_K=zero), torch.zeros(1, 2, 2))


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (40, 40)])
def test_products_of_a_batch_agree_with_float64(shape):
    m = batch(6, *shape, 5)
    (o,) = orthogonalise([m], steps=5)
    wide = m.mT if shape[0] > shape[1] else m
    exact = newton_schulz(wide.double(), steps=5)
    torch.testing.assert_close(o.double(), exact.mT if shape[0] > shape[1] else exact, atol=2e-5, rtol=1e-4)
