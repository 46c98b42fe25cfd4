"""The JSON documents keep their keys and hold nothing that JSON cannot."""

from __future__ import annotations

import json
import math

import pytest

from scaling.hardware import DEVICES
from scaling.inference.cost import Setting, cost
from scaling.inference.measure import MeasuredCost
from scaling.report.documents import comparisons_json, finite, fits_json, losses_json, predictions_json
from scaling.report.serving_document import measured_json
from scaling.run import Shape

PRICED = "form device precision batch context"
PRICES = "params weight_bytes kv_bytes_per_token kv_bytes step_bytes decode_flops_per_token prefill_flops_per_token"
PRICES += " decode_seconds decode_seconds_low decode_seconds_high prefill_seconds"
PRICES += " prefill_seconds_low prefill_seconds_high kernels"
SERVING_ROW = f"line choice budget_multiple served_tokens axis lifetime_cost {PRICED} calibrated training_speed N D C"
SERVING_ROW += f" {PRICES} kv_share decode_tokens_per_second fits extrapolated nearest_shape nearest_N nearest_params"
SERVING_ROW += " nearest_weight_bytes nearest_kv_bytes_per_token nearest_decode_flops_per_token nearest_decode_seconds"
SERVING_ROW += " intervals params_ratio weight_bytes_ratio kv_bytes_per_token_ratio decode_flops_per_token_ratio"
SERVING_ROW += " decode_seconds_ratio"


def test_the_fit_document_keeps_its_contract(study):
    document = json.loads(json.dumps(fits_json(study), allow_nan=False))
    assert document["schema_version"] == 1
    keys = "family rank_ratio law approach objective delta params_column points dropped parameters intervals exponents"
    keys += " exponent_intervals objective_value status message checks"
    for fit in document["fits"]:
        assert set(keys.split()) <= set(fit)
    named = [(fit["family"], fit["rank_ratio"], fit["approach"], fit["status"]) for fit in document["fits"]]
    assert named == [
        ("dense", None, 3, "ok"),
        ("dense", None, 2, "ok"),
        ("low_rank", 0.25, 3, "ok"),
        ("low_rank", 0.25, 2, "ok"),
        ("low_rank", 0.5, 3, "not_identified"),
    ]
    first = document["fits"][0]
    assert first["points"] == 17
    assert set(first["parameters"]) == set(first["intervals"]) == {"E", "A", "alpha", "B", "beta"}
    assert set(first["exponents"]) == set(first["exponent_intervals"]) == {"N", "D"}
    assert all(set(check) == {"code", "severity", "message", "advice"} for check in first["checks"])


def test_the_prediction_document_keeps_its_contract(study):
    document = json.loads(json.dumps(predictions_json(study, [1e12, 1e15, 1e22]), allow_nan=False))
    first = document["predictions"][0]
    assert {"family", "rank_ratio", "compute", "N", "D", "loss", "intervals", "checks"} <= set(first)
    low, high = first["intervals"]["N"]
    assert low < first["N"] < high
    assert first["form_range"]["loss"][0] <= first["loss"] <= first["form_range"]["loss"][1]
    codes = [{check["code"] for check in one["checks"]} for one in document["predictions"]]
    assert "extrapolation" not in codes[0]
    assert {"extrapolation", "size_extrapolated"} <= codes[3]
    assert document["predictions"][2]["N"] is None
    assert codes[2] == {"no_law"}
    assert document["predictions"][6]["loss"] is None
    assert "not_determined" in codes[6]


def test_a_prediction_says_what_each_form_says_and_how_it_is_calibrated(study):
    first = predictions_json(study, [1e12])["predictions"][0]
    assert {form["law"] for form in first["forms"]} == {"chinchilla", "kaplan", "skaling"}
    assert sum(form["weight"] for form in first["forms"]) == pytest.approx(1.0)
    assert set(first["calibration"]) >= {"inflation", "held_out", "share_inside"}


def test_the_loss_at_a_size_has_an_interval_of_the_law_and_a_wider_one_of_a_run(study):
    first = losses_json(study, 2e4, 2e6)["predictions"][0]
    assert (first["N"], first["D"], first["compute"]) == (2e4, 2e6, None)
    law, run = (first["intervals"][name] for name in ("loss", "loss_of_run"))
    assert run[0] < law[0] < first["loss"] < law[1] < run[1]


def test_the_comparison_document_prices_lines_at_equal_loss(study):
    document = json.loads(json.dumps(comparisons_json(study), allow_nan=False))
    assert len([one for one in document["comparisons"] if one["rows"]]) == 3
    rows = document["comparisons"][0]["rows"]
    assert {row["line"] for row in rows} == {"dense", "low_rank@0.25"}
    assert {row["form"] for row in rows} == {"dense", "factorized", "merged"}
    assert "not_priced" in {check["code"] for check in document["checks"]}
    assert document["differences"][0]["verdict"] == "worse"


def test_the_comparison_document_has_the_multiplier_the_verdict_and_the_law(study):
    document = json.loads(json.dumps(comparisons_json(study), allow_nan=False))
    found = [one for one in document["comparisons"] if "compute_multiplier" in one]
    assert [(one["line"], one["model"]) for one in found] == [("low_rank@0.25", "M3"), ("low_rank@0.5", "M1")]
    assert [one["line"] for one in document["lines"]] == ["low_rank@0.25", "low_rank@0.5"]
    first = found[0]
    low, high = first["compute_multiplier"]["interval"]
    assert low < first["compute_multiplier"]["value"] < high
    assert first["verdict"]["margin"] == 0.2
    assert len(first["verdict"]["simultaneous"]) == 3
    assert [(test["small"], test["large"]) for test in document["nested_tests"]] == [
        ("M0", "M1"),
        ("M1", "M2"),
        ("M2", "M3"),
    ]


def test_every_fit_has_its_noise_and_its_range(study):
    first = fits_json(study)["fits"][0]
    assert {"seed", "scatter", "budget"} <= set(first["noise"])
    assert first["range"]["N"][0] < first["range"]["N"][1]


def test_numbers_that_are_not_finite_become_null():
    assert finite({"a": [math.inf, 1.0, (math.nan, 2)]}) == {"a": [None, 1.0, [None, 2]]}


def test_a_serving_row_has_the_keys_of_0_1_in_their_order(study):
    first, *_ = comparisons_json(study)["comparisons"]
    assert list(first) == ["target_loss", "rows", "break_even", "checks"]
    assert {tuple(row) for row in first["rows"]} == {tuple(SERVING_ROW.split())}
    assert {tuple(row["intervals"]) for row in first["rows"] if row["intervals"]} == {
        ("N", "D", "C", "decode_flops_per_token", "decode_seconds")
    }
    point = "line form against axis device batch context served_tokens cheaper_at_first"
    assert {tuple(one) for one in first["break_even"]} == {tuple(point.split())}


def test_a_measured_row_is_the_prediction_with_what_was_measured():
    predicted = cost(Shape(2, 64, 4, 168, 256), None, Setting(DEVICES["cpu"], batch=4))
    row = measured_json("dense", MeasuredCost(predicted, 0.5, 2.0, "cpu"))
    keys = f"line {PRICED} {PRICES} kv_share decode_tokens_per_second fits calibrated measured_decode_seconds"
    keys += " measured_prefill_seconds measured_tokens_per_second measured_on"
    assert set(row) == set(keys.split())
    assert (row["line"], row["decode_seconds"]) == ("dense", predicted.decode_seconds)
    assert (row["measured_decode_seconds"], row["measured_tokens_per_second"], row["measured_on"]) == (0.5, 8.0, "cpu")


def test_every_verb_has_the_keys_of_noise_range_calibration_and_multipliers(study):
    """Keys that users of `--json` were promised; a value that is not known is None, a key never is missing."""
    fit = fits_json(study)["fits"][0]
    assert fit["noise"].keys() >= {"seed", "scatter", "budget"}
    assert fit["range"].keys() >= {"N", "D"}
    assert fit["frontier"]["calibration"].keys() >= {"inflation", "held_out", "share_inside"}
    along = fit["frontier"]["along"]
    assert [one["compute"] for one in along] == study.lines[0].budgets
    assert all(one["intervals"]["loss"][0] < one["loss"] < one["intervals"]["loss"][1] for one in along)
    prediction = predictions_json(study, [1e12])["predictions"][0]
    assert prediction.keys() >= {"N", "D", "loss", "intervals", "forms", "calibration"}
    assert prediction["calibration"].keys() >= {"inflation", "held_out", "share_inside"}
    assert prediction["forms"][0].keys() >= {"law", "weight", "N", "D", "loss"}
    place = losses_json(study, 1e5, 1e7)["predictions"][0]
    law, run = place["intervals"]["loss"], place["intervals"]["loss_of_run"]
    assert run[0] < law[0] < law[1] < run[1]
    compared = comparisons_json(study)["lines"][0]
    assert compared["compute_multiplier"].keys() >= {"value", "interval", "at"}
    assert compared["verdict"].keys() >= {"word", "margin", "simultaneous"}
    assert compared["model"] in {"M1", "M3"}
