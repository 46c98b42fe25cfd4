"""A floor outside an outer power, L = E + S^k: the weights that its derivatives are sums of.

With S = Σ T_j, s_j = T_j/S, G = S^k, g = G/L and u = k·log S,

    ∇m  = ∇E/L + g·∇u,            ∇u = k Σ s_j ∇z_j + log S · e_k
    ∇²m = g (∇²u + ∇u ∇uᵀ) − ∇m ∇mᵀ

so that the Hessian of Σ ρ(m − log L) is Σ (ρ'' − ρ') ∇m ∇mᵀ + ρ'·g (∇²u + ∇u ∇uᵀ). What concerns the terms alone has
the shape of a form without floor (`objective_terms`); here are the rows of the floor and of the power.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.laws.points import Array, Indices

_LARGEST_LOG = 300.0  # of S^k; a wilder trial step is turned back by its loss


class Weights(NamedTuple):
    """Weights [draws, points]: of the terms, and of the rows of the floor and of the power."""

    bend: Array  # times s_j: gradient in z_j, and of ∇z_j ∇z_jᵀ + ∇²z_j
    outer_product: Array  # times s_i s_j: of ∇z_i ∇z_jᵀ
    floor_slope: Array
    floor_term: Array  # times s_j: floor against z_j
    floor_floor: Array
    power_slope: Array
    power_term: Array
    power_power: Array
    floor_power: Array


class Above(NamedTuple):
    """log L [draws, points], 1/L and the share g of the part above the floor."""

    log_loss: Array
    inverse: Array
    share: Array

    @classmethod
    def of(cls, floor: Array, log_power: Array) -> Above:
        """From E and k·log S, both [draws, points]."""
        log_loss = log_loss_above(floor, log_power)
        return cls(log_loss, np.exp(-log_loss), np.exp(np.clip(log_power, -_LARGEST_LOG, _LARGEST_LOG) - log_loss))

    def weights(self, slope: Array, second: Array, power: Array, log_sum: Array) -> Weights:
        """From ρ' and ρ'' in m [draws, points], k [draws, 1] and log S."""
        g, inverse = self.share, self.inverse
        rest = second - slope
        bend = slope * g
        return Weights(
            bend=bend * power,
            outer_product=rest * (g * power) ** 2 + bend * power * (power - 1.0),
            floor_slope=slope * inverse,
            floor_term=rest * g * power * inverse,
            floor_floor=rest * inverse * inverse,
            power_slope=bend * log_sum,
            power_term=rest * g * g * power * log_sum + bend * (1.0 + power * log_sum),
            power_power=(rest * g * g + bend) * log_sum * log_sum,
            floor_power=rest * g * log_sum * inverse,
        )


def log_loss_above(floor: Array, log_power: Array) -> Array:
    """log(E + S^k) from E and k·log S."""
    log_loss: Array = np.log(floor + np.exp(np.clip(log_power, -_LARGEST_LOG, _LARGEST_LOG)))
    return log_loss


def add_edges(hessian: Array, floor: Indices, columns: Array, power: int, weights: Weights) -> None:
    """Adds to `hessian` [R, P, P] the entries among the floors (columns [f, n] at `floor`) and the power."""
    product = (columns[:, None] * columns[None]).reshape(-1, columns.shape[1])
    entries = (weights.floor_floor @ product.T).reshape(-1, len(floor), len(floor))
    hessian[:, floor[:, None], floor[None]] += entries
    hessian[:, power, power] += weights.power_power.sum(axis=-1)
    cross = weights.floor_power @ columns.T
    hessian[:, floor, power] += cross
    hessian[:, power, floor] += cross
