"""A fit as text for a paper: what was fitted to what, values with intervals, residuals and correlations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scaling.laws.determination import undetermined_optimum
from scaling.laws.draws import Draws, Interval
from scaling.laws.fitting import Fit
from scaling.laws.law_intervals import parameter_intervals
from scaling.laws.noise_parts import NoiseParts
from scaling.laws.profile_likelihood import profile_intervals
from scaling.laws.sensitivity import Alternative

UNKNOWN = "–"
_CORRELATED = 0.9  # rank correlations from here on are printed


def report_text(
    fit: Fit,
    draws: Draws | None = None,
    *,
    dropped: int = 0,
    sensitivity: Sequence[Alternative] = (),
    parts: NoiseParts | None = None,
) -> str:
    """The fit report.

    Args:
        fit, draws: the law and its bootstrap.
        dropped: points left out before the fit.
        sensitivity: the row of exponents under other objectives.
        parts: of the noise.
    """
    shown = None if fit.status == "degenerate" else draws
    blocks = [_heading(fit, dropped), _values(fit, shown), _residuals(fit)]
    if parts is not None:
        blocks.append(f"  noise: {parts.summary}")
    if shown is not None:
        blocks += [_draws(shown), _correlations(shown)]
    elif draws is not None:
        blocks.append("  no intervals: these numbers are not determined")
    if sensitivity and undetermined_optimum(fit, draws) is None:
        blocks.append(_sensitivity(sensitivity))
    return "\n".join(block for block in blocks if block) + "\n"


def _heading(fit: Fit, dropped: int) -> str:
    objective = fit.objective + (f", delta {fit.delta:.3g}" if fit.delta is not None else "")
    objective += " (auto)" if fit.automatic_delta else ""
    left_out = f" ({dropped} dropped)" if dropped else ""
    return (
        f"Law {fit.law}: {fit.form.formula}\n"
        f"  N is {fit.points.params_column}; {len(fit.points)} points{left_out}; objective {objective}, summed: "
        f"{fit.objective_value:.8g}\n"
        f"  status {fit.status}: {fit.message}; {fit.starts_agreement:.0%} of starts agree"
    )


def _values(fit: Fit, draws: Draws | None) -> str:
    intervals = parameter_intervals(draws) if draws is not None else {}
    rows: list[tuple[str, float | None, Interval | None]] = []
    rows += [(name, value, intervals.get(name)) for name, value in fit.parameters.items()]
    answers = undetermined_optimum(fit, draws) is None
    for name, exponent in fit.exponents.items():
        interval = draws.interval(name) if draws is not None else None
        rows.append((f"{name} ∝ C^", exponent if answers else None, interval))
    profiles = profile_intervals(fit)
    head = f"  {'parameter':<16}{'value':>12}"
    head += f"   {'95 % interval':<26}{'half width':>10}" if draws is not None else ""
    lines = [head + ("   95 % by profile" if profiles else "")]
    for name, shown, interval in rows:
        line = f"  {name:<16}{UNKNOWN if shown is None else _number(shown):>12}"
        if interval is not None and shown is not None:
            line += f"   {_pair(interval):<26}{_relative(shown, interval):>10}"
        lines.append(line + (f"   {_pair(profiles[name])}" if name in profiles else ""))
    return "\n".join(lines)


def _pair(interval: tuple[float, float]) -> str:
    return f"{_number(interval[0])} to {_number(interval[1])}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.5g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.4e}"


def _relative(value: float, interval: tuple[float, float]) -> str:
    if not value:
        return "–"
    percent = 50.0 * (interval[1] - interval[0]) / abs(value)
    return f"±{percent:.0f} %" if percent < 1000.0 else "> 1000 %"


def _residuals(fit: Fit) -> str:
    size = np.abs(fit.residuals)
    worst = int(size.argmax())
    points = fit.points
    return (
        f"  residuals of log loss: median |r| {np.median(size):.2e}, sd {fit.sigma_log:.2e}, "
        f"largest {fit.residuals[worst]:+.2e} at N {points.params[worst]:.3g}, D {points.tokens[worst]:.3g}"
    )


def _draws(draws: Draws) -> str:
    what = {"cases": "points drawn with replacement", "residuals": "noise drawn onto the law"}[draws.kind]
    clustered = ", whole trunks at a time" if draws.clustered else ""
    trust = "; the intervals are not reliable" if draws.unreliable else ""
    return f"  {draws.drawn} draws ({what}{clustered}); {draws.failed} failed, {draws.at_bound} at a bound{trust}"


def _correlations(draws: Draws) -> str:
    pairs = [f"{a}–{b} {value:+.3f}" for (a, b), value in draws.correlations.items() if abs(value) >= _CORRELATED]
    return f"  rank correlations from {_CORRELATED:g}: " + (", ".join(pairs) if pairs else "none")


def _sensitivity(choices: Sequence[Alternative]) -> str:
    cells = []
    for choice in choices:
        label = choice.objective + (f" δ {choice.delta:g}" if choice.delta is not None else "")
        exponents = ", ".join(f"{name} {value:.3f}" for name, value in choice.exponents.items())
        cells.append(f"{label}: {exponents or 'none'}")
    return "  exponents under other objectives: " + "; ".join(cells)
