"""The JSON of compared lines: compute multiplier, verdict, matched runs, what would resolve it, tests and kappa."""

from __future__ import annotations

from dataclasses import asdict

from scaling.analysis.comparisons import Comparison
from scaling.files import JsonObject
from scaling.laws.draws import Interval
from scaling.laws.gls_tests import NestedTest
from scaling.laws.rank_comparison import RankComparison


def line_json(compared: Comparison) -> JsonObject:
    """One line against the reference; without a joint law the multiplier is None and the verdict that of the minima."""
    if compared.joint is not None:
        document: JsonObject = compared.joint.to_json()
    else:
        document = {
            "line": compared.line.name,
            "reference": compared.reference.name,
            "model": None,
            "assumption": None,
            "compute_multiplier": None,
            "if_exponents_are_shared": None,
            "verdict": {"word": compared.word, "margin": None, "smallest_margin": None, "simultaneous": []},
            "loss_differences": [],
        }
    matched = compared.matched
    return document | {
        "matched_runs": None
        if matched is None
        else {
            "difference_nats": matched.difference,
            "interval": list(matched.interval),
            "runs": matched.runs,
            "correlation": matched.correlation,
        },
        "what_would_resolve": None
        if compared.resolution is None
        else {"text": str(compared.resolution), "tried": [asdict(runs) for runs in compared.resolution.tried]},
    }


def test_json(test: NestedTest) -> JsonObject:
    """One nested test with its power."""
    return asdict(test) | {"rejected": test.rejected}


def kappa_json(ranks: RankComparison | None) -> JsonObject | None:
    """Kappa of every rank ratio, with the test of the law it comes from."""
    if ranks is None:
        return None
    return {
        "kappa": {f"{ratio:g}": _value(*pair) for ratio, pair in ranks.kappa.items()},
        "kappa_with_data_terms": {f"{ratio:g}": _value(*pair) for ratio, pair in ranks.kappa_beside.items()},
        "gamma": None if ranks.gamma is None else _value(*ranks.gamma),
        "test": test_json(ranks.test),
    }


def _value(value: float, interval: Interval) -> JsonObject:
    return {"value": value, "interval": list(interval)}
