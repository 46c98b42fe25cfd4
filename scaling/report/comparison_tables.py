"""The tables of compared lines: compute multipliers, loss at equal cost, nested tests, kappa."""

from __future__ import annotations

from typing import Any

import numpy as np

from scaling.analysis.comparisons import Comparison
from scaling.analysis.study import Study
from scaling.laws.comparison import AXES
from scaling.laws.compute_multiplier import LARGEST_LOG, Multiplier
from scaling.laws.draws import Interval
from scaling.laws.gls_tests import NestedTest
from scaling.laws.joint_comparison import JointComparison
from scaling.laws.joint_models import MEANING
from scaling.report.table import Column, Significant, Table, compute_text, difference_columns, fixed

_LINE = Column("line", "line")
_TIMES = Significant(3)


def multipliers_table(study: Study) -> Table:
    """The compute multiplier of every line at every shared budget and at their geometric mean."""
    rows = [row for one in study.comparisons if one.joint for row in _multipliers(one)]
    columns = (
        _LINE,
        Column("reference", "against"),
        Column("place", "at"),
        Column("cost", "C", compute_text),
        Column("multiplier", "compute multiplier", _TIMES),
        Column("interval", "95 %", _TIMES),
        Column("band", "95 % over all budgets", _TIMES),
        Column("verdict", "verdict"),
        Column("model", "law"),
    )
    note = (
        "Above 1 the line reaches the same loss with less compute. `better` and `worse`: the band over all budgets "
        "excludes 1; `equivalent`: it lies within ±20 % of compute. M3: A, B, α and β per line, E shared; M2: if the "
        "lines share exponents; M1: a factor on N alone, an assumption where a line has too few budgets."
    )
    return Table("multipliers", "Compute multiplier at equal loss", columns, tuple(rows), note)


def _multipliers(one: Comparison) -> list[tuple[Any, ...]]:
    joint = one.joint
    assert joint is not None
    names, band = (one.line.name, one.reference.name), joint.verdict.band
    at = zip(joint.multipliers, band.lower, band.upper, joint.verdict.words, strict=True)
    rows = [_row(names, "budget", made, _times(low, high), word) for made, low, high, word in at]
    rows.append(_row(names, "geometric mean", joint.headline, None, joint.verdict.word))
    if joint.shared_exponents is not None:
        rows.append(_row(names, "geometric mean", joint.shared_exponents, None, None))
    return rows


def _row(
    names: tuple[str, str], place: str, made: Multiplier, band: Interval | None, word: str | None
) -> tuple[Any, ...]:
    return (*names, place, made.at, made.value, made.interval, band, word, made.model)


def _times(low: float, high: float) -> Interval:
    ends = np.exp(np.clip([low, high], -LARGEST_LOG, LARGEST_LOG))
    return float(ends[0]), float(ends[1])


def tests_table(study: Study) -> Table:
    """Nested laws over the lines, each tested in the next, with the power of the test."""
    tests: list[NestedTest] = list(study.joint.tests) if isinstance(study.joint, JointComparison) else []
    tests += [study.ranks.test] if study.ranks else []
    rows = tuple(
        (
            test.small,
            test.large,
            _meaning(test.small),
            test.p_value,
            "rejected" if test.rejected else "not rejected",
            test.power,
            test.alternative,
        )
        for test in tests
        if test.extra
    )
    columns = (
        Column("small", "law"),
        Column("large", "in"),
        Column("meaning", "says"),
        Column("p_value", "p", _p_value),
        Column("outcome", "at 5 %"),
        Column("power", "power", fixed(2)),
        Column("alternative", "to find"),
    )
    note = "No test selects a law. Not rejected is not shown equal: the power says what would have been found."
    return Table("nested_tests", "Do the lines share a law?", columns, rows, note)


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _meaning(name: str) -> str:
    named: dict[str, str] = {str(key): words for key, words in MEANING.items()}
    return named.get(name, "lines differ by what a factorized parameter is worth")


def kappa_table(study: Study) -> Table:
    """What a factorized parameter is worth, beside the same with a data term per line."""
    rows: list[tuple[Any, ...]] = []
    if study.ranks is not None:
        for ratio, (value, interval) in study.ranks.kappa.items():
            beside = study.ranks.kappa_beside.get(ratio)
            rows.append((ratio, value, interval, *(beside or (None, None))))
    columns = (
        Column("rank_ratio", "rank ratio"),
        Column("kappa", "κ", _TIMES),
        Column("interval", "95 %", _TIMES),
        Column("kappa_with_data_terms", "κ with a B per line", _TIMES),
        Column("with_data_terms_interval", "95 %", _TIMES),
    )
    note = "Lines with different optimizers differ in more than rank: κ is then of both together."
    return Table("kappa", "κ: what a factorized parameter is worth", columns, tuple(rows), note)


def differences_table(study: Study) -> Table:
    """Every line against the reference, at every common budget and on the other axes."""
    rows = [
        (
            d.line,
            d.reference,
            AXES[d.verdict.axis],
            d.verdict.cost,
            d.verdict.difference_nats,
            d.verdict.interval,
            d.verdict.sigmas,
            d.verdict.word,
            f"{d.method}, paired draws" if d.verdict.paired else d.method,
        )
        for comparison in study.comparisons
        for d in (*comparison.by_budget, *comparison.other_axes)
    ]
    columns = (
        _LINE,
        Column("reference", "against"),
        Column("axis", "held equal"),
        Column("cost", "at", compute_text),
        *difference_columns("loss difference"),
        Column("verdict", "verdict"),
        Column("method", "from"),
    )
    note = (
        "Negative: the line is better than the reference. Intervals are 95 % over all budgets together; the verdict "
        "is that of the compute multiplier there. σ is the seed noise, shown as a scale."
    )
    return Table("differences", "Loss at equal cost", columns, tuple(rows), note)
