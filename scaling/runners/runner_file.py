"""A runner file: one place where runs execute, and what the hardware there is.

The same page describes a workstation (`runner: local`), a cluster partition (`runner: slurm`), a place where something
else starts the workers (`runner: external`), and what a user's own scheduler needs (`runner: module:Class`). Keys that
the scheduler does not read are errors: a time limit that nothing enforces would mislead.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scaling.errors import RunnerError, SpecError
from scaling.hardware import DEVICES, Device, usable_cores
from scaling.runners.scheduler_names import load_class
from scaling.spec import (
    Block,
    Count,
    Duration,
    ListOf,
    Number,
    Positive,
    Whole,
    any_name,
    check,
    did_you_mean,
    either,
    parse_yaml,
    read_spec,
    refuse,
    word_of,
)
from scaling.sweeps.memory import Placement
from scaling.sweeps.sharing import Sharing

PACKAGED_LOCAL = Path(__file__).parent.parent / "templates" / "local.yaml"
_COMMON = {"runner", "device", "store", "cost_per_hour"}  # read for every scheduler


class CustomDevice(Block):
    """Hardware that the table does not have; rates per device."""

    name: str
    """Name of the device in plans and reports."""
    peak_flops: dict[str, Positive]
    """Peak dense rate of one device, FLOP/s, by precision (`float32`, `bfloat16`)."""
    bandwidth_bytes_per_second: Positive
    """Memory bandwidth of one device, bytes per second."""
    memory_bytes: Positive
    """Memory of one device, bytes."""
    assumed_mfu: Number = Field(gt=0, le=1)
    """Share of the peak rate that training is assumed to reach before any run has been measured."""


class Resources(Block):
    """What one run gets where it has at most `max_params` parameters (all, where that is left out)."""

    max_params: Positive | None = None
    """Largest run this rule takes, in params_total; off: every run."""
    gpus: Annotated[Whole, Field(ge=0)] = 0
    """GPUs per node; 0 trains on CPUs."""
    nodes: Count = 1
    """Nodes of one run."""
    cpus_per_gpu: Count | None = None
    """CPU cores per GPU; off: 1."""
    cpus: Count | None = None
    """CPU cores per node where there is no GPU; off: 1."""
    memory: str | None = None
    """Memory per node, as `sbatch --mem` takes it, such as `64G`; off: the cluster's default."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How several ranks hold the model: each all of it (`ddp`), or each a part (`fsdp`)."""
    micro_batch: Count | None = None
    """Sequences that a device puts through the model at once; off: as many as fit its memory."""

    @property
    def ranks(self) -> int:
        """Processes that train one run together."""
        return max(1, self.gpus) * self.nodes

    @property
    def placement(self) -> Placement:
        """The devices of one run, as the plan prices them."""
        return Placement(self.ranks, self.strategy, self.micro_batch)


class Pack(Block):
    """Runs expected to take less than `target` share a task of about that length."""

    target: Duration = Field(gt=0)
    """Wall time that a task shared by short runs should take; runs as long as this get a task of their own."""


class Runner(Block):
    """One runner file."""

    runner: str
    """What starts workers: `local`, `slurm`, `external` (something else), or your own entry point or `module:Class`."""
    device: either(any_name, CustomDevice) = "cpu"  # type: ignore[valid-type]
    """A row of the hardware table, or a description of the device."""
    slots: Count | None = None
    """CPU cores, or GPUs, of a pool of workers. local: off: all that may be used; slurm: of a packed task, off: 1."""
    runs_per_gpu: either(word_of("auto"), Count) = 1  # type: ignore[valid-type]
    """Runs side by side on one GPU, on this machine or in a packed task; `auto`: as many as fit and are of use."""
    store: str | None = None
    """Folder of the run folders, relative to the root; off: `.scaling/store`."""
    cost_per_hour: Number | None = Field(default=None, ge=0)
    """Money per device and hour, in any currency; off: nothing is priced in money."""
    partition: str | None = None
    """slurm: partition of the jobs; off: the cluster's default."""
    resources: ListOf[Resources] = ()
    """slurm: what a run gets; the first rule that takes its size is used; empty: one CPU core of one node."""
    time_limit: Duration | None = Field(default=None, gt=0)
    """slurm: wall time of one job, required there; a longer run checkpoints and goes on, as often as needed."""
    pack: Pack | None = None
    """slurm: short runs share a task; off: every run has its own."""
    max_concurrent: Count | None = None
    """slurm: tasks at a time over all arrays of a launch; off: no bound of ours."""
    setup: ListOf[str] = ()
    """slurm: shell lines of the job before Python starts; they are run as written."""
    sbatch: dict[str, Any] = Field(default_factory=dict)
    """slurm: any other option of `sbatch`, as name: text, number or true."""
    srun_args: ListOf[str] = ()
    """slurm: further arguments of the `srun` that starts a task, such as `--mpi=pmix` or `--container-image=...`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """A scheduler of your own: whatever it reads."""

    @model_validator(mode="after")
    def _known_device(self) -> Runner:
        if isinstance(self.device, str) and self.device not in DEVICES:
            hint = did_you_mean(self.device, list(DEVICES)) or "describe it here: {name: ..., peak_flops: ...}"
            refuse("no such device in the hardware table", at="device", allowed=", ".join(DEVICES), hint=hint)
        return self

    @model_validator(mode="after")
    def _keys_that_its_scheduler_reads(self) -> Runner:
        try:
            keys: frozenset[str] = getattr(load_class(self.runner), "keys")  # noqa: B009
        except RunnerError as error:
            refuse(error.what, at="runner", allowed=error.allowed, hint=error.hint)
        for key in sorted(self.model_fields_set - _COMMON - keys):
            if getattr(self, key):
                refuse(
                    f"`runner: {self.runner}` does not read '{key}'", at=key, allowed=", ".join(sorted(_COMMON | keys))
                )
        return self

    @model_validator(mode="after")
    def _runs_that_share_a_gpu(self) -> Runner:
        if self.runs_per_gpu == 1:
            return self
        if self.hardware().name.startswith("cpu"):
            hint = "on CPUs `slots` says how many runs train side by side"
            refuse("only a GPU is shared", at="runs_per_gpu", allowed="1 with this device", hint=hint)
        if self.pack is None and self.runner != "local":
            allowed = "1 without `pack: {target: ...}`"
            refuse("runs share a GPU in packed tasks, and none is packed", at="runs_per_gpu", allowed=allowed)
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

    @property
    def sharing(self) -> Sharing:
        """Which runs share a GPU: those of packed tasks, or all of a pool on this machine, which has one list."""
        target = None if self.pack is None else self.pack.target
        return Sharing(self.runs_per_gpu, target, uniform=self.pack is None)

    def cores_per_gpu(self, params: float) -> int | None:
        """Cores beside the GPU of a run of `params` parameters; 0 where it is not on one GPU, None for no bound."""
        if self.runner == "local":
            return usable_cores() // (self.slots or 1)
        if not self.resources:
            return 0
        rule = self.resources_for(params)
        return rule.cpus_per_gpu if rule.gpus else 0

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


def parse_runner(text: str, path: Path) -> Runner:
    """The runner file that said `text`; `path` is named in errors."""
    return check(parse_yaml(text, path), Runner)
