"""How fast and how well sweeps are planned: `python benchmarks/planning.py [speed] [next] [--out FILE]`.

speed: 100,000 runs planned (time, memory); `scaling plan sweeps/quickstart.yaml` as a process; `next` over 2,000
candidates. next: simulated studies of three laws, 20 seeds each. A small isoFLOP study is fitted, runs for a part or a
multiple of its cost are added by each rule, the law is fitted again, and its error in the log loss at the target is
given as a root mean square over seeds and 50 repetitions of the added runs. D-optimal lowers the volume of all
parameters' uncertainty, whatever the target.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scaling.laws.draws import Draws, bootstrap, refit
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.points import Points
from scaling.sweeps.grids import plan
from scaling.sweeps.optimal_design import Array, Ensemble, choose, ensemble
from scaling.sweeps.schema import load_sweep
from scaling.sweeps.simulate import loss_of

ROOT = Path(__file__).parents[1]
LAWS = {
    "replication-2024": {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658},
    "hoffmann-2022": {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28},
    "steep data": {"E": 1.5, "A": 60.0, "alpha": 0.25, "B": 9000.0, "beta": 0.45},
}
NOISE = 0.004  # seed noise of log loss
TARGET = 1e21  # FLOPs of the prediction: 100 times the largest budget of the first study
SPENDS = (0.3, 1.0, 4.0)  # of the first study's cost
RULES = ("next", "random", "cheapest first", "D-optimal")
BIG = """
sweep: big
question: how fast
grid:
  kind: isoflop
  budgets: [{budgets}]
  ladder: {{rule: {{params: [10M, 100B], sizes: 50}}}}
  sizes: all
  filters: {{tokens_per_param: [1e-9, 1e12]}}
families:
  dense: {{parameterization: dense, optimizer: muon, lr: 0.02}}
  low_rank: {{parameterization: low_rank, optimizer: spectron, lr: 0.02, rank_ratio: [0.1, 0.2, 0.25, 0.3]}}
training: {{sequence_length: 128, batch_tokens: {{recipe: sqrt-tokens}}, seeds: [0, 1, 2]}}
"""


def speed() -> list[str]:
    """Table rows: what, measured, asked."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.yaml"
        path.write_text(BIG.format(budgets=", ".join(f"{10 ** (17 + n * 6 / 134):.4e}" for n in range(134))))
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        runs = len(plan(load_sweep(path), vocab_size=256).runs)
        seconds = time.perf_counter() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    command = [sys.executable, "-m", "scaling.cli", "plan", str(ROOT / "sweeps" / "quickstart.yaml")]
    times = [_timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(9)]
    one, _ = study(LAWS["replication-2024"], np.random.default_rng(0))
    points = candidates(2000)
    chosen: list[list[int]] = []
    next_seconds = _timed(lambda: chosen.extend(choose([ensemble(points, one, target=1e22)], 4e20)))
    return [
        "## Speed",
        "",
        "| what | measured | aim |",
        "|---|---|---|",
        f"| {runs:,} runs planned | {seconds:.2f} s, {grown:.0f} MB more | 5 s, 1,000 MB |",
        f"| `scaling plan sweeps/quickstart.yaml`, a process, median of 9 | {statistics.median(times):.2f} s | 0.6 s |",
        f"| `next`: {len(points):,} candidates, {len(chosen[0])} chosen | {next_seconds:.2f} s | 10 s |",
    ]


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def grid(budgets: Array, sizes: int, span: float) -> Points:
    """Sizes spread over a factor `span` around C^0.5 / 12 at every budget, C = 6ND."""
    spread = np.exp(np.linspace(-0.5, 0.5, sizes) * np.log(span))
    params = (budgets[:, None] ** 0.5 / 12 * spread).ravel()
    flops = np.repeat(budgets, sizes)
    return Points(params, flops / (6 * params), np.ones(len(params)), flops=flops)


def study(law: dict[str, float], rng: np.random.Generator) -> tuple[Draws, float]:
    """A fitted first study and its cost."""
    points = grid(np.array([1e18, 3e18, 1e19]), 5, 9.0)
    measured = points.with_loss(loss_of(law, points) * np.exp(NOISE * rng.standard_normal(len(points))))
    return bootstrap(fit(measured), draws=500, kind="residuals", noise=NOISE), float(points.compute.sum())


def candidates(count: int) -> Points:
    return grid(np.geomspace(3e17, 2e20, count // 20), 20, 100.0)


def in_order(one: Ensemble, spend: float, order: np.ndarray) -> list[int]:
    """Candidates in the given order, each taken where it can still be paid."""
    chosen = []
    for place in order:
        if one.cost[place] <= spend:
            spend -= float(one.cost[place])
            chosen.append(int(place))
    return chosen


def d_optimal(one: Ensemble, draws: Draws, points: Points, spend: float) -> list[int]:
    """Greedy log-determinant of the information about all five parameters per FLOP, from numeric gradients."""
    vector, step = draws.fit.parameters, 1e-5
    names = ("E", "A", "alpha", "B", "beta")

    def gradients(at: Points) -> Array:
        columns = []
        for name in names:
            up, down = (loss_of({**vector, name: vector[name] * (1 + sign * step)}, at) for sign in (1, -1))
            columns.append((np.log(up) - np.log(down)) / (2 * step))
        return np.array(columns).T

    there, new = gradients(draws.fit.points), gradients(points)
    inverse = np.linalg.inv(there.T @ there / NOISE**2 + 1e-9 * np.eye(len(names)))
    chosen: list[int] = []
    while True:
        leverage = np.einsum("np,pq,nq->n", new, inverse, new) / NOISE**2
        score = np.where(one.cost <= spend, np.log1p(leverage) / one.cost, 0.0)
        score[chosen] = 0.0
        place = int(np.argmax(score))
        if score[place] <= 0:
            return chosen
        chosen.append(place)
        spend -= float(one.cost[place])
        moved = inverse @ new[place] / NOISE
        inverse -= np.outer(moved, moved) / (1 + new[place] @ moved / NOISE)


def errors_after(law: dict[str, float], draws: Draws, points: Points, chosen: list[int], seed: int) -> Array:
    """Errors of the log loss at the target once the chosen runs are measured (50 times) and the law is fitted again."""
    old, new = draws.fit.points, points.select(np.array(chosen, dtype=np.intp))
    merged = Points(
        np.concatenate([old.params, new.params]),
        np.concatenate([old.tokens, new.tokens]),
        np.concatenate([old.loss, loss_of(law, new)]),
    )
    noise = NOISE * np.random.default_rng(1000 + seed).standard_normal((50, len(merged)))
    noise[:, : len(old)] = 0.0
    again = refit(fit(merged), merged.loss * np.exp(noise), np.ones(len(merged)), kind="residuals")
    truth = frontier(fit(merged.with_loss(loss_of(law, merged)))).at(TARGET).loss
    return np.log(frontier(again.fit, draws=again).loss_draws(TARGET) / truth)


def next_runs(seeds: int = 20) -> list[str]:
    """Table rows: law, spend, and the error with no runs added and after each rule."""
    rows = [
        "## The runs `next` proposes",
        "",
        f"Root mean square error of the log loss predicted at {TARGET:g} FLOPs, {seeds} seeds, noise {NOISE:g}.",
        "",
        f"| law | added, in costs of the first study | none | {' | '.join(RULES)} |",
        "|---|---|" + "---|" * (1 + len(RULES)),
    ]
    for name, law in LAWS.items():
        for share in SPENDS:
            errors = [rule_errors(law, share, seed) for seed in range(seeds)]
            rms = [float(np.sqrt(np.mean(np.square(np.concatenate(values))))) for values in zip(*errors, strict=True)]
            rows.append(f"| {name} | {share:g} | " + " | ".join(f"{value:.4f}" for value in rms) + " |")
    return rows


def rule_errors(law: dict[str, float], share: float, seed: int) -> list[Array]:
    """Errors at the target of one simulated study: as it is, and after each of `RULES`."""
    rng, points = np.random.default_rng(seed), candidates(400)
    draws, cost = study(law, rng)
    one, spend = ensemble(points, draws, target=TARGET), share * cost
    choices = (
        choose([one], spend)[0],
        in_order(one, spend, rng.permutation(len(points))),
        in_order(one, spend, np.argsort(one.cost, kind="stable")),
        d_optimal(one, draws, points, spend),
    )
    truth = frontier(fit(draws.fit.points.with_loss(loss_of(law, draws.fit.points)))).at(TARGET).loss
    before = np.log([frontier(draws.fit).at(TARGET).loss / truth])
    return [before, *(errors_after(law, draws, points, chosen, seed) for chosen in choices)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="speed, next; both where left out")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    parts = {"speed": speed, "next": next_runs}
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    lines = ["# Planning", "", "`python benchmarks/planning.py`, one thread."]
    for name in options.parts or parts:
        lines += ["", *parts[name]()]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
