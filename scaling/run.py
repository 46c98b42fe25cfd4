"""Shape, Run and Result: the values that all parts exchange, and the identity of a run.

A run is a pure function of its settings. Its **id** is the first 16 hex digits of the SHA-256 of the canonical JSON
of exactly the settings that change its loss. Labels (sweep, family, budget), the runner, the device, paths and the
parallel layout are not settings, so sweeps that ask for the same training share it. A field at None is "off" and is
left out: a new option, off by default, keeps every old id. `NUMERICS` is raised by hand whenever a change of the
code moves losses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

from scaling.files import JsonObject

NUMERICS = 1
TRAINER = {"trainer": "scaling"}  # a setting of 0.1 that never had another value; every id hashes it

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


class Part:
    """A piece of a run's settings. A plan of many runs shares its parts, so each is written once."""

    @cached_property
    def canonical(self) -> str:
        """Canonical JSON of the fields that are not off."""
        values = self.__dict__
        return _CANONICAL.encode({n: values[n] for n in _FIELDS[type(self)] if values[n] is not None})


@dataclass(frozen=True)
class Shape(Part):
    """One decoder: `layers` blocks of width `width`, a SwiGLU feed-forward of width `ff_width`, `heads` attention
    heads.
    """

    layers: int
    width: int
    heads: int
    ff_width: int
    vocab_size: int
    kv_heads: int | None = None  # None: as many as heads (MHA); fewer is GQA
    tied: Literal[True] | None = None  # None: the output head has its own matrix

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Width of the keys (and of the values) of one token in one layer."""
        return (self.kv_heads or self.heads) * self.head_dim

    def matrices(self) -> dict[str, tuple[int, int]]:
        """The hidden matrices of one layer, which a parameterization structures, as name -> (out, in)."""
        d, h, kv = self.width, self.ff_width, self.kv_width
        return {"q": (d, d), "k": (kv, d), "v": (kv, d), "o": (d, d), "gate": (h, d), "up": (h, d), "down": (d, h)}


@dataclass(frozen=True)
class Initialisation(Part):
    """Standard deviations at the start; hidden matrices are normal with `hidden_gain` / sqrt(in)."""

    embedding_std: float
    head_std: float
    hidden_gain: float


@dataclass(frozen=True)
class Optimizer(Part):
    """The rule for hidden matrices with every constant. Embedding, head and norms always use AdamW at `other_lr`.

    A constant that the rule does not have is None.
    """

    name: str
    lr: float
    other_lr: float
    beta1: float
    beta2: float
    eps: float
    momentum: float | None = None
    nesterov: Literal[True] | None = None
    newton_schulz_steps: int | None = None
    shape_factor: str | None = None
    weight_decay: float | None = None
    spectral_weight_decay: float | None = None
    gradient_clip: float | None = None


@dataclass(frozen=True)
class Schedule(Part):
    """Learning-rate factor over steps: warm-up from 0 over `warmup_steps`, then `kind` down to `final` (a fraction
    of the peak).
    """

    kind: str
    warmup_steps: int
    final: float
    decay_steps: int | None = None  # wsd: the length of the decay


@dataclass(frozen=True)
class DataRef(Part):
    """What a run reads: the corpus as the sweep names it, the tokenizer, and the fixed validation windows."""

    corpus: str
    tokenizer: str
    validation_tokens: int
    validation: tuple[tuple[str, str], ...] | None = None  # more sets: (name, path)


@dataclass(frozen=True)
class Run:
    """One training with every setting resolved."""

    shape: Shape
    parameterization: str  # a name of scaling.parameterizations
    initialisation: Initialisation
    optimizer: Optimizer
    schedule: Schedule
    steps: int
    batch_tokens: int
    sequence_length: int
    seed: int
    data: DataRef
    precision: str = "float32"
    ranks: Mapping[str, int] | None = None  # low_rank: matrix name -> rank, for every name of Shape.matrices()
    self_guided: float | None = None  # fraction of training over which a dense helper fades
    numerics: int = NUMERICS

    @property
    def tokens(self) -> int:
        """Training tokens, a whole number of batches."""
        return self.steps * self.batch_tokens

    @property
    def branch_step(self) -> int | None:
        """Steps before the decay of a wsd schedule, the same in runs of other lengths; None where nothing is."""
        if self.schedule.kind != "wsd" or self.self_guided is not None:  # the helper fades over a share of all steps
            return None
        return self.steps - (self.schedule.decay_steps or 0) or None

    @cached_property
    def trunk_id(self) -> str | None:
        """What runs that differ only in their length and decay share: the id of the run without either."""
        if self.branch_step is None:
            return None
        return dataclasses.replace(self, steps=0, schedule=dataclasses.replace(self.schedule, decay_steps=None)).id

    def settings(self) -> JsonObject:
        """The nested settings with every off (None) field left out: what `run.json` holds and the id hashes."""
        settings: JsonObject = _settings(self) | TRAINER
        return settings

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON of `settings()`."""
        return hashlib.sha256(self.canonical.encode("ascii")).hexdigest()[:16]

    @property
    def canonical(self) -> str:
        """Canonical JSON of `settings()`: sorted keys, no spaces, ASCII."""
        values = self.__dict__
        fields = ",".join([k + _text(values[n]) for n, k in _SORTED_RUN_FIELDS if values[n] is not None])
        return "{" + fields + _TRAINER_TEXT

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Run:
        """The run that `settings()` of the same code version wrote; unknown or missing fields raise TypeError."""
        nested = dict(settings)
        if nested.pop("trainer", None) != TRAINER["trainer"]:
            raise TypeError(f"settings of another trainer: {settings.get('trainer')!r}")
        data = dict(nested["data"])
        if "validation" in data:
            data["validation"] = tuple((name, path) for name, path in data["validation"])
        nested |= {
            "shape": Shape(**nested["shape"]),
            "initialisation": Initialisation(**nested["initialisation"]),
            "optimizer": Optimizer(**nested["optimizer"]),
            "schedule": Schedule(**nested["schedule"]),
            "data": DataRef(**data),
        }
        return cls(**nested)


@dataclass(frozen=True)
class Result:
    """What a finished run reports. Losses are in nats; a run that diverged has the last finite loss and no data
    point.
    """

    status: Literal["completed", "diverged"]
    loss_nats: float | None  # mean validation loss per token after the last step; None where diverged
    loss_se_nats: float | None  # its standard error over validation documents or windows
    loss_per_byte_nats: float | None
    last_finite_loss_nats: float | None  # training loss of the last step that had a finite one
    steps: int  # steps taken
    tokens: int
    flops: float  # exact convention, forward and backward
    flops_6nd: float
    optimizer_flops: float
    device_seconds: float  # steps only, summed over devices and attempts; the first step of an attempt on a GPU, which
    # compiles, counts as long as the others; k runs that share a GPU count 1/k of its time each
    epochs: float  # passes over the training tokens
    device: str  # "cpu", "cuda: NVIDIA H200"
    torch_version: str
    corpus_hash: str
    inherited_seconds: float = 0.0  # of device_seconds, what other runs of its trunk had spent
    warmup_seconds: float = 0.0  # compiling and first steps, not in device_seconds; of this run's own attempts
    compiled: bool | None = None  # whether the model was compiled; None: a result of 0.1
    micro_batch: int | None = None  # sequences at once on each device; None: a result of 0.1
    runs_per_gpu: int = 1  # that shared the device of the last attempt; device_seconds are this run's part of its time
    loss_spikes: int = 0
    validation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # further sets: name -> losses
    diagnostics: Mapping[str, float] = field(default_factory=dict)  # spectral norms (final, largest), MFU

    def to_json(self) -> JsonObject:
        """A plain dictionary; asserts that every number is finite."""
        values = dataclasses.asdict(self)
        assert all(math.isfinite(v) for v in values.values() if isinstance(v, float)), values
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Result:
        """The result that `to_json` wrote; fields this version does not know are ignored."""
        if values.keys() <= _RESULT_FIELDS:
            return cls(**values)
        return cls(**{k: v for k, v in values.items() if k in _RESULT_FIELDS})


_RESULT_FIELDS = frozenset(f.name for f in dataclasses.fields(Result))


def id_of_settings(settings: object) -> str:
    """The id that settings as `Run.settings` gives them hash to. Raises ValueError where a number is not finite."""
    return hashlib.sha256(_CANONICAL.encode(settings).encode("ascii")).hexdigest()[:16]


_FIELDS: dict[type, tuple[str, ...]] = {
    kind: tuple(f.name for f in dataclasses.fields(kind))
    for kind in (Shape, Initialisation, Optimizer, Schedule, DataRef, Run)
}


def _settings(value: Any) -> Any:
    if names := _FIELDS.get(type(value)):
        return {n: _settings(v) for n in names if (v := getattr(value, n)) is not None}
    if isinstance(value, Mapping):
        return {k: _settings(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [_settings(v) for v in value]
    return value


_SORTED_RUN_FIELDS = [(name, f'"{name}":') for name in sorted(_FIELDS[Run])]
_TRAINER_TEXT = "," + _CANONICAL.encode(TRAINER)[1:]  # the last key in sorted order


def _text(value: Any) -> str:
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is str:
        return json.encoder.encode_basestring_ascii(value)
    if isinstance(value, Part):
        return value.canonical
    return _ranks_text(tuple(sorted(value.items()))) if kind is not float else _CANONICAL.encode(value)


@lru_cache(maxsize=4096)
def _ranks_text(ranks: tuple[tuple[str, int], ...]) -> str:
    return _CANONICAL.encode(dict(ranks))
