"""Comparisons of lines that were tuned over different numbers of settings."""

import numpy as np
import pytest

from scaling.laws.chosen_again import TunedRuns, chosen_again
from scaling.laws.joint_comparison import compare_lines
from scaling.laws.points import Points
from scaling.laws.tuning_bias import Trials, choose

LAW = {"E": 1.2, "A": 20.0, "B": 60.0, "alpha": 0.4, "beta": 0.4}
SIGMA = 0.01


def runs_of(settings: dict[str, int], rng: np.random.Generator) -> Trials:
    """Every cell of every line with so many equally good settings; the true losses are those of one law."""
    columns = {name: [] for name in ("params", "tokens", "budget", "line", "cell")}
    tried = []
    for line, count in settings.items():
        for compute in (1e12, 1e13, 1e14, 1e15):
            for n, factor in enumerate(np.geomspace(1 / 3, 3, 7)):
                params = 0.05 * (compute / 6) ** 0.5 * factor
                for k in range(count):
                    row = (params, compute / 6 / params, compute, line, f"{compute:g} {n}")
                    for name, value in zip(columns, row, strict=True):
                        columns[name].append(value)
                    tried.append(f"setting {k}")
    params, tokens = np.array(columns["params"]), np.array(columns["tokens"])
    loss = LAW["E"] + LAW["A"] * params ** -LAW["alpha"] + LAW["B"] * tokens ** -LAW["beta"]
    noise = SIGMA * rng.normal(size=len(loss))
    points = Points(loss=loss + noise, **{name: np.array(values) for name, values in columns.items()})
    return Trials(points, np.array(tried))


def test_tuning_one_line_over_more_settings_gives_it_no_advantage():
    """Of two lines of one law, the best of eight equal settings is 1.4 σ too low, the only one of the other is not: the
    true multiplier is 1.
    """
    plain, again, words = 0, 0, 0
    for study in range(12):
        trials = runs_of({"tuned": 8, "other": 1}, np.random.default_rng(study))
        points, _ = choose(trials, sigma=SIGMA)
        for tuned in (None, TunedRuns(trials, SIGMA)):
            compared = compare_lines(points, "other", draws=200, seed=study, tuned=tuned).lines[0]
            low, high = compared.headline.interval
            plain += tuned is None and low <= 1 <= high
            again += tuned is not None and low <= 1 <= high
            words += tuned is not None and compared.verdict.word in ("better", "worse")
    assert plain <= 9
    assert again >= 11
    assert words <= 2


def test_untuned_cells_keep_the_parts_of_their_noise():
    trials = runs_of({"tuned": 1, "other": 1}, np.random.default_rng(0))
    points, _ = choose(trials, sigma=SIGMA)
    joint = compare_lines(points, "other", draws=20).lines[0].joint
    noise = chosen_again(TunedRuns(trials, SIGMA), points, joint.parts, draws=20_000, seed=0)
    parts = joint.parts.draw(np.random.default_rng(1), 20_000)
    assert noise.std(axis=0) == pytest.approx(parts.std(axis=0), rel=0.15)
    shared = [np.corrcoef(one[:, 0], one[:, 1])[0, 1] for one in (noise, parts)]  # two cells of one budget
    assert shared[0] == pytest.approx(shared[1], abs=0.06)
