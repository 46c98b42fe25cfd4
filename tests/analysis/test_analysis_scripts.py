"""The short studies in `analysis/` run and say what they are for."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

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
