"""The answer: a study in a few sentences, the first of which answers the sweep's question with its uncertainty.

A sweep compares lines, so the answer is a difference of losses at the largest compute that both lines reached, in nats,
with its interval and in units of seed noise, and a verdict that claims no more than both support. Exponents
come second: at a small scale they rarely differ by more than their intervals, and the sentence says so. Lines whose
rates were tuned at one shape are compared at their best rates, held against claimed orders, and pushed above.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scaling.analysis.comparisons import Comparison
from scaling.analysis.lines import Line
from scaling.analysis.rates import MULTIPLES, Pair, Rate, Tuned, claimed_pairs, tunings
from scaling.analysis.study import Study
from scaling.laws.comparison import AXES, Verdict
from scaling.quantity import format_number
from scaling.report.table import compute_text, fixed

if TYPE_CHECKING:
    from scaling.sweeps.schema import Claim

_SIGNED, _NATS, _EXPONENT = fixed(3, sign=True), fixed(3), fixed(2, sign=True)


def answer(study: Study) -> list[str]:
    """Sentences, the first one the answer."""
    comparisons = sorted(study.comparisons, key=lambda one: -len(one.by_budget))
    tuned = list(_tuned(study))
    if not comparisons:
        return [*tuned, *_alone(study)]
    sentences = [_first(study, comparisons[0])]
    sentences += [_exponents(one) for one in comparisons if one.exponent]
    sentences += [_short(one) for one in comparisons[1:]]
    sentences += [text for one in comparisons for text in (*_axes(one), *_chosen(one))]
    return [*sentences, *tuned]


def _first(study: Study, comparison: Comparison) -> str:
    verdict, names = comparison.headline.verdict, (comparison.line.name, comparison.reference.name)
    side = "lower" if verdict.difference_nats < 0 else "higher"
    low, high = (_SIGNED(bound) for bound in verdict.interval)
    sizes = [cell.params for cell in (*comparison.line.cells, *comparison.reference.cells)]
    scale = f"models of {format_number(min(sizes), 2)} to {format_number(max(sizes), 2)} parameters"
    return (
        f"At an equal training compute of {compute_text(verdict.cost)} {AXES[study.convention]}, {names[0]} reaches a "
        f"validation loss {_NATS(abs(verdict.difference_nats))} nats/token {side} than {names[1]} "
        f"(95 % interval of the difference {low} to {high}){_noise(verdict)}: {_verdict(verdict, names, scale)}."
    )


def _noise(verdict: Verdict) -> str:
    if verdict.sigmas is None or verdict.sigma_seed is None:
        return ""
    return f", {abs(verdict.sigmas):.1f} times the seed noise of {_NATS(verdict.sigma_seed)}"


def _verdict(verdict: Verdict, names: tuple[str, str], scale: str) -> str:
    if verdict.word in ("better", "worse"):
        return f"on these {scale} {names[0]} is {verdict.word}"
    if verdict.word == "noise unknown":
        return "no cell was trained with several seeds, so the difference has no scale and no line is called better"
    return f"on these {scale} this sweep shows no difference between the two"


def _exponents(comparison: Comparison) -> str:
    told = " and ".join(_exponent(line) for line in (comparison.line, comparison.reference))
    assert comparison.exponent is not None
    value, (low, high) = comparison.exponent
    interval = f"{_EXPONENT(value)} with 95 % interval {_EXPONENT(low)} to {_EXPONENT(high)}"
    if low <= 0 <= high:
        return f"The exponents are too uncertain to compare: N_opt grows as {told} (difference {interval})."
    return f"The exponents differ: N_opt grows as {told} (difference {interval})."


def _exponent(line: Line) -> str:
    assert line.law is not None
    low, high = line.law.exponent_intervals["N"]
    return f"C^{line.law.fit.exponents['N']:.2f} [{low:.2f}, {high:.2f}] for {line.name}"


def _short(comparison: Comparison) -> str:
    """A further line in one sentence."""
    verdict, names = comparison.headline.verdict, (comparison.line.name, comparison.reference.name)
    low, high = (_SIGNED(bound) for bound in verdict.interval)
    words = {"better": f"better than {names[1]}", "worse": f"worse than {names[1]}"}
    word = words.get(verdict.word, f"not told apart from {names[1]}")
    return (
        f"At {compute_text(verdict.cost)} FLOPs {names[0]} is {word}: {_SIGNED(verdict.difference_nats)} nats/token "
        f"({low} to {high}){_noise(verdict)}."
    )


def _axes(comparison: Comparison) -> Iterator[str]:
    """Other costs held equal, where they change the verdict."""
    main, names = comparison.headline.verdict, (comparison.line.name, comparison.reference.name)
    told = []
    for other in (difference.verdict for difference in comparison.other_axes):
        if other.word != main.word:
            low, high = (_SIGNED(bound) for bound in other.interval)
            told.append(
                f"at equal {AXES[other.axis]} {names[0]} minus {names[1]} is {_SIGNED(other.difference_nats)} "
                f"nats/token ({low} to {high}), {other.word}"
            )
    if told:
        yield f"The verdict depends on what is held equal: {'; '.join(told)}."


def _chosen(comparison: Comparison) -> Iterator[str]:
    """What choosing the best of several settings does to a difference."""
    lines = (comparison.line, comparison.reference)
    if not any(line.choices for line in lines):
        return
    if any(choice.bias_nats is None for line in lines for choice in line.choices):
        yield "Some cells keep the best of several settings: without seed noise nobody knows how much that lowers them."
        return
    mine, theirs = (sum(choice.bias_nats or 0.0 for choice in line.choices) / len(line.cells) for line in lines)
    heavy = abs(mine - theirs) > 0.5 * abs(comparison.headline.verdict.difference_nats)
    yield (
        f"Choosing the best of several settings lowers the losses of {lines[0].name} by about {_NATS(mine)} and of "
        f"{lines[1].name} by {_NATS(theirs)} nats/token; differences are as measured, their intervals include it"
        f"{': here it is more than half of the difference' if heavy else ''}."
    )


def _tuned(study: Study) -> Iterator[str]:
    """Lines tuned over rates at one shape and number of tokens: at their best, claimed orders, and above."""
    for group in tunings(study)[:1]:
        if len(group) > 1:
            yield _ranking(group, study)
        for claim in study.settings.claims:
            pairs = [made for claimed, made in claimed_pairs(study, group) if claimed is claim]
            if pairs:
                yield _claim(claim, pairs)
        yield from _above(group)


def _ranking(group: list[Tuned], study: Study) -> str:
    first = group[0]
    told = [f"{tuned.line} {_NATS(tuned.loss)}" for tuned in group]
    noise = f" (seed noise {_NATS(study.noise.sigma)})" if study.noise else ""
    return (
        f"Each line at its best rate, {first.shape} on {format_number(first.tokens)} tokens, reaches in nats/token, "
        f"the lowest first: {', '.join(told)}{noise}."
    )


def _claim(claim: Claim, pairs: list[Pair]) -> str:
    """How many of the claimed pairs are seen here, and the largest difference among them."""
    holds, turned = (sum(made.outcome == word for made in pairs) for word in ("holds", "reversed"))
    largest = max(pairs, key=lambda made: abs(made.difference))
    return (
        f"Of the {len(pairs)} pairs in {' < '.join(claim.order)} ({claim.source}), {holds} hold here, {turned} are "
        f"reversed and {len(pairs) - holds - turned} are not shown; the largest difference is {_pair(largest)}."
    )


def _pair(made: Pair) -> str:
    interval = "" if made.interval is None else " ({} to {})".format(*map(_SIGNED, made.interval))
    sigmas = "" if made.sigmas is None else f", {made.sigmas:+.1f}σ".replace("-", "−")
    return f"{made.first.line} minus {made.second.line} {_SIGNED(made.difference)}{interval}{sigmas}, {made.outcome}"


def _above(group: list[Tuned]) -> Iterator[str]:
    """What lies at the largest multiple of the best rate that was tried in every line."""
    shared = [multiple for multiple in MULTIPLES[1:] if all(tuned.at(multiple) for tuned in group)]
    if not shared:
        return
    rates = {tuned.line: rate for tuned in group if (rate := tuned.at(shared[-1]))}
    known = {line: norm for line, rate in rates.items() if (norm := rate.median("largest_matrix_norm")) is not None}
    told = [
        f"{line} {format_number(known[line], 2)}{_lost(tuned, rates[line])}"
        for line in sorted(known, key=lambda name: known[name])
        for tuned in group
        if tuned.line == line
    ]
    if told:
        yield f"At {shared[-1]} times the best rate the largest matrix has a spectral norm of: {'; '.join(told)}."


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
    if "N" not in line.law.fit.exponents:
        return f"{line.name}: {line.law.fit.message}."
    intervals = line.law.exponent_intervals
    told = f" (95 % interval {intervals['N'][0]:.2f} to {intervals['N'][1]:.2f})" if intervals else ""
    return (
        f"By {line.law.fit.law} on {len(line.points)} points the compute-optimal size of {line.name} grows as "
        f"C^{line.law.fit.exponents['N']:.2f}{told}."
    )
