"""The answer: a study in a few sentences, the first of which answers the sweep's question with its uncertainty.

A sweep compares lines, so the answer is the compute that a line needs for the loss of the reference, with its interval
and the verdict that the band over all budgets allows, and what would change it. Loss differences and exponents
come second: at a small scale they rarely differ by more than their intervals, and the sentence says so. Lines whose
rates were tuned at one shape are compared at their best rates, with claimed orders, and above their best rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scaling.analysis.comparisons import Comparison, exponent_difference
from scaling.analysis.lines import Line
from scaling.analysis.rates import MULTIPLES, Pair, Rate, Tuned, claimed_pairs, tunings
from scaling.analysis.study import Study
from scaling.laws.comparison import AXES
from scaling.laws.compute_multiplier import Multiplier
from scaling.laws.joint_comparison import JointComparison
from scaling.laws.line_comparison import LineComparison
from scaling.laws.paired_seeds import PairedDifference
from scaling.quantity import format_number
from scaling.report.ranks import rank_data
from scaling.report.table import compute_text, decimals, fixed

if TYPE_CHECKING:
    from scaling.sweeps.schema import Claim

_WIDEST_MARGIN = 9.0  # from a factor of 10 on a margin is no answer
_SIGNED, _NATS, _EXPONENT = fixed(3, sign=True), fixed(3), fixed(2, sign=True)


def answer(study: Study) -> list[str]:
    """Sentences, the first one the answer."""
    comparisons = sorted(study.comparisons, key=lambda one: -len(one.by_budget))
    tuned = list(_tuned(study))
    if not comparisons:
        return [*tuned, *_alone(study), *([] if tuned else _not_compared(study))]
    sentences = [*_ranks(study), *(text for one in comparisons for text in _compared(one, study))]
    sentences += [text for one in comparisons for text in (*_exponents(one), *_axes(one), *_chosen(one))]
    return [*sentences, *_noise(study), *_kappa(study), *_not_compared(study), *tuned]


def _ranks(study: Study) -> Iterator[str]:
    """Rank as a variable, where several ratios of a family are compared: compute for equal loss, and a served token."""
    data = rank_data(study)
    if data is None:
        return
    ratios = data.needed[-1].ratios
    lines = {one.line.rank_ratio: one for one in study.comparisons if one.joint and one.line.family == data.family}
    joints = [(ratio, joint) for ratio in ratios if (joint := lines[ratio].joint) is not None]
    at = joints[0][1].headline
    told = ", ".join(f"{_needs(j.headline)} at rank ratio {ratio:g} ({j.verdict.word})" for ratio, j in joints)
    best = max(joints, key=lambda one: one[1].headline.value)
    words = {joint.verdict.word for _, joint in joints}
    same = words <= {"not resolved", "equivalent"}
    sums_up = f"no ratio differs from {data.reference}; " if same else ""
    sums_up += f"the best {'estimate' if 'better' not in words else 'ratio'} is {best[0]:g}"
    yield (
        f"At {compute_text(at.at)} {AXES[study.convention]}, in units of the compute of {data.reference} and for the "
        f"same loss, {data.family} needs {told}; {sums_up}."
    )
    if data.token:
        loss, places, values = data.token[-1]
        costs = ", ".join(f"{value:.2f} × at {place:g}" for place, value in zip(places, values, strict=True))
        yield f"A decoded token at loss {loss:.2f} costs in FLOPs, relative to {data.reference}: {costs}."


def _compared(one: Comparison, study: Study) -> Iterator[str]:
    """The compute multiplier with its word, and the loss difference at the largest budget."""
    if one.joint is not None:
        yield _multiplier(one, one.joint, AXES[study.convention])
        yield from _beside(one, one.joint)
    yield _difference(one, study)
    if one.matched is not None:
        yield (
            f"Over {one.matched.runs} runs of equal cell and seed {one.line.name} minus {one.reference.name} is "
            f"{_matched(one.matched)}."
        )


def _multiplier(one: Comparison, joint: LineComparison, axis: str) -> str:
    at = joint.headline
    over = f" over {len(joint.costs)} budgets" if len(joint.costs) > 1 else ""
    return (
        f"At {compute_text(at.at)} {axis} {one.line.name} needs {_needs(at)} the compute of {one.reference.name} "
        f"for the same loss: {joint.verdict.word}{over}; {_what_else(one, joint)}."
    )


def _needs(multiplier: Multiplier) -> str:
    """The compute that the line needs in units of the reference's: one over the multiplier."""
    low, high = (1.0 / end if end > 0 else math.inf for end in reversed(multiplier.interval))
    near = any(_times(end) == "1.0" for end in (low, high))  # an end at 1.03 excludes 1, and "1.0" would not say so
    texts = [_times(value, 3 if near else 2) for value in (1.0 / multiplier.value, low, high)]
    return "{} × [{}, {}]".format(*texts)


def _times(value: float, digits: int = 2) -> str:
    return (
        f"{value:#.{digits}g}".rstrip(".")
        if 0.095 <= value < 99.5
        else format_number(value, 2)
        if math.isfinite(value)
        else "∞"
    )


def _what_else(one: Comparison, joint: LineComparison) -> str:
    """What would change the verdict: further runs, or how small or large the difference is."""
    margin = joint.verdict.smallest_margin
    equal = f"equal within ±{margin:.0%}" if margin < _WIDEST_MARGIN else "no margin below a factor of 10 holds"
    if one.resolution is not None:
        return f"{equal}; {one.resolution}"
    if joint.verdict.word == "equivalent":
        return f"{equal}, less than the margin of {joint.verdict.margin:.0%}"
    size = "more" if joint.verdict.large else "less"
    return f"the difference is {size} than {joint.verdict.margin:.0%} of compute"


def _beside(one: Comparison, joint: LineComparison) -> Iterator[str]:
    if joint.shared_exponents is not None:
        yield f"If the lines share exponents, {one.line.name} needs {_needs(joint.shared_exponents)} there."
    if joint.assumption is not None:
        yield f"This rests on an assumption: {joint.assumption}."


def _difference(one: Comparison, study: Study) -> str:
    verdict = one.headline.verdict
    side = "lower" if verdict.difference_nats < 0 else "higher"
    low, high = (_SIGNED(bound) for bound in verdict.interval)
    noise = "" if verdict.sigmas is None else f", {abs(verdict.sigmas):.1f} times the seed noise"
    word = "" if one.joint is not None else f": {one.word}, by isoFLOP minima{_elsewhere(one)}"
    return (
        f"At an equal training compute of {compute_text(verdict.cost)} {AXES[study.convention]}, {one.line.name} "
        f"reaches a validation loss {_NATS(abs(verdict.difference_nats))} nats/token {side} than {one.reference.name} "
        f"(95 % band of the difference {low} to {high}){noise}{word}."
    )


def _matched(matched: PairedDifference) -> str:
    low, high = matched.interval
    shared = f", correlation {matched.correlation:.2f}" if matched.correlation is not None else ""
    return f"{_SIGNED(matched.difference)} ± {_NATS((high - low) / 2)} nats/token{shared}"


def _noise(study: Study) -> Iterator[str]:
    """The parts of the noise: of the joint law, else of every line."""
    if isinstance(study.joint, JointComparison):
        yield f"Noise around the joint law: {study.joint.noise.summary}."
        return
    for line in study.lines:
        if line.law is not None and line.law.parts is not None:
            yield f"Noise around the law of {line.name}: {line.law.parts.summary}."


def _kappa(study: Study) -> Iterator[str]:
    ranks = study.ranks
    if ranks is None:
        return
    values = ", ".join(
        f"{_times(value)} [{_times(low)}, {_times(high)}] at rank ratio {ratio:g}"
        for ratio, (value, (low, high)) in ranks.kappa.items()
    )
    word = "rejected" if ranks.test.rejected else "not rejected"
    yield (
        f"If the lines differ only in factorized parameters, one is worth κ = {values} plain ones; that "
        f"law is {word} against a B per line (p {ranks.test.p_value:.2f}, power {ranks.test.power:.2f})."
    )


def _not_compared(study: Study) -> Iterator[str]:
    """Lines without a comparison, by reason."""
    for why in dict.fromkeys(study.not_compared.values()):
        names = ", ".join(name for name, own in study.not_compared.items() if own == why)
        yield f"{names}: not compared with {study.reference.name}: {' '.join(why.split())}."


def _elsewhere(one: Comparison) -> str:
    """The budgets whose own verdict is another than that over all."""
    others = [d.verdict for d in one.by_budget if d.verdict.word != one.word]
    return "".join(f"; {verdict.word} at {compute_text(verdict.cost)}" for verdict in others)


def _exponents(one: Comparison) -> Iterator[str]:
    difference = exponent_difference(one.line, one.reference)
    if difference is None:
        return
    exponents = " and ".join(_exponent(line) for line in (one.line, one.reference))
    value, (low, high) = difference
    interval = f"{_EXPONENT(value)} with 95 % interval {_EXPONENT(low)} to {_EXPONENT(high)}"
    if low <= 0 <= high:
        yield f"The exponents are too uncertain to compare: N_opt grows as {exponents} (difference {interval})."
    else:
        yield f"The exponents differ: N_opt grows as {exponents} (difference {interval})."


def _exponent(line: Line) -> str:
    assert line.law is not None
    low, high = line.law.exponent_intervals["N"]
    return f"C^{line.law.fit.exponents['N']:.2f} [{low:.2f}, {high:.2f}] for {line.name}"


def _axes(comparison: Comparison) -> Iterator[str]:
    """Other costs held equal, where they change the verdict."""
    names = (comparison.line.name, comparison.reference.name)
    sentences = []
    for other in (difference.verdict for difference in comparison.other_axes):
        if other.word != comparison.word:
            low, high = (_SIGNED(bound) for bound in other.interval)
            sentences.append(
                f"at equal {AXES[other.axis]} {names[0]} minus {names[1]} is {_SIGNED(other.difference_nats)} "
                f"nats/token ({low} to {high}), {other.word}"
            )
    if sentences:
        yield f"The verdict depends on what is held equal: {'; '.join(sentences)}."


def _chosen(comparison: Comparison) -> Iterator[str]:
    """The selection bias of a difference between tuned lines."""
    lines = (comparison.line, comparison.reference)
    if not any(line.choices for line in lines):
        return
    if any(choice.bias_nats is None for line in lines for choice in line.choices):
        yield "Some cells keep the best of several settings: without seed noise the selection bias is unknown."
        return
    mine, theirs = (sum(choice.bias_nats or 0.0 for choice in line.choices) / len(line.cells) for line in lines)
    heavy = abs(mine - theirs) > 0.5 * abs(comparison.headline.verdict.difference_nats)
    yield (
        f"Choosing the best of several settings lowers the losses of {lines[0].name} by about {_NATS(mine)} and of "
        f"{lines[1].name} by {_NATS(theirs)} nats/token; differences are as measured and include it"
        f"{': here it is more than half of the difference' if heavy else ''}."
    )


def _tuned(study: Study) -> Iterator[str]:
    """Lines tuned over rates at one shape and number of tokens: at their best, claimed orders, and above."""
    groups = tunings(study)
    if len(groups) > 1:
        yield _best_rates([tuned for group in groups for tuned in group])
    for group in groups[:1]:
        if len(group) > 1:
            yield _ranking(group, study)
        for claim in study.settings.claims:
            pairs = [difference for claimed, difference in claimed_pairs(study, group) if claimed is claim]
            if pairs:
                yield _claim(claim, pairs)
        yield from _above(group)


def _best_rates(tuned: list[Tuned]) -> str:
    """Where lines were tuned at several shapes: every best rate, and whether worse ones lie on both sides."""
    told = [
        f"{one.line} {one.best.lr:g} at {one.shape} ({'bracketed' if one.bracketed else 'at an edge'})" for one in tuned
    ]
    return f"The best learning rates: {', '.join(told)}."


def _ranking(group: list[Tuned], study: Study) -> str:
    first = group[0]
    lines = [f"{tuned.line} {_NATS(tuned.loss)}" for tuned in group]
    noise = f" (seed noise {_NATS(study.noise.sigma)})" if study.noise else ""
    return (
        f"Each line at its best rate, {first.shape} on {format_number(first.tokens)} tokens, reaches in nats/token, "
        f"the lowest first: {', '.join(lines)}{noise}."
    )


def _claim(claim: Claim, pairs: list[Pair]) -> str:
    """How many of the claimed pairs are seen here, and the largest difference among them."""
    holds, turned = (sum(difference.outcome == word for difference in pairs) for word in ("holds", "reversed"))
    largest = max(pairs, key=lambda difference: abs(difference.difference))
    with_interval = [difference for difference in pairs if difference.interval is not None]
    narrowest = min(with_interval, key=_width) if with_interval else largest
    precise = "" if narrowest is largest else f", the most precise {_pair(narrowest)}"
    reported = claim.difference(narrowest.first.line, narrowest.second.line)
    if reported is not None and narrowest.excludes(reported):
        precise += f", which excludes the reported {_SIGNED(reported)} at this scale"
    return (
        f"Of the {len(pairs)} pairs in {' < '.join(claim.order)} ({claim.source}), {holds} hold here, {turned} are "
        f"reversed and {len(pairs) - holds - turned} are not shown; the largest difference is {_pair(largest)}"
        f"{precise}."
    )


def _width(pair: Pair) -> float:
    low, high = pair.interval or (-math.inf, math.inf)
    return high - low


def _pair(pair: Pair) -> str:
    if pair.matched is not None:
        low, high = pair.matched.interval
        interval = f" ± {_NATS((high - low) / 2)} over {pair.matched.runs} seeds"
    else:
        interval = "" if pair.interval is None else " ({} to {})".format(*map(_SIGNED, pair.interval))
    sigmas = "" if pair.sigmas is None else f", {pair.sigmas:+.1f}σ".replace("-", "−")
    return f"{pair.first.line} minus {pair.second.line} {_SIGNED(pair.difference)}{interval}{sigmas}, {pair.outcome}"


def _above(group: list[Tuned]) -> Iterator[str]:
    """Norms and losses at the largest multiple of the best rate that was tried in every line."""
    shared = [multiple for multiple in MULTIPLES[1:] if all(tuned.at(multiple) for tuned in group)]
    if not shared:
        return
    rates = {tuned.line: rate for tuned in group if (rate := tuned.at(shared[-1]))}
    norms = {line: norm for line, rate in rates.items() if (norm := rate.median("largest_matrix_norm")) is not None}
    lines = [
        f"{line} {format_number(norms[line], 2)}{_lost(tuned, rates[line])}"
        for line in sorted(norms, key=lambda name: norms[name])
        for tuned in group
        if tuned.line == line
    ]
    if lines:
        yield f"At {shared[-1]} times the best rate the largest matrix has a spectral norm of: {'; '.join(lines)}."


def _lost(tuned: Tuned, rate: Rate) -> str:
    diverged = f", {rate.diverged} of {len(rate.rows)} runs diverged" if rate.diverged else ""
    return f" (loss {_SIGNED(rate.loss - tuned.loss)}{diverged})" if rate.loss is not None else " (every run diverged)"


def _alone(study: Study) -> list[str]:
    """Lines that are compared with none."""
    if all(len(line.cells) == 1 for line in study.lines) and len(study.lines) > 1:
        return ["Every line has one shape and one number of tokens, so no law can be fitted."]
    return [_law(line) for line in study.lines]


def _law(line: Line) -> str:
    """The law of a line that is compared with none."""
    if line.law is None:
        return f"{line.name} has no law: {line.refused}."
    if line.undetermined:
        return f"{line.name}: the law is not determined: {line.undetermined}."
    if "N" not in line.law.fit.exponents:
        return f"{line.name}: {line.law.fit.message}."
    ends = line.law.exponent_intervals.get("N")
    show = fixed(decimals(*ends) if ends else 2)
    interval = f" (95 % interval {show(ends[0])} to {show(ends[1])})" if ends else ""
    return (
        f"By {line.law.fit.law} on {len(line.points)} points the compute-optimal size of {line.name} grows as "
        f"C^{show(line.law.fit.exponents['N'])}{interval}."
    )
