"""A runner file: one place where runs execute, and what the hardware there is.

The same page describes a workstation (`runner: local`) and a cluster partition (`runner: slurm`). Keys of the other
kind are errors: a time limit that nothing enforces would be a lie.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scaling.errors import SpecError
from scaling.hardware import DEVICES, Device
from scaling.spec import Block, Count, Duration, ListOf, Number, Positive, Whole, did_you_mean, read_spec, refuse

PACKAGED_LOCAL = Path(__file__).parent.parent / "templates" / "local.yaml"
_SLURM_ONLY = ("partition", "resources", "time_limit", "pack", "max_concurrent", "setup", "sbatch")


class CustomDevice(Block):
    """Hardware that the table does not have; rates per device."""

    name: str
    peak_flops: dict[str, Positive]
    bandwidth_bytes_per_second: Positive
    memory_bytes: Positive
    assumed_mfu: Number = Field(gt=0, le=1)


class Resources(Block):
    """What one run gets where it has at most `max_params` parameters (all, where that is left out)."""

    max_params: Positive | None = None
    gpus: Annotated[Whole, Field(ge=0)] = 0  # per node
    nodes: Count = 1
    cpus_per_gpu: Count | None = None
    cpus: Count | None = None  # per node, where there is no GPU
    memory: str | None = None  # per node, as sbatch --mem takes it
    strategy: Literal["ddp", "fsdp"] = "ddp"  # how several ranks hold the model: each all of it, or a part

    @property
    def ranks(self) -> int:
        """Processes that train one run together."""
        return max(1, self.gpus) * self.nodes


class Pack(Block):
    """Runs expected to take less than `target` share a task of about that length."""

    target: Duration = Field(gt=0)


class Runner(Block):
    """One runner file."""

    runner: Literal["local", "slurm"]
    device: str | CustomDevice = "cpu"
    slots: Count | None = None  # workers at a time; local: None is one per core or GPU
    store: str | None = None  # None: <root>/.scaling/store
    cost_per_hour: Number | None = Field(default=None, ge=0)  # money per device and hour
    partition: str | None = None
    resources: ListOf[Resources] = ()
    time_limit: Duration | None = Field(default=None, gt=0)
    pack: Pack | None = None
    max_concurrent: Count | None = None
    setup: ListOf[str] = ()
    sbatch: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_device(self) -> Runner:
        if isinstance(self.device, str) and self.device not in DEVICES:
            hint = did_you_mean(self.device, list(DEVICES)) or "describe it here: {name: ..., peak_flops: ...}"
            refuse("no such device in the hardware table", at="device", allowed=", ".join(DEVICES), hint=hint)
        return self

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Runner:
        if self.runner == "local":
            for key in _SLURM_ONLY:
                if getattr(self, key):
                    refuse(
                        f"'{key}' is a key of slurm runners",
                        at=key,
                        allowed="runner, device, slots, store, cost_per_hour",
                    )
        return self

    def hardware(self) -> Device:
        """The device the runs are priced for, at this place's rate."""
        if isinstance(self.device, str):
            device = DEVICES[self.device]
        else:
            device = Device(source="the runner file", **self.device.model_dump())
        return dataclasses.replace(device, cost_per_hour=self.cost_per_hour)

    def store_path(self, root: Path) -> Path:
        """Where run folders lie: as written, relative to `root`, or the default."""
        return root / (self.store or Path(".scaling") / "store")

    def resources_for(self, params: float) -> Resources:
        """The first rule that takes a run of `params` parameters. Raises SpecError where none does."""
        if not self.resources:
            return Resources()
        for rule in self.resources:
            if rule.max_params is None or params <= rule.max_params:
                return rule
        raise SpecError(
            "no resource rule takes a run of this size",
            where="resources",
            got=f"{params:.3g} parameters",
            allowed="a last rule without max_params takes every run",
            hint="add such a rule to the `resources` of the runner file",
        )


def load_runner(path: Path | None) -> Runner:
    """Read a runner file; None reads the packaged local profile."""
    return read_spec(path or PACKAGED_LOCAL, Runner)
