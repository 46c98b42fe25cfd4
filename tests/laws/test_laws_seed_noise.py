import numpy as np
import pytest
from laws_cases import isoflop_points

from scaling.laws.points import Points
from scaling.laws.seed_noise import seed_noise


def test_seed_noise_is_pooled_over_cells():
    rng = np.random.default_rng(0)
    cells = np.repeat(np.arange(200), 3)
    loss = 3 + 0.02 * rng.normal(size=600)
    points = Points(
        np.repeat(1e7 + np.arange(200), 3), np.full(600, 1e9), loss, cell=cells, seed=np.tile([0, 1, 2], 200)
    )
    noise = seed_noise(points)
    assert noise.sigma == pytest.approx(0.02, rel=0.1)
    assert noise.sigma_log == pytest.approx(0.02 / 3, rel=0.1)
    assert (noise.cells, noise.freedom) == (200, 400)
    low, high = noise.interval
    assert low < 0.02 < high
    scipy_stats = pytest.importorskip("scipy.stats")
    assert low == pytest.approx(noise.sigma * np.sqrt(400 / scipy_stats.chi2.ppf(0.975, 400)), rel=1e-3)


def test_seed_noise_is_unknown_without_repeats():
    assert seed_noise(isoflop_points(noise=0.01)) is None
    points = Points([1e7, 1e7], [1e9, 1e9], [3.0, 3.1], seed=[0, 0])
    assert seed_noise(points) is None
