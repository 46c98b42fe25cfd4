"""Do the intervals of serving-cost ratios hold the truth? Simulate two lines of known laws, and count.

    python benchmarks/serving_ratios.py [--studies 600] [--out results/benchmarks/serving_ratios.md]

Per study: the joint law M3 with its draws, then the ratio of total cost (6·N FLOPs to train a token, 2·N to serve one)
and of a served token, second line over first, at the loss that the first reaches with the largest budget, for 100 times
as many served as optimal training tokens. "Told apart" counts studies whose interval excludes 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from verdicts import TINY, Grid, grid, loss_of, noise, optimum, points_of, second_law

from scaling.inference.decision import CHOICES, Candidate, PowerLaws, decide
from scaling.laws.joint_models import fit_model
from scaling.laws.line_comparison import JointFit
from scaling.laws.line_frontiers import line_terms

DRAWS = 300
SERVED = 100.0  # tokens, over the optimal training tokens
DESIGNS = {  # budgets, sizes, seed noise, scatter of cells
    "3 × 5, seed .008, scatter .02": (3, 5, 0.008, 0.02),
    "5 × 7, σ .01": (5, 7, 0.0, 0.01),
}
KINDS = ("same law", "N x .8, D x .85", "alpha .45")


def six_nd(params: np.ndarray) -> np.ndarray:
    return 6.0 * params


def two_nd(params: np.ndarray) -> np.ndarray:
    return 2.0 * params


def candidate(line: str, laws: PowerLaws) -> Candidate:
    ratio = None if line == "line 0" else 0.25
    return Candidate(line, "dense", ratio, laws, six_nd, six_nd, two_nd, (1e2, 1e10))


def true_laws(law: dict[str, float]) -> PowerLaws:
    values = (law["E"], np.log(law["A"]), law["alpha"], np.log(law["B"]), law["beta"])
    return PowerLaws(*(np.array([[value]]) for value in values))


def fitted(g: Grid, loss: np.ndarray, seed: int) -> list[Candidate]:
    made = JointFit("M3", fit_model(points_of(g, loss), "M3"), DRAWS, seed)
    vectors = np.concatenate([made.fit.vector[None], made.draws.vectors])
    return [
        candidate(name, PowerLaws(*(np.asarray(term)[:, None] for term in line_terms(made.fit, name, vectors))))
        for name in ("line 0", "line 1")
    ]


def rows(design: str, kind: str, studies: int) -> Iterator[str]:
    budgets, sizes, seed_noise, scatter = DESIGNS[design]
    levels = np.geomspace(2e10, 2e11, budgets)
    other = second_law(kind)
    g = grid(TINY, levels, sizes, 2, repeated=seed_noise > 0)
    clean = np.where(g.line == 0, loss_of(TINY, g.params, g.tokens), loss_of(other, g.params, g.tokens))
    _, tokens, target = optimum(TINY, levels[-1])
    asked = {"target_loss": float(target), "served_tokens": SERVED * float(tokens)}
    truth = decide([candidate("line 0", true_laws(TINY)), candidate("line 1", true_laws(other))], "line 0", **asked)
    held = {(choice, what): [0, 0, 0] for choice in CHOICES for what in ("total", "serve")}
    for study in range(studies):
        rng = np.random.default_rng(study)
        made = decide(
            fitted(g, clean * np.exp(noise(g, rng, seed=seed_noise, scatter=scatter)), study), "line 0", **asked
        )
        for choice in CHOICES:
            row, (first, second) = made.row("line 1", "dense", choice), _true(truth, choice)
            true = {"total": second.total_cost / first.total_cost, "serve": second.serve_cost / first.serve_cost}
            for what, interval in (("total", row.ratio_interval), ("serve", row.serve_ratio_interval)):
                if interval is not None:
                    counts = held[choice, what]
                    counts[0] += 1
                    counts[1] += interval[0] <= true[what] <= interval[1]
                    counts[2] += not interval[0] <= 1.0 <= interval[1]
    for (choice, what), (known, inside, apart) in held.items():
        first, second = _true(truth, choice)
        true = (second.total_cost / first.total_cost) if what == "total" else second.serve_cost / first.serve_cost
        name = "total cost" if what == "total" else "a served token"
        yield (
            f"| {design} | {kind} | {choice} | {name} | {true:.2f} | {known} | {inside / max(known, 1):.3f} "
            f"| {apart / max(known, 1):.3f} |"
        )


def _true(truth, choice):
    return truth.row("line 0", "dense", choice), truth.row("line 1", "dense", choice)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=600)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    lines = [
        "# Ratios of serving cost",
        "",
        f"`python benchmarks/serving_ratios.py`: {options.studies} simulated studies a row, {DRAWS} draws each. Aims: "
        "coverage .93 or more, and of one law at most .06 told apart.",
        "",
        "| design | second line | choice | ratio of | truth | determined | covered | told apart |",
        "|---|---|---|---|--:|--:|--:|--:|",
    ]
    for design in DESIGNS:
        for kind in KINDS:
            for line in rows(design, kind, options.studies):
                print(line, flush=True)
                lines.append(line)
    print(f"{time.perf_counter() - start:.0f} s")
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
