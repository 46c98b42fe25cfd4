"""Serving cost at equal loss: the lines of a study that have a law, handed to `inference.serving_comparison`.

Target losses are what the worst of the lines can reach with each budget. Prices are for the context the models were
trained with: a model trained on 128 tokens at a time is not priced at 2,048.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from scaling import checks
from scaling.analysis.lines import Line
from scaling.analysis.study import Study
from scaling.checks import Check
from scaling.errors import FitError
from scaling.files import JsonObject
from scaling.inference import equal_loss
from scaling.inference import serving_comparison as compare
from scaling.inference.cost import Setting
from scaling.inference.decision import PowerLaws
from scaling.laws.determination import undetermined_optimum
from scaling.laws.joint_comparison import JointComparison
from scaling.laws.line_comparison import JointFit
from scaling.laws.line_frontiers import line_terms

BATCHES = (1, 64)
DRAWS = 200  # of the bootstrap, evenly taken


@dataclass(frozen=True)
class Serving:
    """`inference.serving_comparison` at target losses, and why there may be nothing.

    Attributes:
        comparisons: one for each loss that was asked for.
        checks: lines that are not in it.
        targets: every target loss, whether it was asked for or not.
    """

    comparisons: tuple[compare.ServingComparison, ...]
    checks: tuple[Check, ...]
    targets: tuple[float, ...] = ()


_NOTHING = checks.NOT_PRICED("No line has a law over known shapes, so nothing is priced at equal loss.")


@lru_cache(maxsize=4)
def serving(study: Study, *, whole: bool = True) -> Serving:
    """What serving costs at equal loss, line by line.

    Args:
        study: of the lines.
        whole: every target loss and batch, with intervals and whole lives; else what a terminal shows, which takes a
            fifth of the time: the lowest target, batch 1, no intervals, no lives.
    """
    priced = [line for line in study.lines if line.frontier and line.curve and not line.undetermined]
    missing = [line for line in study.lines if line not in priced]
    checks = [_missing(line) for line in missing] if priced else [_NOTHING]
    if study.reference not in priced:
        return Serving((), tuple(checks))
    ordered = [study.reference, *(line for line in priced if line is not study.reference)]
    laws = paired_laws(study, DRAWS)
    lines = [_priced(line, laws.get(line.name)) for line in ordered]
    if not whole:
        lines = [replace(line, draws=None) for line in lines]
    settings = [
        Setting(device, batch=batch, context=context_of(study))
        for device in study.settings.served_on
        for batch in (BATCHES if whole else BATCHES[:1])
    ]
    served = compare.served_lines(lines, settings)
    targets = compare.target_losses(lines, study.reference.budgets)
    results = [
        compare.compare(lines, served, target_loss=target, lives=whole)
        for target in (targets if whole else sorted(targets)[:1])  # without budgets there is none
    ]
    return Serving(tuple(results), tuple(checks), tuple(targets))


def context_of(study: Study) -> int:
    """The sequence length the models were trained with."""
    return int(study.reference.cells[0].row.sequence_length or 2048)


def _missing(line: Line) -> Check:
    reason = line.undetermined or ("it has no law" if line.frontier is None else "its shapes are unknown")
    return checks.NOT_PRICED(f"{line.name} is not in the comparison at equal loss: {reason}.")


def _priced(line: Line, laws: PowerLaws | None) -> equal_loss.LineLaw:
    """The line under the joint law that compares it, else under its own."""
    curve, frontier = line.curve, line.frontier
    assert frontier is not None
    assert curve is not None
    # No measured training speed: it is of the machine that trained, and the prices are of other devices too.
    flops = line.costs[line.axis]
    if laws is None:
        return equal_loss.LineLaw(line.name, frontier.fit.loss, curve, flops, _draws(line))
    fit, draws = laws.scalars(), laws.drawn()
    sampled = equal_loss.LawDraws(draws.count, draws.loss, draws.tokens_to_reach)
    return equal_loss.LineLaw(line.name, fit.loss, curve, flops, sampled, inverse=fit.tokens_to_reach)


def paired_laws(study: Study, count: int | None = None) -> dict[str, PowerLaws]:
    """The laws of the lines under M3, row 0 the fit and paired draws below it; none where M3 says nothing.

    Args:
        study: of the lines.
        count: draws, evenly taken; None: all.
    """
    together = _together(study)
    if together is None or undetermined_optimum(together.fit, together.draws):
        return {}
    vectors = together.draws.vectors
    if count is not None and len(vectors) > count:
        vectors = vectors[np.linspace(0, len(vectors) - 1, count).astype(int)]
    rows = np.concatenate([together.fit.vector[None], vectors])
    names = together.fit.layout.lines
    return {name: PowerLaws(*(np.asarray(t)[:, None] for t in line_terms(together.fit, name, rows))) for name in names}


def why_not_paired(study: Study) -> str:
    """Why a line is not in `paired_laws`."""
    if isinstance(study.joint, FitError):
        return study.joint.what
    together = _together(study)
    why = None if together is None else undetermined_optimum(together.fit, together.draws)
    return f"the joint law is not determined: {why.reason}" if why else "too few budgets for a law of its own"


def _together(study: Study) -> JointFit | None:
    return study.joint.models.get("M3") if isinstance(study.joint, JointComparison) else None


def _draws(line: Line) -> equal_loss.LawDraws | None:
    """Some of the draws of the line's own law, all at once."""
    if line.law is None or line.law.draws is None or not len(line.law.draws.vectors):
        return None
    drawn, form = line.law.draws.parameters, line.law.fit.form
    count = min(DRAWS, len(line.law.draws.vectors))
    rows = np.linspace(0, len(line.law.draws.vectors) - 1, count).astype(int)
    parameters: JsonObject = {name: values[rows, None] for name, values in drawn.items()}
    return equal_loss.LawDraws(count, lambda params, tokens: form.loss(parameters, params, tokens))
