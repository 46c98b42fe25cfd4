"""Do verdicts, intervals and tests say what is true? Simulate known laws on small grids, and count.

    python benchmarks/verdicts.py [--quick] [--out results/benchmarks/verdicts.md]

Every row is printed as it was done before (each line a law of its own, residual draws without parts of the noise,
better or worse where the percentiles of the difference exclude zero and it exceeds twice the seed noise) and as it is
done now (one joint law, noise in parts, sup-t band), on the same simulated data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.laws.draws import bootstrap, percentile_interval
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.gls_tests import smallest_found
from scaling.laws.joint_comparison import compare_lines
from scaling.laws.law_intervals import floor_interval, frontier_loss_interval, run_loss_interval
from scaling.laws.noise_parts import noise_parts, part_draws
from scaling.laws.points import Points
from scaling.laws.rank_comparison import compare_ranks
from scaling.laws.seed_noise import seed_noise

TINY = {"E": 1.2, "A": 20.0, "B": 60.0, "alpha": 0.4, "beta": 0.4}
HOFFMANN = {"E": 1.817, "A": 477.8, "B": 2143.0, "alpha": 0.347, "beta": 0.367}
# As the lines of results/rank-study: E is far below every loss, and most fits end with E at zero.
FLAT = {"E": 0.1, "A": 6.0, "B": 13.0, "alpha": 0.18, "beta": 0.21}
SPAN = 3.0  # largest size of a budget over its middle one
SHIFT = 0.08  # in log N: the sizes of the second line are not those of the first
SEEDS = 3  # of the one cell that is repeated


@dataclass(frozen=True)
class Grid:
    """N, D, budget (index and FLOPs), line and cell of every run, one seed each but for the repeated cell."""

    params: np.ndarray
    tokens: np.ndarray
    compute: np.ndarray
    budget: np.ndarray
    line: np.ndarray
    cell: np.ndarray


def optimum(p: dict[str, float], compute):
    a, b = p["alpha"], p["beta"]
    params = (a * p["A"] / (b * p["B"])) ** (1 / (a + b)) * (compute / 6) ** (b / (a + b))
    return params, compute / 6 / params, loss_of(p, params, compute / 6 / params)


def loss_of(p: dict[str, float], params, tokens):
    return p["E"] + p["A"] * params ** -p["alpha"] + p["B"] * tokens ** -p["beta"]


def grid(p: dict[str, float], levels, sizes: int, lines: int, *, repeated: bool) -> Grid:
    rows = []
    for line in range(lines):
        for budget, compute in enumerate(levels):
            for size, factor in enumerate(np.geomspace(1 / SPAN, SPAN, sizes)):
                params = optimum(p, compute)[0] * factor * np.exp(SHIFT * line)
                again = SEEDS if repeated and budget == 0 and size == sizes // 2 else 1
                rows += [(params, compute / 6 / params, compute, budget, line, budget * sizes + size)] * again
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Grid(*columns[:3], *(column.astype(int) for column in columns[3:]))


def noise(g: Grid, rng, *, seed: float, scatter: float, budget: float = 0.0, line_budget: float = 0.0):
    cells, budgets = g.cell + 1000 * g.line, g.budget + 100 * g.line
    return (
        seed * rng.normal(size=len(g.params))
        + scatter * rng.normal(size=cells.max() + 1)[cells]
        + budget * rng.normal(size=g.budget.max() + 1)[g.budget]
        + line_budget * rng.normal(size=budgets.max() + 1)[budgets]
    )


def points_of(g: Grid, loss) -> Points:
    number = np.zeros(len(g.params), dtype=int)
    for key in {(line, cell) for line, cell in zip(g.line, g.cell, strict=True)}:
        rows = (g.line == key[0]) & (g.cell == key[1])
        number[rows] = np.arange(rows.sum())
    return Points(g.params, g.tokens, loss, budget=g.compute, line=[f"line {i}" for i in g.line], seed=number)


# Two lines


LAWS = {  # of the first line and of the second
    "same law": (TINY, TINY),
    "N x .8, D x .85": (TINY, TINY | {"A": TINY["A"] * 0.8**-0.4, "B": TINY["B"] * 0.85**-0.4}),
    "alpha .45": (TINY, TINY | {"alpha": 0.45, "A": TINY["A"] * np.exp(0.05 * 9.3 + 0.1)}),
    "same law, E near 0": (FLAT, FLAT),
    "N x .6, E near 0": (FLAT, FLAT | {"A": FLAT["A"] * 0.6**-0.18}),
}


def true_log_multiplier(first: dict[str, float], other: dict[str, float], compute: float) -> float:
    own, theirs = optimum(other, compute)[2], optimum(first, compute)[2]
    levels = compute * np.geomspace(1e-6, 1.0, 200_001)
    worse, better = (theirs, other) if own <= theirs else (own, first)
    reached = np.interp(-worse, -optimum(better, levels)[2], np.log(levels))
    return float((np.log(compute) - reached) * (1 if own <= theirs else -1))


def old_words(points: Points, levels, rng_seed: int, draws: int) -> list[str]:
    lines = points.lines()
    frontiers = []
    for i, own in enumerate(lines.values()):
        sigma = seed_noise(own)
        result = fit(own, polished=3)
        sample = bootstrap(result, draws=draws, seed=rng_seed + i, kind="residuals", noise=sigma.sigma_log)
        frontiers.append(frontier(result, draws=sample))
    sigma = seed_noise(points).sigma
    words = []
    for compute in levels:
        left, right = (f.loss_draws(compute) for f in frontiers)
        count = min(len(left), len(right))
        low, high = percentile_interval(right[:count] - left[:count])
        difference = frontiers[1].loss_at(compute) - frontiers[0].loss_at(compute)
        shown = (low > 0 or high < 0) and abs(difference) > 2 * sigma
        words.append("not resolved" if not shown else "better" if difference < 0 else "worse")
    return words


def two_lines(levels, sizes: int, kind: str, parts: dict[str, float], studies: int, draws: int) -> list[str]:
    first, other = LAWS[kind]
    g = grid(first, levels, sizes, 2, repeated=True)
    clean = np.where(g.line == 0, loss_of(first, g.params, g.tokens), loss_of(other, g.params, g.tokens))
    truth = np.array([true_log_multiplier(first, other, compute) for compute in levels])
    old, any_word, held, centre_held, equal, wrong, widths, margins = 0, 0, 0, 0, 0, 0, [], []
    for study in range(studies):
        rng = np.random.default_rng(study)
        points = points_of(g, clean * np.exp(noise(g, rng, **parts)))
        old += any(word != "not resolved" for word in old_words(points, levels, study, draws))
        result = compare_lines(points, "line 0", draws=draws, seed=study).lines[0]
        verdict = result.verdict
        any_word += any(word in ("better", "worse") for word in verdict.words)
        signs = {"better": 1, "worse": -1}
        wrong += any(signs.get(word, 0) * t < 0 for word, t in zip(verdict.words, truth, strict=True))
        equal += verdict.word == "equivalent"
        held += bool((np.abs(verdict.band.estimate - truth) <= verdict.band.simultaneous).all())
        low, high = result.headline.interval
        centre_held += low <= np.exp(np.median(truth)) <= high
        widths.append(np.log(high / low) / 2)
        margins.append(verdict.smallest_margin)
    share = [old, any_word, wrong, equal, held, centre_held]
    return [
        *(f"{count / studies:.3f}" for count in share),
        f"{np.exp(np.median(widths)):.2f}",
        f"{np.median(margins):.0%}",
    ]


# One line


def one_line(p, levels, sizes: int, sigma: float, share: float, trend: float, studies: int, draws: int):
    """Coverage and median half-width of α, E and the loss at 1× and 100× of the largest budget, old and new; with a
    trend in N beyond the mean size, of one further run at 1×.
    """
    g = grid(p, levels, sizes, 1, repeated=False)
    log_size = np.log(g.params) - np.log(g.params).mean()
    beyond = np.maximum(log_size, 0.0)
    clean = loss_of(p, g.params, g.tokens) * np.exp(trend * beyond)
    parts = {"seed": 0.0, "scatter": sigma * np.sqrt(1 - share), "budget": sigma * np.sqrt(share)}
    top = float(levels[-1])
    best, _, reached = optimum(p, top)
    there = reached * np.exp(trend * max(0.0, np.log(best) - np.log(g.params).mean()))
    truth = {"alpha": p["alpha"], "E": p["E"], "1x": there, "100x": optimum(p, 100 * top)[2], "run": there}
    inside = {way: dict.fromkeys(truth, 0) for way in ("old", "new")}
    width = {way: {name: [] for name in truth} for way in ("old", "new")}
    above, found = {"old": 0, "new": 0}, []
    for study in range(studies):
        rng = np.random.default_rng(study)
        points = points_of(g, clean * np.exp(noise(g, rng, **parts)))
        points = Points(points.params, points.tokens, points.loss, budget=points.budget)
        result = fit(points, polished=3)
        intervals = {"old": old_intervals(result, bootstrap(result, draws=draws, seed=study, kind="residuals"), top)}
        result = fit(points, objective="log_mse", polished=3)
        noise_of = noise_parts(result)
        sample = part_draws(result, noise_of, draws=draws, seed=study)
        curve = frontier(result, draws=sample)
        intervals["new"] = {
            "alpha": sample.interval("alpha"),
            "E": floor_interval(sample),
            "1x": frontier_loss_interval(curve, top),
            "100x": frontier_loss_interval(curve, 100 * top),
            "run": run_loss_interval(curve, noise_of, top, seed=study),
        }
        if trend:
            found.append(smallest_found(noise_of, result, beyond))
        truth["run"] = there * np.exp(sigma * rng.normal())
        for way, named in intervals.items():
            above[way] += named["E"][1] > points.loss.min()
            for name, (low, high) in named.items():
                inside[way][name] += low <= truth[name] <= high
                width[way][name].append((high - low) / 2)
    shares = {way: {name: count / studies for name, count in own.items()} for way, own in inside.items()}
    widths = {way: {name: np.median(own) for name, own in named.items() if own} for way, named in width.items()}
    return shares, widths, {way: count / studies for way, count in above.items()}, np.median(found) if found else None


def old_intervals(result, sample, top: float):
    curve = frontier(result, draws=sample)
    return {
        "alpha": sample.interval("alpha"),
        "E": sample.interval("E"),
        "1x": curve.at(top).intervals["loss"],
        "100x": curve.at(100 * top).intervals["loss"],
        "run": curve.at(top).intervals["loss"],
    }


# A dense and a low-rank line


def rank_row(levels, sizes: int, sigma: float, factor: float, studies: int, draws: int) -> list[str]:
    """κ = 1 and B × `factor` in the low-rank line: mean κ, intervals that exclude 1, rejections, printed power."""
    g = grid(TINY, levels, sizes, 2, repeated=False)
    clean = loss_of(TINY, g.params, g.tokens)
    worse = TINY | {"B": TINY["B"] * factor}
    clean = np.where(g.line == 1, loss_of(worse, g.params, g.tokens), clean)
    columns = {
        "line": np.where(g.line == 1, "low_rank", "dense"),
        "rank_ratio": np.where(g.line == 1, 0.25, np.nan),
        "factorized_params": np.where(g.line == 1, 0.7 * g.params, 0.0),
    }
    kappas, excluded, rejected, powers = [], 0, 0, []
    for study in range(studies):
        loss = clean * np.exp(sigma * np.random.default_rng(study).normal(size=len(clean)))
        result = compare_ranks(Points(g.params, g.tokens, loss, budget=g.compute, **columns), draws=draws, seed=study)
        value, (low, high) = result.kappa[0.25]
        kappas.append(value)
        excluded += not low <= 1 <= high
        rejected += result.test.rejected
        powers.append(result.test.power)
    shares = f"{excluded / studies:.2f}", f"{rejected / studies:.2f}", f"{np.median(powers):.2f}"
    return [f"{np.median(kappas):.3f}", *shares]


def rows(studies: int, draws: int) -> Iterator[str]:
    small, middle = (np.geomspace(2e10, 2e11, count) for count in (3, 5))
    wide = np.geomspace(2e10, 6.3e12, 5)
    scatter, flat = {"seed": 0.008, "scatter": 0.02}, {"seed": 0.014, "scatter": 0.01, "budget": 0.02}
    yield "## Two lines"
    yield ""
    yield "`any` is the share with a better or worse at any budget, `wrong` of those of the wrong sign; `held` the"
    yield "share whose band holds the true multipliers of all budgets, `centre` the pointwise interval at their"
    yield "geometric mean, `×/÷` its median half-width, `margin` the median smallest margin of an equivalence."
    yield ""
    yield "| truth | design | noise | any, old | any | wrong | equivalent | held | centre | ×/÷ | margin |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    cases = [
        ("same law", small, 5, scatter, "seed .008, scatter .02"),
        ("same law", small, 5, scatter | {"budget": 0.02}, "and budget .02"),
        ("same law", small, 5, scatter | {"line_budget": 0.02}, "and line × budget .02"),
        ("same law", middle, 6, scatter, "seed .008, scatter .02"),
        ("same law", middle, 6, scatter | {"line_budget": 0.02}, "and line × budget .02"),
        ("N x .8, D x .85", small, 5, scatter, "seed .008, scatter .02"),
        ("alpha .45", small, 5, scatter, "seed .008, scatter .02"),
        ("alpha .45", middle, 6, scatter, "seed .008, scatter .02"),
        ("alpha .45", middle, 7, {"seed": 0.004, "scatter": 0.004}, "seed .004, scatter .004"),
        ("same law, E near 0", wide, 5, flat, "seed .014, scatter .01, budget .02"),
        ("N x .6, E near 0", wide, 5, flat, "seed .014, scatter .01, budget .02"),
    ]
    for kind, levels, sizes, parts, text in cases:
        found = two_lines(levels, sizes, kind, parts, studies, draws)
        yield f"| {kind} | {len(levels)}×{sizes} | {text} | " + " | ".join(found) + " |"
    yield ""
    yield "## One line"
    yield ""
    yield "Coverage of 95 % intervals, old / new; in brackets the new half-width over the old one under independent"
    yield "noise of the same size. Under the trend the loss at 1× is that of a run there; `a further run` is one with"
    yield "noise of its own, for which there was no interval. `E above`: E intervals reaching above the lowest loss."
    yield ""
    yield "| design | noise | alpha | E | loss at 1× | loss at 100× | a further run | E above |"
    yield "|---|---|---|---|---|---|---|---|"
    large = np.geomspace(1e18, 1e20, 5)
    for p, levels, sizes, sigma in ((HOFFMANN, large, 7, 0.01), (TINY, small, 5, 0.025)):
        plain: dict[str, float] = {}
        for share, trend in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.01)):
            if trend and p is TINY:
                continue
            covered, widths, above, found = one_line(p, levels, sizes, sigma, share, trend, studies, draws)
            plain = plain or widths["old"]
            cells = [
                f"{covered['old'][name]:.3f} / {covered['new'][name]:.3f} ({widths['new'][name] / plain[name]:.2f})"
                for name in ("alpha", "E", "1x", "100x", "run")
            ]
            text = f"σ {sigma}" + (", half shared by a budget" if share else "") + (", trend 1 %" if trend else "")
            yield f"| {len(levels)}×{sizes} | {text} | {' | '.join(cells)} | {above['old']:.2f} / {above['new']:.2f} |"
            if found is not None:
                yield f"|  | trend found with 80 % power: {found:.1%} per unit of log N | | | | | | |"
    yield ""
    yield "## κ where κ = 1"
    yield ""
    yield "| design | σ | B of the low-rank line | κ | interval excludes 1 | `rank` rejected | power printed |"
    yield "|---|---|---|---|---|---|---|"
    for count, sizes, sigma, factor in (
        (4, 5, 0.005, 1.1),
        (4, 5, 0.01, 1.1),
        (3, 5, 0.02, 1.1),
        (4, 5, 0.01, 1.0),
    ):
        found = rank_row(np.geomspace(2e10, 2e11, count), sizes, sigma, factor, studies, draws)
        yield f"| {count}×{sizes} | {sigma} | × {factor} | " + " | ".join(found) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 studies a row instead of 100")
    parser.add_argument("--studies", type=int)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    studies = options.studies or (20 if options.quick else 100)
    start = time.process_time()
    lines = [
        "# Verdicts, intervals and tests on simulated lines",
        "",
        f"`python benchmarks/verdicts.py`: {studies} simulated studies a row, {options.draws} draws each; the standard",
        f"error of a share near .95 is {np.sqrt(0.0475 / studies):.3f}. Old and new on the same data.",
        "",
    ]
    for line in rows(studies, options.draws):
        print(line, flush=True)
        lines.append(line)
    lines += ["", f"{time.process_time() - start:.0f} CPU seconds."]
    print(lines[-1])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
