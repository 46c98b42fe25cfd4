"""Lines tuned over rates: what is best, which claims hold, and what happens above."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from scaling.analysis.rates import claimed_pairs, pair, tunings
from scaling.analysis.settings import Settings
from scaling.analysis.study import study_rows
from scaling.report.documents import comparisons_json
from scaling.report.figures.rates import rates_data, rates_figure
from scaling.report.html import Context, write_page
from scaling.report.rate_tables import RATE_TABLES, best_rates_table, claims_table, stability_table
from scaling.report.summary import answer
from scaling.report.terminal import compare_text
from scaling.rows import RunRow
from scaling.run import Shape
from scaling.sweeps.counting import count
from scaling.sweeps.schema import Claim

SEEDS, NOISE = 6, 0.02
COUNTS = count(Shape(2, 32, 1, 88, 256))
# Line: (best rate, loss there, how the norm grows with the rate)
TRUE = {"good": (0.02, 2.0, 1.0), "same": (0.04, 2.005, 1.0), "bad": (0.01, 2.4, 3.0)}
CLAIMS = (Claim(order=("good", "same", "bad"), source="a paper"), Claim(order=("bad", "good"), source="another"))


def tuned_rows(*, multiples=(0.5, 1, 2, 4), diverges=("bad", 4)):
    """Losses a parabola in log rate with known noise, norms a power of the rate."""
    random = np.random.default_rng(0)
    rows = []
    for line, (best, loss, growth) in TRUE.items():
        for multiple in multiples:
            for seed in range(SEEDS):
                broken = (line, multiple) == diverges and seed == 0
                value = loss + 0.1 * np.log2(multiple) ** 2 + NOISE * random.normal()
                row = {"id": f"{line} {multiple} {seed}", "line": line, "family": line}
                row |= {"layers": 2, "width": 32, "heads": 1, "ff_width": 88, "vocab_size": 256, "steps": 625}
                row |= {"batch_tokens": 256, "tokens": 160_000, "flops": 1e10, "params_matmul": COUNTS.params_matmul}
                row |= {name: getattr(COUNTS, name) for name in ("params_total", "params_non_embedding")}
                row |= {"lr": best * multiple, "seed": seed}
                row |= {"status": "diverged" if broken else "completed", "loss": None if broken else value}
                row |= {"cell": "only", "largest_matrix_norm": 3.0 * multiple**growth, "update_norm_over_lr": 0.7}
                rows.append(RunRow(**row))
    return rows


@pytest.fixture(scope="module")
def tuned():
    settings = Settings(params_column="params_matmul", convention="exact", bootstrap=0, claims=CLAIMS)
    return study_rows(tuned_rows(), settings=settings)


def test_the_best_rate_of_every_line_is_found_best_line_first(tuned):
    (group,) = tunings(tuned)
    assert [one.line for one in group] == ["good", "same", "bad"]
    assert {one.line: one.best.lr for one in group} == {line: best for line, (best, _, _) in TRUE.items()}
    assert all(one.bracketed for one in group)
    assert [one.at(4).lr for one in group] == pytest.approx([0.08, 0.16, 0.04])
    assert [one.at(8) for one in group] == [None] * 3
    assert [rate.diverged for rate in group[2].rates] == [0, 0, 0, 1]
    assert group[2].rates[3].median("largest_matrix_norm") == pytest.approx(3.0 * 4**3)


def test_runs_of_equal_seed_are_paired(tuned):
    good, _, bad = tunings(tuned)[0]
    made = pair(good, bad, tuned.noise)
    reference = stats.ttest_rel(good.best.losses, bad.best.losses).confidence_interval()
    assert made.interval == pytest.approx((reference.low, reference.high))
    assert (made.matched.runs, made.word) == (SEEDS, "better")


def test_the_interval_of_other_seeds_is_that_of_a_t_test_with_the_pooled_noise():
    settings = Settings(params_column="params_matmul", convention="exact", bootstrap=0)
    rows = [replace(row, seed=row.seed + 10 * (row.line == "bad")) for row in tuned_rows()]
    tuned = study_rows(rows, settings=settings)
    good, same, bad = tunings(tuned)[0]
    losses = [np.array(one.best.losses) for one in (good, same, bad)]
    freedom = 3 * (SEEDS - 1)
    sigma = np.sqrt(sum(x.var(ddof=1) for x in losses) / 3)
    made = pair(good, bad, tuned.noise)
    half = stats.t.ppf(0.975, freedom) * sigma * np.sqrt(2 / SEEDS)
    assert tuned.noise.sigma == pytest.approx(sigma)
    assert made.interval == pytest.approx((made.difference - half, made.difference + half))
    assert made.difference == pytest.approx(losses[0].mean() - losses[2].mean())


def test_claims_hold_are_reversed_or_not_shown(tuned):
    pairs = claimed_pairs(tuned, tunings(tuned)[0])
    found = [(claim.source, made.first.line, made.second.line, made.outcome) for claim, made in pairs]
    assert found == [
        ("a paper", "good", "same", "not shown"),
        ("a paper", "good", "bad", "holds"),
        ("a paper", "same", "bad", "holds"),
        ("another", "bad", "good", "reversed"),
    ]
    assert claims_table(tuned).rows[1][-3:] == ("holds", None, None)


def test_a_single_run_of_each_line_resolves_nothing():
    rows = [row for row in tuned_rows() if row.seed == 1]
    settings = Settings(params_column="params_matmul", convention="exact", bootstrap=0, claims=CLAIMS)
    study = study_rows(rows, settings=settings)
    assert {made.outcome for _, made in claimed_pairs(study, tunings(study)[0])} == {"not shown"}
    assert {row[-1] for row in best_rates_table(study).rows} == {None, "not resolved"}


def test_two_rates_are_no_tuning_and_excluded_runs_do_not_count(tuned):
    settings = Settings(params_column="params_matmul", convention="exact", bootstrap=0)
    two = study_rows(tuned_rows(multiples=(1, 2)), settings=settings)
    assert tunings(two) == []
    assert all(not make(two).rows for make in RATE_TABLES.values())
    assert rates_data(two) is None
    excluded = replace(settings, exclude={f"good 1 {seed}": "a reason" for seed in range(SEEDS)})
    best = {one.line: one.best.lr for one in tunings(study_rows(tuned_rows(), settings=excluded))[0]}
    assert best["good"] != 0.02


def test_the_answer_says_it_in_words(tuned):
    ranking, first, second, above, no_law = answer(tuned)
    assert ranking.startswith("Each line at its best rate, d32 L2 on 160k tokens")
    assert ranking.index("good ") < ranking.index("same ") < ranking.index("bad ")
    assert "Of the 3 pairs in good < same < bad (a paper), 2 hold here, 0 are reversed and 1 are not shown" in first
    assert "the largest difference is bad minus good +0." in second
    assert above.startswith("At 4 times the best rate the largest matrix has a spectral norm of: good 12 (loss +0.4")
    assert "1 of 6 runs diverged" in above
    assert no_law == "Every line has one shape and one number of tokens, so no law can be fitted."


def test_stability_shows_one_two_and_four_times_the_best(tuned):
    row = dict(zip((c.name for c in stability_table(tuned).columns), stability_table(tuned).rows[2], strict=True))
    assert row["line"] == "bad"
    assert row["loss_nats_at_2"] - row["loss_nats_at_1"] == pytest.approx(0.1, abs=3 * NOISE)
    assert [row[f"matrix_norm_at_{m}"] for m in (1, 2, 4)] == pytest.approx([3, 24, 192])
    assert row["diverged"] == 1


def test_text_json_and_page_have_it(tuned, tmp_path):
    document = comparisons_json(tuned)
    assert [line["line"] for line in document["rates"]] == ["good", "same", "bad"]
    assert [claim["outcome"] for claim in document["claims"]] == ["not shown", "holds", "holds", "reversed"]
    assert document["rates"][2]["rates"][3]["diverged"] == 1
    assert "Stability above the best rate" in compare_text(tuned)
    page = write_page(tuned, tmp_path, Context("toy", "Which is best?")).page.read_text()
    assert page.count("<figure ") == 1
    assert "Claimed orders" in page
    assert {p.name for p in (tmp_path / "tables").glob("*.tex")} >= {"claims.tex", "stability.tex", "rates.tex"}
    assert (tmp_path / "tables" / "stability.tex").read_text().isascii()


def test_the_drawing_has_every_line_and_a_cross_where_a_run_diverged(tuned):
    data = rates_data(tuned)
    left, right = rates_figure(data).axes
    crosses = [line.get_xdata() for line in left.lines if line.get_marker() == "x"]
    assert [list(x) for x in crosses] == [[], [], [4.0]]
    assert {text.get_text() for text in right.texts} == {"good", "same", "bad"}
    means = left.lines[0].get_ydata()
    assert list(means) == pytest.approx([rate.loss for rate in tunings(tuned)[0][0].rates])
    unknown = replace(data, lines=tuple(replace(x, matrix_norm=(None,) * len(x.loss)) for x in data.lines))
    assert len(rates_figure(unknown).axes) == 1


def test_a_reported_difference_is_held_against_the_interval_here():
    """The true differences are −.4 and −.395; somebody reports −.40, −.90 and −.50."""
    claim = Claim(order=("good", "same", "bad"), source="a paper", losses=(1.5, 2.0, 2.4))
    settings = Settings(params_column="params_matmul", convention="exact", bootstrap=0, claims=(claim,))
    study = study_rows(tuned_rows(), settings=settings)
    outcomes = {row[1:3]: row[-2:] for row in claims_table(study).rows}
    assert outcomes["same", "bad"] == (pytest.approx(-0.4), "no")
    assert outcomes["good", "bad"] == (pytest.approx(-0.9), "yes")
    document = comparisons_json(study)
    assert [one["excluded"] for one in document["claims"]] == [True, True, False]
    assert not any("excludes the reported" in sentence for sentence in answer(study))  # of the most precise pair
    far = replace(settings, claims=(Claim(order=("good", "same", "bad"), source="a paper", losses=(1.5, 2.0, 3.4)),))
    assert any("excludes the reported" in sentence for sentence in answer(study_rows(tuned_rows(), settings=far)))
    pairs = {(one["first"], one["second"]): one for one in document["matched_pairs"]}
    assert pairs["good", "bad"]["runs"] == SEEDS
    assert pairs["good", "bad"]["interval"][1] < 0
    assert pairs["good", "bad"].keys() >= {"difference_nats", "correlation", "verdict"}
    with pytest.raises(ValueError, match="needs its loss"):
        Claim(order=("good", "bad"), source="a paper", losses=(1.5,))
