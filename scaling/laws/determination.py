"""What a set of points does not determine, as a value: `NotDetermined` stands where a number would have been printed.

A bootstrap shares the design of its points, so its intervals cannot show that N hardly varied, or that a form turned a
term into a step. Those are judged from the design and the parameters (`solver.identifiability`), and no exponent, no
optimum and no extrapolation along that variable is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaling.laws.draws import Draws
from scaling.laws.fitting import Fit

MOST_DRAWS = 0.5  # assumption: where more of the draws failed, those left say nothing of the others
_OUTSIDE = 1.5  # assumption: how far beyond a range that determines no exponent a loss may still be read


@dataclass(frozen=True)
class NotDetermined:
    """No number: `quantity` is not determined, and why."""

    quantity: str
    reason: str

    def __str__(self) -> str:
        return f"{self.quantity} is not determined: {self.reason}"


def undetermined_optimum(fit: Fit, draws: Draws | None = None) -> NotDetermined | None:
    """Why exponents and compute-optimal N, D and loss of `fit` are not determined; None where they are."""
    what = "the compute-optimal model"
    if fit.status in ("degenerate", "not_converged"):
        return NotDetermined(what, fit.message)
    if draws is not None and draws.failed > MOST_DRAWS * draws.drawn:
        return NotDetermined(what, f"{draws.failed} of {draws.drawn} draws failed")
    return None


def undetermined_loss(fit: Fit, params: float, tokens: float) -> NotDetermined | None:
    """Why the loss of `fit` at (N, D) is not determined: such a law is read only where its points lie."""
    why = undetermined_optimum(fit)
    if why is None:
        return None
    for name, value, (low, high) in (("N", params, fit.range.params), ("D", tokens, fit.range.tokens)):
        if not low / _OUTSIDE <= value <= high * _OUTSIDE:
            return NotDetermined(f"the loss at {name} {value:.3g}", f"{why.reason}; points: {low:.3g} to {high:.3g}")
    return None
