"""Every optimizer once, as data: its constants, what a sweep may tune, what a step costs, what it remembers.

The schema of a sweep, the resolver, the counts, the price and the trainer read this table; `training/update_rules.py`
has the update functions under the same names. Embedding, head and norms always use AdamW (beta1 .9, beta2 .95:
arXiv 2005.14165, appendix B); an entry says how the *hidden* matrices move.

A user's own optimizer is an `OptimizerSpec` published under the entry-point group `scaling.optimizers`, whose `update`
names its class as ``module:Class``. The group is looked up only when a name is not in the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from scaling.errors import TrainingError
from scaling.run import Optimizer

ENTRY_POINTS = "scaling.optimizers"
OWN_OF_A_FAMILY = ("lr", "other_lr", "weight_decay")  # what every optimizer has and a sweep may tune
_OF_A_RUN = {f.name for f in dataclasses.fields(Optimizer)}


@dataclass(frozen=True)
class Constant:
    """One constant of an update rule.

    Attributes:
        default: a number, a switch or a word; 0, False and "none" are off.
        source: where the default comes from.
        tunable: whether a sweep may give a list of values, to be tuned over within a cell.
    """

    default: float | bool | str
    source: str
    tunable: bool = False


@dataclass(frozen=True)
class OptimizerSpec:
    """How the hidden matrices of a run move.

    Attributes:
        name: the word after `optimizer:` in a sweep.
        source: where the rule was published.
        constants: its own constants, by the field of `run.Optimizer` that holds them.
        factored: it steps pairs of factors, so a dense or self-guided model cannot use it.
        averages: float32 numbers it keeps for every parameter.
        flops_per_param: elementwise operations per parameter and step, counted from the rule.
        pure: its step returns new tensors, so it holds one more copy of its average and, at its end, of what moved.
        power_steps: steps of a power iteration per matrix and step.
        update: ``module:Class`` of the update rule; None: it is one of `training.update_rules.UPDATES`.
    """

    name: str
    source: str
    constants: Mapping[str, Constant] = field(default_factory=dict)
    factored: bool = False
    averages: int = 1
    flops_per_param: int = 8
    power_steps: int = 0
    pure: bool = False
    update: str | None = None

    def __post_init__(self) -> None:
        unknown = set(self.constants) - _OF_A_RUN
        assert not unknown, f"optimizer {self.name}: {', '.join(sorted(unknown))} is no field of run.Optimizer"

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The constants with the sweep's own in place of the defaults; one that is off is None."""
        chosen = {k: c.default if given.get(k) is None else given[k] for k, c in self.constants.items()}
        return {key: None if value in ("none", 0, False) else value for key, value in chosen.items()}

    def orthogonalising_steps(self, constants: Optimizer) -> int:
        """Newton–Schulz steps that the rule takes per matrix; 0 where it has no such constant.

        Raises:
            TrainingError: the rule orthogonalises and the run does not say with how many steps.
        """
        if "newton_schulz_steps" not in self.constants:
            return 0
        if not constants.newton_schulz_steps:
            raise TrainingError(
                f"The optimizer {self.name} needs its number of Newton-Schulz steps.",
                where="optimizer.newton_schulz_steps",
                got=repr(constants.newton_schulz_steps),
                allowed="a whole number from 1",
            )
        return constants.newton_schulz_steps

    def step_flops(self, constants: Optimizer, *, params: int, matrices: Iterable[tuple[int, int]]) -> int:
        """FLOPs of one step over hidden parameters.

        One Newton–Schulz step on m × n (m ≤ n) is X·Xᵀ (2m²n), its square (2m³) and its product with X (2m²n). One
        step of a power iteration is two products with a vector (4mn).

        Args:
            constants: those of the run.
            params: how many numbers move.
            matrices: (rows, columns) of every matrix that is stepped as one.
        """
        steps, flops = self.orthogonalising_steps(constants), self.flops_per_param * params
        for rows, columns in matrices:
            m, n = min(rows, columns), max(rows, columns)
            flops += steps * (4 * m * m * n + 2 * m**3) + self.power_steps * 4 * m * n
        return flops

    def state_bytes(self, params: int) -> int:
        """Bytes of what is remembered for `params` hidden parameters, in float32."""
        return 4 * self.averages * params


_MUON_SOURCE = "Jordan et al. 2024, kellerjordan.github.io/posts/muon"
_SPECTRON_SOURCE = "Janson, Oyallon, Belilovsky 2026, arXiv 2602.12429"
_MOMENTUM = {
    "momentum": Constant(0.95, _MUON_SOURCE, tunable=True),
    "nesterov": Constant(True, _MUON_SOURCE),
}
_STEPS = {"newton_schulz_steps": Constant(5, _MUON_SOURCE)}
# No shape factor, so that the bound on the product's update holds (arXiv 2602.12429; its public code has one).
_NO_FACTOR = {"shape_factor": Constant("none", _SPECTRON_SOURCE)}
_SPECTRAL_DECAY = {"spectral_weight_decay": Constant(0.0, "off in every published run; ours", tunable=True)}

# Elementwise operations per parameter and step, counted from the update rules: AdamW (14) has two averages, a root, a
# division, bias corrections and decoupled decay; the momentum rules (8) have one average, the Nesterov mix, a
# normalisation and the step.
OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    spec.name: spec
    for spec in (
        OptimizerSpec("adamw", "Loshchilov and Hutter 2019, arXiv 1711.05101", averages=2, flops_per_param=14),
        OptimizerSpec(
            "muon",
            _MUON_SOURCE,
            # sqrt(max(1, out/in)), the factor of the same source
            {**_MOMENTUM, **_STEPS, "shape_factor": Constant("original", _MUON_SOURCE)},
        ),
        OptimizerSpec(
            "spectron",
            _SPECTRON_SOURCE,
            {**_MOMENTUM, **_STEPS, **_NO_FACTOR, **_SPECTRAL_DECAY},
            factored=True,
            power_steps=1,
            pure=True,
        ),
        OptimizerSpec(
            "spectron_renormalise_only",
            f"{_SPECTRON_SOURCE}, its ablation without orthogonalisation",
            {**_MOMENTUM, **_NO_FACTOR, **_SPECTRAL_DECAY},
            factored=True,
            power_steps=1,
            pure=True,
        ),
        OptimizerSpec(
            "spectron_orthogonalise_only",
            f"{_SPECTRON_SOURCE}, its ablation without renormalisation",
            {**_MOMENTUM, **_STEPS, **_NO_FACTOR},
            factored=True,
        ),
    )
}
OTHERS = OPTIMIZERS["adamw"]  # what embedding, head and norms move by in every run
CONSTANTS: tuple[str, ...] = tuple(dict.fromkeys(key for spec in OPTIMIZERS.values() for key in spec.constants))
TUNABLE: tuple[str, ...] = (
    *OWN_OF_A_FAMILY,
    *dict.fromkeys(k for spec in OPTIMIZERS.values() for k, c in spec.constants.items() if c.tunable),
    "batch_tokens",
)


def find_optimizer(name: str) -> OptimizerSpec:
    """The entry called `name`: one of the table, or a user's own.

    Raises:
        TrainingError: no optimizer has this name.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        spec = entry.load()
        if isinstance(spec, OptimizerSpec):
            return spec
        raise TrainingError(f"The entry point '{name}' of {ENTRY_POINTS} is no OptimizerSpec.", got=type(spec).__name__)
    raise TrainingError("There is no such optimizer.", where="optimizer.name", got=name, allowed=", ".join(OPTIMIZERS))
