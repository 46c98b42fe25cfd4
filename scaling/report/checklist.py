"""The reporting checklist of "(Mis)Fitting: A Survey of Scaling Laws" (Li et al., arXiv 2502.18969), filled in.

Its questions are put in our own words, grouped as there: the law, the training setup, the data points, the fit. Every
answer comes from the study; what no table or sweep says is "not recorded".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scaling.analysis.study import Study
from scaling.laws.comparison import AXES
from scaling.laws.forms import form_named
from scaling.quantity import format_number
from scaling.rows import RunRow

NOT_RECORDED = "not recorded"


def checklist(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of (question, answer)."""
    return [
        ("The law", list(_law(study))),
        ("The training setup", list(_setup(study))),
        ("The data points", list(_points(study))),
        ("The fit", list(_fit(study))),
    ]


def _law(study: Study) -> Iterable[tuple[str, str]]:
    form = form_named(study.settings.line_law)
    yield "Form, and what it relates", f"{form.formula}: loss in nats per token against N and D"
    fixed = [f"{name} = {value:g}" for name, value in study.settings.fixed.items()]
    fixed += [f"{name} = {other}" for name, other in study.settings.tied.items()]
    yield "Parameters that are fitted", ", ".join(form.parameter_names) + (f"; {', '.join(fixed)}" if fixed else "")
    yield "Lines that share parameters", "E, in the joint law that compares lines" if len(study.lines) > 1 else "none"


def _setup(study: Study) -> Iterable[tuple[str, str]]:
    rows = _rows(study)
    yield "Models trained", ", ".join(f"{line.name}: {len(line.cells)} cells" for line in study.lines)
    yield "Sizes N", _span(cell.params for cell in study.cells)
    yield "Tokens D of each", _span(cell.tokens for cell in study.cells)
    shapes = f"{len({cell.shape for cell in study.cells})}, listed with the runs"
    yield "Shapes", shapes if _known(rows, "layers") else NOT_RECORDED
    yield "Data", _values(rows, "corpus_hash", "hash ")
    epochs = [row.epochs for row in rows if row.epochs is not None]
    yield "Repeated data", f"at most {max(epochs):.2g} passes over the corpus" if epochs else NOT_RECORDED
    yield "How parameters are counted", study.settings.params_column
    yield "How compute is counted", AXES[study.convention]
    yield "Optimizer", _values(rows, "optimizer")
    yield "Learning rates", _numbers(rows, "lr")
    yield "Batch, tokens a step", _numbers(rows, "batch_tokens")
    yield "Sequence length", _numbers(rows, "sequence_length")
    tuned = [line.name for line in study.lines if line.choices]
    yield "Tuned in every cell", ", ".join(tuned) or "no line: rates are the sweep's"
    yield (
        "Device and software",
        ", ".join(text for name in ("device", "torch_version") if (text := _values(rows, name)) != NOT_RECORDED)
        or NOT_RECORDED,
    )


def _points(study: Study) -> Iterable[tuple[str, str]]:
    yield "Number of data points", ", ".join(f"{line.name}: {len(line.points)}" for line in study.lines)
    trunks = any(row.trunk for row in _rows(study))
    yield "Final or intermediate checkpoints", "branches of shared trunks" if trunks else "the last step of each run"
    yield "Points left out", f"{len(study.dropped)}, listed with the runs" if study.dropped else "none"
    averaged = sum(len(cell.rows) > 1 for cell in study.cells)
    yield "Averaged over seeds", f"{averaged} cells have several seeds, and every run is a point" if averaged else "no"
    yield "Seed noise", f"{study.noise.sigma:.4f} nats" if study.noise else "unknown: no cell has several seeds"


def _fit(study: Study) -> Iterable[tuple[str, str]]:
    settings = study.settings
    fits = [line.law.fit for line in study.lines if line.law]
    yield "Objective", f"{settings.objective}, δ {settings.delta}, summed over points"
    yield "Algorithm", "trust-region least squares from a grid of starts, the best of them polished"
    yield "Points that are fitted", f"all but the {settings.drop_highest} highest" if settings.drop_highest else "all"
    yield "Status of the fits", ", ".join(sorted({fit.status for fit in fits})) or "no law"
    kinds = {line.law.draws.kind for line in study.lines if line.law and line.law.draws}
    yield "Intervals", f"95 %, {settings.bootstrap} draws ({', '.join(sorted(kinds))})" if kinds else "none"
    held = [line.name for line in study.lines if line.extrapolation is not None]
    yield "Held-out points", f"the largest budgets, in turn, for {', '.join(held)}" if held else "none: too few budgets"


def _rows(study: Study) -> list[RunRow]:
    return [row for cell in study.cells for row in cell.rows]


def _known(rows: list[RunRow], name: str) -> list[object]:
    return [value for row in rows if (value := getattr(row, name, None)) is not None]


def _values(rows: list[RunRow], name: str, prefix: str = "") -> str:
    return ", ".join(prefix + value for value in sorted({str(value) for value in _known(rows, name)})) or NOT_RECORDED


def _numbers(rows: list[RunRow], name: str) -> str:
    values = sorted({float(str(value)) for value in _known(rows, name)})
    if not values:
        return NOT_RECORDED
    return ", ".join(map(_short, values)) if len(values) <= 6 else _span(values)


def _span(values: Iterable[float]) -> str:
    found = list(values)
    low, high = min(found), max(found)
    return _short(low) if low == high else f"{_short(low)} to {_short(high)}"


_short: Callable[[float], str] = format_number
