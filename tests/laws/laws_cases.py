"""Laws with known parameters, the grids they are measured on, and the public tables (read in place, skipped where
absent).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from scaling.laws.points import Points

TABLES = Path(__file__).resolve().parents[3] / "shared" / "data"

HOFFMANN = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def chinchilla_loss(p, params, tokens):
    return p["E"] + p["A"] * params ** -p["alpha"] + p["B"] * tokens ** -p["beta"]


def isoflop_design(budgets=5, sizes=7, *, low=1e18, decades=3.0, spread=4.0):
    """N, D, budget of an isoFLOP grid under C = 6ND."""
    compute = np.geomspace(low, low * 10**decades, budgets)
    centre = 0.1 * compute**0.5
    params = (centre[:, None] * np.geomspace(1 / spread, spread, sizes)).ravel()
    budget = np.repeat(compute, sizes)
    return params, budget / (6 * params), budget


def isoflop_points(p=HOFFMANN, noise=0.0, seed=0, **design):
    params, tokens, budget = isoflop_design(**design)
    loss = chinchilla_loss(p, params, tokens)
    loss = loss * np.exp(noise * np.random.default_rng(seed).normal(size=len(loss)))
    return Points(params, tokens, loss, budget=budget)


def random_case(rng, i):
    """A law with α, β from .15 to .9 and E from 0 to 3, on a narrow or wide isoFLOP grid, rectangle or cloud."""
    alpha, beta = rng.uniform(0.15, 0.9, 2)
    floor = 0.0 if i % 10 == 0 else rng.uniform(0, 3)
    wide, budget = i % 2, None
    if i % 3 == 0:
        count, sizes = int(rng.integers(3, 8)), int(rng.integers(4, 8))
        params, tokens, budget = isoflop_design(count, sizes, low=1e17, decades=1 + 3 * wide, spread=3)
    elif i % 3 == 1:
        sides = np.geomspace(1e7, 10 ** (8 + 2 * wide), 6), np.geomspace(1e9, 10 ** (10 + wide), 6)
        params, tokens = (side.ravel() for side in np.meshgrid(*sides))
    else:
        count = int(rng.integers(15, 120))
        params, tokens = 10 ** rng.uniform(7, 8.3 + 2 * wide, count), 10 ** rng.uniform(9, 10 + 2 * wide, count)
    p = {
        "E": floor,
        "A": rng.uniform(0.3, 3) * np.exp(alpha * np.log(params).mean()),
        "B": rng.uniform(0.3, 3) * np.exp(beta * np.log(tokens).mean()),
        "alpha": alpha,
        "beta": beta,
    }
    return p, Points(params, tokens, chinchilla_loss(p, params, tokens), budget=budget)


def table(name):
    path = TABLES / name
    if not path.exists():
        pytest.skip(f"the public data set {name} is not in {TABLES.parent.name}/{TABLES.name} beside the project")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] for row in rows] for key in rows[0]}


def public_points(name, keep=None):
    columns = table(name)
    numbers = {key: np.array(columns[key], dtype=float) for key in ("params", "tokens", "loss")}
    budget = np.array(columns["budget"], dtype=float) if "budget" in columns else None
    points = Points(**numbers, budget=budget)
    if keep == "inliers":
        return points.select(np.array(columns["outlier"]) != "True")
    return points


def codes(checks):
    return {check.code for check in checks}


def centred_valleys(third=0.0):
    budget = np.repeat(np.geomspace(1e18, 1e21, 5), 7)
    x = np.tile(np.linspace(-1.5, 2.0, 7), 5)
    params = 0.3 * budget**0.45 * np.exp(x)
    loss = 2 + (budget / 1e18) ** -0.05 + 0.02 * x**2 + third * x**3
    return Points(params, budget / (6 * params), loss, budget=budget)
