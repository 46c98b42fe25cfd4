import numpy as np
import pytest
from laws_cases import centred_valleys, chinchilla_loss

from scaling.errors import FitError
from scaling.laws.envelope import envelope
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.points import Points


def horizons(count=8):
    sizes = np.geomspace(1e8, 1e10, 9)
    params = np.repeat(sizes, count)
    tokens = (sizes[:, None] * np.geomspace(2, 400, count)).ravel()
    return params, tokens


def test_envelope_finds_the_exponent_of_a_symmetric_law():
    law = {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.35, "beta": 0.35}
    params, tokens = horizons(16)
    made = envelope(Points(params, tokens, chinchilla_loss(law, params, tokens)))
    assert made.exponents["N"] == pytest.approx(0.5, abs=0.02)
    assert made.exponents["D"] == pytest.approx(0.5, abs=0.03)
    low, high = made.exponent_intervals["N"]
    assert low < 0.5 < high
    best = frontier(fit(Points(params, tokens, chinchilla_loss(law, params, tokens)))).at(float(made.compute[700]))
    assert made.loss[700] == pytest.approx(best.loss, rel=0.01)


def test_envelope_is_not_reported_without_horizons():
    with pytest.raises(FitError, match="several horizons"):
        envelope(centred_valleys())
    params, tokens = horizons()
    loss = 3.0 - 0.01 * np.log(params)
    with pytest.raises(FitError, match="no interior"):
        envelope(Points(params, tokens, loss))
