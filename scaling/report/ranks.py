"""Rank as a variable: what depends on the rank ratio of one family, for the figure and the sentence of a report."""

from __future__ import annotations

from dataclasses import dataclass

from scaling.analysis.serving import serving
from scaling.analysis.study import Study

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class RankCurve:
    """One quantity against the rank ratio, with 95 % intervals; `budget` where it belongs to one."""

    ratios: Numbers
    value: Numbers
    low: Numbers
    high: Numbers
    budget: float | None = None


@dataclass(frozen=True)
class RankData:
    """What depends on the rank ratio.

    Args:
        reference: the dense line.
        family: of the low-rank lines.
        loss: loss minus the reference's at equal compute, nats, one curve per budget.
        needed: compute needed for the reference's loss, in units of the reference's, one curve per budget.
        kappa: worth of a factorized parameter; gamma: exponent of κ = ρ^γ, where it was fitted.
        token: FLOPs of a decoded token at equal loss over the reference's, one curve per target loss.
    """

    reference: str
    family: str
    loss: tuple[RankCurve, ...]
    needed: tuple[RankCurve, ...]
    kappa: RankCurve | None
    gamma: float | None
    token: tuple[tuple[float, Numbers, Numbers], ...]


def rank_data(study: Study) -> RankData | None:
    """None unless two rank ratios or more are compared with the reference by the joint law."""
    compared = sorted(
        (one for one in study.comparisons if one.joint is not None and one.line.rank_ratio is not None),
        key=lambda one: one.line.rank_ratio or 0.0,
    )
    family = compared[0].line.family if compared else None
    compared = [one for one in compared if one.line.family == family]
    if len(compared) < 2:
        return None
    ratios = tuple(float(one.line.rank_ratio or 0.0) for one in compared)
    verdicts = [{d.verdict.cost: d.verdict for d in one.by_budget} for one in compared]
    shared = sorted(set.intersection(*(set(one) for one in verdicts)))
    if not shared:
        return None
    loss, needed = [], []
    for budget in shared:
        values = [(own[budget].difference_nats, *own[budget].interval) for own in verdicts]
        loss.append(RankCurve(ratios, *_columns(values), budget))
        made = [one.joint.multiplier(budget) for one in compared if one.joint]
        needed.append(RankCurve(ratios, *_columns([_inverse(m.value, m.interval) for m in made]), budget))
    kappa = None
    if study.ranks is not None:
        entries = sorted(study.ranks.kappa.items())
        values = [(value, *interval) for _, (value, interval) in entries]
        kappa = RankCurve(tuple(ratio for ratio, _ in entries), *_columns(values))
    gamma = study.ranks.gamma[0] if study.ranks and study.ranks.gamma else None
    named = (study.reference.name, family or "low rank")
    return RankData(*named, tuple(loss), tuple(needed), kappa, gamma, tuple(_tokens(study)))


def _columns(values: list[tuple[float, float, float]]) -> tuple[Numbers, Numbers, Numbers]:
    value, low, high = zip(*values, strict=True)
    return value, low, high


def _inverse(value: float, interval: tuple[float, float]) -> tuple[float, float, float]:
    low, high = interval
    return 1 / value, 1 / high if high else 1 / value, 1 / low if low > 0 else 1 / value


def _tokens(study: Study) -> list[tuple[float, Numbers, Numbers]]:
    """Loss, rank ratios, and FLOPs of a decoded token over the reference's: each line's cheapest-to-train model."""
    found = []
    names = {line.name: line.rank_ratio for line in study.lines}
    for comparison in serving(study).comparisons:
        ratios = {
            ratio: row.ratios.decode_flops_per_token
            for row in comparison.rows
            if row.choice.kind == "cheapest"
            and row.form == "factorized"
            and row.setting.batch == 1
            and (ratio := names[row.line]) is not None
            and row.ratios.decode_flops_per_token is not None
        }
        if len(ratios) > 1:
            places = sorted(ratios)
            values = tuple(float(ratios[place] or 0.0) for place in places)
            found.append((comparison.target_loss, tuple(map(float, places)), values))
    return found
