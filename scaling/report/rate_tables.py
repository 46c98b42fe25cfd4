"""The tables of a sweep that tuned its rates: lines at their best rates, claimed orders, and stability above."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaling.analysis.rates import MULTIPLES, Tuned, claimed_pairs, pair, tunings
from scaling.analysis.study import Study
from scaling.quantity import format_number
from scaling.report.table import Column, Significant, Table, difference_columns, fixed

_LINE = Column("line", "line")
_LOSS, _RATE = fixed(3), Significant(3)
_EXCLUDED = {True: "yes", False: "no", None: None}
_PLACE = (Column("shape", "shape"), Column("tokens", "D", format_number))


def best_rates_table(study: Study) -> Table:
    """Every line at the best of its rates, the best line first."""
    rows = []
    for group in tunings(study):
        for tuned in group:
            made = pair(tuned, group[0], study.noise)
            first = tuned is group[0]
            difference = (None, None, None) if first else (made.difference, made.interval, made.sigmas)
            edge = "yes" if tuned.bracketed else "no: the first or last one tried"
            word = None if first else made.word
            seeds = len(tuned.best.losses)
            rows.append(
                (tuned.shape, tuned.tokens, tuned.line, tuned.best.lr, edge, seeds, tuned.loss, *difference, word)
            )
    columns = (
        *_PLACE,
        _LINE,
        Column("lr", "best rate", _RATE),
        Column("bracketed", "between two others"),
        Column("seeds", "seeds", fixed(0)),
        Column("loss_nats", "loss", _LOSS),
        *difference_columns("minus the first"),
        Column("verdict", "verdict"),
    )
    note = (
        "Mean over seeds at the rate where that mean is least, which is biased low by the choice, in every line alike; "
        "a law's data point is the bottom of a parabola over the rates instead. σ is the noise of one seed. Runs of "
        "equal seed are paired; a verdict takes an interval without zero."
    )
    return Table("best_rates", "Lines at their best rates", columns, tuple(rows), note)


def claims_table(study: Study) -> Table:
    """Whether every claimed order holds here."""
    rows = []
    for group in tunings(study):
        for claim, difference in claimed_pairs(study, group):
            pair_of = (difference.first.line, difference.second.line)
            claimed = claim.difference(*pair_of)
            here = (difference.difference, difference.interval, difference.sigmas, difference.outcome)
            rows.append((claim.source, *pair_of, *here, claimed, _EXCLUDED[difference.excludes(claimed)]))
    columns = (
        Column("source", "claimed by"),
        Column("better", "lower loss"),
        Column("than", "than"),
        *difference_columns("difference here"),
        Column("outcome", "here"),
        Column("claimed_difference", "claimed difference", fixed(3, sign=True)),
        Column("claimed_excluded", "excluded here"),
    )
    note = (
        "Each line at its best rate, runs of equal seed paired. Holds or reversed: the interval of this pair alone "
        "excludes zero (it is not widened for the number of pairs); otherwise this sweep does not show it."
    )
    return Table("claims", "Claimed orders", columns, tuple(rows), note)


def stability_table(study: Study) -> Table:
    """Loss and the largest matrix at 1, 2 and 4 times the best rate."""
    rows = []
    for group in tunings(study):
        for tuned in group:
            rates = [tuned.at(multiple) for multiple in MULTIPLES]
            losses = [rate.loss if rate else None for rate in rates]
            norms = [rate.median("largest_matrix_norm") if rate else None for rate in rates]
            last = [rate.median("update_norm_over_lr") if rate else None for rate in (rates[0], rates[-1])]
            diverged = sum(rate.diverged for rate in rates if rate)
            rows.append((tuned.shape, tuned.tokens, tuned.line, tuned.best.lr, *losses, diverged, *norms, *last))
    columns = (
        *_PLACE,
        _LINE,
        Column("lr", "best rate", _RATE),
        *(Column(f"loss_nats_at_{m}", f"loss at {m}×", _LOSS) for m in MULTIPLES),
        Column("diverged", "diverged", fixed(0)),
        *(Column(f"matrix_norm_at_{m}", f"‖W‖ at {m}×", _RATE) for m in MULTIPLES),
        *(Column(f"update_norm_over_lr_at_{m}", f"‖ΔW‖/η at {m}×", _RATE) for m in (MULTIPLES[0], MULTIPLES[-1])),
    )
    note = (
        "‖W‖: the largest spectral norm of any matrix (a product A·B where factorized) at any time measured; ‖ΔW‖/η: "
        "the largest update of one, over the rate. Medians over seeds."
    )
    return Table("stability", "Stability above the best rate", columns, tuple(rows), note)


def rates_table(study: Study) -> Table:
    """Every rate of every line."""
    rows = [_rate(tuned, n) for group in tunings(study) for tuned in group for n in range(len(tuned.rates))]
    columns = (
        *_PLACE,
        _LINE,
        Column("lr", "rate", _RATE),
        Column("multiple", "× best", fixed(2)),
        Column("runs", "runs", fixed(0)),
        Column("diverged", "diverged", fixed(0)),
        Column("loss_nats", "loss", _LOSS),
        Column("loss_spikes", "loss spikes", fixed(0)),
        Column("largest_matrix_norm", "‖W‖", _RATE),
        Column("update_norm_over_lr", "‖ΔW‖/η", _RATE),
        Column("factor_norm", "factor, end", _RATE),
        Column("largest_grad_norm", "gradient", _RATE),
    )
    note = "Norms are the largest measured in a run (the factor's is that of the end), medians over seeds."
    return Table("rates", "Every rate", columns, tuple(rows), note)


def _rate(tuned: Tuned, n: int) -> tuple[Any, ...]:
    rate = tuned.rates[n]
    names = ("loss_spikes", "largest_matrix_norm", "update_norm_over_lr", "factor_norm", "largest_grad_norm")
    counted = (rate.lr, rate.lr / tuned.best.lr, len(rate.rows), rate.diverged, rate.loss)
    return (tuned.shape, tuned.tokens, tuned.line, *counted, *(rate.median(name) for name in names))


RATE_TABLES: dict[str, Callable[[Study], Table]] = {
    "best_rates": best_rates_table,
    "claims": claims_table,
    "stability": stability_table,
    "rates": rates_table,
}
