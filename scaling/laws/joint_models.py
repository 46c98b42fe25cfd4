"""Nested joint laws over several lines, the irreducible loss shared by all of them:

    M0  one law                                          L = E + A/N^α + B/D^β
    M1  a multiplier on N per line                       A per line
    M2  multipliers on N and on D                        A and B per line
    M3  A, B, α and β per line

M3 gives the verdict; the tests M0 ⊂ M1 ⊂ M2 ⊂ M3 stand beside it, and none of them selects a model: intervals after
selection cover .07 to .91 (docs/design.md, "Laws and fits").
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import CHINCHILLA, Form, joint
from scaling.laws.gls_tests import NestedTest, nested_test
from scaling.laws.noise_parts import NoiseParts
from scaling.laws.points import Array, Points
from scaling.laws.solver.objective_terms import System

ModelName = Literal["M0", "M1", "M2", "M3"]
MODELS: dict[ModelName, tuple[str, ...]] = {
    "M0": (),
    "M1": ("A",),
    "M2": ("A", "B"),
    "M3": ("A", "B", "alpha", "beta"),
}
MEANING: dict[ModelName, str] = {
    "M0": "one law for all lines",
    "M1": "a multiplier on N per line",
    "M2": "multipliers on N and on D per line",
    "M3": "A, B, alpha and beta per line, E shared",
}
_POLISHED = 5  # starts: the lines fitted alone are one of them
# The changes whose power is printed: assumptions of what is worth detecting.
_WORTH = 0.20  # of compute: the margin of an equivalent line
_DATA_TERM = 0.10  # of B
_EXPONENT = 0.05  # of α; published lines differ by less


def model_form(model: ModelName) -> Form:
    """The form of a model; M0 is the plain law."""
    free = MODELS[model]
    if not free:
        return CHINCHILLA
    return joint(shared=tuple(name for name in CHINCHILLA.parameter_names if name not in free))


def fit_model(points: Points, model: ModelName, *, objective: str = "log_mse", delta: float | None = None) -> Fit:
    """One of the nested models over the lines of `points`.

    Raises:
        FitError: the points do not determine it.
    """
    return fit(points, model_form(model), objective=objective, delta=delta, polished=_POLISHED)


def model_tests(models: dict[ModelName, Fit], parts: NoiseParts, reference: str) -> tuple[NestedTest, ...]:
    """The tests of each model in the next; `models` has those that could be fitted, `parts` is of the largest."""
    steps: tuple[tuple[ModelName, ModelName], ...] = (("M0", "M1"), ("M1", "M2"), ("M2", "M3"))
    return tuple(
        _test(models[small], models[large], parts, reference, (small, large))
        for small, large in steps
        if small in models and large in models
    )


def _test(small: Fit, large: Fit, parts: NoiseParts, reference: str, names: tuple[ModelName, ModelName]) -> NestedTest:
    """The test, with the least power over the lines that are not the reference."""
    vector = embedded(small, large)
    system = System(large.layout, large.points)
    base = system.log_loss(vector[None])[0]
    tests = []
    for line in large.layout.lines:
        if line == reference:
            continue
        changed, words = _changed(large, vector, line, names[1])
        change = system.log_loss(changed[None])[0] - base
        tests.append(
            nested_test(small, parts, system.jacobian(vector), change, names=names, alternative=f"{words} in {line}")
        )
    return min(tests, key=lambda test: test.power)


def embedded(small: Fit, large: Fit) -> Array:
    """The parameters of `small` as a vector of the larger law, in which every line has a copy of what they share."""
    own = small.parameters
    values = {name: own[name] if name in own else own[name.split("[")[0]] for name in large.layout.names}
    return np.clip(large.layout.vector(values), large.layout.lower, large.layout.upper)


def _changed(large: Fit, vector: Array, line: str, model: ModelName) -> tuple[Array, str]:
    """`vector` with the change of one line that the test of `model` should find, and that change in words."""
    layout, changed = large.layout, vector.copy()
    if model == "M1":
        changed[layout.index(f"A[{line}]")] += vector[layout.index("alpha")] * np.log1p(_WORTH)
        return changed, f"a multiplier of {1 + _WORTH:g} on N"
    if model == "M2":
        changed[layout.index(f"B[{line}]")] += np.log1p(_DATA_TERM)
        return changed, f"a data term larger by {_DATA_TERM:.0%}"
    changed[layout.index(f"alpha[{line}]")] += _EXPONENT
    return changed, f"an alpha larger by {_EXPONENT:g}"
