"""The tables of laws: minima, parameters, exponents, predictions, hold-out validation.

Losses are nats per token, intervals 95 %, N in the study's convention.
"""

from __future__ import annotations

from typing import Any

from scaling.analysis.predictions import predict
from scaling.analysis.study import Study
from scaling.laws.comparison import AXES
from scaling.laws.law_intervals import parameter_intervals
from scaling.report.table import Column, Significant, Table, compute_text, fixed

_LINE = Column("line", "line")
_N, _LOSS = Significant(3), fixed(3)


def minima_table(study: Study) -> Table:
    """Approach 2: the minimum of every budget."""
    rows = [
        (
            line.name,
            m.budget,
            m.points,
            m.params if m.bracketed else None,
            m.params_interval if m.bracketed else None,
            m.tokens if m.bracketed else None,
            m.tokens / m.params if m.bracketed else None,
            m.loss if m.bracketed else None,
            m.loss_interval if m.bracketed else None,
            "yes" if m.bracketed else f"no: {m.reason}",
        )
        for line in study.lines
        for m in (line.isoflop.minima if line.isoflop else ())
    ]
    columns = (
        _LINE,
        Column("budget", "budget", compute_text),
        Column("points", "points", fixed(0)),
        Column("n_opt", "N_opt", _N),
        Column("n_opt_interval", "95 %", _N),
        Column("d_opt", "D_opt", _N),
        Column("tokens_per_param", "D/N", fixed(1)),
        Column("loss_nats", "loss", _LOSS),
        Column("loss_interval", "95 %", _LOSS),
        Column("bracketed", "bracketed"),
    )
    return Table("minima", "IsoFLOP minima (approach 2)", columns, tuple(rows))


def fits_table(study: Study) -> Table:
    """Approach 3: the parameters of every line that has a law."""
    names = list(dict.fromkeys(name for line in study.lines if line.law for name in line.law.fit.parameters))
    rows = []
    for line in study.lines:
        law = line.law
        values: list[Any] = [None] * (2 * len(names))
        if law is not None:
            intervals = law.intervals
            values = [v for name in names for v in (law.fit.parameters.get(name), intervals.get(name))]
        status = "no law" if law is None else law.fit.status
        objective = None if law is None else law.fit.objective_value
        rows.append((line.name, len(line.points), *values, objective, status))
    pairs = [(Column(name, name, _N), Column(f"{name}_interval", "95 %", _N)) for name in names]
    columns = (
        _LINE,
        Column("points", "points", fixed(0)),
        *(column for pair in pairs for column in pair),
        Column("objective_value", "objective", Significant(4)),
        Column("status", "status"),
    )
    settings = study.settings
    first = next((line.law.fit for line in study.lines if line.law), None)
    how = f"{settings.line_law}, {settings.objective}{_delta(first.delta if first else None)}, summed"
    note = f"N is {settings.params_column}, C counts {AXES[study.convention]}. E is the irreducible loss."
    refused = [f"{line.name}: {line.refused}." for line in study.lines if line.law is None]
    formula = f"{first.form.formula}; " if first else ""
    return Table(
        "fits", f"Law of each line (approach 3): {formula}{how}", columns, tuple(rows), " ".join([note, *refused])
    )


def together_table(study: Study) -> Table:
    """The law over all lines, parameter by parameter; empty where the settings ask for none."""
    rows: list[tuple[Any, ...]] = []
    title = "Law over all lines"
    if study.together is not None:
        law, draws = study.together
        intervals = parameter_intervals(draws) if draws else {}
        rows = [(name, value, intervals.get(name)) for name, value in law.parameters.items()]
        title = f"Law over all lines: {law.form.formula}"
    columns = (Column("parameter", "parameter"), Column("value", "value", _N), Column("interval", "95 %", _N))
    return Table("together", title, columns, tuple(rows))


def exponents_table(study: Study) -> Table:
    """N_opt ∝ C^a by every approach and objective, which shows how much depends on the choice of them."""
    rows: list[tuple[Any, ...]] = []
    for line in study.lines:
        if line.law is None or line.undetermined:
            continue
        law = line.law
        label = f"{law.fit.law}, {law.fit.objective}{_delta(law.fit.delta)}"
        rows.append((line.name, "3", label, *_exponents(law.fit.exponents, law.exponent_intervals)))
        if law.isoflop and law.isoflop.exponents:
            exponents = _exponents(law.isoflop.exponents, law.isoflop.exponent_intervals)
            rows.append((line.name, "2", law.isoflop.curve, *exponents))
        if law.envelope:
            exponents = _exponents(law.envelope.exponents, law.envelope.exponent_intervals)
            rows.append((line.name, "1", "lower envelope", *exponents))
        for choice in law.sensitivity:
            if (choice.objective, choice.delta) != (law.fit.objective, law.fit.delta):
                named = f"{law.fit.law}, {choice.objective}{_delta(choice.delta)}"
                rows.append((line.name, "3", named, *_exponents(choice.exponents, {})))
    columns = (
        _LINE,
        Column("approach", "approach"),
        Column("how", "how"),
        Column("a", "N_opt ∝ C^", fixed(3)),
        Column("a_interval", "95 %", fixed(3)),
        Column("b", "D_opt ∝ C^", fixed(3)),
        Column("b_interval", "95 %", fixed(3)),
    )
    note = "Approach 3's exponents are the closed form under C ∝ N·D; approach 2 is biased even without noise."
    return Table("exponents", "Exponents", columns, tuple(rows), note)


def predictions_table(study: Study) -> Table:
    """The compute-optimal model of every line at each compute, with interval and form range."""
    rows: list[tuple[Any, ...]] = []
    for target in study.settings.predict:
        for line in study.lines:
            prediction = predict(line, target)
            if line.frontier is None:
                continue
            numbers = (("N", prediction.params), ("D", prediction.tokens), ("loss", prediction.loss))
            intervals, ranges = prediction.intervals, prediction.form_range
            cells = [cell for name, value in numbers for cell in (value, intervals.get(name), ranges.get(name))]
            trust = prediction.refused or (
                prediction.calibration.text if prediction.calibration else "one law alone, not calibrated"
            )
            rows.append((target, line.name, *cells, intervals.get("loss_of_run"), trust))
    columns = [Column("compute", "C", compute_text), _LINE]
    for name, title, show in (("n_opt", "N_opt", _N), ("d_opt", "D_opt", _N), ("loss_nats", "loss", _LOSS)):
        columns += [Column(name, title, show), Column(f"{name}_interval", "95 %", show)]
        columns += [Column(f"{name}_form_range", "form range", show)]
    columns += [Column("run_loss_interval", "95 % of one run", _LOSS), Column("calibration", "intervals")]
    note = (
        "Forms are stacked by their error on held-out budgets; 95 % intervals are of the law, and of one further run. "
        "The form range is min to max over forms and objectives (for N and D over approach 2 too)."
    )
    return Table("predictions", "Predictions", tuple(columns), tuple(rows), note)


def holdout_table(study: Study) -> Table:
    """How well each law predicted its largest budget from the others."""
    rows = []
    for line in study.lines:
        holdout = line.law.holdout if line.law else None
        if holdout is not None:
            inside, best = holdout.share_inside, holdout.optimum
            rows.append(
                (
                    line.name,
                    holdout.budget,
                    len(holdout.runs),
                    holdout.rms_nats,
                    holdout.line_rms_nats,
                    100 * inside,
                    best.error_nats if best else None,
                )
            )
    columns = (
        _LINE,
        Column("held_out_budget", "held out", compute_text),
        Column("runs", "runs", fixed(0)),
        Column("rms_nats", "law's error (rms)", fixed(4)),
        Column("line_rms_nats", "log-log plane's", fixed(4)),
        Column("inside_percent", "in 95 % prediction interval", fixed(0)),
        Column("optimum_error_nats", "error at the optimum", fixed(4, sign=True)),
    )
    note = "Nats; observed minus predicted. The percentage of held-out runs inside should be near 95."
    return Table(
        "audit", "Hold-out validation: the largest budget predicted from the others", columns, tuple(rows), note
    )


def _delta(delta: float | None) -> str:
    """``, δ 1e-3``; nothing for an objective without a width."""
    return f", δ {delta:.0e}".replace("e-0", "e-") if delta else ""


def _exponents(values: dict[str, float], intervals: Any) -> tuple[Any, ...]:
    return values.get("N"), intervals.get("N"), values.get("D"), intervals.get("D")
