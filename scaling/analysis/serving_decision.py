"""The serving decision of a study: its lines under the joint law, priced for what `analysis.serving` asks.

Lines are compared by paired draws of M3 (A, B, α and β per line, E shared); a study of one line has its own law. Costs
are money where a price is known, else device seconds, and FLOPs where times would be of launches alone (below ten
million parameters) or where the table has no shapes: then training takes 6·N and a served token 2·N FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from scaling import checks
from scaling.analysis.lines import Line
from scaling.analysis.serving import paired_laws, why_not_paired
from scaling.analysis.settings import ServingQuestion
from scaling.analysis.study import Study
from scaling.checks import Check
from scaling.errors import FitError
from scaling.files import JsonObject
from scaling.hardware import find_device
from scaling.inference import equal_loss
from scaling.inference.cost import Form, Setting, forms
from scaling.inference.curve import Curve, FloatArray
from scaling.inference.decision import Candidate, Decision, Draws, Row, decide, least_loss
from scaling.inference.served import TIMED_FROM, ServedLine
from scaling.laws.forms import Form as LawForm
from scaling.sweeps.counting import count

Unit = Literal["usd", "device_seconds", "flops"]
_BELOW, _ABOVE = 1e-2, 1e6  # sizes looked at, relative to the smallest and the largest trained


@dataclass(frozen=True, eq=False)
class StudyDecision:
    """A decision, how it was priced, and what could be wrong with it.

    `left_out` has the lines that are not priced, with the reason.
    """

    decision: Decision
    question: ServingQuestion
    setting: Setting | None
    unit: Unit
    served: dict[tuple[str, Form], ServedLine]
    left_out: dict[str, str]
    checks: tuple[Check, ...]

    def total_range(self, row: Row) -> tuple[float, float] | None:
        """Total cost of a row between fast and slow serving, where the device is not calibrated; else None."""
        served = self.served.get((row.line, row.form))
        if self.unit == "flops" or served is None or served.setting.calibrated or row.train_cost is None:
            return None
        assert row.params is not None
        params = np.array([row.params])
        low, high = (float(seconds_per_token(served, params, end)[0]) for end in ("_low", "_high"))
        scale = self.decision.served_tokens * _per_second(self.unit, self.question)
        return row.train_cost + scale * low, row.train_cost + scale * high


@dataclass(frozen=True, eq=False)
class _FormLaws:
    """The fit of a single line and its draws, in any form: columns [k, 1] of its parameters; tokens by bisection."""

    form: LawForm
    parameters: JsonObject

    @property
    def count(self) -> int:
        """k."""
        return len(next(iter(self.parameters.values())))

    @property
    def fit(self) -> _FormLaws:
        """The fit alone."""
        return _FormLaws(self.form, {name: column[:1] for name, column in self.parameters.items()})

    def loss(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Nats per token [k, m]."""
        return np.asarray(self.form.loss(self.parameters, params, tokens))

    def tokens_to_reach(self, target: float, params: FloatArray) -> FloatArray:
        """D(N, ℓ) [k, m]."""
        return equal_loss.tokens_to_reach(self.loss, target, params)


def _own_laws(line: Line) -> _FormLaws:
    assert line.law is not None
    fit, drawn = line.law.fit, line.law.draws
    columns = {name: np.array([[value]]) for name, value in fit.parameters.items()}
    if drawn is not None and len(drawn.vectors):
        columns = {name: np.concatenate([value, drawn.parameters[name][:, None]]) for name, value in columns.items()}
    return _FormLaws(fit.form, dict(columns))


@lru_cache(maxsize=4)
def serving_decision(study: Study, asked: ServingQuestion | None = None) -> StudyDecision:
    """The answer to a question.

    Args:
        study: with a law for its reference.
        asked: None: the study's own, `analysis.serving`.

    Raises:
        PlanError: no such device or precision.
        FitError: no law, a loss below the irreducible one, a line that is not determined; the message says which.
    """
    question = asked or study.settings.serving
    assert question is not None, "the study has no serving question"
    device = study.settings.hardware.get(question.device) or find_device(question.device)
    if question.usd_per_hour is None and device.cost_per_hour is not None:
        question = replace(question, usd_per_hour=device.cost_per_hour)
    context = question.context or int(study.reference.cells[0].row.sequence_length or 2048)
    setting = Setting(device, question.batch, context, question.precision, question.prompt)
    laws, left_out = _laws(study)
    lines = [line for line in study.lines if line.name in laws]
    shapes = all(line.curve is not None for line in lines)
    in_flops = _candidates(lines, laws, setting if shapes else None, "flops", question)
    base = in_flops[0][0]
    target = question.loss or least_loss(base, question.compute or max(float(p.points.compute.max()) for p in lines))
    _refuse_unreachable(base, target)
    unit = _unit(base, target, study.reference.curve if shapes else None, question)
    candidates, served = in_flops if unit == "flops" else _candidates(lines, laws, setting, unit, question)
    found = decide(candidates, study.reference.name, target_loss=target, served_tokens=question.served)
    told = tuple(_checks(study, found, setting if shapes else None, unit, served, left_out))
    return StudyDecision(found, question, setting if shapes else None, unit, served, left_out, told)


def _laws(study: Study) -> tuple[dict[str, Draws], dict[str, str]]:
    """Paired laws by line, the reference first, and why other lines have none."""
    reference, paired = study.reference, paired_laws(study)
    laws: dict[str, Draws] = dict(paired)
    if reference.name not in laws:
        if reference.law is None or reference.undetermined:
            why = reference.undetermined or reference.refused
            raise FitError("nothing is priced at equal loss", got=f"{reference.name} has no law: {why}")
        laws = {reference.name: _own_laws(reference)}
    missing = {line.name: why_not_paired(study) for line in study.lines if line.name not in laws}
    return {reference.name: laws[reference.name], **laws}, missing


def _candidates(
    lines: list[Line], laws: dict[str, Draws], setting: Setting | None, unit: Unit, question: ServingQuestion
) -> tuple[list[Candidate], dict[tuple[str, Form], ServedLine]]:
    """Every line in every form, the reference first."""
    candidates, served = [], {}
    for name, law in laws.items():
        line = next(one for one in lines if one.name == name)
        if setting is None or line.curve is None:
            candidates.append(_by_counting(line, law))
            continue
        flops = line.costs[line.axis]
        for form in forms(line.curve.rungs[0].ranks):
            one = ServedLine(equal_loss.LineLaw(name, law.fit.loss, line.curve, flops), form, setting)
            served[name, form] = one
            candidates.append(_priced(line, law, one, unit, question))
    return candidates, served


def _by_counting(line: Line, law: Draws) -> Candidate:
    """A line without shapes: 6·N FLOPs to train a token, 2·N to serve one."""
    form: Form = "dense" if line.rank_ratio is None else "factorized"
    per_token = line.costs["6ND"]
    return Candidate(line.name, form, line.rank_ratio, law, per_token, per_token, lambda n: 2.0 * n, _sizes(line))


def _priced(line: Line, law: Draws, served: ServedLine, unit: Unit, question: ServingQuestion) -> Candidate:
    flops, scale = line.costs[line.axis], 1.0 if unit == "flops" else _per_second(unit, question)

    def train(params: FloatArray) -> FloatArray:
        spent = flops(params)
        return spent if unit == "flops" else scale * spent / served.training_flops_per_second(params)

    def serve(params: FloatArray) -> FloatArray:
        return _flops(served, params) if unit == "flops" else scale * seconds_per_token(served, params)

    return Candidate(line.name, served.form, line.rank_ratio, law, flops, train, serve, _sizes(line))


def _sizes(line: Line) -> tuple[float, float]:
    return float(line.points.params.min()) * _BELOW, float(line.points.params.max()) * _ABOVE


def _per_second(unit: Unit, question: ServingQuestion) -> float:
    """The cost of a device second in the unit."""
    return 1.0 if unit == "device_seconds" else (question.usd_per_hour or math.nan) / 3600


def _flops(served: ServedLine, params: FloatArray) -> FloatArray:
    """FLOPs of one served token at N, prompt and decoded ones in proportion."""
    setting, decode = served.setting, served.price("decode_flops_per_token", params)
    if setting.prompt is None:
        return decode
    share = setting.prompt / setting.context
    return share * served.price("prefill_flops_per_token", params) + (1 - share) * decode


def seconds_per_token(served: ServedLine, params: FloatArray, end: Literal["", "_low", "_high"] = "") -> FloatArray:
    """Device seconds of one served token at N, prompt and decoded ones in proportion."""
    setting, decode = served.setting, served.price(f"decode_seconds{end}", params)
    if setting.prompt is None:
        return decode / setting.batch
    prefill = served.price(f"prefill_seconds{end}", params)
    steps = setting.context - setting.prompt
    return np.asarray((prefill + steps * decode) / (setting.batch * setting.context))


def _unit(base: Candidate, target: float, curve: Curve | None, question: ServingQuestion) -> Unit:
    """Money or seconds where the model is large enough to be timed."""
    if curve is None:
        return "flops"
    params = float(base.cheapest(target)[0, 0])
    total = float(curve.quantity(lambda shape, ranks: count(shape, ranks).params_total)(params))
    if total < TIMED_FROM:
        return "flops"
    return "usd" if question.usd_per_hour is not None else "device_seconds"


def _refuse_unreachable(base: Candidate, target: float) -> None:
    """The reference has to reach the loss.

    Raises:
        FitError: it never does.
    """
    if np.isfinite(base.cheapest(target)[0, 0]):
        return
    far = np.full((1, 1), base.sizes[1])
    floor = float(base.laws.fit.loss(far, np.full_like(far, 1e30))[0, 0])
    raise FitError(
        f"{base.line} never reaches this loss",
        where="serving",
        got=f"{target:.4g} nats/token",
        allowed=f"above {floor:.4g} nats/token, the irreducible loss of its law",
        hint="--compute C takes the loss that the reference reaches with C training FLOPs",
    )


def _checks(
    study: Study,
    found: Decision,
    setting: Setting | None,
    unit: Unit,
    served: dict[tuple[str, Form], ServedLine],
    left_out: dict[str, str],
) -> Iterator[Check]:
    for name, why in left_out.items():
        yield checks.NOT_PRICED(f"{name} is not priced at equal loss: {why}.")
    reached = {row.line for row in found.best}
    for name in dict.fromkeys(one.line for one in found.candidates):
        if name not in reached:
            yield checks.LOSS_NOT_REACHED(f"{name} never reaches {found.target_loss:.4g} nats by its law.")
    trained, needed = max(float(line.points.compute.max()) for line in study.lines), found.most_compute
    decades = math.log10(needed / trained)
    if decades > checks.MAX_DECADES.value:
        yield checks.EXTRAPOLATION(
            f"Serving {found.served_tokens:.3g} tokens at loss {found.target_loss:.4g} is cheapest after "
            f"{needed:.3g} training FLOPs, {decades:.1f} decades above the largest compute of the data ({trained:.3g})."
        )
    rows = [row for row in found.best if row.params is not None]
    outside = [row.line for row in rows if _extrapolated(served.get((row.line, row.form)), row)]
    if outside:
        names = ", ".join(outside)
        yield checks.SIZE_EXTRAPOLATED(f"{names}: outside the ladder; depth and width are extrapolated.")
    if setting is None:
        yield checks.FLOPS_6ND_ASSUMED("The table has no shapes: 6·N FLOPs train a token, 2·N serve one, no cache.")
        return
    length = study.reference.cells[0].row.sequence_length
    if length is not None and setting.context > length:
        yield checks.CONTEXT_BEYOND_TRAINING(
            f"Served with a context of {setting.context:,} tokens, trained with {int(length):,}: the loss is of the "
            "trained length."
        )
    if unit == "flops":
        yield checks.TOO_SMALL_TO_TIME(
            f"Below {TIMED_FROM / 1e6:.0f}M parameters a decode step is kernel launches: costs are FLOPs, not time."
        )
        return
    if not setting.calibrated:
        message = "not measured: its seconds rest on typical shares of the data sheet and have a range"
        yield checks.UNCALIBRATED(f"{setting.device.name}: {message} (scaling doctor --calibrate).")
    large = [row.line for row in rows if not _fits(served[row.line, row.form], row)]
    if large:
        yield checks.TOO_LARGE_TO_SERVE(
            f"{', '.join(large)}: weights and cache are larger than the memory of one {setting.device.name}."
        )


def _extrapolated(served: ServedLine | None, row: Row) -> bool:
    return served is not None and served.line.curve.extrapolated(row.params or 1.0)


def _fits(served: ServedLine, row: Row) -> bool:
    held = sum(served.price_at(name, row.params or 1.0) for name in ("weight_bytes", "kv_bytes"))
    return held <= served.setting.device.memory_bytes
