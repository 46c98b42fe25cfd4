"""A study in a terminal: the fit of every line by `laws.fit_text`, the differences, and the cost of serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from scaling.analysis.imports import share_imported
from scaling.analysis.lines import Line
from scaling.analysis.predictions import stacked_forms
from scaling.analysis.serving import serving
from scaling.analysis.serving_decision import serving_decision
from scaling.analysis.study import Study
from scaling.checks import Check, by_severity
from scaling.laws.fit_text import report_text
from scaling.laws.optima import OptimaLaws
from scaling.report.comparison_tables import differences_table, kappa_table, multipliers_table, tests_table
from scaling.report.decision_tables import decision_sentences, decision_tables
from scaling.report.imported_runs import marked
from scaling.report.law_tables import minima_table
from scaling.report.rate_tables import best_rates_table, claims_table, stability_table
from scaling.report.summary import answer
from scaling.report.table import Table
from scaling.report.tables import serving_table

_SERVING_COLUMNS = {
    "line",
    "choice",
    "form",
    "device",
    "n",
    "training_flops",
    "decode_flops_ratio",
    "weight_bytes",
    "kv_share",
    "decode_seconds_ratio",
}


_DECISION_COLUMNS = {
    "choice",
    "line",
    "form",
    "total",
    "ratio",
    "ratio_interval",
    "verdict",
    "n",
    "tokens",
    "serve_ratio",
}


def fit_text(study: Study, approach: int | None = None) -> str:
    """Every line's law; the isoFLOP minima; the checks. `approach` keeps only that one."""
    blocks = []
    if approach in (None, 3):
        blocks += [report_text(*study.together).rstrip()] if study.together else []
        blocks += [_law(line) for line in study.lines]
    if approach in (None, 2) and (minima := minima_table(study)).rows:
        blocks.append(table_text(marked(minima, study)))
    if approach in (None, 2):
        blocks += [_exponents_by_minima(line) for line in study.lines if line.isoflop]
        blocks += [_through_optima(line, line.optima) for line in study.lines if line.optima]
    if approach in (None, 1):
        blocks += [text for line in study.lines for text in _envelope(line)]
    if study.dropped:
        blocks.append(f"{len(study.dropped)} runs are no data points: {_reasons(study)}.")
    if approach is None:
        blocks.append(checks_text(study.law_checks))
    return "\n\n".join(block for block in blocks if block)


def compare_text(study: Study) -> str:
    """The answer, compute multipliers, differences at equal cost and at each line's best rate, and serving costs."""
    compared = (multipliers_table(study), differences_table(study), tests_table(study), kappa_table(study))
    made = (*compared, best_rates_table(study), claims_table(study), stability_table(study))
    tables = [marked(table, study) for table in (*made, serving_extract(study)) if table.rows]
    checks = checks_text(by_severity([*study.comparison_checks, *serving(study, whole=False).checks]))
    return "\n\n".join([*answer(study), *map(table_text, tables), *([checks] if checks else [])])


def decision_text(study: Study) -> str:
    """The serving decision, its tables, and what could be wrong with it; for a study that asks for one."""
    made = serving_decision(study)
    shown = (t.only(_DECISION_COLUMNS) if t.name == "serving_decision" else t for t in decision_tables(study))
    tables = [marked(table, study) for table in shown]
    told = checks_text(by_severity(made.checks))
    return "\n\n".join([*decision_sentences(made), *map(table_text, tables), *([told] if told else [])])


def serving_extract(study: Study) -> Table:
    """What a terminal can show of the serving table: the lowest loss that all lines reach, the columns to compare."""
    table = serving_table(study, whole=False)
    if not table.rows:
        return table
    lowest, *others = sorted(set(serving(study, whole=False).targets))
    more = f"Losses {' and '.join(f'{loss:.3f}' for loss in others)}, nearest shapes" if others else "Nearest shapes"
    note = f"{table.note} {more} and batch 64: --json, or tables/serving.csv of `scaling report` (batch 1)."
    title = f"{table.title} of {lowest:.3f} nats/token, the lowest target"
    return replace(table.only(_SERVING_COLUMNS), title=title, note=note)


def table_text(table: Table) -> str:
    """A table in aligned columns."""
    cells = [table.header, *table.shown]
    widths = [max(len(row[n]) for row in cells) for n in range(len(table.columns))]
    lines = []
    for row in cells:
        padded = (column.pad(cell, width) for cell, width, column in zip(row, widths, table.columns, strict=True))
        lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join([table.title, *lines, *([f"  {table.note}"] if table.note else [])])


def checks_text(checks: Sequence[Check]) -> str:
    """One check a line; empty where there is none."""
    lines = [f"  {check.severity}: {check.message} [{check.code}]" for check in checks]
    return "\n".join(["What could be wrong:", *lines]) if lines else ""


def _law(line: Line) -> str:
    if line.law is None:
        return f"{line.name}: no law. {line.refused}"
    # The line's checks stand at the end, with those of the others.
    text = str(line.law)
    share = share_imported(line)
    mark = f" (imported: {share})" if share else ""
    return f"{line.name}{mark}\n{text.rstrip()}{_extrapolation(line)}"


def _extrapolation(line: Line) -> str:
    """How predictions of the line are made, in one line."""
    made = None if line.undetermined else stacked_forms(line)
    if made is None:
        return ""
    told = ", ".join(f"{form.fit.law} {weight:.2f}" for form, weight in zip(made.forms, made.weights, strict=True))
    return f"\n  predictions: {told}; {made.calibration.text}"


def _exponents_by_minima(line: Line) -> str:
    assert line.isoflop is not None
    if not line.isoflop.exponents:
        return f"{line.name}, approach 2: {line.isoflop.message}"
    intervals = line.isoflop.exponent_intervals
    exponents = ", ".join(_exponent(name, value, intervals[name]) for name, value in line.isoflop.exponents.items())
    return f"{line.name}, approach 2 ({line.isoflop.curve}): {exponents}"


def _through_optima(line: Line, optima: OptimaLaws) -> str:
    intervals = optima.exponent_intervals
    exponents = ", ".join(_exponent(name, value, intervals[name]) for name, value in optima.exponents.items())
    return f"{line.name}, power laws through {len(line.points)} given optima: {exponents}"


def _exponent(name: str, value: float, interval: tuple[float, float]) -> str:
    """An exponent with its interval, where it has one."""
    low, high = interval
    return f"{name} ∝ C^{value:.3f}" + ("" if low != low else f" [{low:.3f}, {high:.3f}]")


def _envelope(line: Line) -> Iterator[str]:
    if line.law and line.law.envelope:
        exponents = ", ".join(f"{name} ∝ C^{value:.3f}" for name, value in line.law.envelope.exponents.items())
        yield f"{line.name}, approach 1 (lower envelope): {exponents}"


def _reasons(study: Study) -> str:
    counts: dict[str, int] = {}
    for item in study.dropped:
        counts[item.reason] = counts.get(item.reason, 0) + 1
    return "; ".join(f"{count} {reason}" for reason, count in counts.items())
