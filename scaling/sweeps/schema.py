"""The sweep file: one question, its data, grid, families, training recipe and analysis, as typed values.

`load_sweep` reads and checks everything that needs no planning; `Sweep.where` turns a key into ``file:line: key``
for the errors that do. A value that may vary takes a scalar or a list: over `rank_ratio` a list makes lines, over
`seeds` replicates, over a hyperparameter (`TUNABLE`) it is tuned over within a cell.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from scaling.errors import SpecError, TrainingError
from scaling.hardware import DEVICES
from scaling.laws.forms import FORMS
from scaling.optimizers import CONSTANTS, OPTIMIZERS, TUNABLE, find_optimizer
from scaling.parameterizations import PARAMETERIZATIONS, find_parameterization
from scaling.run import DataRef
from scaling.spec import (
    Block,
    Count,
    ListOf,
    Number,
    OneOrMore,
    Positive,
    Whole,
    YamlDocument,
    any_name,
    check,
    did_you_mean,
    either,
    read_yaml,
    refuse,
    word_of,
)
from scaling.sweeps.ladders import LadderSpec, ShapeSpec
from scaling.sweeps.recipes import Recipe, recipe_or

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_FORM = "letters, digits, _ . and -, at most 64, the first a letter or digit"
_PATH = re.compile(r"^[./~]|[/\\]|\.(txt|jsonl|parquet)$")
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Ratio = Annotated[Number, Field(gt=0, le=1)]
NotNegative = Annotated[Number, Field(ge=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**31)]


def _name(value: Any) -> Any:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        refuse("not a name", allowed=NAME_FORM)
    return value


Name = Annotated[str, BeforeValidator(_name)]


class Data(Block):
    """What is read."""

    corpus: str = "python-packages"
    """The text: `python-packages`, `python-stdlib`, a path relative to the root (.txt, .jsonl, .parquet, a file or a
    folder), or `hf:OWNER/NAME`.
    """
    tokenizer: str = "bytes"
    """`bytes`, `bpe:N` (N entries, trained on the corpus), `hf:NAME` or `tiktoken:NAME`."""
    vocab_size: Annotated[Count, Field(le=2**20)] | None = None
    """Entries of the tokenizer, for plans before a tokenizer from the network has been fetched; off: asked of the
    tokenizer.
    """
    validation_tokens: Count = 128_000
    """Tokens of the fixed validation windows, the same for every run."""
    validation: dict[Name, str] | None = None
    """More validation sets, as name: path relative to the root; off: only the held-out part of the corpus."""

    @property
    def ref(self) -> DataRef:
        """What the runs read, as their identity names it."""
        more = tuple(sorted(self.validation.items())) if self.validation else None
        return DataRef(self.corpus, self.tokenizer, self.validation_tokens, more)

    @property
    def paths(self) -> dict[tuple[str, ...], str]:
        """The files this block names, by key."""
        named: dict[tuple[str, ...], str] = {("data", "corpus"): self.corpus}
        named |= {("data", "validation", name): path for name, path in (self.validation or {}).items()}
        return {key: path for key, path in named.items() if not path.startswith("hf:") and _PATH.search(path)}


class Centre(Block):
    """Where optima are expected: N_opt = n_opt · (C / at)^exponent, N in the sweep's own column."""

    n_opt: Positive
    """Expected compute-optimal N at the compute `at`, in the sweep's column of N (`analysis.params`)."""
    at: Positive
    """Training FLOPs at which the optimum is `n_opt`."""
    exponent: Annotated[Number, Field(gt=0, lt=2)] = 0.5
    """Exponent of N_opt in C."""


def _centres(value: Any) -> Any:
    """One centre for all, or one per family or line: always a mapping, "*" for all."""
    if isinstance(value, dict) and not set(value) & set(Centre.model_fields):
        return value
    return {"*": value}


class Filters(Block):
    """Cells to leave out; each is listed with the reason."""

    min_steps: Count | None = None
    """Fewest optimizer steps of a cell; off: no bound."""
    max_steps: Count | None = None
    """Most optimizer steps of a cell; off: no bound."""
    max_epochs: Positive | None = None
    """Most passes over the training tokens of the corpus; off: no bound."""
    min_params: Positive | None = None
    """Least N of a cell, in the sweep's column; off: no bound."""
    max_params: Positive | None = None
    """Largest N of a cell, in the sweep's column; off: no bound."""
    tokens_per_param: ListOf[Positive] = (0.1, 100_000.0)
    """[least, most] training tokens per parameter; wider than any published study
    (0.1 to 10,000; an assumption), so that a mistyped budget is caught.
    """

    @model_validator(mode="after")
    def _range(self) -> Filters:
        if len(self.tokens_per_param) != 2 or self.tokens_per_param[0] >= self.tokens_per_param[1]:
            refuse("not a range", at="tokens_per_param", allowed="[least, most]")
        return self


class Smaller(Block):
    """A line or family that gets fewer cells than the grid says."""

    budgets: ListOf[Positive] | None = None
    """Budgets of this family or line, FLOPs; off: those of the grid."""
    sizes_per_budget: Count | None = None
    """Shapes per budget of this family or line; off: as the grid says."""


class Point(Block):
    """One cell: a shape and what it may spend."""

    shape: either(any_name, ShapeSpec)  # type: ignore[valid-type]
    """A name in `grid.ladder`, or a shape."""
    tokens: Positive | None = None
    """Training tokens of the cell, rounded to whole batches; off where `budget` is said."""
    budget: Positive | None = None
    """Training FLOPs of the cell; off where `tokens` is said."""
    lines: OneOrMore[str] | None = None
    """Families or lines that train this point; off: all."""
    seeds: ListOf[Seed] | None = None
    """Seeds of this point beside those of `training.seeds`; off: none."""

    @model_validator(mode="after")
    def _spends_once(self) -> Point:
        if (self.tokens is None) == (self.budget is None):
            refuse("say what the point spends", allowed="either `tokens` or `budget`")
        return self


class Grid(Block):
    """What all kinds of grid have."""

    flops: Literal["exact", "6ND"] = "exact"
    """How training compute C is counted: `exact` (matrices and causal attention, forward and backward) or `6ND` (6 ·
    params_total · tokens).
    """
    filters: Filters = Filters()
    """Cells to leave out; `plan` lists each with the reason."""
    further: ListOf[Point] | None = None
    """Cells beside those of the grid, as `scaling next` writes them; one with the shape of a cell of the grid and,
    within 1 %, its tokens gives that cell its `seeds`; off: none.
    """


class IsoFlopGrid(Grid):
    """Budgets × shapes: each shape trains for the tokens that spend the budget."""

    kind: Literal["isoflop"]
    """Every shape trains for the tokens that spend each budget."""
    budgets: ListOf[Positive]
    """Training FLOPs of one run, in the convention `grid.flops`; each starts an isoFLOP curve."""
    ladder: LadderSpec
    """The model shapes: a named ladder, a list of shapes, or `{rule: ...}`."""
    sizes_per_budget: Count | None = None
    """Shapes per budget around `centre`; off where `sizes: all` is said."""
    sizes: Literal["all"] | None = None
    """`all` trains every shape of the ladder at every budget; off where `sizes_per_budget` is said."""
    span: Annotated[Number, Field(gt=1)] = 9.0
    """Largest over smallest N of the shapes around a centre."""
    centre: Annotated[dict[str, either(any_name, Centre)], BeforeValidator(_centres)] | None = None  # type: ignore[valid-type]
    """Where the optimum is expected: `{n_opt, at, exponent}`, a law of `scaling laws`, `results/<sweep>`, or one of
    these per family or line.
    """
    lines: dict[str, Smaller] = Field(default_factory=dict)
    """Families or lines that get fewer cells, by name; what is said of a line wins over what is said of its family."""

    @model_validator(mode="after")
    def _sizes_are_said_once(self) -> IsoFlopGrid:
        if (self.sizes is None) == (self.sizes_per_budget is None):
            refuse("say how many sizes", allowed="either `sizes_per_budget: 5` (around `centre`) or `sizes: all`")
        if self.sizes_per_budget is not None and self.centre is None:
            refuse("the key 'centre' is missing", hint="sizes_per_budget takes the shapes around `centre`")
        if self.sizes == "all" and self.centre is not None:
            refuse("`sizes: all` uses no centre", at="centre", hint="leave one of the two out")
        if len(set(self.budgets)) < len(self.budgets):
            refuse("a budget is written twice", at="budgets")
        return self


class TokensPerParamGrid(Grid):
    """A ladder × multiples: each shape trains for a multiple of its N tokens."""

    kind: Literal["tokens_per_param"]
    """Every shape trains for multiples of its own N in tokens."""
    multiples: ListOf[Positive]
    """Training tokens per parameter, N in the sweep's column."""
    ladder: LadderSpec
    """The model shapes: a named ladder, a list of shapes, or `{rule: ...}`."""


class PointsGrid(Grid):
    """Cells one by one."""

    kind: Literal["points"]
    """Cells one by one."""
    points: ListOf[Point]
    """The cells."""
    ladder: LadderSpec | None = None
    """Shapes that points may name; off: points give their shape."""


def _optimizer(value: Any) -> Any:
    try:
        return find_optimizer(value if isinstance(value, str) else repr(value)).name
    except TrainingError as error:
        refuse(error.what, allowed=", ".join(OPTIMIZERS), hint=did_you_mean(value, list(OPTIMIZERS)))


def _parameterization(value: Any) -> Any:
    try:
        return find_parameterization(value if isinstance(value, str) else repr(value)).name
    except TrainingError as error:
        refuse(error.what, allowed=", ".join(PARAMETERIZATIONS), hint=did_you_mean(value, list(PARAMETERIZATIONS)))


ParameterizationName = Annotated[str, BeforeValidator(_parameterization)]
OptimizerName = Annotated[str, BeforeValidator(_optimizer)]


def _structure_keys() -> tuple[str, ...]:
    """The keys of a family that belong to its structure."""
    return tuple(dict.fromkeys(key for structure in PARAMETERIZATIONS.values() for key in structure.keys))


def _unfactored() -> str:
    return ", ".join(name for name, rule in OPTIMIZERS.items() if not rule.factored)


class LineRates(Block):
    """Rates of one line of a family, each in place of the family's."""

    lr: Positive | None = None
    """Peak learning rate of hidden matrices of this line; off: that of the family."""
    other_lr: Positive | None = None
    """Peak learning rate of embedding, output head and norms of this line; off: that of the family."""


class Family(Block):
    """Models compared in a plot: a parameterization, an optimizer and its recipe."""

    parameterization: ParameterizationName
    """`dense` matrices, or `low_rank`: every hidden matrix as a product of two factors."""
    optimizer: OptimizerName
    """The update rule of hidden matrices; embedding, output head and norms always use AdamW."""
    lr: recipe_or("lr", OneOrMore[Positive])  # type: ignore[valid-type]
    """Peak learning rate of hidden matrices; a list is tuned over within a cell."""
    other_lr: recipe_or("lr", OneOrMore[Positive]) | None = None  # type: ignore[valid-type]
    """Peak learning rate of embedding, output head and norms (AdamW); a list is tuned over; off: `lr`."""
    rank_ratio: OneOrMore[Ratio] | None = None
    """Rank as a share of `rank_of`, for `low_rank` only; a list makes one line per ratio."""
    rank_of: Literal["in_features", "min"] | None = None
    """What `rank_ratio` multiplies: the inputs of a matrix (`in_features`, the default) or the smaller of inputs and
    outputs (`min`).
    """
    lines: dict[str, LineRates] = Field(default_factory=dict)
    """Lines of this family with rates of their own, by name."""
    weight_decay: recipe_or("weight_decay", OneOrMore[NotNegative]) = (0.0,)  # type: ignore[valid-type]
    """Decoupled weight decay of hidden matrices, per unit of learning rate; a list is tuned over."""
    beta1: Fraction = 0.9
    """AdamW: decay of the average gradient."""
    beta2: Fraction = 0.95
    """AdamW: decay of the average squared gradient."""
    eps: Positive = 1e-8
    """AdamW: added to the root of the average squared gradient."""
    momentum: OneOrMore[Fraction] | None = None
    """Muon, Spectron: decay of the average gradient, .95 where left out; a list is tuned over."""
    nesterov: bool | None = None
    """Muon, Spectron: apply the momentum once more to the gradient; true where left out."""
    newton_schulz_steps: Annotated[Whole, Field(ge=1, le=20)] | None = None
    """Muon, Spectron: iterations that make the update orthogonal, 5 where left out."""
    shape_factor: Literal["none", "original", "match_rms_adamw"] | None = None
    """Muon, Spectron: factor of the step by shape: `original` sqrt(max(1, out/in)) (Muon's default), `match_rms_adamw`
    0.2 · sqrt(max(out, in)), `none` (Spectron's default).
    """
    spectral_weight_decay: OneOrMore[NotNegative] | None = None
    """Spectron: decay of the leading singular direction only, per unit of learning rate, 0 where left out; a list is
    tuned over.
    """
    gradient_clip: Positive | None = None
    """Largest Euclidean norm of all gradients together; longer ones are scaled down; off: not clipped."""
    self_guided: Annotated[Number, Field(gt=0, le=1)] | None = None
    """Share of the training over which a dense helper fades out (arXiv 2406.16450), `low_rank` with adamw or muon; off:
    no helper.
    """

    @model_validator(mode="after")
    def _only_what_it_uses(self) -> Family:
        rule = find_optimizer(self.optimizer)
        for key in sorted(set(CONSTANTS) - set(rule.constants)):
            if getattr(self, key) is not None:
                has = ", ".join(rule.constants) or "none of them"
                refuse(f"the optimizer {self.optimizer} has no {key}", at=key, allowed=f"leave it out; it has {has}")
        structure = find_parameterization(self.parameterization)
        for key in (key for key, needed in structure.keys.items() if needed and getattr(self, key) is None):
            refuse(f"the key '{key}' is missing", hint=f"a {structure.name} family needs it, for example {key}: 0.25")
        for key in (key for key in _structure_keys() if key not in structure.keys and getattr(self, key) is not None):
            others = " or ".join(name for name, other in PARAMETERIZATIONS.items() if key in other.keys)
            allowed = f"leave it out, or parameterization: {others}"
            refuse(f"a {structure.name} family has no {key}", at=key, allowed=allowed)
        if rule.factored and not structure.structured:
            what = f"{rule.name} updates two factors, a {structure.name} family has none"
            refuse(what, at="optimizer", allowed=_unfactored())
        if self.self_guided is not None and rule.factored:
            refuse(f"{rule.name} takes no dense helper", at="self_guided", allowed=f"with optimizer {_unfactored()}")
        for key in ("rank_ratio", *TUNABLE):
            values = getattr(self, key, None)
            if isinstance(values, tuple) and len(set(values)) < len(values):
                refuse("a value is written twice", at=key)
        for name, rates in self.lines.items():
            for key in rates.model_fields_set:
                if isinstance(values := getattr(self, key), tuple) and len(values) > 1:
                    refuse(f"{key} is tuned over, and {name} has its own", at="lines", allowed="one of the two")
        return self

    def of_line(self, name: str) -> Family:
        """The family with the rates of one of its lines."""
        rates = self.lines.get(name)
        return self if rates is None else self.model_copy(update=rates.model_dump(exclude_none=True))


class ScheduleSpec(Block):
    """Learning-rate factor over the steps."""

    kind: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    """Shape of the learning rate after the warm-up; `wsd` is constant, then linear down over `decay`."""
    warmup: recipe_or("warmup", Fraction) = 0.05  # type: ignore[valid-type]
    """Warm-up as a share of the steps, from 0 to the peak."""
    warmup_steps: Count | None = None
    """Warm-up in steps, the same for every run, so that wsd runs of different lengths share a trunk; off: `warmup`."""
    final: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Learning rate at the end, as a share of the peak."""
    decay: Annotated[Number, Field(gt=0, le=1)] | None = None
    """wsd: length of the decay as a share of the steps; off for the other kinds."""

    @model_validator(mode="after")
    def _decay_is_for_wsd(self) -> ScheduleSpec:
        if (self.kind == "wsd") != (self.decay is not None):
            refuse("`decay` belongs to kind wsd, and wsd needs it", at="decay" if self.decay is not None else "kind")
        if self.warmup_steps is not None and "warmup" in self.model_fields_set:
            refuse("the warm-up is said twice", at="warmup_steps", allowed="either `warmup` or `warmup_steps`")
        return self


class Replicates(Block):
    """Cells that get `seeds` seeds in all, so that every difference has a scale: per line, the `sizes` nearest the
    centre of one budget.
    """

    budget: either(word_of("smallest", "largest"), Positive) = "smallest"  # type: ignore[valid-type]
    """The budget whose cells get more seeds: `smallest`, `largest`, or FLOPs of one of the budgets."""
    sizes: Count = 1
    """Cells per line that get them, those nearest the centre, or the middle of the sizes where the grid has none."""
    seeds: Annotated[Count, Field(ge=2, le=100)] = 3
    """Seeds of each such cell in all, the sweep's own among them."""


class Init(Block):
    """Standard deviations at the start; hidden matrices have hidden_gain / sqrt(in)."""

    embedding_std: Positive = 0.3
    """Standard deviation of the initial embedding; the default was measured on byte models of width 8 to 160 with
    head_std 0 (2026-11-21).
    """
    head_std: NotNegative = 0.0
    """Standard deviation of the initial output head."""
    hidden_gain: Positive = 1.0
    """Hidden matrices start with standard deviation hidden_gain / sqrt(in)."""


class Training(Block):
    """The recipe that all families share."""

    sequence_length: Annotated[Count, Field(le=2**20)]
    """Tokens of one training sequence, and the context of the model."""
    batch_tokens: recipe_or("batch_tokens", OneOrMore[Count])  # type: ignore[valid-type]
    """Tokens of one optimizer step, a multiple of `sequence_length`; a list is tuned over."""
    schedule: ScheduleSpec = ScheduleSpec()
    """Learning rate over the steps."""
    seeds: ListOf[Seed] = (0,)
    """Seeds of every cell; each gives its own initial weights and order of the data."""
    replicates: Replicates | None = None
    """Cells that get more seeds, so that seed noise is measured; off: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward and backward pass; weights and optimizer state stay float32."""
    init: Init = Init()
    """Standard deviations of the initial weights."""
    keep: Literal["weights", "none"] = "weights"
    """What stays of a finished run beside its result: its final `weights`, or `none`."""

    @model_validator(mode="after")
    def _whole_sequences(self) -> Training:
        for batch in () if isinstance(self.batch_tokens, Recipe) else self.batch_tokens:
            if batch % self.sequence_length:
                nearest = max(1, round(batch / self.sequence_length)) * self.sequence_length
                refuse("not a whole number of sequences", at="batch_tokens", allowed=f"for example {nearest}")
        if len(set(self.seeds)) < len(self.seeds):
            refuse("a seed is written twice", at="seeds")
        return self


class Tune(Block):
    """How lists over hyperparameters are tuned: in every cell, or in a few cells of the smallest budget, then used
    everywhere.
    """

    cells: either(word_of("all"), Count) = "all"  # type: ignore[valid-type]
    """`all` tries every setting in every cell; a number tunes in that many cells of the smallest budget and uses the
    winner everywhere.
    """
    recheck: bool = True
    """With a number of cells: try the winner and its neighbours in each list again at the largest budget."""
    confirm: Annotated[Whole, Field(ge=0, le=100)] = 0
    """Fresh seeds for the winner of every tuned cell."""


class Where(Block):
    """Which finished runs a fit uses."""

    min_steps: Count | None = None
    """Fewest optimizer steps; off: no bound."""
    max_epochs: Positive | None = None
    """Most passes over the training tokens; off: no bound."""
    min_budget: Positive | None = None
    """Least nominal budget, FLOPs; off: no bound."""
    max_budget: Positive | None = None
    """Largest nominal budget, FLOPs; off: no bound."""
    min_params: Positive | None = None
    """Least N, in the column of the analysis; off: no bound."""
    max_params: Positive | None = None
    """Largest N, in the column of the analysis; off: no bound."""


class Exclude(Block):
    """One run that a fit leaves out, and why."""

    run: str
    """Id of the run."""
    reason: str
    """Why it is left out; the report repeats it."""


class Claim(Block):
    """An order of lines that somebody reports, lowest loss first; the report says which of its steps hold here."""

    order: Annotated[ListOf[str], Field(min_length=2)]
    """Line names, lowest loss first."""
    source: str
    """Who reports this order."""
    losses: ListOf[Positive] | None = None
    """The reported losses in the same order, so that the differences of pairs are held against those here; off: the
    order alone.
    """

    @model_validator(mode="after")
    def _a_loss_for_every_line(self) -> Claim:
        if self.losses is not None and len(self.losses) != len(self.order):
            refuse("every line of a claim needs its loss", at="losses", allowed=f"{len(self.order)} numbers, or none")
        return self

    def difference(self, first: str, second: str) -> float | None:
        """The reported loss of `first` minus that of `second`; None where no losses are reported."""
        if self.losses is None:
            return None
        by_line = dict(zip(self.order, self.losses, strict=True))
        return by_line[first] - by_line[second]


def _law(value: Any) -> Any:
    if not isinstance(value, str) or value not in FORMS:
        refuse(f"unknown law '{value}'", allowed=", ".join(FORMS), hint=did_you_mean(value, list(FORMS)))
    return value


LawName = Annotated[str, BeforeValidator(_law)]


def known_device(name: str, at: str) -> None:
    """Refuse a device that the hardware table has not."""
    if name not in DEVICES:
        hint = did_you_mean(name, list(DEVICES))
        refuse(f"unknown device '{name}'", at=at, allowed=", ".join(DEVICES), hint=hint)


class Serving(Block):
    """What will be served, and where: the report then says which line, form and size does it for the least cost."""

    served: Positive
    """Tokens served over the life of the model, prompts included."""
    device: str = "h100"
    """A row of the hardware table."""
    batch: Count = 1
    """Sequences served at once."""
    context: Count | None = None
    """Tokens of each sequence in the cache; off: the sequence length of training."""
    prompt: Count | None = None
    """Tokens of each sequence that are given, below `context`; the rest is decoded. Off: all are priced as decoded."""
    precision: Literal["bfloat16", "float16", "float32", "int8"] | None = None
    """Of the weights; off: bfloat16 where the device has a rate for it. `int8` computes in bfloat16."""
    usd_per_hour: Positive | None = None
    """Price of one device; off: costs are device seconds."""
    loss: Positive | None = None
    """Loss to serve at, nats per token; off: what the reference reaches with `compute`."""
    compute: Positive | None = None
    """Training FLOPs whose loss of the reference is served; off: the largest compute of the data."""

    @model_validator(mode="after")
    def _one_target(self) -> Serving:
        if self.loss is not None and self.compute is not None:
            refuse("say the loss to serve at once", allowed="either `loss` or `compute`")
        known_device(self.device, "device")
        return self


class Analysis(Block):
    """How the report is made, so that it can be made again."""

    law: LawName = "chinchilla"
    """The form fitted to every line; `rank`, `rank_power` and `joint` are fitted to all lines at once, beside
    `chinchilla` for each.
    """
    objective: Literal["log_huber", "log_mse", "mse", "huber"] = "log_huber"
    """What a fit minimises: a sum over points of Huber or squared residuals, of log loss (`log_`) or of loss."""
    delta: either(word_of("auto"), Positive) = "auto"  # type: ignore[valid-type]
    """Width of the Huber objectives, in units of their residual; `auto` takes it from the residuals, 1e-3 is what most
    published fits use.
    """
    params: Literal["params_matmul", "params_total", "params_non_embedding"] | None = None
    """The count that is N; off: `params_matmul` with `flops: exact`, `params_total` with `6ND`."""
    bootstrap: Annotated[Whole, Field(ge=0, le=100_000)] = 1000
    """Draws behind every interval; 0 gives no intervals."""
    predict: ListOf[Positive] | None = None
    """Training FLOPs at which N, D and loss are predicted; off: none."""
    devices: ListOf[str] = ("h200", "cpu")
    """Rows of the hardware table on which serving is priced."""
    serving: Serving | None = None
    """What will be served, and where, for a decision in the report; off: none."""
    where: Where = Where()
    """Bounds on the finished runs that are fitted."""
    exclude: tuple[Exclude, ...] = ()
    """Single runs that are not fitted, each with a reason."""
    claims: tuple[Claim, ...] = ()
    """Orders of lines reported elsewhere, to hold against the losses at each line's best rate."""

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return value | {key: tuple(value[key]) for key in ("exclude", "claims") if isinstance(value.get(key), list)}

    @model_validator(mode="after")
    def _known_devices(self) -> Analysis:
        for name in self.devices:
            known_device(name, "devices")
        return self


class Sweep(Block):
    """One sweep file."""

    sweep: Name
    """Name of the sweep: results go to `results/<name>`."""
    question: str
    """The question that the sweep answers, one sentence; the report opens with it."""
    data: Data = Data()
    """What is read."""
    grid: Annotated[IsoFlopGrid | TokensPerParamGrid | PointsGrid, Field(discriminator="kind")]
    """Which models train for how many tokens."""
    families: Annotated[dict[Name, Family], Field(min_length=1)]
    """What is compared, by name; a family with several rank ratios gives one line per ratio."""
    training: Training
    """The recipe that all families share."""
    tune: Tune | None = None
    """How lists over hyperparameters are tuned over; off: every setting in every cell."""
    analysis: Analysis = Analysis()
    """How the report is made."""
    _document: YamlDocument = PrivateAttr()

    @property
    def name(self) -> str:
        """The word after `sweep:`."""
        return self.sweep

    @property
    def path(self) -> Path:
        """The file."""
        return self._document.path

    @property
    def params_column(self) -> str:
        """The count of N that the sweep is analysed in."""
        default = "params_matmul" if self.grid.flops == "exact" else "params_total"
        return self.analysis.params or default

    @property
    def written(self) -> dict[str, Any]:
        """What the file says, as plain values."""
        return dict(self._document.value)

    def where(self, *place: str | int) -> str:
        """``file:line: key`` for an error about a key."""
        return self._document.where(place)

    def line_names(self) -> list[str]:
        """``dense``, ``low_rank@0.25``, ... in the order of the file."""
        return [
            line_name(name, ratio) for name, family in self.families.items() for ratio in family.rank_ratio or (None,)
        ]

    @model_validator(mode="after")
    def _names_are_known(self) -> Sweep:
        all_names = [*self.families, *self.line_names()]
        for where, names in self._named_lines().items():
            for name in names:
                if name not in all_names:
                    hint = did_you_mean(name, all_names)
                    refuse(
                        f"{where} names no family or line '{name}'", at="grid", allowed=", ".join(all_names), hint=hint
                    )
        if self.tune is not None and not any(self.tuned(name) for name in self.families):
            refuse("nothing to tune: no hyperparameter has a list of values", at="tune")
        return self

    def _named_lines(self) -> dict[str, list[str]]:
        names = {f"grid.further[{n}].lines": list(p.lines or ()) for n, p in enumerate(self.grid.further or ())}
        if isinstance(self.grid, IsoFlopGrid):
            centres = [name for name in self.grid.centre or () if name != "*"]
            return names | {"grid.lines": list(self.grid.lines), "grid.centre": centres}
        if isinstance(self.grid, PointsGrid):
            return names | {f"grid.points[{n}].lines": list(p.lines or ()) for n, p in enumerate(self.grid.points)}
        return names

    @model_validator(mode="after")
    def _rates_are_of_own_lines(self) -> Sweep:
        for family, given in self.families.items():
            own = [line_name(family, ratio) for ratio in given.rank_ratio or (None,)]
            for name in given.lines:
                if name not in own:
                    hint = did_you_mean(name, own)
                    refuse(f"{family} has no line '{name}'", at="families", allowed=", ".join(own), hint=hint)
        return self

    @model_validator(mode="after")
    def _claims_name_lines(self) -> Sweep:
        names = self.line_names()
        for n, claim in enumerate(self.analysis.claims):
            for name in claim.order:
                if name not in names:
                    hint = did_you_mean(name, names)
                    at = f"analysis.claims[{n}].order"
                    refuse(f"{at} names no line '{name}'", at="analysis", allowed=", ".join(names), hint=hint)
        return self

    def tuned(self, family: str) -> dict[str, tuple[float, ...]]:
        """The hyperparameters of a family that have a list of values."""
        values = {key: getattr(self.families[family], key) for key in TUNABLE if key != "batch_tokens"}
        values["batch_tokens"] = self.training.batch_tokens
        return {key: v for key, v in values.items() if isinstance(v, tuple) and len(v) > 1}


def line_name(family: str, rank_ratio: float | None) -> str:
    """``low_rank@0.25``; the family's own name where there is no ratio."""
    return family if rank_ratio is None else f"{family}@{rank_ratio:g}"


def sweep_root(path: Path) -> Path:
    """The parent of the `sweeps/` folder that holds the file, else the file's own folder."""
    folder = path.absolute().parent
    return folder.parent if folder.name == "sweeps" else folder


def read_sweep(document: YamlDocument) -> Sweep:
    """The sweep in a document. Raises SpecError with file, line and key."""
    sweep = check(document, Sweep)
    sweep._document = document
    if sweep.training.sequence_length > sweep.data.validation_tokens:
        raise SpecError(
            "a sequence is longer than the validation set",
            where=sweep.where("training", "sequence_length"),
            got=sweep.training.sequence_length,
            allowed=f"at most data.validation_tokens, {sweep.data.validation_tokens}",
        )
    return sweep


def load_sweep(path: Path) -> Sweep:
    """The sweep in a file. Its data need not be there: `require_paths`.

    Raises:
        SpecError: with file, line and key, for the first mistake in the file.
    """
    return read_sweep(read_yaml(path))


def require_paths(sweep: Sweep, root: Path) -> None:
    """Raises SpecError, with file, line and key, where data that a sweep names are not below `root`."""
    for key, named in sweep.data.paths.items():
        if not (root / Path(named).expanduser()).exists():
            raise SpecError("no such file or folder", where=sweep.where(*key), got=named)
