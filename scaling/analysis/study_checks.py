"""Checks of a study that need more than the points of one line: how its runs were trained and
compared.

The checks of one line are in `laws.fit_checks`; here are those that need the table. Codes are stable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scaling import checks
from scaling.analysis.comparisons import Comparison, exponent_difference
from scaling.analysis.data_points import line_name
from scaling.analysis.imports import import_checks
from scaling.analysis.predictions import holdout_coverage
from scaling.checks import Check, by_severity
from scaling.errors import FitError
from scaling.laws.rank_comparison import RankComparison
from scaling.laws.seed_noise import SeedNoise
from scaling.laws.size_trend import size_trend
from scaling.laws.tuning_bias import selection_checks
from scaling.rows import RunRow

if TYPE_CHECKING:
    from scaling.analysis.lines import Line

# Judged here with the seed noise of all lines: one line's own often rests on two degrees of freedom.
_OF_THE_STUDY = {checks.SEED_NOISE_UNKNOWN.code, checks.RESIDUALS_EXCEED_NOISE.code}


def study_checks(
    lines: Sequence[Line], reference: Line, rows: Sequence[RunRow], noise: SeedNoise | None
) -> tuple[Check, ...]:
    """Every check of laws and data, the most severe first, each once."""
    result = [
        *_of_lines(lines),
        *_of_exponents(lines, reference),
        *_of_noise(lines, noise),
        *_of_trends(lines),
        *(check for line in lines for check in holdout_coverage(line)),
        *_of_optimizers(lines),
        *_of_runs(lines),
        *_of_rows(rows),
        *import_checks(lines),
    ]
    return tuple(by_severity(result))


def _of_lines(lines: Sequence[Line]) -> Iterator[Check]:
    refused: dict[str, list[str]] = {}
    for line in lines:
        if line.law is None:
            refused.setdefault(str(line.refused), []).append(line.name)
    for why, names in refused.items():
        yield checks.NO_LAW(f"No parametric law for {', '.join(names)}: {why}.")
    for line in lines:
        if line.law and (reason := line.law.not_held_out):
            message = f"{line.name}: the law was not validated on a held-out budget: {reason.splitlines()[0]}."
            yield checks.NOT_AUDITED(message)
        for check in selection_checks(line.choices):
            yield replace(check, message=f"{line.name}: {_sentence(check.message)}")
        for check in line.law.checks if line.law else ():
            if check.code not in _OF_THE_STUDY:
                yield replace(check, message=f"{line.name}: {_sentence(check.message)}")


def comparison_checks(
    comparisons: Sequence[Comparison], not_compared: Mapping[str, str], ranks: RankComparison | None
) -> Iterator[Check]:
    """Suspicions about the comparisons of lines."""
    for one in comparisons:
        names = f"{one.line.name} and {one.reference.name}"
        yield from one.checks
        if one.crosses:
            yield checks.DIFFERENCE_CHANGES_SIGN(f"{names} change places between the budgets.")
        if one.joint is not None and one.joint.unreliable:
            yield checks.INTERVAL_UNRELIABLE(
                f"More than {checks.MAX_LOST_DRAWS.value:.0%} of the draws of the joint law of {names} failed or ended "
                "at a bound: the band of their compute multiplier is unreliable."
            )
        if one.joint is not None and one.joint.assumption is not None:
            yield checks.LINES_SHARE_EXPONENTS(f"{names}: {one.joint.assumption}.")
    for why in dict.fromkeys(not_compared.values()):
        names = ", ".join(name for name, own in not_compared.items() if own == why)
        yield checks.LINES_NOT_COMPARED(f"No compute multiplier of {names}: {_sentence(why.splitlines()[0])}")
    if ranks is not None and ranks.test.rejected:
        yield checks.KAPPA_CONFOUNDED(f"{ranks.test}.")


def _of_exponents(lines: Sequence[Line], reference: Line) -> Iterator[Check]:
    for line in lines:
        found = exponent_difference(line, reference) if line is not reference else None
        if found is not None and found[1][0] <= 0 <= found[1][1]:
            difference, (low, high) = found
            message = (
                f"The exponents of {line.name} and {reference.name} cannot be told apart: N_opt grows as C to a power "
                f"that differs by {difference:+.2f} (95 % interval {low:+.2f} to {high:+.2f}).".replace("-0.", "−0.")
            )
            yield checks.EXPONENTS_NOT_SEPARATED(message)


def _of_noise(lines: Sequence[Line], noise: SeedNoise | None) -> Iterator[Check]:
    for line in lines if noise else ():
        # The largest that the seed noise may be, as a relative deviation.
        highest = noise.sigma_log * noise.interval[1] / noise.sigma if noise and noise.sigma else 0.0
        if line.law and line.law.fit.sigma_log > highest > 0:
            message = (
                f"{line.name}: the law misses its points by {line.law.fit.sigma_log:.2%} (sd), more than seed noise "
                f"explains ({highest:.2%} at most): its form does not fit here."
            )
            yield checks.RESIDUALS_EXCEED_NOISE(message)
    if noise is None:
        message = "No cell was trained with several seeds: seed noise and the scatter of cells are one part."
        yield checks.SEED_NOISE_UNKNOWN(message)
    elif noise.freedom < checks.MIN_NOISE_FREEDOM.value:
        low, high = noise.interval
        message = (
            f"The seed noise of {noise.sigma:.3f} nats comes from {noise.freedom} degrees of freedom: "
            f"it may be anything from {low:.3f} to {high:.3f}."
        )
        yield checks.SEED_NOISE_UNCERTAIN(message)


def _of_trends(lines: Sequence[Line]) -> Iterator[Check]:
    for line in lines:
        if line.law is None or line.law.parts is None or line.law.fit.status != "ok":
            continue
        try:
            trend = size_trend(line.law.fit, line.law.parts)
        except FitError:
            continue
        code = checks.SIZE_TREND if trend.test.rejected else checks.SIZE_TREND_POWER
        yield code(f"{line.name}: {trend}.")


def _of_optimizers(lines: Sequence[Line]) -> Iterator[Check]:
    used = {line.name: sorted({cell.row.optimizer for cell in line.cells if cell.row.optimizer}) for line in lines}
    if len({tuple(names) for names in used.values()}) > 1:
        optimizers = "; ".join(f"{line}: {', '.join(names)}" for line, names in used.items())
        message = f"Lines differ in optimizer too ({optimizers}): a difference belongs to both."
        yield checks.OPTIMIZER_DIFFERS(message)


def _of_runs(lines: Sequence[Line]) -> Iterator[Check]:
    for line in lines:
        rows = [cell.row for cell in line.cells]
        short = [row.steps for row in rows if row.steps and row.steps < checks.MIN_STEPS.value]
        if short:
            message = (
                f"{line.name}: {_some(short, rows)} trained for fewer than {checks.MIN_STEPS.value:g} steps "
                f"(least {min(short)})."
            )
            yield checks.FEW_STEPS(message)
        repeated = [row.epochs for row in rows if row.epochs and row.epochs > checks.MAX_EPOCHS.value]
        if repeated:
            message = (
                f"{line.name}: {_some(repeated, rows)} read their data more than {checks.MAX_EPOCHS.value:g} times."
            )
            yield checks.MANY_EPOCHS(message)
        shares = [
            1 - row.params_non_embedding / row.params_total
            for row in rows
            if row.params_non_embedding and row.params_total
        ]
        large = [share for share in shares if share > checks.MAX_EMBEDDING_SHARE.value]
        if large:
            message = (
                f"{line.name}: in {_some(large, rows)} embedding and head are more than "
                f"{checks.MAX_EMBEDDING_SHARE.value:.0%} of the parameters (up to {max(large):.0%}, "
                f"{min(shares):.0%} at the least): that alone tilts exponents in params_total."
            )
            yield checks.EMBEDDING_SHARE(message)


def _of_rows(rows: Sequence[RunRow]) -> Iterator[Check]:
    statuses = Counter(row.status for row in rows if row.status)
    missing = {name: count for name, count in statuses.items() if name != "completed"}
    if missing:
        counts_text = ", ".join(f"{count} {name}" for name, count in sorted(missing.items()))
        yield checks.RUNS_MISSING(f"Of {sum(statuses.values())} planned runs {counts_text}; they are no data points.")
    diverged = Counter(line_name(row) for row in rows if row.status == "diverged")
    if diverged and len(diverged) < len({row.line for row in rows}):
        counts_text = ", ".join(f"{count} of {name}" for name, count in diverged.items())
        yield checks.DIVERGED_ONE_SIDE(f"Runs diverged on one side only ({counts_text}): losses are not comparable.")
    for column, what, code in (
        ("corpus_hash", "corpora", checks.MIXED_CORPUS_HASH),
        ("torch_version", "torch versions", checks.MIXED_TORCH_VERSION),
        ("device", "kinds of device", checks.MIXED_DEVICE),
    ):
        values = sorted({value for row in rows if row.status == "completed" and (value := getattr(row, column))})
        if len(values) > 1:
            yield code(f"Runs come from several {what}: {', '.join(values)}.")
    counts = Counter(row.compiled for row in rows if row.status == "completed" and row.compiled is not None)
    if len(counts) > 1:
        yield checks.MIXED_COMPILED(f"{counts[True]} runs were compiled and {counts[False]} were not.")


def _some(found: Sequence[object], rows: Sequence[object]) -> str:
    return f"{len(found)} of {len(rows)} cells"


def _sentence(message: str) -> str:
    return message if message.endswith(".") else f"{message}."
