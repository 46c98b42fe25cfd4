from __future__ import annotations

import numpy as np
import pytest

from scaling.hardware import Device, Rates
from scaling.inference.curve import Curve
from scaling.inference.equal_loss import LineLaw
from scaling.run import Shape
from scaling.sweeps.counting import matrix_ranks

CHINCHILLA = (1.69, 406.4, 0.34, 410.7, 0.28)  # Hoffmann et al. 2203.15556, approach 3


def _law(E: float, A: float, alpha: float, B: float, beta: float):
    return lambda params, tokens: E + A / np.asarray(params) ** alpha + B / np.asarray(tokens) ** beta


@pytest.fixture(scope="session")
def law():
    """L(N, D) of coefficients E, A, alpha, B, beta."""
    return _law


@pytest.fixture(scope="session")
def make_line():
    """A line on a ladder of seven shapes, with the Chinchilla law where no other coefficients are given."""

    def make(name: str, coefficients=CHINCHILLA, ratio: float | None = None, **more) -> LineLaw:
        shapes = [Shape(n, 64 * n, n, 192 * n, 1000) for n in range(2, 9)]
        models = [(s, None if ratio is None else matrix_ranks(s, ratio)) for s in shapes]
        curve = Curve(models, params="params_total")

        def flops(params):
            return curve.training_flops_per_token(params, sequence_length=256, convention="exact")

        return LineLaw(name, _law(*coefficients), curve, flops, **more)

    return make


@pytest.fixture
def device() -> Device:
    """A device with round numbers that was measured to reach all of its rates."""
    rates = {"bfloat16": 1e14, "float32": 1e13}
    return Device(
        "round", rates, 1e12, 80e9, 0.4, "made for tests", serving=dict.fromkeys(rates, Rates(1.0, 1.0, 5e-6))
    )
