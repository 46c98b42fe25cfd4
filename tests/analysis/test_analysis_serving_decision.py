"""The serving decision of a simulated study, a table without shapes, and bad questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_sweep import LAWS

from scaling.analysis.serving import paired_laws, serving
from scaling.analysis.serving_decision import serving_decision
from scaling.analysis.settings import ServingQuestion
from scaling.analysis.study import study_rows
from scaling.errors import FitError, PlanError
from scaling.inference.decision import CHOICES, PowerLaws, decide
from scaling.report.decision_tables import decision_sentences, decision_tables
from scaling.report.documents import comparisons_json
from scaling.report.figures.serving_choice import map_data, memory_data
from scaling.report.figures.serving_costs import cost_ratios_data, lives_data
from scaling.report.html import Context, write_page
from scaling.report.serving_document import decision_json


@pytest.fixture(scope="module")
def ask(simulate, settings):
    rows = tuple(simulate())

    def make(served=1e9, **question):
        return study_rows(rows, settings=replace(settings, serving=ServingQuestion(served, **question)))

    return make


def test_the_first_sentence_is_the_decision(ask):
    made = serving_decision(ask(batch=32, context=512, prompt=128))
    first, *_ = decision_sentences(made)
    assert first.startswith("Serving 1B tokens at loss 1.7")
    assert "h100 (batch 32, context 512, prompt 128, bfloat16)" in first
    assert "low_rank@0.25 " in first
    assert made.unit == "flops"  # models of some ten thousand parameters
    assert {"too_small_to_time", "context_beyond_training"} <= {check.code for check in made.checks}


def test_a_model_of_ten_million_parameters_is_priced_in_money_and_has_a_range(ask):
    made = serving_decision(ask(served=1e13, compute=1e20, usd_per_hour=2.5))
    assert made.unit == "usd"
    row = made.decision.best[0]
    low, high = made.total_range(row)
    assert low < row.total_cost < high
    dearer = serving_decision(ask(served=1e13, compute=1e20, usd_per_hour=5.0)).decision.best[0]
    assert dearer.total_cost == pytest.approx(2 * row.total_cost, rel=1e-6)
    hours = serving_decision(ask(served=1e13, compute=1e20))
    assert hours.unit == "device_seconds"
    assert 2.5 * hours.decision.best[0].total_cost / 3600 == pytest.approx(row.total_cost, rel=1e-6)


def test_int8_weights_are_cheaper_to_decode(ask):
    costs = [
        serving_decision(ask(compute=1e25, precision=precision)).decision.row("dense", "dense", "cheapest").serve_cost
        for precision in ("bfloat16", "int8")
    ]
    assert costs[1] < 0.8 * costs[0]


def test_the_intervals_hold_the_true_ratios(ask):
    made = serving_decision(ask()).decision
    true = [replace(one, laws=_true_laws(one.line)) for one in made.candidates]
    truth = decide(true, "dense", target_loss=made.target_loss, served_tokens=made.served_tokens)
    for choice in CHOICES:
        row, wanted = (one.row("low_rank@0.25", "factorized", choice) for one in (made, truth))
        low, high = row.ratio_interval
        assert low < np.exp(np.log(wanted.total_cost) - np.log(truth.row("dense", "dense", choice).total_cost)) < high


def _true_laws(line: str) -> PowerLaws:
    law = LAWS[line]
    columns = (
        np.array([[value]]) for value in (law["E"], np.log(law["A"]), law["alpha"], np.log(law["B"]), law["beta"])
    )
    return PowerLaws(*columns)


def test_the_document_has_the_keys_of_the_contract(ask):
    document = decision_json(serving_decision(ask()))
    assert {"decision", "device", "batch", "context", "prompt", "served_tokens", "rows", "break_even"} <= set(document)
    keys = "line rank_ratio form choice N D loss train_cost serve_cost total_cost unit ratio ratio_interval same"
    assert all(set(keys.split()) <= set(row) for row in document["rows"])
    assert {row["choice"] for row in document["rows"]} == {"lifetime", "cheapest", "1.5x", "2x", "4x"}
    assert all({"line", "against", "served_tokens", "interval"} <= set(point) for point in document["break_even"])


def test_tables_and_figures_hold_the_same_numbers(ask):
    study = ask()
    made = serving_decision(study)
    tables = {table.name: table for table in decision_tables(study)}
    assert {"serving_decision", "over_training"} <= set(tables)
    assert not any("nan" in cell for table in tables.values() for row in table.shown for cell in row)
    lives, chart = lives_data(study), map_data(study)
    for line in lives.lines:
        assert list(line.cost) == sorted(line.cost)  # more served tokens cost more
    assert len(chart.losses) == len(chart.cheapest) == len(chart.params)
    at = chart.params[len(chart.losses) // 2]
    assert at[0] > at[-1]  # the more is served, the smaller the model
    ratios = dict(cost_ratios_data(study).panels)["cheapest over its life"]
    assert ratios[0].ratio == made.decision.row("low_rank@0.25", "factorized", "lifetime").ratio
    memory = memory_data(study)
    assert memory.lines[0].cache[-1] / memory.lines[0].cache[0] == pytest.approx(
        memory.contexts[-1] / memory.contexts[0]
    )


@pytest.mark.parametrize(
    ("question", "error", "words"),
    [
        ({"loss": 0.1}, FitError, "above 1.0"),
        ({"device": "b200"}, PlanError, "h100"),
        ({"device": "cpu", "precision": "bfloat16"}, PlanError, "float32"),
        ({"context": 128, "prompt": 128}, PlanError, "a prompt below the context"),
    ],
)
def test_a_bad_question_says_what_is_allowed(ask, question, error, words):
    with pytest.raises(error, match=words):
        serving_decision(ask(**question))


def test_a_loss_far_outside_says_how_far(ask):
    made = serving_decision(ask(compute=1e22))
    (told,) = [check for check in made.checks if check.code == "extrapolation"]
    assert "decades above the largest compute of the data" in told.message


def test_one_line_alone_is_priced_and_says_that_there_is_no_second(simulate, settings):
    rows = [row for row in simulate() if row.family == "dense"]
    study = study_rows(rows, settings=replace(settings, serving=ServingQuestion(1e9)))
    made = serving_decision(study)
    assert "there is no second line to compare it with" in decision_sentences(made)[0]
    assert made.decision.best[0].total_cost > 0


def test_a_joint_law_that_is_not_determined_leaves_the_reference_and_a_reason(simulate, settings):
    """Losses of the second line that no law describes: nothing fails, and the line is named with why."""
    random = np.random.default_rng(3)
    rows = [row for row in simulate() if row.rank_ratio != 0.5]
    rows = [replace(row, loss=2.0 + 1e-3 * random.normal()) if row.rank_ratio else row for row in rows]
    study = study_rows(rows, settings=replace(settings, serving=ServingQuestion(1e9)))
    assert paired_laws(study) == {}
    assert serving(study).comparisons  # the lines' own laws, as far as they go
    made = serving_decision(study)
    assert {one.line for one in made.decision.candidates} == {"dense"}
    (told,) = [check.message for check in made.checks if check.code == "not_priced"]
    assert "low_rank@0.25 is not priced at equal loss: the joint law is not determined" in told


def test_a_question_that_cannot_be_answered_is_one_check_of_the_report(simulate, settings, tmp_path):
    study = study_rows(
        list(simulate()), settings=replace(settings, bootstrap=50, serving=ServingQuestion(1e9, loss=0.1))
    )
    written = write_page(study, tmp_path, Context("toy", "What will it cost?"))
    assert written.failures == ()
    assert "No serving decision: serving: dense never reaches this loss" in written.page.read_text()
    document = comparisons_json(study)
    assert document["serving"] is None
    assert "not_priced" in {check["code"] for check in document["checks"]}
