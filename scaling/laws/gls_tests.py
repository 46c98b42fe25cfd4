"""Tests of a law inside a larger one, under the parts of the noise, with their power.

Both laws are linearised at the smaller one's optimum. At each node of the variance ratios the generalised F test

    F = ((r'P_small r − r'P_large r) / k) / (r'P_large r / ν)

has its p-value from F(k, ν); the p-value shown is their mean over the posterior of the nodes. The power against a
change h of the log losses is the mean of the non-central F with h'P_small h / σ². A test that does not reject does not
show that the laws are equal: the power says which change it would detect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.fitting import Fit
from scaling.laws.noise_parts import NoiseParts, free_jacobian, project_out
from scaling.laws.points import Array

SIZE = 0.05  # of every test
GOOD_POWER = 0.80  # what is called likely to be found


@dataclass(frozen=True)
class NestedTest:
    """One test.

    Attributes:
        small, large: what is tested against what.
        p_value: mean over nodes. `rejected` at 5 %.
        extra: parameters by which the larger law is larger; 0: nothing to test.
        alternative: the change that `power` is the power to find, in words.
    """

    small: str
    large: str
    extra: int
    p_value: float
    alternative: str
    power: float

    @property
    def rejected(self) -> bool:
        """Whether the smaller law is rejected at 5 %."""
        return self.p_value < SIZE

    def __str__(self) -> str:
        word = "rejected" if self.rejected else "not rejected"
        return (
            f"{self.small} against {self.large}: {word} (p {self.p_value:.3f}); power {self.power:.2f} against "
            f"{self.alternative}"
        )


def nested_test(
    small: Fit, parts: NoiseParts, extra: Array, change: Array, *, names: tuple[str, str], alternative: str
) -> NestedTest:
    """Tests `small` against the law with further columns.

    Args:
        small: the smaller law.
        parts: its noise (the groups and the prior are used; ratios are weighed anew under the larger law).
        extra: ∂ log L̂ / ∂ the larger law's further parameters at the optimum of `small` [points, k or more].
        change: the change of the log losses [points] whose power is asked.
        names: of the two laws.
        alternative: the change in words.
    """
    rows = parts.rows > 0
    inside = free_jacobian(small)[rows]
    beyond = _independent(inside, extra[rows])
    tables = np.column_stack([inside, beyond, small.residuals[rows], change[rows]])
    log_determinant, gram = parts.groups.products(parts.nodes, tables)
    p, k = inside.shape[1], beyond.shape[1]
    freedom = len(inside) - p - k
    if not k or freedom < 1:
        return NestedTest(*names, 0, float("nan"), alternative, float("nan"))
    noise, shift = p + k, p + k + 1
    squares_small, _ = project_out(_of(gram, [*range(p), noise]))
    squares, log_information = project_out(_of(gram, [*range(p + k), noise]))
    size, _ = project_out(_of(gram, [*range(p), shift]))
    squares = np.maximum(squares, 1e-300)
    log_posterior = np.log(np.maximum(parts.prior, 1e-300)) - 0.5 * (
        log_determinant + log_information + freedom * np.log(squares)
    )
    weight = np.exp(log_posterior - log_posterior.max())
    weight /= weight.sum()
    statistic = np.maximum(squares_small - squares, 0.0) / k / (squares / freedom)
    p_value = float(weight @ _upper_tail(statistic, k, freedom))
    power = float(weight @ _power(size / (squares / freedom), k, freedom))
    return NestedTest(*names, k, p_value, alternative, power)


def smallest_found(parts: NoiseParts, small: Fit, direction: Array) -> float:
    """The factor on `direction`, a change of the log losses [points], that a test of that one direction would find
    with 80 % power.
    """
    rows = parts.rows > 0
    inside = free_jacobian(small)[rows]
    _, gram = parts.groups.products(parts.nodes, np.column_stack([inside, direction[rows]]))
    size, _ = project_out(gram)
    variance = parts.squares / parts.freedom
    low, high = 0.0, 1.0
    while _mean_power(high, size / variance, parts) < GOOD_POWER and high < 1e6:
        high *= 2.0
    for _ in range(30):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _mean_power(middle, size / variance, parts) < GOOD_POWER else (low, middle)
    return high


def _mean_power(factor: float, size: Array, parts: NoiseParts) -> float:
    return float(parts.probability @ _power(factor**2 * size, 1, max(parts.freedom - 1, 1)))


def _of(gram: Array, columns: list[int]) -> Array:
    picked: Array = gram[:, columns][:, :, columns]
    return picked


def _independent(inside: Array, extra: Array) -> Array:
    """The directions of `extra` that `inside` does not span, orthonormal [n, k]."""
    basis, _ = np.linalg.qr(inside)
    length = np.sqrt((extra**2).sum(axis=0))
    scaled = extra[:, length > 0] / length[length > 0]
    rest = scaled - basis @ (basis.T @ scaled)
    left, singular, _ = np.linalg.svd(rest, full_matrices=False)
    directions: Array = left[:, singular > 1e-7]
    return directions


def _upper_tail(statistic: Array, k: int, freedom: int) -> Array:
    from scipy.special import fdtrc

    tail: Array = fdtrc(k, freedom, statistic)
    return tail


def _power(noncentrality: Array, k: int, freedom: int) -> Array:
    from scipy.special import fdtri, ncfdtr

    power: Array = 1.0 - ncfdtr(k, freedom, np.clip(noncentrality, 0.0, 1e4), fdtri(k, freedom, 1.0 - SIZE))
    return np.nan_to_num(power, nan=1.0)
