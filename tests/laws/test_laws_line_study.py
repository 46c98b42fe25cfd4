import json
import math
import subprocess
import sys

import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_points, public_points

from scaling.errors import FitError
from scaling.laws.fit_text import report_text
from scaling.laws.fitting import fit
from scaling.laws.line_study import study_line
from scaling.laws.points import Points
from scaling.laws.published import CATALOGUE, published

CONTRACT = {
    "law",
    "approach",
    "objective",
    "delta",
    "params_column",
    "points",
    "range",
    "dropped",
    "parameters",
    "intervals",
    "exponents",
    "exponent_intervals",
    "profile_intervals",
    "objective_value",
    "status",
    "message",
    "checks",
}


def test_one_call_fills_the_fit_document():
    study = study_line(isoflop_points(noise=0.01), draws=100, drop_highest=2, compute=[1e25])
    for approach in (2, 3):
        document = study.to_json(approach)
        assert set(document) == CONTRACT | {"noise"}
        json.dumps(document, allow_nan=False)
    third = study.to_json()
    assert (third["points"], third["dropped"]) == (33, 2)
    assert third["parameters"].keys() == third["intervals"].keys() == {"E", "A", "B", "alpha", "beta"}
    assert third["exponents"].keys() == third["exponent_intervals"].keys() == {"N", "D"}
    assert third["objective_value"] == study.fit.objective_value
    assert study.draws.kind == "residuals"
    assert "horizons" in study.skipped["envelope"]
    assert {check["code"] for check in third["checks"]} >= {"extrapolation"}


def test_a_foreign_table_is_drawn_by_cases_and_has_approach_two_where_its_flops_cluster():
    points = isoflop_points(noise=0.01)
    study = study_line(Points(points.params, points.tokens, points.loss), draws=50)
    assert study.draws.kind == "cases"
    compute = points.params * points.tokens * np.geomspace(6.0, 7.0, len(points))  # a budget of its own for every point
    alone = Points(points.params, points.tokens, points.loss, budget=compute)
    assert study_line(alone, draws=50).draws.kind == "cases"
    assert "5 budgets recognised where FLOPs cluster" in study.isoflop.message
    assert study.isoflop.exponents == pytest.approx(study_line(points, draws=50).isoflop.exponents, rel=1e-9)
    cloud = Points(points.params, points.tokens * np.geomspace(1.0, 40.0, len(points)), points.loss)
    assert "no column budget" in study_line(cloud, draws=0).skipped["isoflop"]


def test_several_lines_have_no_common_valleys():
    from test_laws_forms import two_lines

    study = study_line(two_lines(HOFFMANN | {"A": 700.0}), law="joint", draws=0)
    assert study.fit.parameters["A[low_rank@0.25]"] == pytest.approx(700.0, rel=1e-6)
    assert study.isoflop is None
    assert "of one line" in study.skipped["isoflop"]


def test_documents_hold_no_infinity():
    sizes = np.geomspace(1e8, 1e9, 3)
    params, tokens = (side.ravel() for side in np.meshgrid(sizes, np.geomspace(1e9, 1e11, 6)))
    study = study_line(Points(params, tokens, chinchilla_loss(HOFFMANN, params, tokens)), draws=20)
    for approach in (3, *([1] if study.envelope else [])):
        json.dumps(study.to_json(approach), allow_nan=False)


def test_no_bootstrap_means_no_intervals():
    study = study_line(isoflop_points(noise=0.01), draws=0)
    assert study.draws is None
    assert study.intervals == study.exponent_intervals == {}
    assert study.fit.status == "ok"


def test_importing_laws_is_cheap():
    heavy = ("scipy", "pandas", "torch", "matplotlib")
    program = f"import sys, scaling.laws.line_study; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


REPORT = """\
Law chinchilla: L = E + A/N^alpha + B/D^beta
  N is params; 240 points (5 dropped); objective log_huber, delta 0.001, summed: 0.001018274
  status ok: converged; condition number 33; 100% of starts agree
  parameter              value
  A                     477.83
  alpha                0.34731
  B                     2143.4
  beta                 0.36717
  E                     1.8172
  N ∝ C^                0.5139
  D ∝ C^                0.4861
  residuals of log loss: median |r| 3.24e-03, sd 7.63e-03, largest +5.03e-02 at N 1.73e+09, D 8.75e+08
"""


def test_report_text_is_golden():
    made = fit(public_points("chinchilla_svg.csv").drop_highest(5), delta=1e-3)
    assert report_text(made, dropped=5) == REPORT


def test_report_text_has_what_a_paper_needs():
    study = study_line(isoflop_points(noise=0.01), draws=100)
    text = report_text(study.fit, study.draws, sensitivity=study.sensitivity)
    for words in (
        "95 % interval",
        "±",
        "A–alpha +0.9",
        "log_mse: N",
        "noise drawn onto the law",
    ):
        assert words in text


def test_catalogue_has_every_law_and_says_what_it_is():
    wanted = {
        "kaplan-2020",
        "hoffmann-2022-1",
        "hoffmann-2022-2",
        "hoffmann-2022-3",
        "hoffmann-2022-3-rounded",
        "replication-2024",
        "porian-2024",
        "gemstones-2025-1",
        "deepseek-2024",
        "llama-3",
        "muennighoff-2023",
        "low-rank-2026",
    }
    assert wanted <= set(CATALOGUE)
    for law in CATALOGUE.values():
        document = law.to_json()
        json.dumps(document, allow_nan=False)
        assert "arXiv" in law.source
        assert law.params_column
        assert law.tokenizer
        assert law.checked
        apart = law.name == "gemstones-2025-1"  # N and D were fitted apart
        assert sum(law.exponents.values()) == pytest.approx(1.0, abs=0.02 if apart else 1e-6)
        assert law.text().startswith(law.name)
        assert len(law.row()) == 7


def test_published_predictions():
    third = published("hoffmann-2022-3")
    assert third.predict(5.76e23)["N"] == pytest.approx(40.4e9, rel=0.002)  # figure 4 prints 40B
    assert third.predict(5.76e23)["D"] == pytest.approx(2.38e12, rel=0.002)
    rows = ((1.62e20, 1e9), (2.46e22, 1e10), (1.71e24, 67e9), (1.36e26, 520e9))  # table A3
    for compute, params in rows:
        assert third.predict(compute)["N"] == pytest.approx(params, rel=0.07)  # its FLOPs are not 6·N·D
    assert published("hoffmann-2022-3-rounded").predict(5.76e23)["N"] == pytest.approx(32e9, rel=0.01)
    replication = published("replication-2024").predict(5.76e23)
    assert replication["D"] / replication["N"] == pytest.approx(20, rel=0.15)
    assert (replication["N"], replication["D"]) == pytest.approx((72.2e9, 1.33e12), rel=0.002)
    first = published("hoffmann-2022-1")
    assert first.anchored
    assert first.predict(5.76e23)["N"] == pytest.approx(67e9, rel=0.02)  # table 3
    assert first.predict(1.23e22)["N"] == pytest.approx(10e9, rel=0.05)
    assert first.predict(6 * 67e9 * 1.4e12) == pytest.approx({"N": 67e9, "D": 1.4e12, "loss": None})
    llama = published("llama-3").predict(3.8e25)
    assert llama["N"] == pytest.approx(402e9, rel=0.05)
    assert llama["D"] == pytest.approx(16.55e12, rel=0.02)
    assert llama["D"] == pytest.approx(16.3e12, rel=0.02)  # 0.299 C^0.537, the published fit
    assert math.isclose(6 * llama["N"] * llama["D"], 3.8e25, rel_tol=1e-9)
    deepseek = published("deepseek-2024").predict(4.5e23)  # the mark in figure 4
    assert 6 * deepseek["N"] == pytest.approx(4.3e11, rel=0.01)
    assert deepseek["D"] == pytest.approx(1.04e12, rel=0.01)
    rounded = {"E": 1.87, "A": 521, "B": 1488, "alpha": 0.353, "beta": 0.353}  # as printed
    assert published("muennighoff-2023").parameters == pytest.approx(rounded, rel=2e-3)
    assert published("gemstones-2025-3").exponents["N"] == pytest.approx(0.697, abs=1e-3)
    kaplan = published("kaplan-2020")
    # 10 PF-days: 1.3e9 · 10^.73 parameters, 2e10 · 10^.27 tokens, (3.1e8 / 10)^.05 nats
    best = kaplan.predict(8.64e20)
    assert (best["N"], best["D"], best["loss"]) == pytest.approx((6.98e9, 3.724e10, 2.369), rel=1e-3)
    assert kaplan.loss(1e12, 1e15) < kaplan.loss(1e9, 1e10) < kaplan.loss(1e8, 1e9)
    assert kaplan.loss(np.inf, 1e10) == pytest.approx((1.8e13 / 1e10) ** 0.103)


def test_published_laws_know_their_limits():
    law = published("hoffmann-2022-2")
    assert {check.code for check in law.checks(1e25)} == {"extrapolation", "anchored_law"}
    assert published("hoffmann-2022-3").checks(1e20) == ()
    with pytest.raises(FitError, match="exponents alone"):
        published("low-rank-2026").predict(1e20)
    with pytest.raises(FitError, match="without a loss"):
        law.loss(1e9, 1e10)
    with pytest.raises(FitError, match=r"unknown published law[\s\S]*replication-2024"):
        published("chinchila")
    with pytest.raises(FitError, match="positive"):
        law.predict(-1.0)


def test_published_optimum_is_the_minimum_of_the_published_loss():
    law = published("replication-2024")
    best = law.predict(1e22)
    for factor in (0.97, 1.03):
        assert law.loss(best["N"] * factor, best["D"] / factor) > best["loss"]
