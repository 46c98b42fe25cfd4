"""Which width of the Huber loss? Coverage and width of 95 % intervals under δ 1e-3, δ auto and least squares.

    python benchmarks/laws_delta.py [--studies 100] [--out results/benchmarks/laws_delta.md]

Laws are drawn on designed grids with clean (normal) noise, with outliers (one run in ten has five times the noise), and
with half of the variance shared by a budget; every study is fitted under each objective and given the intervals that
`study_line` gives: noise in parts on a grid with budgets, case draws on a table without. `loss` is the compute-optimal
loss one decade beyond the largest budget, in per cent.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from scaling.laws.draws import Draws, Kind, bootstrap
from scaling.laws.fitting import Fit, fit
from scaling.laws.frontier import frontier
from scaling.laws.law_intervals import frontier_loss_interval, parameter_intervals
from scaling.laws.noise_parts import noise_parts, part_draws
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points

LAW = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
DESIGNS = ((3, 5), (5, 7))
NOISES = (0.005, 0.01, 0.02)
OUTLIERS, LARGER = 0.1, 5.0
KINDS = ("clean", "outliers", "half by budget")
CHOICES: tuple[tuple[str, str, Delta | None], ...] = (
    ("log_huber 1e-3", "log_huber", 1e-3),
    ("log_huber auto", "log_huber", "auto"),
    ("log_mse", "log_mse", None),
)
QUANTITIES = ("alpha", "beta", "E", "N", "loss")


def grid(budgets: int, sizes: int) -> tuple[Array, Array, Array]:
    """N, D and budget."""
    compute = np.geomspace(1e18, 1e21, budgets)
    params = (0.1 * np.sqrt(compute)[:, None] * np.geomspace(1 / 3.5, 3.5, sizes)).ravel()
    budget = np.repeat(compute, sizes)
    return params, budget / (6 * params), budget


def noise_of(rng: np.random.Generator, sigma: float, how: str, budget: Array) -> Array:
    """Noise of log loss [runs]."""
    count = len(budget)
    if how == "half by budget":
        shared = rng.normal(size=len(np.unique(budget)))[np.unique(budget, return_inverse=True)[1]]
        return sigma * np.sqrt(0.5) * (rng.normal(size=count) + shared)
    scale = np.where(rng.random(count) < OUTLIERS, LARGER, 1.0) if how == "outliers" else np.ones(count)
    return sigma * scale * rng.normal(size=count)


def draws_of(result: Fit, kind: Kind, draws: int, seed: int) -> Draws:
    """Those of `study_line`."""
    if kind == "cases":
        return bootstrap(result, draws=draws, seed=seed, kind=kind)
    return part_draws(result, noise_parts(result), draws=draws, seed=seed)


def rows(budgets: int, sizes: int, sigma: float, how: str, kind: Kind, studies: int, draws: int) -> list[str]:
    """One line of the table for every choice, all on the same studies."""
    params, tokens, budget = grid(budgets, sizes)
    clean = LAW["E"] + LAW["A"] * params ** -LAW["alpha"] + LAW["B"] * tokens ** -LAW["beta"]
    target = 10.0 * float(budget.max())
    exact = fit(Points(params, tokens, clean, budget=budget))
    truth = {name: LAW[name] for name in ("alpha", "beta", "E")}
    truth |= {"N": exact.exponents["N"], "loss": frontier(exact).at(target).loss}
    found: dict[str, list[list[tuple[float, float, float]]]] = {name: [] for name, _, _ in CHOICES}
    for seed in range(studies):
        rng = np.random.default_rng((seed, budgets, sizes))
        noisy = clean * np.exp(noise_of(rng, sigma, how, budget))
        points = Points(params, tokens, noisy, budget=None if kind == "cases" else budget)
        for name, objective, delta in CHOICES:
            result = fit(points, objective=objective, delta=delta, polished=6)
            sample = draws_of(result, kind, draws, seed)
            best = frontier(result, draws=sample)
            values = result.parameters | {"N": result.exponents["N"], "loss": best.at(target).loss}
            intervals = parameter_intervals(sample) | sample.exponent_intervals()
            intervals["loss"] = frontier_loss_interval(best, target)
            found[name].append([(values[q], *intervals[q]) for q in QUANTITIES])
    design = f"{budgets}×{sizes}"
    lines = []
    for name, _, _ in CHOICES:
        table = np.array(found[name])  # studies, quantities, (value, low, high)
        cells = []
        for k, quantity in enumerate(QUANTITIES):
            unit, scale = truth[quantity], 100.0 / truth["loss"] if quantity == "loss" else 1.0
            value, low, high = table[:, k].T
            inside = np.mean((low <= unit) & (unit <= high))
            width, rmse = np.median(high - low) / 2 * scale, np.sqrt(np.mean((value - unit) ** 2)) * scale
            cells.append(f"{inside:.2f} / {width:.3f} / {rmse:.3f}")
        lines.append(f"| {design} | {sigma} | {how} | {kind} | {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begin = time.process_time()
    lines = [
        "# The width δ of the Huber loss",
        "",
        f"`python benchmarks/laws_delta.py`: {options.studies} studies a row, {options.draws} draws each. Cells are",
        "coverage of the 95 % interval / median half-width / rmse of the estimate. `N` is the exponent of N in C,",
        "`loss` the compute-optimal loss one decade beyond the largest budget (half-width and rmse in per cent).",
        f"Outliers: one run in ten has {LARGER:g} times the noise. The standard error of a coverage near .95 is",
        f"{np.sqrt(0.0475 / options.studies):.3f}.",
        "",
        "| grid | noise | kind of noise | draws | objective | alpha | beta | E | N | loss |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    cases = [(*DESIGNS[1], sigma, how, "residuals") for how in KINDS for sigma in NOISES]
    cases += [(*DESIGNS[0], 0.01, how, "residuals") for how in KINDS]
    cases += [(*DESIGNS[1], 0.01, how, "cases") for how in KINDS[:2]]
    for case in cases:
        lines += rows(*case, options.studies, options.draws)
        print("\n".join(lines[-len(CHOICES) :]), flush=True)
    lines += ["", f"{time.process_time() - begin:.0f} CPU seconds."]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
