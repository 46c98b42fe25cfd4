"""Recovery of a known law from a simulated sweep, verdicts in every situation, and the JSON contract."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.settings import Settings
from scaling.analysis.study import settings_for_table, study_rows
from scaling.analysis.table_reader import read_table
from scaling.analysis.training_costs import models_of_rows
from scaling.errors import DataError, FitError
from scaling.laws.solver.objective_terms import System
from scaling.report.documents import fits_json, predictions_json
from scaling.report.summary import answer
from scaling.report.tables import study_tables
from scaling.run import Shape
from scaling.sweeps.counting import count, matrix_ranks

settings = Settings(params_column="params_matmul", convention="exact", bootstrap=200, devices=("h200",))
DATA = Path(__file__).parents[3] / "shared" / "data"


def test_a_noiseless_sweep_gives_the_law_back(simulate, law_of, settings):
    made = study_rows(simulate(noise=0.0), settings=replace(settings, bootstrap=0))
    for line in made.lines[:2]:
        for name, value in law_of[line.name].items():
            assert line.law.fit.parameters[name] == pytest.approx(value, rel=1e-3), (line.name, name)


def test_branches_of_a_trunk_are_drawn_together_and_give_approach_1(simulate, law_of, settings):
    """Every shape at five lengths, the lengths of a shape on one trunk: an exact law without budgets."""
    shapes = {(row.width, row.layers): row for row in simulate(noise=0.0) if row.line == "dense"}
    rows = []
    for (width, layers), base in shapes.items():
        for multiple in (10, 40, 160, 640, 2560):
            longer = multiple * base.params_matmul / base.tokens
            scaled = {name: getattr(base, name) * longer for name in ("tokens", "steps", "flops", "flops_6nd")}
            cell = f"dense/{multiple}x/{width}-{layers}"
            row = replace(base, **scaled, id=cell, cell=cell, budget=None, trunk=f"{width}-{layers}")
            law = law_of["dense"]
            loss = law["E"] + law["A"] / row.params_matmul ** law["alpha"] + law["B"] / row.tokens ** law["beta"]
            rows.append(replace(row, loss=loss))
    (line,) = study_rows(rows, settings=settings).lines
    assert set(line.points.trunk) == {f"{width}-{layers}" for width, layers in shapes}
    assert line.law.draws.clustered
    assert line.law.draws.kind == "residuals"
    assert line.law.envelope.shapes == len(shapes)
    rows[:2] = [replace(row, trunk=None) for row in rows[:2]]
    (line,) = study_rows(rows, settings=replace(settings, bootstrap=0)).lines
    assert len(set(line.points.trunk)) == len(shapes) + 2, "a run alone is a trunk of its own"


def test_intervals_hold_the_truth_and_a_line_without_a_law_has_minima(study, law_of):
    for line in study.lines[:2]:
        law = law_of[line.name]
        low, high = line.law.exponent_intervals["N"]
        assert low < law["beta"] / (law["alpha"] + law["beta"]) < high
    last = study.lines[2]
    assert last.law is None
    assert "2 compute budgets" in last.refused
    assert len(last.isoflop.bracketed) == 2


def test_the_difference_is_the_true_one(study, law_of):
    """At every budget the true difference of frontiers lies in its interval widened by a half."""
    first = study.comparisons[0]
    assert (first.line.name, first.reference.name) == ("low_rank@0.25", "dense")
    for difference in first.by_budget:
        truth = _least(study, "low_rank@0.25", law_of, difference.budget) - _least(
            study, "dense", law_of, difference.budget
        )
        low, high = difference.verdict.interval
        half = (high - low) / 2
        assert low - half < truth < high + half


def _least(study, name, law_of, budget):
    line = next(line for line in study.lines if line.name == name)
    law, n = law_of[name], np.geomspace(1e3, 1e6, 4000)
    d = budget / line.costs["exact"](n)
    return float((law["E"] + law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]).min())


@pytest.mark.parametrize(("shift", "word"), [(-0.25, "better"), (+0.2, "worse"), (-0.09, "not resolved")])
def test_the_first_sentence_is_the_compute_multiplier_with_its_word(simulate, shift, word, settings):
    rows = [row for row in simulate(shift={"low_rank@0.25": shift}) if row.line != "low_rank@0.5"]
    made = study_rows(rows, settings=settings)
    first, *others = answer(made)
    assert made.comparisons[0].word == word
    assert first.startswith("At 6.2e10 exact FLOPs low_rank@0.25 needs ")
    assert f"the compute of dense for the same loss: {word} over 3 budgets; " in first
    assert ("would resolve it" in first) == (word == "not resolved")
    assert any("reaches a validation loss" in text and "times the seed noise" in text for text in others)
    assert any(text.startswith("Noise around the joint law: seed ") for text in others)


def test_without_replicates_seed_noise_and_scatter_are_one_part(simulate, settings):
    rows = [row for row in simulate() if row.seed == 0 and row.line != "low_rank@0.5"]
    made = study_rows(rows, settings=settings)
    assert made.noise is None
    assert made.joint.noise.summary.seed is None
    assert any("seed and scatter together" in text for text in answer(made))
    assert "seed_noise_unknown" in {check.code for check in made.checks}


def test_three_points_on_a_parabola_borrow_the_noise_of_the_other_lines(simulate, settings):
    """The second ratio of a small sweep: one budget, three sizes, no replicates of its own."""
    rows = [row for row in simulate() if row.line != "low_rank@0.5" or row.budget == 6e10]
    sizes = sorted({row.params_matmul for row in rows if row.line == "low_rank@0.5"})
    kept = [r for r in rows if r.line != "low_rank@0.5" or (r.params_matmul in sizes[::2] and r.seed == 0)]
    made = study_rows(kept, settings=settings)
    low, high = made.lines[2].isoflop.minima[0].loss_interval
    assert high - low > made.noise.sigma
    assert [len(one.by_budget) for one in made.comparisons] == [3, 1]


def test_without_draws_nothing_is_compared(simulate, settings):
    made = study_rows(simulate(), settings=replace(settings, bootstrap=0))
    assert made.comparisons == ()
    assert answer(made)[0] == "By chinchilla on 17 points the compute-optimal size of dense grows as C^0.60."


def test_the_answer_says_that_exponents_cannot_be_compared(study):
    found = [text for text in answer(study) if text.startswith("The exponents are too uncertain to compare")]
    assert "N_opt grows as C^" in found[0]


def test_a_verdict_that_depends_on_the_cost_says_so(simulate, settings):
    """Equal loss per FLOP, a tenth of the device time: the axes disagree."""
    rows = simulate(shift={"low_rank@0.25": -0.055})
    rows = [replace(r, device_seconds=r.device_seconds / 10) if r.line == "low_rank@0.25" else r for r in rows]
    made = study_rows(rows, settings=settings)
    assert "verdict_depends_on_cost" in {check.code for check in made.checks}
    assert any(sentence.startswith("The verdict depends on what is held equal") for sentence in answer(made))


def test_checks_show_the_weak_points(simulate, settings):
    rows = simulate()
    rows[0] = replace(rows[0], **{"status": "diverged", "loss": None})
    rows[20] = replace(rows[20], torch_version="2.12.0")
    rows[5] = replace(rows[5], epochs=6.0, compiled=True)
    rows[6] = replace(rows[6], compiled=False)
    codes = {check.code for check in study_rows(rows, settings=replace(settings, bootstrap=0)).checks}
    assert {
        "optimizer_differs",
        "few_steps",
        "many_epochs",
        "embedding_share",
        "no_law",
        "runs_missing",
        "diverged_one_side",
        "mixed_compiled",
        "mixed_torch_version",
        "seed_noise_uncertain",
    } <= codes


def test_rows_in_another_order_give_the_same_laws(simulate, study, settings):
    rows = simulate()
    other = study_rows(sorted(rows, key=lambda row: row.line), settings=settings)
    assert json.dumps(fits_json(other)) == json.dumps(fits_json(study))


def test_one_law_over_all_lines(simulate, settings):
    """kappa of a law in which a factorized parameter is worth half a plain one, without noise."""
    made = study_rows(simulate(noise=0.0), settings=replace(settings, law="joint", bootstrap=0))
    document = fits_json(made)["fits"][0]
    assert document["law"] == "joint"
    assert document["family"] is None
    assert document["parameters"]["A[low_rank@0.25]"] / document["parameters"]["A[dense]"] == pytest.approx(
        11.5 / 10.3, rel=1e-3
    )
    ranks = study_rows(simulate(), settings=replace(settings, law="rank", bootstrap=0))
    assert {"kappa@0.25", "kappa@0.5"} <= set(fits_json(ranks)["fits"][0]["parameters"])


def test_a_line_with_too_few_budgets_is_compared_under_an_assumption_that_is_named(study):
    second = study.comparisons[1]
    assert (second.line.name, second.joint.model) == ("low_rank@0.5", "M1")
    assert "assumed is that the lines differ only by a constant factor on N" in second.joint.assumption
    assert any(text.startswith("This rests on an assumption") for text in answer(study))
    assert "lines_share_exponents" in {check.code for check in study.checks}


def test_lines_of_one_budget_are_compared_by_their_minima(simulate, settings):
    rows = [row for row in simulate() if row.budget == 6e10]
    made = study_rows(rows, settings=settings)
    first = made.comparisons[0]
    assert (first.joint, first.headline.method) == (None, "isoFLOP minima")
    minima = [line.isoflop.bracketed[-1].loss for line in (made.lines[1], made.lines[0])]
    assert first.headline.verdict.difference_nats == pytest.approx(minima[0] - minima[1])
    assert "by isoFLOP minima" in answer(made)[0]


def test_lines_that_share_no_compute_are_a_sentence(simulate, settings):
    rows = [row for row in simulate() if row.line != "low_rank@0.5"]
    rows = [row for row in rows if (row.budget == 2e10) == (row.line == "dense")]
    made = study_rows(rows, settings=settings)
    assert made.comparisons == ()
    assert any(text.startswith("low_rank@0.25: not compared with dense: ") for text in answer(made))
    assert "lines_not_compared" in {check.code for check in made.checks}


def test_a_sweep_whose_shapes_are_unknown_is_refused(simulate, settings):
    """Never 6ND in silence: exact FLOPs and serving prices need the shape that was trained."""
    rows = simulate()
    for changes in ({"params_total": rows[0].params_total + 1}, {"tied": True}, {"layers": None}):
        with pytest.raises(DataError, match="does not give its number of parameters") as caught:
            study_rows([replace(rows[0], **changes), *rows[1:]], settings=settings)
        assert rows[0].id in caught.value.where


def test_rows_of_0_1_have_the_shapes_that_were_counted(simulate):
    """Without key-value heads, ties and ranks the same models are found, also where heads are shared and tied."""
    shape = Shape(2, 16, 4, 40, 256, 2, True)
    ranks = matrix_ranks(shape, 0.25, "min")
    old = {"kv_heads": None, "tied": None, **{f"rank_{name}": None for name in ranks}}
    for row in simulate():
        assert models_of_rows([replace(row, **old)]) == models_of_rows([row])
    row = replace(simulate()[0], layers=2, width=16, heads=4, ff_width=40, rank_ratio=0.25, **old)
    assert models_of_rows([replace(row, params_total=count(shape, ranks).params_total)]) == [(shape, ranks)]


def test_a_foreign_table_without_shapes_counts_6nd(tmp_path, simulate, settings):
    dense = [row for row in simulate(noise=0.0) if row.line == "dense"]
    lines = [f"{row.params_total},{row.tokens},{row.loss},{row.layers}" for row in dense]
    (tmp_path / "t.csv").write_text("\n".join(["params,tokens,loss,layers", *lines]))
    rows = read_table(tmp_path / "t.csv")
    made = study_rows(rows, settings=settings_for_table(rows, replace(settings, bootstrap=0)))
    assert (made.convention, made.settings.params_column, made.lines[0].curve) == ("6ND", "params", None)
    with pytest.raises(DataError, match="no such column"):
        study_rows(rows, settings=replace(made.settings, where={"min_steps": 10}))


def test_dropped_points_are_counted(simulate, settings):
    rows = simulate()
    rows[0] = replace(rows[0], **{"status": "failed", "loss": None})
    made = study_rows(rows, settings=replace(settings, bootstrap=0, drop_highest=2))
    first = fits_json(made)["fits"][0]
    assert (first["points"], first["dropped"]) == (14, 3)


def test_impossible_requests_are_refused(study, simulate, settings):
    with pytest.raises(FitError, match="training FLOPs"):
        predictions_json(study, [-1.0])
    with pytest.raises(FitError, match="no run is a data point yet"):
        study_rows([replace(row, status="planned", loss=None) for row in simulate()], settings=settings)
    few = study_rows(simulate()[:4], settings=settings)
    with pytest.raises(FitError, match="no law can be fitted"):
        few.require_law()


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the public scaling-law tables, which the project does not ship")
def test_a_foreign_table_gives_the_published_law():
    """Replication of Hoffmann et al. (2404.10102): 240 points, log_huber with δ 1e-3 summed."""
    rows = read_table(DATA / "chinchilla_svg.csv")
    settings = settings_for_table(rows, Settings(drop_highest=5, bootstrap=0, delta=1e-3))
    fit = fits_json(study_rows(rows, settings=settings))["fits"][0]
    assert (fit["family"], fit["params_column"], fit["points"], fit["dropped"]) == (None, "params", 240, 5)
    expected = {"E": 1.81722, "A": 477.83, "B": 2143.42, "alpha": 0.34731, "beta": 0.36717}
    assert fit["parameters"] == pytest.approx(expected, rel=1e-4)
    assert fit["objective_value"] == pytest.approx(0.00101827, rel=1e-5)


def test_lines_of_one_design_are_compared_with_paired_draws(simulate, settings):
    """Two lines of the same shapes, budgets and seeds whose losses differ by less than what they share."""
    dense = [row for row in simulate(noise=0.03) if row.line == "dense"]
    random = np.random.default_rng(5)
    other = [
        replace(row, id=f"b{row.id}", family="other", line="other", loss=row.loss + 0.003 * random.normal())
        for row in dense
    ]
    verdict = study_rows(dense + other, settings=settings).comparisons[0].headline.verdict
    unmatched = [replace(row, seed=row.seed + 10) for row in other]
    apart = study_rows(dense + unmatched, settings=settings).comparisons[0].headline.verdict
    assert (verdict.paired, apart.paired) == (True, False)
    assert np.ptp(verdict.interval) < 0.5 * np.ptp(apart.interval)


def tuned_runs(rows, *, depth, noise=0.02, rates=(0.01, 0.02, 0.04, 0.08, 0.16), seed=3):
    """`rows` with every run of a line at several rates: a valley of `depth` in log rate around .04, and seed noise."""
    random, line = np.random.default_rng(seed), "low_rank@0.25"
    found = []
    for row in rows:
        for rate in rates if row.line == line else (row.lr,):
            loss = row.loss + noise * float(random.normal())
            if row.line == line:
                loss += depth * (math.log(rate / 0.04) / math.log(4)) ** 2
            found.append(replace(row, id=f"{row.id}-{rate:g}", lr=rate, loss=loss))
    return found


def test_tuned_cells_are_parabolas_and_the_bias_of_choosing_is_told(simulate, settings):
    made = study_rows(tuned_runs(simulate(noise=0.0), depth=0.3), settings=settings)
    line = made.lines[1]
    assert line.name == "low_rank@0.25"
    assert {cell.settings for cell in line.cells} == {5}
    assert all(choice.parabola for choice in line.choices)
    assert [choice.settings for choice in made.lines[0].choices] == []
    first = fits_json(made)["fits"]
    chosen = next(fit for fit in first if fit["line"] == "low_rank@0.25")["selection"]
    assert len(chosen) == len(line.cells) == 15
    check = next(check for check in made.checks if check.code == "selection_bias")
    assert check.message.startswith("low_rank@0.25: the best of up to 5 settings was kept in 15 cells")
    told = [sentence for sentence in answer(made) if sentence.startswith("Choosing the best of several settings")]
    assert len(told) == 1  # a deep valley: choosing costs next to nothing
    assert "of low_rank@0.25 by about 0.000 and of dense by 0.000 nats/token" in told[0]
    table = next(table for table in study_tables(made) if table.name == "selection")
    assert len(table.rows) == 15


def test_a_law_over_all_lines_chooses_again_in_every_draw(simulate, settings):
    """Five equally good rates in one line: the draws of the joint law lie above its fit there, by the bias."""
    rows = [row for row in simulate(noise=0.0) if row.line != "low_rank@0.5"]
    made = study_rows(tuned_runs(rows, depth=0.0), settings=replace(settings, law="joint", bootstrap=100))
    fitted, draws = made.together
    system = System(fitted.layout, made.lines[1].points)
    above = (
        np.exp(system.log_loss(draws.vectors)).mean(axis=0) - np.exp(system.log_loss(fitted.vector[None])[0])
    ).mean()
    bias = np.mean([choice.bias_nats for choice in made.lines[1].choices])
    assert 0.5 * bias < above < 1.5 * bias


def test_an_interval_that_ignores_choosing_is_wrong_and_one_that_chooses_again_is_not(simulate, law_of, settings):
    """Five equally good rates in one line, none in the other; the true difference of frontiers is known."""
    rows = [row for row in simulate(noise=0.0) if row.line != "low_rank@0.5"]
    truth, again, plain = None, 0, 0
    for seed in (0, 1, 3):
        runs = tuned_runs(rows, depth=0.0, seed=seed)
        made = study_rows(runs, settings=replace(settings, bootstrap=100, devices=()))
        bias = sum(choice.bias_nats for choice in made.lines[1].choices) / 15
        assert f"of low_rank@0.25 by about {bias:.3f} and of dense by 0.000" in " ".join(answer(made))
        kept = {name for cell in made.cells for name in cell.names}
        ignored = study_rows([row for row in runs if row.id in kept], settings=made.settings)
        truth = truth or _least(made, "low_rank@0.25", law_of, 6e10)
        for one in (made, ignored):
            low, high = np.quantile(one.lines[1].frontier.loss_draws(6e10), [0.025, 0.975])
            again += one is made and low <= truth <= high
            plain += one is ignored and low <= truth <= high
    assert again == 3
    assert plain == 0


def test_low_coverage_of_the_own_holdouts_is_a_check_of_the_fit(simulate, settings):
    """Losses that jump at the largest budget: what the smaller ones predict there lies outside."""
    rows = [
        replace(row, loss=row.loss + (0.6 if row.budget and row.budget > 1e11 else 0.0), line="dense")
        for row in simulate(noise=0.002)
        if row.line == "dense"
    ]
    fourth = [
        replace(row, id=f"{row.id}x", budget=6e11, tokens=3 * row.tokens, flops=3 * row.flops, loss=row.loss + 0.5,
                cell=f"{row.cell} 4", seed=0)
        for row in rows
        if row.budget == 2e11
    ]  # fmt: skip
    made = study_rows([*rows, *fourth], settings=replace(settings, bootstrap=0))
    extrapolation = made.lines[0].extrapolation
    assert extrapolation.calibration.share_inside < 0.85
    assert "holdout_coverage" in {check.code for check in made.law_checks}
