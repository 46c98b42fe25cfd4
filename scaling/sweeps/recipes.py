"""Recipes: named rules that turn a scale into a number, each with its paper.

A sweep may write a number, or ``{recipe: NAME, constant: value}``; the plan resolves the rule so that the number is
seen, rounded to six significant digits so that the last bit of a power never reaches a run id. A batch rule sees
tokens and sequence length only, so that all families get the same batch at the same D.

What transfers across width. AdamW's update has entries of size one, so its spectral norm grows with width and the
rate of hidden matrices falls as 1/width (`inverse-width`; arXiv 2203.03466, table 8). Muon's update has singular
values of one: where it is scaled by sqrt(out/in) one rate serves all widths (arXiv 2310.17813; the public code of Muon
takes sqrt(max(1, out/in))). Spectron bounds the product's update by the rate itself, so its rate is width-free for the
spectral norm of each matrix in the same sense; it says nothing about the embedding and head (AdamW at `other_lr`),
about depth, batch or horizon. Hence a plain number is the right rate for muon and spectron, to be confirmed by
tuning.

A rule's `checked` says with what its coefficients were compared, and what could not be confirmed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scaling.quantity import parse_number, round_significant
from scaling.spec import did_you_mean, either, refuse

Key = Literal["batch_tokens", "lr", "weight_decay", "warmup"]


@dataclass(frozen=True, slots=True)
class Scale:
    """What a rule may look at. A batch rule is asked first: later fields are not known to it yet."""

    tokens: float
    sequence_length: int
    width: int = 0
    params_non_embedding: int = 0
    batch_tokens: int = 0
    steps: int = 0
    lr: float = 0.0


@dataclass(frozen=True)
class RecipeRule:
    """One recipe: its constants with their defaults, the formula, where it comes from, and how that was checked."""

    key: Key
    constants: Mapping[str, float]
    formula: Callable[[Scale, Mapping[str, float]], float]
    source: str
    checked: str


@dataclass(frozen=True)
class Recipe:
    """A rule with its constants filled in."""

    name: str
    constants: tuple[tuple[str, float], ...]

    def __call__(self, scale: Scale) -> float:
        """The number at a scale, to six significant digits."""
        return round_significant(RECIPES[self.name].formula(scale, dict(self.constants)))

    @property
    def source(self) -> str:
        """Paper and section."""
        return RECIPES[self.name].source

    def batch_tokens(self, scale: Scale) -> int:
        """The number as a batch: a whole number of sequences, at least one."""
        return max(1, round(self(scale) / scale.sequence_length)) * scale.sequence_length


def _sqrt_tokens(at: Scale, c: Mapping[str, float]) -> float:
    sequences = round(c["sequences"] * math.sqrt(at.tokens / c["at_tokens"]))
    return at.sequence_length * min(max(sequences, c["smallest"]), c["largest"])


def _power_of_tokens(at: Scale, c: Mapping[str, float]) -> float:
    return float(c["coefficient"] * at.tokens ** c["exponent"])


def _inverse_width(at: Scale, c: Mapping[str, float]) -> float:
    return c["base"] * c["base_width"] / at.width


def _step_law_lr(at: Scale, c: Mapping[str, float]) -> float:
    return float(c["coefficient"] * at.params_non_embedding ** c["params"] * at.tokens ** c["tokens"])


def _ema_timescale(at: Scale, c: Mapping[str, float]) -> float:
    return 1 / (at.lr * c["fraction"] * at.steps)


def _capped_fraction(at: Scale, c: Mapping[str, float]) -> float:
    return min(round(c["fraction"] * at.steps), c["max_steps"]) / at.steps


RECIPES: dict[str, RecipeRule] = {
    "sqrt-tokens": RecipeRule(
        "batch_tokens",
        {"sequences": 4, "at_tokens": 8e5, "smallest": 2, "largest": 16},
        _sqrt_tokens,
        "measured on two cores, bytes, 2026-11-21: steps, not FLOPs, are scarce below 1e12 FLOPs",
        "a measurement of this project at the scale of sweeps/quickstart.yaml; nothing is claimed beyond it",
    ),
    "critical-batch": RecipeRule(
        "batch_tokens",
        {"coefficient": 0.0471 * 2048, "exponent": 0.462},
        _power_of_tokens,
        "Bergsma et al. 2025, arXiv 2505.13738, figure 1: B_crit = 0.0471 D^0.462 sequences of 2,048 tokens",
        "the exponent, by others who quote it; the prefactor was not confirmed. Their D is the least number of tokens "
        "that reaches a loss, about half of what is spent at B_crit itself",
    ),
    "optimal-batch": RecipeRule(
        "batch_tokens",
        {"coefficient": 0.0306 * 2048, "exponent": 0.383},
        _power_of_tokens,
        "Bergsma et al. 2025, arXiv 2505.13738, figure 1: B_opt = 0.0306 D^0.383 sequences of 2,048 tokens",
        "the exponent, by others who quote it; the prefactor by the paper's 610M models at 20 tokens per parameter: "
        "223 sequences here, 252 the best of those tried there, a factor 2 apart",
    ),
    "step-law-batch": RecipeRule(
        "batch_tokens",
        {"coefficient": 0.58, "exponent": 0.571},
        _power_of_tokens,
        "Li et al. 2025, arXiv 2503.04715, abstract: B = 0.58 D^0.571 tokens",
        "several transcripts agree",
    ),
    "inverse-width": RecipeRule(
        "lr",
        {"base": 0.006, "base_width": 64},
        _inverse_width,
        "Yang et al. 2022, arXiv 2203.03466, table 8: Adam's rate of hidden matrices falls as 1/fan_in",
        "the rule is the paper's; base and base_width are a choice of this project at width 64, to be tuned",
    ),
    "step-law-lr": RecipeRule(
        "lr",
        {"coefficient": 1.79, "params": -0.713, "tokens": 0.307},
        _step_law_lr,
        "Li et al. 2025, arXiv 2503.04715, abstract: lr = 1.79 N^-0.713 D^0.307, N non-embedding, AdamW",
        "several transcripts agree, N without the vocabulary among them; fitted on 59M to 1B parameters",
    ),
    "ema-timescale": RecipeRule(
        "weight_decay",
        {"fraction": 0.25},
        _ema_timescale,
        "Wang and Aitchison 2024, arXiv 2405.13698: 1/(lr · decay) = fraction · steps; .25 is an assumption",
        "the rule; 2505.13738 found .21 best at 20 tokens per parameter, and less where more tokens are read",
    ),
    "capped-fraction": RecipeRule(
        "warmup",
        {"fraction": 0.05, "max_steps": 100},
        _capped_fraction,
        "measured on two cores, 2026-11-21: 5 % of the steps, at most 100",
        "a measurement of this project at the scale of sweeps/quickstart.yaml; nothing is claimed beyond it",
    ),
}


def _reader(key: Key) -> Callable[[Any], Any]:
    allowed = [name for name, rule in RECIPES.items() if rule.key == key]

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            return value if isinstance(value, Recipe) else None
        name = value.get("recipe")
        if name not in allowed:
            refuse(
                f"unknown recipe for {key}", at="recipe", allowed=", ".join(allowed), hint=did_you_mean(name, allowed)
            )
        constants = dict(RECIPES[name].constants)
        for given, number in value.items():
            if given == "recipe":
                continue
            if given not in constants:
                names = ", ".join(constants)
                refuse(
                    f"recipe '{name}' has no '{given}'",
                    at=given,
                    allowed=names,
                    hint=did_you_mean(given, list(constants)),
                )
            try:
                constants[given] = float(parse_number(number))
            except ValueError as error:
                refuse(f"not a number: {error}", at=given)
            if given not in ("params", "tokens", "exponent") and constants[given] <= 0:
                refuse("too small", at=given, allowed="more than 0")
        return Recipe(name, tuple(constants.items()))

    return read


def recipe_or(key: Key, other: Any) -> Any:
    """The type of a key that takes one of the recipes for `key`, or an `other`."""
    return either(_reader(key), other)
