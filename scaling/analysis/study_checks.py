"""What could be wrong with a study, beyond what the points of one line can show: how its runs were trained and
compared.

The suspicions of one line come from `laws.fit_checks`; here are those that need the table. Codes are stable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scaling.analysis.comparisons import Comparison, frontiers_cross
from scaling.analysis.table_reader import Row
from scaling.checks import Check
from scaling.laws.seed_noise import SeedNoise
from scaling.laws.tuning_bias import selection_checks

if TYPE_CHECKING:
    from scaling.analysis.lines import Line

FEW_STEPS = 500  # DESIGN section 5; the low-rank paper's largest shapes had 234 to 770
MANY_EPOCHS = 4.0  # Muennighoff et al. 2305.16264: repeating up to four times costs little
LARGE_EMBEDDING = 0.5  # DESIGN section 5
FEW_FREEDOM = 10  # below it the seed noise itself is known to no better than a factor of about 1.6 (its χ²)
_SEVERITY = {"error": 0, "warning": 1, "info": 2}
# Judged here with the seed noise of all lines: one line's own often rests on two degrees of freedom.
_OF_THE_STUDY = {"seed_noise_unknown", "residuals_exceed_noise"}


def study_checks(
    lines: Sequence[Line], comparisons: Sequence[Comparison], rows: Sequence[Row], noise: SeedNoise | None
) -> tuple[Check, ...]:
    """Every suspicion, the gravest first, each once."""
    checks = [
        *_of_lines(lines),
        *(check for one in comparisons for check in one.checks if check.code not in _OF_THE_STUDY),
        *_of_comparisons(comparisons),
        *_of_noise(lines, noise),
        *_of_optimizers(lines),
        *_of_runs(lines),
        *_of_rows(rows),
    ]
    return tuple(by_severity(checks))


def by_severity(checks: Sequence[Check]) -> list[Check]:
    """Each check once, the gravest first."""
    return sorted(dict.fromkeys(checks), key=lambda check: _SEVERITY[check.severity])


def _of_lines(lines: Sequence[Line]) -> Iterator[Check]:
    refused: dict[str, list[str]] = {}
    for line in lines:
        if line.law is None:
            refused.setdefault(str(line.refused), []).append(line.name)
    for why, names in refused.items():
        yield Check("no_law", "warning", f"No parametric law for {', '.join(names)}: {why}.")
    for line in lines:
        if line.law and (reason := line.law.skipped.get("audit")):
            message = f"{line.name}: the law was not tried on a held-out budget: {reason.splitlines()[0]}."
            yield Check("not_audited", "info", message)
        for check in selection_checks(line.choices):
            yield Check(check.code, check.severity, f"{line.name}: {_sentence(check.message)}")
        for check in line.law.checks if line.law else ():
            if check.code not in _OF_THE_STUDY:
                yield Check(check.code, check.severity, f"{line.name}: {_sentence(check.message)}")


def _of_comparisons(comparisons: Sequence[Comparison]) -> Iterator[Check]:
    for one in comparisons:
        names = f"{one.line.name} and {one.reference.name}"
        if frontiers_cross(one.by_budget):
            yield Check("difference_changes_sign", "info", f"{names} change places between the budgets.")
        if one.exponent is not None and one.exponent[1][0] <= 0 <= one.exponent[1][1]:
            difference, (low, high) = one.exponent
            message = (
                f"The exponents of {names} cannot be told apart: N_opt grows as C to a power that differs by "
                f"{difference:+.2f} (95 % interval {low:+.2f} to {high:+.2f}).".replace("-0.", "−0.")
            )
            yield Check("exponents_not_separated", "info", message)


def _of_noise(lines: Sequence[Line], noise: SeedNoise | None) -> Iterator[Check]:
    for line in lines if noise else ():
        # The largest that the seed noise may be, as a relative deviation.
        highest = noise.sigma_log * noise.interval[1] / noise.sigma if noise and noise.sigma else 0.0
        if line.law and line.law.fit.sigma_log > highest > 0:
            message = (
                f"{line.name}: the law misses its points by {line.law.fit.sigma_log:.2%} (sd), more than seed noise "
                f"explains ({highest:.2%} at most): its form is too stiff here."
            )
            yield Check("residuals_exceed_noise", "warning", message)
    if noise is None:
        message = (
            "No cell was trained with several seeds: differences of losses have no scale, so none is called better."
        )
        yield Check("seed_noise_unknown", "warning", message)
    elif noise.freedom < FEW_FREEDOM:
        low, high = noise.interval
        message = (
            f"The seed noise of {noise.sigma:.3f} nats comes from {noise.freedom} degrees of freedom: "
            f"it may be anything from {low:.3f} to {high:.3f}."
        )
        yield Check("seed_noise_uncertain", "info", message)


def _of_optimizers(lines: Sequence[Line]) -> Iterator[Check]:
    used = {
        line.name: sorted({str(cell.row["optimizer"]) for cell in line.cells if cell.row.get("optimizer")})
        for line in lines
    }
    if len({tuple(names) for names in used.values()}) > 1:
        told = "; ".join(f"{line}: {', '.join(names)}" for line, names in used.items())
        message = f"Lines differ in optimizer too ({told}): a difference belongs to both."
        yield Check("optimizer_differs", "info", message)


def _of_runs(lines: Sequence[Line]) -> Iterator[Check]:
    for line in lines:
        rows = [cell.row for cell in line.cells]
        short = [row["steps"] for row in rows if row.get("steps") and row["steps"] < FEW_STEPS]
        if short:
            message = (
                f"{line.name}: {_some(short, rows)} trained for fewer than {FEW_STEPS} steps (least {min(short)})."
            )
            yield Check("few_steps", "info", message)
        repeated = [row["epochs"] for row in rows if row.get("epochs") and row["epochs"] > MANY_EPOCHS]
        if repeated:
            message = f"{line.name}: {_some(repeated, rows)} read their data more than {MANY_EPOCHS:g} times."
            yield Check("many_epochs", "warning", message)
        shares = [
            1 - row["params_non_embedding"] / row["params_total"] for row in rows if row.get("params_non_embedding")
        ]
        large = [share for share in shares if share > LARGE_EMBEDDING]
        if large:
            message = (
                f"{line.name}: in {_some(large, rows)} embedding and head are more than half of the parameters "
                f"(up to {max(large):.0%}, {min(shares):.0%} at the least): that alone tilts exponents in params_total."
            )
            yield Check("embedding_share", "info", message)


def _of_rows(rows: Sequence[Row]) -> Iterator[Check]:
    statuses = Counter(str(row["status"]) for row in rows if row.get("status"))
    missing = {name: count for name, count in statuses.items() if name != "completed"}
    if missing:
        told = ", ".join(f"{count} {name}" for name, count in sorted(missing.items()))
        yield Check(
            "runs_missing", "warning", f"Of {sum(statuses.values())} planned runs {told}; they are no data points."
        )
    diverged = Counter(str(row["line"]) for row in rows if row.get("status") == "diverged")
    if diverged and len(diverged) < len({row.get("line") for row in rows}):
        told = ", ".join(f"{count} of {name}" for name, count in diverged.items())
        yield Check(
            "diverged_one_side", "warning", f"Runs diverged on one side only ({told}): losses are not comparable."
        )
    for column, what in (
        ("corpus_hash", "corpora"),
        ("torch_version", "torch versions"),
        ("device", "kinds of device"),
    ):
        found = sorted({str(row[column]) for row in rows if row.get(column) and row.get("status") == "completed"})
        if len(found) > 1:
            severity = "error" if column == "corpus_hash" else "info"
            yield Check(f"mixed_{column}", severity, f"Runs come from several {what}: {', '.join(found)}.")  # type: ignore[arg-type]


def _some(found: Sequence[object], rows: Sequence[object]) -> str:
    return f"{len(found)} of {len(rows)} cells"


def _sentence(message: str) -> str:
    return message if message.endswith(".") else f"{message}."
