"""The constants of each update rule, with their defaults, and the settings that a sweep may tune.

Embedding, head and norms always use AdamW (beta1 .9, beta2 .95: arXiv 2005.14165, appendix B). Muon: momentum .95,
Nesterov, five Newton-Schulz steps, factor sqrt(max(1, out/in)) (Jordan et al. 2024,
kellerjordan.github.io/posts/muon). Spectron: the same momentum and steps, no shape factor, so that its bound on the
product's update holds (arXiv 2602.12429); its two ablations each leave one half out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Constant = Any  # a number, a switch or a word; None is off

_MUON: dict[str, Constant] = {
    "momentum": 0.95,
    "nesterov": True,
    "newton_schulz_steps": 5,
    "shape_factor": "original",
}
_SPECTRON = {**_MUON, "shape_factor": "none", "spectral_weight_decay": 0.0}

CONSTANTS: Mapping[str, Mapping[str, Constant]] = {
    "adamw": {},
    "muon": _MUON,
    "spectron": _SPECTRON,
    "spectron_renormalise_only": {k: v for k, v in _SPECTRON.items() if k != "newton_schulz_steps"},
    "spectron_orthogonalise_only": {**_MUON, "shape_factor": "none"},
}
FACTORED = ("spectron", "spectron_renormalise_only", "spectron_orthogonalise_only")
TUNABLE = ("lr", "other_lr", "weight_decay", "momentum", "spectral_weight_decay", "batch_tokens")


def constants(name: str, given: Mapping[str, Constant]) -> dict[str, Constant]:
    """The constants of a rule with the sweep's own in place of the defaults; one that is off is None."""
    values = {key: default if given.get(key) is None else given[key] for key, default in CONSTANTS[name].items()}
    return {key: None if value in ("none", 0, False) else value for key, value in values.items()}
