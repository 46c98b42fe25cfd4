"""How a study is made: the `analysis:` block of a sweep, or the options of `scaling fit` on a foreign table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from scaling.hardware import Device, find_device
from scaling.laws.forms import FORMS
from scaling.laws.objectives import Delta

if TYPE_CHECKING:  # pydantic takes a third of a second, and a foreign table has no sweep
    from scaling.laws.isoflop import Curve
    from scaling.sweeps.schema import Claim, Sweep

# Fitted to all lines at once, beside a law of each line.
JOINT_LAWS = tuple(name for name, form in FORMS.items() if form.spans_lines)


@dataclass(frozen=True)
class ServingQuestion:
    """What will be served, and where.

    Args:
        served: tokens over the life of the model, prompts included.
        device: a row of the hardware table.
        batch, context, prompt, precision: see `inference.cost.Setting`; context None: the sequence length of training.
        usd_per_hour: price of one device; None: costs are device seconds.
        loss: to serve at, nats per token. None: what the reference reaches with `compute` training FLOPs.
        compute: None: the largest compute of the data.
    """

    served: float
    device: str = "h100"
    batch: int = 1
    context: int | None = None
    prompt: int | None = None
    precision: str | None = None
    usd_per_hour: float | None = None
    loss: float | None = None
    compute: float | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers of a study depend on, apart from its rows.

    Args:
        params_column: which column is N.
        convention: how C is counted.
        bootstrap: draws; 0 for none.
        predict: FLOPs to predict at.
        where, exclude: rows to leave out (`cells.gather`).
        claims: orders to hold against the losses at each line's best rate.
        drop_highest: how many of the highest losses of each line a law leaves out.
        fixed, tied: parameters of each line's law that are not fitted, or equal another one.
        curve: of approach 2.
        seed: of all draws.
        serving: the question that a serving decision answers; None: none is asked.
        hardware: rows of the device table with what was measured in their place.
    """

    law: str = "chinchilla"
    objective: str = "log_huber"
    delta: Delta = "auto"
    params_column: str = "params"
    convention: Literal["exact", "6ND"] = "6ND"
    bootstrap: int = 1000
    predict: tuple[float, ...] = ()
    devices: tuple[str, ...] = ("h200", "cpu")
    where: Mapping[str, float | None] = field(default_factory=dict)
    exclude: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    drop_highest: int = 0
    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    curve: Curve = "parabola"
    hardware: Mapping[str, Device] = field(default_factory=dict)
    seed: int = 0
    serving: ServingQuestion | None = None

    @property
    def served_on(self) -> list[Device]:
        """The devices that serving is priced for."""
        return [self.hardware.get(name) or find_device(name) for name in self.devices]

    @property
    def line_law(self) -> str:
        """The law of one line."""
        return "chinchilla" if self.law in JOINT_LAWS else self.law

    @property
    def flops_column(self) -> str:
        """The column of C in our own tables."""
        return "flops" if self.convention == "exact" else "flops_6nd"


def settings_of(sweep: Sweep) -> Settings:
    """The settings that a sweep's `analysis:` block writes down."""
    block = sweep.analysis
    return Settings(
        law=block.law,
        objective=block.objective,
        delta=block.delta,
        params_column=sweep.params_column,
        convention=sweep.grid.flops,
        bootstrap=block.bootstrap,
        predict=tuple(block.predict or ()),
        devices=tuple(block.devices),
        where=block.where.model_dump(),
        exclude={item.run: item.reason for item in block.exclude},
        claims=tuple(block.claims),
        serving=None if block.serving is None else ServingQuestion(**block.serving.model_dump()),
    )
