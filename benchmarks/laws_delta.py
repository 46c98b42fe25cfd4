"""Which width of the Huber loss? Coverage and width of 95 % intervals under δ 1e-3, δ auto and least squares.

    python benchmarks/laws_delta.py [--studies 100] [--out results/benchmarks/laws_delta.md]

Laws are drawn on designed 5×7 grids with clean (normal) noise, and with outliers (one run in ten has five times the
noise); every study is fitted under each objective and given the intervals that `study_line` would give it. `loss` is
the compute-optimal loss one decade beyond the largest budget, in per cent.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from scaling.laws.draws import Kind, bootstrap
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points

LAW = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
DESIGNS = ((3, 5), (5, 7))
NOISES = (0.005, 0.01, 0.02)
OUTLIERS, LARGER = 0.1, 5.0
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


def noise_of(rng: np.random.Generator, sigma: float, outliers: bool, count: int) -> Array:
    """Noise of log loss [count]."""
    scale = np.where(rng.random(count) < OUTLIERS, LARGER, 1.0) if outliers else np.ones(count)
    return sigma * scale * rng.normal(size=count)


def rows(budgets: int, sizes: int, sigma: float, outliers: bool, kind: Kind, studies: int, draws: int) -> list[str]:
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
        points = Points(params, tokens, clean * np.exp(noise_of(rng, sigma, outliers, len(clean))), budget=budget)
        for name, objective, delta in CHOICES:
            result = fit(points, objective=objective, delta=delta, polished=6)
            sample = bootstrap(result, draws=draws, seed=seed, kind=kind)
            best = frontier(result, draws=sample).at(target)
            values = result.parameters | {"N": result.exponents["N"], "loss": best.loss}
            intervals = {q: sample.interval(q) for q in QUANTITIES[:-1]} | {"loss": best.intervals["loss"]}
            found[name].append([(values[q], *intervals[q]) for q in QUANTITIES])
    design, how = f"{budgets}×{sizes}", "outliers" if outliers else "clean"
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
    cases = [(*DESIGNS[1], sigma, outliers, "residuals") for outliers in (False, True) for sigma in NOISES]
    cases += [(*DESIGNS[0], 0.01, outliers, "residuals") for outliers in (False, True)]
    cases += [(*DESIGNS[1], 0.01, outliers, "cases") for outliers in (False, True)]
    for case in cases:
        lines += rows(*case, options.studies, options.draws)
        print("\n".join(lines[-len(CHOICES) :]), flush=True)
    lines += ["", f"{time.process_time() - begin:.0f} CPU seconds."]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
