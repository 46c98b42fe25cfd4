"""Do the 95 % intervals hold what they promise? Simulate known laws on realistic grids, fit, and count.

    python benchmarks/laws_coverage.py [--studies 200] [--out results/benchmarks/laws_coverage.md]

Every row is one design: data sets drawn from the law with log-normal seed noise, each fitted and given the interval
that `study_line` would give it (residual draws on a designed grid; cases for a table). Reported is the share that
contains the truth.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from scaling.laws.draws import bootstrap
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.points import Points

LAWS = {
    "hoffmann": {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658},
    "tiny": {"E": 0.8, "A": 30.0, "B": 400.0, "alpha": 0.35, "beta": 0.42},
}
CENTRES = {"hoffmann": (1e18, 3.0, 0.1), "tiny": (2e10, 1.5, 0.06)}  # smallest budget, decades, N = k·sqrt(C)
DESIGNS = ((3, 5), (4, 5), (5, 7), (8, 8), (14, 18))  # budgets × sizes: 15 to 252 points
NOISES = (0.005, 0.01, 0.03)
QUANTITIES = ("alpha", "beta", "E", "N", "loss")


def grid(law: str, budgets: int, sizes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, decades, k = CENTRES[law]
    compute = np.geomspace(low, low * 10**decades, budgets)
    params = (k * np.sqrt(compute)[:, None] * np.geomspace(1 / 3.5, 3.5, sizes)).ravel()
    budget = np.repeat(compute, sizes)
    return params, budget / (6 * params), budget


def coverage(law: str, budgets: int, sizes: int, noise: float, objective: str, kind: str, studies: int, draws: int):
    p = LAWS[law]
    params, tokens, budget = grid(law, budgets, sizes)
    clean = p["E"] + p["A"] * params ** -p["alpha"] + p["B"] * tokens ** -p["beta"]
    target = float(budget.max()) * 10  # one decade beyond
    truth = {name: p[name] for name in ("alpha", "beta", "E")}
    truth["N"] = p["beta"] / (p["alpha"] + p["beta"])
    exact = fit(Points(params, tokens, clean, budget=budget))
    truth["loss"] = frontier(exact).at(target).loss
    inside = dict.fromkeys(QUANTITIES, 0)
    unreliable = 0
    for seed in range(studies):
        loss = clean * np.exp(noise * np.random.default_rng(seed).normal(size=len(clean)))
        result = fit(Points(params, tokens, loss, budget=budget), objective=objective, polished=3)
        sample = bootstrap(result, draws=draws, seed=seed, kind=kind)
        unreliable += sample.unreliable
        intervals = {name: sample.interval(name) for name in ("alpha", "beta", "E", "N")}
        intervals["loss"] = frontier(result, draws=sample).at(target).intervals["loss"]
        for name, (low, high) in intervals.items():
            inside[name] += low <= truth[name] <= high
    return {name: count / studies for name, count in inside.items()}, unreliable / studies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.process_time()
    lines = [
        "# Coverage of nominal 95 % intervals",
        "",
        f"`python benchmarks/laws_coverage.py`: {options.studies} simulated studies a row, {options.draws} draws each;",
        f"the standard error of a share near .95 is {np.sqrt(0.0475 / options.studies):.3f}. `N` is the exponent of",
        "N_opt in C, `loss` the compute-optimal loss one decade beyond the largest budget, `unreliable` the share of",
        "studies that carry the check `interval_unreliable`.",
        "",
        "| law | points | seed noise | objective | draws | alpha | beta | E | N | loss | unreliable |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    shares: list[float] = []
    cases = [
        (law, *design, noise, objective, "residuals")
        for law in LAWS
        for design in DESIGNS
        for noise in NOISES
        for objective in ("log_huber", "log_mse")
        if (noise == 0.01 or design == (5, 7))
    ]
    cases += [("hoffmann", 8, 8, 0.01, "log_huber", "cases"), ("hoffmann", 14, 18, 0.01, "log_huber", "cases")]
    for law, budgets, sizes, noise, objective, kind in cases:
        found, unreliable = coverage(law, budgets, sizes, noise, objective, kind, options.studies, options.draws)
        shares += found.values()
        cells = " | ".join(f"{found[name]:.3f}" for name in QUANTITIES)
        design = f"{budgets}×{sizes} = {budgets * sizes}"
        lines.append(f"| {law} | {design} | {noise} | {objective} | {kind} | {cells} | {unreliable:.2f} |")
        print(lines[-1], flush=True)
    spread = np.quantile(shares, [0.0, 0.05, 0.5, 0.95, 1.0])
    lines += [
        "",
        f"Of {len(shares)} shares the mean is {np.mean(shares):.3f}; smallest, 5 %, median, 95 % and largest:",
        ", ".join(f"{share:.3f}" for share in spread) + f"; {np.mean(np.array(shares) >= 0.9):.0%} are at least .90.",
        f"{time.process_time() - start:.0f} CPU seconds.",
    ]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
