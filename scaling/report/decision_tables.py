"""The serving decision in words and tables: the first sentence answers, the tables hold what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

from scaling import checks
from scaling.analysis.serving_decision import StudyDecision, Unit, serving_decision
from scaling.analysis.settings import ServingQuestion
from scaling.analysis.study import Study
from scaling.checks import Check
from scaling.errors import ScalingError
from scaling.inference.decision import BreakEven, Choice, Row
from scaling.quantity import format_number
from scaling.report.table import Column, Significant, Table, compute_text, fixed

_LINE, _FORM = Column("line", "line"), Column("form", "served as")
_N, _TIMES, _SHARE = Significant(3), fixed(2), fixed(2)
UNIT_WORDS: dict[Unit, str] = {"usd": "USD", "device_seconds": "device hours", "flops": "FLOPs"}
CHOICE_WORDS: dict[Choice, str] = {
    "lifetime": "cheapest over its life",
    "cheapest": "cheapest to train",
    "1.5x": "smallest at 1.5 × training",
    "2x": "smallest at 2 × training",
    "4x": "smallest at 4 × training",
}


def decision_sentences(made: StudyDecision) -> list[str]:
    """The decision, then what a reader has to know to use it."""
    found, first = made.decision, made.decision.best[0]
    compared = [_compared(made, row) for row in found.best if row.line != found.reference]
    total = cost_text(made.unit, first.total_cost or 0.0)
    spread = made.total_range(first)
    ends = [format_number(_shown_cost(made.unit, end)) for end in spread or ()]
    between = f" ({' to '.join(ends)}, the device not being measured)" if ends else ""
    parts = [
        f"Serving {format_number(found.served_tokens)} tokens at loss {found.target_loss:.3g}{_where(made)}: "
        f"{_model(first)} costs {total} in all{between}",
        *(compared or ["there is no second line to compare it with"]),
    ]
    sentences = ["; ".join(parts) + "."]
    if any(row.word in ("no difference", "not determined") for row in found.best if row.line != found.reference):
        sentences.append(
            "A ratio whose interval contains 1 shows no difference; more budgets, larger ones or more seeds narrow it "
            "(scaling next)."
        )
    return sentences


def cost_text(unit: Unit, cost: float) -> str:
    """A cost as people write it; device seconds in hours."""
    if unit == "usd":
        return f"${format_number(cost)}"
    return (
        f"{compute_text(cost)} FLOPs" if unit == "flops" else f"{format_number(_shown_cost(unit, cost))} device hours"
    )


def _shown_cost(unit: Unit, cost: float) -> float:
    return cost / 3600 if unit == "device_seconds" else cost


def _where(made: StudyDecision) -> str:
    if made.setting is None:
        return ""
    prompt = "" if made.setting.prompt is None else f", prompt {made.setting.prompt:,}"
    return (
        f" on {made.setting.device.name} (batch {made.setting.batch}, context {made.setting.context:,}{prompt}, "
        f"{made.setting.values})"
    )


def _model(row: Row) -> str:
    return f"{row.name} with N = {format_number(row.params or 0.0)} on {format_number(row.tokens or 0.0)} tokens"


def _compared(made: StudyDecision, row: Row) -> str:
    at = next((point for point in made.decision.break_even if point.line == row.line), None)
    if row.ratio is None or row.ratio_interval is None:
        return f"{row.name} is not determined: too few draws of the law reach this loss"
    low, high = row.ratio_interval
    told = f"{row.name} {row.ratio:.2f} × [{low:.2f}, {high:.2f}]: {row.word}"
    return told if at is None else f"{told}; {_below(at)}"


def _below(point: BreakEven) -> str:
    other = point.against if point.cheaper_below == point.line else point.line
    return f"below {format_number(point.served_tokens)} tokens {point.cheaper_below} is cheaper than {other}"


def made_decision(study: Study) -> StudyDecision | None:
    """The decision; None where the study asks for none, or it cannot be made (`decision_checks` says why)."""
    made = _made(study)
    return None if isinstance(made, ScalingError) else made


def decision_checks(study: Study) -> tuple[Check, ...]:
    """What could be wrong with the decision, or why there is none."""
    made = _made(study)
    if isinstance(made, ScalingError):
        return (checks.NOT_PRICED(f"No serving decision: {made.sentence}."),)
    return () if made is None else made.checks


@lru_cache(maxsize=4)
def _made(study: Study) -> StudyDecision | ScalingError | None:
    if study.settings.serving is None:
        return None
    try:
        return serving_decision(study)
    except ScalingError as error:
        return error


def serving_decision_table(study: Study, asked: ServingQuestion | None = None) -> Table:
    """Every line, form and choice, with ratios to the reference of the same choice; of another question if asked."""
    made = made_decision(study) if asked is None else serving_decision(study, asked)
    unit: Unit = "flops" if made is None else made.unit
    scale = partial(_shown_cost, unit)
    rows = tuple(_row(made, row, scale) for row in made.decision.rows) if made else ()
    cost = compute_text if unit == "flops" else _N
    columns = (
        Column("choice", "model"),
        _LINE,
        _FORM,
        Column("total", f"total, {UNIT_WORDS[unit]}", cost),
        Column("ratio", "× reference", _TIMES),
        Column("ratio_interval", "95 %", _TIMES),
        Column("verdict", "verdict"),
        Column("n", "N", _N),
        Column("tokens", "D", _N),
        Column("train", f"training, {UNIT_WORDS[unit]}", cost),
        Column("serve", f"serving, {UNIT_WORDS[unit]}", cost),
        Column("serve_ratio", "a served token, ×", _TIMES),
        Column("serve_interval", "95 %", _TIMES),
        Column("weight_bytes", "weights, bytes", _N),
        Column("kv_bytes_per_token", "cache, bytes a token", _N),
        Column("nearest_shape", "nearest shape"),
    )
    note = ""
    if made:
        note = (
            f"Served: {format_number(made.decision.served_tokens)} tokens at {made.decision.target_loss:.4g} nats per "
            f"token. Ratios are to {made.decision.reference} under the same choice, from paired draws of one law."
        )
    return Table("serving_decision", "What serving costs at equal loss", columns, rows, note)


def _row(made: StudyDecision, row: Row, scale: Any) -> tuple[Any, ...]:
    held, shape = _held(made, row)
    reference = (row.line, row.form) == (made.decision.base.line, made.decision.base.form)
    verdict = "reference" if reference else "loss not reached" if row.total_cost is None else row.word
    return (
        CHOICE_WORDS[row.choice],
        row.line,
        row.form,
        None if row.total_cost is None else scale(row.total_cost),
        row.ratio,
        None if reference else row.ratio_interval,
        verdict,
        row.params,
        row.tokens,
        None if row.train_cost is None else scale(row.train_cost),
        None if row.serve_cost is None else scale(row.serve_cost),
        row.serve_ratio,
        None if reference else row.serve_ratio_interval,
        *held,
        shape,
    )


def _held(made: StudyDecision, row: Row) -> tuple[tuple[float | None, float | None], str | None]:
    """Bytes of the weights and of a token's cache, and the nearest real shape; unknown without shapes."""
    served = made.served.get((row.line, row.form))
    if served is None or row.params is None:
        return (None, None), None
    weights, cache = (served.price_at(name, row.params) for name in ("weight_bytes", "kv_bytes_per_token"))
    return (weights, cache), served.line.curve.nearest(row.params).name


def break_even_table(study: Study) -> Table:
    """Served tokens at which a line costs as much as the reference."""
    made = made_decision(study)
    points = made.decision.break_even if made else ()
    rows = tuple((p.line, p.form, p.against, p.served_tokens, *p.interval, p.cheaper_below) for p in points)
    columns = (
        _LINE,
        _FORM,
        Column("against", "against"),
        Column("served_tokens", "equal at, tokens", _N),
        Column("from", "not told apart from", _N),
        Column("to", "to", _N),
        Column("cheaper_below", "cheaper below"),
    )
    note = "Between the two ends the 95 % interval of the ratio of total costs contains 1; a dash: no such end found."
    return Table("break_even", "Where lines cost the same over their lives", columns, rows, note)


def rank_choice_table(study: Study) -> Table:
    """Rank as a choice: loss at equal training compute, cost at equal loss, and the chance to be best."""
    made = made_decision(study)
    rows = tuple(
        (
            one.rank_ratio,
            one.line,
            one.form,
            one.loss_difference,
            one.loss_interval,
            one.lowest_loss_share,
            one.serve_ratio,
            one.serve_ratio_interval,
            one.ratio,
            one.ratio_interval,
            one.cheapest_share,
        )
        for one in (made.decision.ranks if made else ())
    )
    columns = (
        Column("rank_ratio", "rank ratio"),
        _LINE,
        _FORM,
        Column("loss_difference", "loss at equal compute", fixed(3, sign=True)),
        Column("loss_interval", "95 %", fixed(3, sign=True)),
        Column("lowest_loss_share", "lowest in", _SHARE),
        Column("serve_ratio", "a served token, ×", _TIMES),
        Column("serve_interval", "95 %", _TIMES),
        Column("ratio", "total cost, ×", _TIMES),
        Column("ratio_interval", "95 %", _TIMES),
        Column("cheapest_share", "cheapest in", _SHARE),
    )
    note = "Rank ratio 1 is the dense reference. Lowest and cheapest in: the share of the draws."
    return Table("rank_choice", "Which rank ratio", columns, rows, note)


def over_training_table(study: Study) -> Table:
    """What more tokens on a smaller model cost in loss and save in serving."""
    made = made_decision(study)
    rows = tuple(
        (one.line, one.form, one.multiple, one.params, one.tokens, one.loss, one.loss_above, one.serve_ratio)
        for one in (made.decision.over_training if made else ())
    )
    columns = (
        _LINE,
        _FORM,
        Column("multiple", "× optimal tokens", Significant(3)),
        Column("n", "N", _N),
        Column("tokens", "D", _N),
        Column("loss", "loss", fixed(3)),
        Column("loss_above", "above", fixed(3, sign=True)),
        Column("serve_ratio", "a served token, ×", _TIMES),
    )
    note = "All at the training compute with which the line reaches the loss; × is relative to its optimal model."
    return Table("over_training", "Over-training as a choice", columns, rows, note)


def decision_tables(study: Study) -> Iterator[Table]:
    """Those of the decision that have a row."""
    for make in (serving_decision_table, break_even_table, rank_choice_table, over_training_table):
        if (table := make(study)).rows:
            yield table
