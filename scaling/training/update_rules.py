"""The update of every parameter: the asked rule for hidden matrices, AdamW for embedding, head and norms.

| name | hidden matrices move by |
|---|---|
| adamw | AdamW (Loshchilov and Hutter 1711.05101) |
| muon | −lr · factor · orthogonal(momentum) (Jordan 2024); on a low-rank model, each factor as a matrix of its own |
| spectron | −ρ · orthogonal(momentum), ρ = lr / (σ_A + σ_B + 1) (2602.12429) |
| spectron_orthogonalise_only | −lr · orthogonal(momentum) |
| spectron_renormalise_only | −ρ · momentum / ‖momentum‖₂ |

The momentum is an exponential average M ← β M + (1 − β) G; Nesterov takes β M + (1 − β) G once more. Rules see stacks
of matrices and do not know what they belong to. Nothing here waits for the device. Weight decay is decoupled and acts
on hidden matrices only; spectral weight decay shrinks only the leading direction, W ← W − lr·λ·σ u vᵀ.

Shape suffixes: K matrices of a stack, O rows, I columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from scaling.errors import TrainingError
from scaling.optimizers import OPTIMIZERS, find_optimizer
from scaling.run import Optimizer
from scaling.training.flat import Flat, Groups, Named
from scaling.training.spectron import leading_vectors, normalise, power_step, spectron_update

SHAPE_FACTORS = {
    "original": lambda rows, columns: max(1.0, rows / columns) ** 0.5,  # Jordan 2024
    "match_rms_adamw": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,  # Liu et al. 2502.16982, section 2.2
}

CLIP_EPS = 1e-6  # as torch.nn.utils.clip_grad_norm_


class UpdateRule(Protocol):
    """What moves the parameters of one `Flat`."""

    flat: Flat

    def step(self, lr: float) -> None:
        """Move every parameter by one step at the rate `lr`, from the gradients in place."""

    def state(self) -> dict[str, list[Tensor]]:
        """What the rule remembers: per key one tensor (K, ...) for every stack, as views."""


class AdamW:
    """AdamW over a whole buffer as if it were one parameter: elementwise, so the same numbers, in one fused call.

    The function and not the class of torch: the class loads torch's compiler, 2.0 CPU seconds at the start of every
    worker (2026-11-22, torch 2.13.0).
    """

    def __init__(self, flat: Flat, constants: Optimizer, *, decays: bool = True) -> None:
        self.flat, self.constants = flat, constants
        self.weight_decay = (constants.weight_decay or 0.0) if decays else 0.0
        self.averages = {key: torch.zeros_like(flat.values) for key in ("exp_avg", "exp_avg_sq")}
        self.count = torch.zeros((), device=flat.values.device)

    def step(self, lr: float) -> None:
        """One AdamW step."""
        adamw(
            [self.flat.values],
            [self.flat.gradients],
            [self.averages["exp_avg"]],
            [self.averages["exp_avg_sq"]],
            [],
            [self.count],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=self.constants.beta1,
            beta2=self.constants.beta2,
            lr=lr,
            weight_decay=self.weight_decay,
            eps=self.constants.eps,
        )

    def state(self) -> dict[str, list[Tensor]]:
        """Both averages, and the number of steps taken for every parameter."""
        counts = [self.count.expand(shape[0]) for shape in self.flat.shapes]
        return {key: self.flat.views(buffer) for key, buffer in self.averages.items()} | {"count": counts}


class Momentum:
    """An average of the gradients and a step along a normalised direction: Muon, and Spectron with its parts."""

    def __init__(self, flat: Flat, constants: Optimizer) -> None:
        self.flat, self.constants = flat, constants
        self.beta = constants.momentum or 0.0
        self.steps = find_optimizer(constants.name).orthogonalising_steps(constants)
        self.momentum = torch.zeros_like(flat.values)
        self.stacks = flat.views(flat.values)
        factor = SHAPE_FACTORS[constants.shape_factor] if constants.shape_factor else None
        pairs = zip(flat.rows, flat.shapes, strict=True)
        self.factors = [factor(rows, shape[2]) if factor else 1.0 for rows, shape in pairs]

    def directions(self) -> list[Tensor]:
        """Advance the average and return the direction of every stack."""
        self.momentum.lerp_(self.flat.gradients, 1 - self.beta)
        moved = self.flat.gradients.lerp(self.momentum, self.beta) if self.constants.nesterov else self.momentum
        return self.flat.views(moved)

    def orthogonal(self, directions: Sequence[Tensor]) -> list[Tensor]:
        """The orthogonal factors of the directions."""
        return self.flat.orthogonalise(directions, steps=self.steps)

    def decay(self, lr: float) -> None:
        """Decoupled weight decay."""
        if self.constants.weight_decay:
            self.flat.values.mul_(1 - lr * self.constants.weight_decay)

    def state(self) -> dict[str, list[Tensor]]:
        """The average."""
        return {"momentum": self.flat.views(self.momentum)}


class Muon(Momentum):
    """Steps of one spectral size for every matrix."""

    def step(self, lr: float) -> None:
        """One step."""
        moves = self.orthogonal(self.directions())
        self.decay(lr)
        for stack, move, factor in zip(self.stacks, moves, self.factors, strict=True):
            stack.add_(move, alpha=-lr * factor)


class Spectron(Momentum):
    """Steps of one spectral size for every product A·B. The stacks come in pairs, A then B."""

    def __init__(self, flat: Flat, constants: Optimizer) -> None:
        super().__init__(flat, constants)
        self.vectors = [leading_vectors(stack, total=flat.total) for stack in self.stacks]

    def step(self, lr: float) -> None:
        """One step."""
        done = spectron_update(
            self.stacks,
            self.flat.gradients,
            self.momentum,
            self.vectors,
            lr=lr,
            beta=self.beta,
            nesterov=bool(self.constants.nesterov),
            batches=self.flat.views,
            orthogonal=self.unit,
            total=self.flat.total,
            scales=self.factors,
            weight_decay=self.constants.weight_decay or 0.0,
            spectral_weight_decay=self.constants.spectral_weight_decay or 0.0,
        )
        self.momentum, self.vectors = done.momentum_N, done.vectors
        for stack, moved in zip(self.stacks, done.factors, strict=True):
            stack.copy_(moved)

    def unit(self, directions: Sequence[Tensor]) -> list[Tensor]:
        """Directions of spectral norm one: their orthogonal factors."""
        return self.orthogonal(directions)

    def state(self) -> dict[str, list[Tensor]]:
        """The average and the vectors of the power iterations."""
        return super().state() | {"vector": self.vectors}


class RenormalisedSpectron(Spectron):
    """The ablation without orthogonalisation: directions are divided by their estimated spectral norms."""

    def __init__(self, flat: Flat, constants: Optimizer) -> None:
        super().__init__(flat, constants)
        self.momentum_vectors = [vector.clone() for vector in self.vectors]

    def unit(self, directions: Sequence[Tensor]) -> list[Tensor]:
        """Every direction divided by its estimated spectral norm."""
        moves = []
        for direction, vector, rows in zip(directions, self.momentum_vectors, self.flat.rows, strict=True):
            u_KO, _, sigma_K = power_step(direction, vector, total=self.flat.total)
            vector.copy_(u_KO)
            squares_K = self.flat.total(direction.square().sum(dim=(1, 2)))
            moves.append(normalise(direction, sigma_K, bound_K=(squares_K / min(rows, direction.shape[2])).sqrt()))
        return moves

    def state(self) -> dict[str, list[Tensor]]:
        """Also the vectors of the power iterations on the directions."""
        return super().state() | {"momentum_vector": self.momentum_vectors}


class Optimizers:
    """All rules of one run on one device.

    Args:
        groups: the parameters; they become views of buffers.
        constants: the run's optimizer.
        flatten: lays parameters out in buffers.
    """

    def __init__(self, groups: Groups, constants: Optimizer, *, flatten: Callable[[list[Named]], Flat] = Flat) -> None:
        check_optimizer(constants, factorized=groups.factorized, guided=bool(groups.helpers))
        self.constants = constants
        self.others = AdamW(flatten([[named] for named in groups.others]), constants, decays=False)
        self.hidden = hidden_rule(flatten(groups.matrices), constants)
        self.helpers = hidden_rule(flatten(groups.helpers), constants) if groups.helpers else None
        self.unclipped: Tensor | None = None

    @property
    def rules(self) -> dict[str, UpdateRule]:
        """The rules by the name under which a checkpoint keeps their state."""
        rules: dict[str, UpdateRule] = {"others": self.others, "hidden": self.hidden}
        return rules | ({"helpers": self.helpers} if self.helpers else {})

    def zero(self) -> None:
        """Set every gradient to zero, in place."""
        for rule in self.rules.values():
            rule.flat.zero()

    def gradient_norm(self) -> Tensor:
        """Euclidean norm of all gradients, a number on the device."""
        squares = [rule.flat.total(rule.flat.gradients.square().sum()) for rule in self.rules.values()]
        return torch.stack(squares).sum().sqrt()

    def last_norm(self) -> Tensor:
        """Norm of the gradients of the last step, before they were clipped."""
        return self.gradient_norm() if self.unclipped is None else self.unclipped

    def clip(self) -> None:
        """Scale the gradients down to the norm the run allows, without reading it."""
        if self.constants.gradient_clip:
            self.unclipped = self.gradient_norm()
            scale = (self.constants.gradient_clip / (self.unclipped + CLIP_EPS)).clamp(max=1.0)
            for rule in self.rules.values():
                rule.flat.gradients.mul_(scale)

    def step(self, factor: float, *, helped: bool = False) -> None:
        """One step of every rule at `factor` times its peak rate; helpers move only while they help."""
        for rule in self.rules.values():
            rule.flat.load()
        self.clip()
        self.hidden.step(self.constants.lr * factor)
        self.others.step(self.constants.other_lr * factor)
        if helped and self.helpers:
            self.helpers.step(self.constants.lr * factor)
        for rule in self.rules.values():
            rule.flat.store()

    def state_dict(self) -> dict[str, dict[str, dict[str, Tensor]]]:
        """Rule -> key -> parameter name -> tensor, independent of how this process stores them."""
        state: dict[str, dict[str, dict[str, Tensor]]] = {}
        for name, rule in self.rules.items():
            flat = rule.flat
            state[name] = {
                key: flat.named([flat.whole(stack, rows) for stack, rows in zip(stacks, flat.rows, strict=True)])
                for key, stacks in rule.state().items()
            }
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Mapping[str, Mapping[str, Tensor]]]) -> None:
        """Take over what `state_dict` of the same run returned."""
        for name, rule in self.rules.items():
            rule.flat.refresh()
            for key, stacks in rule.state().items():
                for parameter, tensor in rule.flat.named(stacks).items():
                    tensor.copy_(rule.flat.own(state[name][key][parameter]))


# The update of hidden matrices by every optimizer of `scaling.optimizers`.
UPDATES: Mapping[str, Callable[[Flat, Optimizer], UpdateRule]] = {
    "adamw": AdamW,
    "muon": Muon,
    "spectron": Spectron,
    "spectron_orthogonalise_only": Muon,
    "spectron_renormalise_only": RenormalisedSpectron,
}


def hidden_rule(flat: Flat, constants: Optimizer) -> UpdateRule:
    """The update of hidden matrices that a run asks for: one of `UPDATES`, or the class that a user's own optimizer
    names.

    Raises:
        TrainingError: no optimizer has this name.
    """
    if (own := find_optimizer(constants.name).update) is None:
        return UPDATES[constants.name](flat, constants)
    module, _, name = own.partition(":")
    rule: UpdateRule = getattr(import_module(module), name)(flat, constants)
    return rule


def check_optimizer(constants: Optimizer, *, factorized: bool, guided: bool) -> None:
    """Raise TrainingError for a rule that does not exist or does not fit the model."""
    rule = find_optimizer(constants.name)
    rule.orthogonalising_steps(constants)
    if constants.shape_factor and constants.shape_factor not in SHAPE_FACTORS:
        raise TrainingError(
            "There is no such shape factor.",
            where="optimizer.shape_factor",
            got=constants.shape_factor,
            allowed=", ".join(SHAPE_FACTORS),
        )
    if rule.factored and (not factorized or guided):
        raise TrainingError(
            f"The optimizer {rule.name} steps pairs of factors.",
            where="optimizer.name",
            got=f"{constants.name} on a {'self-guided' if guided else 'dense'} model",
            allowed=f"{', '.join(name for name, one in OPTIMIZERS.items() if not one.factored)}, "
            "or a factorized model without self-guidance",
        )
