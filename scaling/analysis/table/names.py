"""What the field calls each column, case-blind, and the unit that stands in a name.

A name is cut into words at everything that is no letter or digit, at the borders of camelCase, and a unit in brackets
or at its end is taken off: ``Model Size (B)`` is the words model, size and the unit B. A column has a role if its words
are the role's and nothing else is left over: ``total_tokens`` is D, ``tokens_per_second`` is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Role = Literal[
    "params", "params_total", "params_non_embedding", "params_matmul", "params_active", "tokens", "flops", "budget",
    "loss", "seed", "run", "state", "step", "batch_tokens", "tokens_per_param", "chinchilla_multiple", "unique_tokens",
    "sequence_length", "setting", "line",
]  # fmt: skip
COUNTS: tuple[Role, ...] = ("params_total", "params_non_embedding", "params_matmul", "params_active")

_SIZES: tuple[Role, ...] = ("params", "tokens", "flops", "budget", *COUNTS)

MULTIPLES = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3,
    "m": 1e6, "mn": 1e6, "mio": 1e6, "million": 1e6, "millions": 1e6,
    "b": 1e9, "bn": 1e9, "mrd": 1e9, "md": 1e9, "g": 1e9, "billion": 1e9, "billions": 1e9,
    "t": 1e12, "tn": 1e12, "trillion": 1e12, "trillions": 1e12,
}  # fmt: skip
_PREFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}
_LONG = {"kilo": 1e3, "mega": 1e6, "giga": 1e9, "tera": 1e12, "peta": 1e15, "exa": 1e18, "zetta": 1e21, "yotta": 1e24}
FLOP_UNITS = {f"{prefix}flop{s}": size for prefix, size in (_PREFIXES | _LONG).items() for s in ("", "s")}
_TOKEN_UNITS = {f"{prefix}tok{s}": MULTIPLES[prefix] for prefix in "kmbgt" for s in ("", "s", "ens")}
_NOUNS = {"tokens", "params", "parameters", "flops", "flop"}
PF_DAY = 8.64e19  # 1e15 FLOP/s for 86,400 s
_POWER = re.compile(r"[x×*·]?\s*(?:1e|10\s*\^\s*\{?|10\s*\*\*\s*)\+?(\d{1,2})\}?")
LOSS_UNITS = {
    "nats": "nats", "nat": "nats", "nats/token": "nats", "nats per token": "nats",
    "bits": "bits", "bit": "bits", "bits/token": "bits", "bits per token": "bits",
    "ppl": "ppl", "perplexity": "ppl",
    "bpb": "bpb", "bits/byte": "bpb", "bits per byte": "bpb",
    "bpc": "bpc", "bits/char": "bpc", "bits per character": "bpc",
}  # fmt: skip

_FILLERS = {
    "num",
    "number",
    "of",
    "count",
    "n",
    "model",
    "config",
    "cfg",
    "summary",
    "the",
    "in",
    "final",
    "trainable",
    "precise",
    "exact",
    "approx",
    "approximate",
}
_PARAMS = {"params", "param", "parameters", "parameter", "parametern", "nparams", "numparams", "modelsize"}
_PARAMS |= {"parameteranzahl", "modellgröße", "paramètres", "参数", "参数量"}
_TOKENS = {"tokens", "token", "toks", "ntokens", "numtokens", "trainingstokens", "jetons", "训练tokens"}
_OF_TOKENS = {
    "total",
    "train",
    "trained",
    "training",
    "seen",
    "processed",
    "consumed",
    "used",
    "pretrain",
    "pretraining",
}
_OF_TOKENS |= {"d", "input", "size", "data", "dataset", "budget", "cumulative"}
_FLOPS = {"flops", "flop", "flos", "compute", "c"}
_OF_FLOPS = {
    "6n",
    "6nd",
    "total",
    "train",
    "training",
    "estimated",
    "actual",
    "used",
    "spent",
    "pretrain",
    "pretraining",
}
_LOSS = {"loss", "losses", "nll", "xent", "crossentropy", "perplexity", "ppl", "bpb", "bpc", "ce"}
_LOSS |= {"verlust", "validierungsverlust", "testverlust", "perte", "损失", "验证损失"}
_NO_LOSS = {
    "se", "std", "sd", "stderr", "stdev", "var", "variance", "err", "error", "spike", "spikes", "aux", "auxiliary", "z",
    "balance", "balancing", "router", "scale", "scaler", "last", "diff", "difference", "delta", "weight", "fn", "type",
    "function", "predicted", "pred", "fitted", "fit", "residual", "second", "step", "steps", "ci", "low", "high",
    "lower", "upper", "grad", "ratio", "rank", "name", "seed", "count", "tokens", "flops", "max",
}  # fmt: skip
_NO_GROUP = {"eval", "evaluation", "val", "valid", "validation", "test", "throughput", "device", "speed", "perf", "per"}
MODEL_NAMES = {"model", "model_name", "model_id", "name"}  # of a model, which may have several runs
_NAMES: dict[Role, set[str]] = {
    "seed": {"seed", "random_seed", "rng_seed"},
    "run": {"run", "run_id", "run_name", "runid", "runname", "id", "experiment", "exp", "exp_name", *MODEL_NAMES},
    "state": {"state", "status", "run_state"},
    "step": {"step", "steps", "global_step", "iteration", "iterations", "iter", "iters", "train_step", "train_steps"},
    "batch_tokens": {"batch_tokens", "tokens_per_step", "tokens_per_batch", "batch_size_tokens", "global_batch_tokens"},
    "tokens_per_param": {"tokens_per_param", "tokens_per_parameter", "tpp", "tokens_param", "tokens_params", "d_n"},
    "chinchilla_multiple": {"mult", "multiple", "xc", "chinchilla_multiple", "chinchilla_mult", "chinchilla_ratio"},
    "sequence_length": {"sequence_length", "seq_len", "seq_length", "seqlen", "context_length", "block_size"},
    "unique_tokens": {"unique_tokens", "distinct_tokens", "unique_data", "unique_data_tokens", "dataset_tokens"},
    "setting": {
        "lr", "learning_rate", "max_lr", "peak_lr", "lr_max", "peak_learning_rate", "other_lr", "bs", "batch",
        "gbsz", "gbs", "bsz", "batch_size", "global_batch_size", "weight_decay", "wd", "momentum", "beta1",
        "beta2", "beta_1",
        "beta_2", "adam_beta1", "adam_beta2",
        "warmup", "warmup_steps", "warmup_ratio", "warmup_tokens", "dropout",
        "eps", "grad_clip", "clip", "init_std", "schedule", "scheduler", "lr_schedule", "cooldown", "decay_fraction",
    },
    "line": {
        "line", "family", "method", "optimizer", "optim", "corpus", "dataset", "data", "train_data", "training_data",
        "tokenizer", "arch",
        "architecture", "model_family", "model_type", "recipe", "mixture", "data_mix", "data_recipe",
    },
}  # fmt: skip


@dataclass(frozen=True)
class HeaderName:
    """A name taken apart: its words, the factor its unit stands for, the unit of a loss, the unit as it is written."""

    words: tuple[str, ...]
    factor: float | None
    loss_unit: str | None
    unit: str

    @property
    def key(self) -> str:
        """The words in one: ``val_loss``."""
        return "_".join(self.words)


@lru_cache(maxsize=4096)
def taken_apart(name: str) -> HeaderName:
    """A column's name as words and unit."""
    text = name.strip()
    factor: float | None = None
    loss_unit: str | None = None
    unit_text = ""
    for inside in re.findall(r"[(\[]\s*([^()\[\]]*?)\s*[)\]]", text):
        if inside.lower() in _NOUNS:  # what is counted, not a unit
            continue
        scale = unit_factor(inside)
        if scale is not None or inside.lower() in LOSS_UNITS:
            factor, loss_unit, unit_text = scale or factor, LOSS_UNITS.get(inside.lower(), loss_unit), inside
            text = text.replace(inside, " ")
    if unit_factor(text) == PF_DAY:
        return HeaderName(("flops",), PF_DAY, None, text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", text)
    words = [word for word in re.split(r"[\W_]+", text.lower()) if word]
    if words and words[-1] in _TOKEN_UNITS:
        factor, unit_text, words[-1] = _TOKEN_UNITS[words[-1]], words[-1], "tokens"
    elif words and words[-1] in FLOP_UNITS:
        factor, unit_text = FLOP_UNITS[words[-1]], words[-1]
        words[-1:] = [] if {"flops", "flop", "compute"} & set(words[:-1]) else ["flops"]
    elif len(words) > 1 and factor is None and words[-1] in MULTIPLES:
        factor, unit_text = MULTIPLES[words[-1]], words[-1]
        del words[-1]
    elif len(words) > 1 and words[-1] in LOSS_UNITS and {"loss", "nll"} & set(words):
        loss_unit, unit_text = LOSS_UNITS[words[-1]], words[-1]
    return HeaderName(tuple(words), factor, loss_unit, unit_text)


def unit_factor(text: str) -> float | None:
    """What a unit multiplies by: B, millions, 1E21, GFLOPs, PF-days; None if it is none."""
    unit = text.strip().lower().rstrip(".")
    if unit in MULTIPLES or unit in FLOP_UNITS:
        return MULTIPLES.get(unit) or FLOP_UNITS[unit]
    if re.fullmatch(r"(pf|pflops?|pflop/s|petaflops?|petaflop/s|pfs)[\s-]*days?", unit):
        return PF_DAY
    if unit in ("tokens", "params", "parameters", "flops", "flop"):
        return 1.0
    power = _POWER.fullmatch(re.sub(r"\s*(flops?|tokens?|params?|parameters?)$", "", unit))
    if power:
        return float(f"1e{power[1]}")
    first, _, rest = unit.partition(" ")
    return MULTIPLES.get(first) if rest in ("tokens", "params", "parameters") else None


@lru_cache(maxsize=4096)
def role_of(name: str) -> Role | None:
    """What a column with this name is; None if nothing that the reader knows."""
    name_of = taken_apart(name)
    words = list(name_of.words)
    while len(words) > 1 and words[0] in ("config", "summary", "cfg", "args", "hparams"):
        del words[0]
    key, distinct = "_".join(words), set(words)
    for role, keys in _NAMES.items():
        if key in keys:
            return role
    of_words = _count(words) or _loss(distinct, key) or _amount(distinct, key)
    return of_words or _in_a_group(name) or _of_a_logarithm(name)


def _of_a_logarithm(name: str) -> Role | None:
    """The role of a size whose logarithm a column holds: ``log10_params``."""
    role = None if log_base(name) is None else role_of("_".join(taken_apart(name).words[1:]))
    return role if role in _SIZES else None


def log_base(name: str) -> str | None:
    """Of which base a column is the logarithm: log10, log2, ln, or log where its name does not say; None if of none."""
    words = taken_apart(name).words
    return words[0] if len(words) > 1 and words[0] in ("log10", "log2", "ln", "log") else None


def _in_a_group(name: str) -> Role | None:
    """The role of the last part of a path, `optim/total_tokens`, where it is a size: a loss keeps its whole name."""
    group, sign, last = name.rpartition("/" if "/" in name else ".")
    if not (sign and group and last.strip()) or set(taken_apart(group).words) & _NO_GROUP:
        return None
    role = role_of(last)
    return role if role in _SIZES else None


def _count(words: list[str]) -> Role | None:
    distinct, key = set(words), "_".join(words)
    if not (distinct & _PARAMS or "n" in distinct or key in ("size", "model_size")) or distinct & _TOKENS:
        return None
    if re.search(
        r"(non|no|without|ex|excluding|exclude|excl)_?(token_)?(emb|embed|embedding|embeddings|vocab)(_|$)", key
    ):
        return "params_non_embedding"
    rest = distinct - _PARAMS - _FILLERS - {"size", "opt", "optimal", "train", "training"}
    if not rest:
        return "params"
    special: dict[str, Role] = {
        "total": "params_total", "all": "params_total", "matmul": "params_matmul", "active": "params_active",
        "activated": "params_active", "nonembedding": "params_non_embedding", "nonemb": "params_non_embedding",
        "nonembed": "params_non_embedding",
    }  # fmt: skip
    return special.get(rest.pop()) if len(rest) == 1 else None


def _amount(words: set[str], key: str) -> Role | None:
    rest = words - _FILLERS
    if key in ("d", "d_opt", "data_size", "dataset_size") or (
        rest & _TOKENS and rest <= _TOKENS | _OF_TOKENS | {"opt", "optimal"}
    ):
        return "tokens"
    if rest & {"budget", "isoflop", "isoflops"} and rest <= _FLOPS | _OF_FLOPS | {"budget", "isoflop", "isoflops"}:
        return "budget"
    return "flops" if rest & _FLOPS and rest <= _FLOPS | _OF_FLOPS else None


def _loss(words: set[str], key: str) -> Role | None:
    is_loss = words & _LOSS or {"cross", "entropy"} <= words or "bits_per_" in key or key == "l"
    return "loss" if is_loss and not words & _NO_LOSS else None


def loss_unit(name: str) -> str:
    """The unit that a loss column's name says: nats unless it says another."""
    apart = taken_apart(name)
    words = set(apart.words)
    if apart.loss_unit:
        return apart.loss_unit
    if words & {"ppl", "perplexity"}:
        return "nats" if words & {"log", "ln"} else "ppl"
    if "bpb" in words or "bits_per_byte" in apart.key:
        return "bpb"
    if "bpc" in words or "bits_per_char" in apart.key:
        return "bpc"
    return "bits" if "bits" in words else "nats"


def is_training_loss(name: str) -> bool:
    """Whether a loss column says that it is of the training data."""
    return bool({"train", "training"} & set(taken_apart(name).words))


def is_model_name(name: str) -> bool:
    """Whether a column says which model a row is of: a run only where steps are there too."""
    return taken_apart(name).key in MODEL_NAMES
