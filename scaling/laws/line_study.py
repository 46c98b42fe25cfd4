"""Everything about one line: the law, its draws, approaches 1 and 2, and, once asked for, the hold-out and the checks.

study = study_line(points)                     # Points of one line
study.fit.parameters, study.intervals, study.checks
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from scaling.checks import Check
from scaling.errors import FitError
from scaling.laws.determination import undetermined_optimum
from scaling.laws.draws import Draws, Interval, Kind, bootstrap
from scaling.laws.envelope import Envelope, envelope
from scaling.laws.fit_checks import fit_checks
from scaling.laws.fit_text import report_text
from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import Form, form_named
from scaling.laws.frontier import FlopsPerToken
from scaling.laws.holdout import HoldOut, hold_out
from scaling.laws.isoflop import Curve, IsoFlop, isoflop
from scaling.laws.law_intervals import parameter_intervals
from scaling.laws.noise_parts import NoiseParts, noise_parts, part_draws
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points
from scaling.laws.profile_likelihood import profile_intervals
from scaling.laws.repeated_tokens import with_unique_params
from scaling.laws.seed_noise import SeedNoise, seed_noise
from scaling.laws.sensitivity import Alternative, objective_row
from scaling.laws.tuning_bias import Trials, bootstrap_tuned, tuned_deviations

Part = TypeVar("Part")


@dataclass(frozen=True)
class Asked:
    """How a line is studied: the arguments of `study_line` that hold-out, sensitivity and checks need."""

    delta: Delta | None
    draws: int
    seed: int
    kind: Kind
    compute: Sequence[float]
    conventions: Mapping[str, Points]
    flops_per_token: FlopsPerToken | None
    trials: Trials | None
    fixed: Mapping[str, float] | None
    tied: Mapping[str, str] | None


@dataclass(frozen=True, eq=False)
class LineStudy:
    """What is known of one line. `draws` is None without a bootstrap; approaches that the points cannot feed are None.

    `parts` are those of the noise; `skipped` says, for each of parts, isoflop and envelope that is None, why.
    """

    fit: Fit
    draws: Draws | None
    noise: SeedNoise | None
    parts: NoiseParts | None
    isoflop: IsoFlop | None
    envelope: Envelope | None
    skipped: Mapping[str, str]
    dropped: int
    asked: Asked

    @property
    def holdout(self) -> HoldOut | None:
        """The largest budget predicted from the others; None where the points cannot feed it."""
        return self._holdout if isinstance(self._holdout, HoldOut) else None

    @property
    def not_held_out(self) -> str | None:
        """Why there is no hold-out."""
        return str(self._holdout) if isinstance(self._holdout, FitError) else None

    @cached_property
    def _holdout(self) -> HoldOut | FitError:
        law, asked = self.fit, self.asked
        try:
            return hold_out(
                law.points,
                law.form,
                objective=law.objective,
                delta=asked.delta,
                draws=max(200, asked.draws // 2) if asked.draws else 200,
                seed=asked.seed,
                kind=asked.kind,
                noise=self.noise.sigma if self.noise else None,
                flops_per_token=asked.flops_per_token,
                trials=asked.trials,
                fixed=asked.fixed,
                tied=asked.tied,
            )
        except FitError as error:
            return error

    @cached_property
    def sensitivity(self) -> tuple[Alternative, ...]:
        """The law under other objectives."""
        return objective_row(self.fit.points, self.fit.form, fixed=self.asked.fixed, tied=self.asked.tied)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """What could be wrong with the law and its points."""
        law, asked = self.fit, self.asked
        others = {
            name: fit(points, law.form, objective=law.objective, delta=asked.delta, fixed=asked.fixed, tied=asked.tied)
            for name, points in asked.conventions.items()
        }
        return fit_checks(
            law,
            draws=self.draws,
            isoflop=self.isoflop,
            noise=self.noise,
            sensitivity=self.sensitivity,
            holdout=self.holdout,
            conventions=others,
            compute=asked.compute,
        )

    def __str__(self) -> str:
        return report_text(self.fit, self.draws, dropped=self.dropped, sensitivity=self.sensitivity, parts=self.parts)

    @property
    def intervals(self) -> dict[str, Interval]:
        """95 % interval of each parameter; empty without draws."""
        return parameter_intervals(self.draws) if self.draws is not None else {}

    @property
    def exponent_intervals(self) -> dict[str, Interval]:
        """95 % interval of each exponent; empty without draws."""
        return self.draws.exponent_intervals() if self.draws is not None else {}

    def to_json(self, approach: int = 3) -> dict[str, object]:
        """The numbers of the `fit` document for approach 1, 2 or 3; family and rank ratio are the caller's."""
        law = self.fit
        parameters: dict[str, float] = dict(law.parameters)
        exponents: dict[str, float | None] = dict(law.exponents)
        intervals, exponent_intervals = self.intervals, self.exponent_intervals
        status, message = str(law.status), law.message
        if undetermined_optimum(law, self.draws) is not None:
            exponents, exponent_intervals = dict.fromkeys(exponents), {}
        if approach == 2:
            assert self.isoflop is not None
            parameters, intervals = dict(self.isoflop.coefficients), {}
            exponents, exponent_intervals = dict(self.isoflop.exponents), dict(self.isoflop.exponent_intervals)
            status, message = ("ok" if exponents else "too_few_minima"), self.isoflop.message
        if approach == 1:
            assert self.envelope is not None
            parameters, intervals = {}, {}
            exponents, exponent_intervals = dict(self.envelope.exponents), dict(self.envelope.exponent_intervals)
            status, message = "ok", f"{self.envelope.winners} of {self.envelope.shapes} shapes on the envelope"
        third = approach == 3
        return {
            "law": law.law if third else None,
            "approach": approach,
            "objective": law.objective if third else None,
            "delta": law.delta if third else None,
            "params_column": law.points.params_column,
            "points": len(law.points),
            "range": {"N": list(law.range.params), "D": list(law.range.tokens)},
            "dropped": self.dropped,
            "parameters": parameters,
            "intervals": {name: _finite(pair) for name, pair in intervals.items()},
            "profile_intervals": {name: _finite(pair) for name, pair in profile_intervals(law).items()}
            if third
            else {},
            "exponents": exponents,
            "exponent_intervals": {name: _finite(pair) for name, pair in exponent_intervals.items()},
            "objective_value": law.objective_value if third else None,
            "status": status,
            "message": message,
            "noise": self.parts.summary.to_json() if third and self.parts else None,
            "checks": [check.to_json() for check in self.checks],
        }


def study_line(
    points: Points,
    *,
    law: str | Form = "chinchilla",
    objective: str = "log_huber",
    delta: Delta | None = None,
    draws: int = 1000,
    seed: int = 0,
    kind: Kind | None = None,
    curve: Curve = "parabola",
    drop_highest: int = 0,
    compute: Sequence[float] = (),
    conventions: Mapping[str, Points] | None = None,
    flops_per_token: FlopsPerToken | None = None,
    trials: Trials | None = None,
    sigma: float | None = None,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
) -> LineStudy:
    """Fits one line every way its points allow.

    Args:
        points: one line.
        law, objective, delta: of approach 3.
        draws: bootstrap draws, 0 for none. seed: of them.
        kind: `residuals` or `cases`; None is residuals for a grid (`Points.designed`) and cases for any other table.
        curve: of approach 2.
        drop_highest: how many of the highest losses to leave out.
        compute: FLOPs at which the law will be used (for the extrapolation check).
        conventions: the same points with other parameter counts, by column name.
        flops_per_token: training FLOPs per token at N; None is 6·N.
        trials: all runs, where `points` are those that `tuning_bias.choose` kept: every draw then chooses again.
        sigma: seed noise in nats for those choices; None takes that of `points`.
        fixed, tied: parameters of approach 3 that are not fitted, or equal another one (`fitting.fit`).

    Raises:
        FitError: the law cannot be identified from these points.
    """
    kept = points.drop_highest(drop_highest) if drop_highest else points
    if "unique_params" in form_named(law).needs and kept.unique_params is None:
        kept = with_unique_params(kept, objective=objective, delta=delta, fixed=fixed, tied=tied)
    noise = seed_noise(kept)
    sigma_log = noise.sigma_log if noise else None
    sigma_nats = noise.sigma if noise else None
    drawing: Kind = kind or ("residuals" if kept.designed else "cases")
    result = fit(kept, law, objective=objective, delta=delta, fixed=fixed, tied=tied)
    skipped: dict[str, str] = {}
    parts = _or_reason(skipped, "noise", lambda: noise_parts(result))
    deviations = None
    if draws and trials is not None:
        deviations = tuned_deviations(trials, result, draws=draws, seed=seed, sigma=sigma or sigma_nats)
    sample = _draws(result, deviations, parts, draws=draws, seed=seed, kind=drawing, noise=sigma_log) if draws else None

    def valleys() -> IsoFlop:
        line = _one_line(kept)
        return isoflop(line, curve=curve, draws=draws, seed=seed, noise=sigma_log, deviations=deviations)

    minima = _or_reason(skipped, "isoflop", valleys)
    lower = _or_reason(skipped, "envelope", lambda: envelope(_one_line(kept)))
    asked = Asked(
        delta=delta,
        draws=draws,
        seed=seed,
        kind=drawing,
        compute=compute,
        conventions=conventions or {},
        flops_per_token=flops_per_token,
        trials=trials,
        fixed=fixed,
        tied=tied,
    )
    return LineStudy(result, sample, noise, parts, minima, lower, skipped, len(points) - len(kept), asked)


def _draws(
    law: Fit,
    deviations: Array | None,
    parts: NoiseParts | None,
    *,
    draws: int,
    seed: int,
    kind: Kind,
    noise: float | None,
) -> Draws:
    """Of tuned cells those that choose again, of a designed grid those with its noise in parts, else a bootstrap."""
    if deviations is not None:
        return bootstrap_tuned(law, deviations)
    if kind == "residuals" and parts is not None:
        return part_draws(law, parts, draws=draws, seed=seed)
    return bootstrap(law, draws=draws, seed=seed, kind=kind, noise=noise)


def _finite(pair: Interval) -> list[float | None]:
    """An interval for a document: an open or missing end is None."""
    return [end if math.isfinite(end) else None for end in pair]


def _one_line(points: Points) -> Points:
    """The points, which approaches 1 and 2 read as one line.

    Raises:
        FitError: they are several.
    """
    lines = points.lines()
    if len(lines) > 1:
        raise FitError("approaches 1 and 2 are of one line", got=", ".join(lines), allowed="the points of one line")
    return points


def _or_reason(skipped: dict[str, str], name: str, make: Callable[[], Part]) -> Part | None:
    """`make()`, or None with the reason noted where these points cannot feed it."""
    try:
        return make()
    except FitError as error:
        skipped[name] = str(error)
        return None
