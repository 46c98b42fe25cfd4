"""The short studies in `analysis/` run and say what they are for."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from scaling.data.corpus import open_corpus

ANALYSIS = Path(__file__).parents[2] / "analysis"


def test_the_inference_claim_and_its_sensitivity(capsys):
    claim = runpy.run_path(str(ANALYSIS / "inference_claim.py"))
    difference = -0.0463
    assert claim["inference_ratio"](difference) == pytest.approx(0.5, abs=2e-3)
    assert claim["inference_ratio"](difference - 0.03) == pytest.approx(0.32, abs=5e-3)
    assert claim["inference_ratio"](difference + 0.03) == pytest.approx(0.78, abs=5e-3)
    claim["main"]()
    told = capsys.readouterr().out
    assert "low rank C^0.479 (published) against dense C^0.525" in told
    assert "0.50 of the inference FLOPs of dense" in told


def test_the_forecast_of_the_rank_study_is_held_against_its_outcome(monkeypatch):
    """Made from four budgets before the fifth was trained, and scored from the two committed tables."""
    monkeypatch.chdir(ANALYSIS.parent)
    forecast = runpy.run_path("analysis/rank_forecast.py")
    scored = forecast["score"](forecast["FORECASTS"]["rank-study"])
    assert scored.groupby("kind").size().to_dict() == {"minimum": 4, "multiplier": 3, "run": 20}
    runs = scored[scored.kind == "run"]
    assert runs.inside.mean() >= 0.9
    assert abs(runs.error).mean() < 0.05


def test_the_forecast_of_ten_times_the_largest_budget_is_held_against_its_outcome(monkeypatch):
    monkeypatch.chdir(ANALYSIS.parent)
    forecast = runpy.run_path("analysis/rank_forecast.py")
    scored = forecast["score"](forecast["FORECASTS"]["rank-study-h100"])
    assert scored.groupby("kind").size().to_dict() == {"minimum": 4, "multiplier": 4, "run": 16}
    assert scored.inside.all()
    assert abs(scored[scored.kind == "run"].error.mean()) < 0.01


def test_a_corpus_in_a_file_has_the_documents_of_the_corpus(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("a = 1\n" * 2000)
    (tmp_path / "corpus" / "b.txt").write_text("snö\n")
    script = runpy.run_path(str(ANALYSIS / "corpus_file.py"))
    script["main"](str(tmp_path / "corpus"), tmp_path / "one.jsonl")
    whole, file = (open_corpus(str(tmp_path / name), root=tmp_path) for name in ("corpus", "one.jsonl"))
    assert list(file.documents()) == list(whole.documents())


def test_the_tutorial_runs_from_table_to_decision(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(ANALYSIS.parent / "results")
    runpy.run_path(str(ANALYSIS / "tutorial.py"))
    told = capsys.readouterr().out
    assert "low_rank@0.25 needs" in told
    assert "Law chinchilla" in told
    assert "cheapest" not in told.splitlines()[0]
    assert (tmp_path / "isoflop-low-rank.png").stat().st_size > 10_000
