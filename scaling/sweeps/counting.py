"""Parameters, FLOPs and bytes of one model, counted by structure from its shape.

Groups: embedding (V·d), output head (V·d, none where tied), attention, feed-forward, norms ((2·layers + 1)·d). A
factorized matrix (out × in, rank r) has r·(in + out) parameters. Three counts of N, always named: `params_total`;
`params_non_embedding` (no table, no head); `params_matmul` (what a token is multiplied by: the head included even
when tied, no table look-up, no norms).

FLOPs, two conventions. `6ND`: C = 6 · params_total · D. `exact`: forward per token = 2 · params_matmul + attention
scores and values, layers · 2·2 · (heads · head_dim) · T/2 for causal attention; training is three forwards.
Norms, softmax, RoPE and recomputation are not counted. Optimizer arithmetic is counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from scaling.optimizers import OTHERS, find_optimizer
from scaling.parameterizations import Ranks, structures
from scaling.run import Optimizer, Run, Shape

RankOf = Literal["in_features", "min"]
_ATTENTION = ("q", "k", "v", "o")


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters of one model by group."""

    embedding: int
    head: int  # 0 where tied
    attention: int
    feed_forward: int
    norms: int
    head_products: int  # the head's matrix as the forward multiplies by it, tied or not

    @property
    def params_total(self) -> int:
        """Every trained number."""
        return self.embedding + self.head + self.attention + self.feed_forward + self.norms

    @property
    def hidden(self) -> int:
        """The matrices of attention and feed-forward: what the optimizer of a family moves."""
        return self.attention + self.feed_forward

    @property
    def params_non_embedding(self) -> int:
        """Without the embedding table and the output head."""
        return self.attention + self.feed_forward + self.norms

    @property
    def params_matmul(self) -> int:
        """The matrices a token is multiplied by."""
        return self.attention + self.feed_forward + self.head_products

    def column(self, name: str) -> int:
        """`params_total`, `params_non_embedding` or `params_matmul` by its name."""
        assert name in ("params_total", "params_non_embedding", "params_matmul"), name
        return int(getattr(self, name))


def matrix_ranks(shape: Shape, ratio: float, rank_of: RankOf = "in_features") -> dict[str, int]:
    """Rank of every matrix of `shape`: min(max(1, round(ratio·in)), min(in, out)), or round(ratio·min(in, out)) with
    `rank_of` min.
    """
    ranks = {}
    for name, (rows, columns) in shape.matrices().items():
        base = columns if rank_of == "in_features" else min(rows, columns)
        ranks[name] = min(max(1, round(ratio * base)), min(rows, columns))
    return ranks


def count(shape: Shape, ranks: Ranks = None) -> Counts:
    """Parameters of the model by its structures; dense where `ranks` is None."""
    return _count(shape, None if ranks is None else tuple(sorted(ranks.items())))


@lru_cache(maxsize=65536)
def _count(shape: Shape, ranks: tuple[tuple[str, int], ...] | None) -> Counts:
    groups, sizes = {"attention": 0, "feed_forward": 0}, shape.matrices()
    for name, structure in structures(shape, None if ranks is None else dict(ranks)).items():
        group = "attention" if name in _ATTENTION else "feed_forward"
        groups[group] += shape.layers * structure.params(*sizes[name])
    table = shape.vocab_size * shape.width
    return Counts(
        embedding=table,
        head=0 if shape.tied else table,
        attention=groups["attention"],
        feed_forward=groups["feed_forward"],
        norms=(2 * shape.layers + 1) * shape.width,
        head_products=table,
    )


def forward_flops_per_token(shape: Shape, ranks: Ranks, sequence_length: int) -> float:
    """FLOPs of one forward pass per token at a sequence length, `exact` convention."""
    scores_and_values = shape.layers * 2 * 2 * (shape.heads * shape.head_dim) * (sequence_length / 2)
    return 2 * count(shape, ranks).params_matmul + scores_and_values


def training_flops(
    shape: Shape, ranks: Ranks, *, sequence_length: int, tokens: float, guided: float | None = None
) -> float:
    """Training FLOPs, `exact`: three forwards per token; the dense helper of self-guided training counts while on.

    Args:
        guided: fraction of the training over which the dense helper is on.
    """
    per_token = 3 * forward_flops_per_token(shape, ranks, sequence_length)
    if guided:
        per_token += guided * 6 * helper_params(shape, ranks)
    return per_token * tokens


def flops_6nd(params_total: int, tokens: float) -> float:
    """6 · N · D with all parameters: the convention of the low-rank paper and of most tables."""
    return 6.0 * params_total * tokens


def optimizer_flops(shape: Shape, ranks: Ranks, optimizer: Optimizer, steps: int) -> float:
    """FLOPs of the update rule over a training; never part of C.

    Raises:
        TrainingError: no optimizer has this name.
    """
    counts = count(shape, ranks)
    per_layer = counts.hidden // shape.layers
    rule, sizes = find_optimizer(optimizer.name), shape.matrices()
    matrices = [m for name, one in structures(shape, ranks).items() for m in one.trained_matrices(*sizes[name])]
    per_step = shape.layers * rule.step_flops(optimizer, params=per_layer, matrices=matrices)
    per_step += OTHERS.step_flops(optimizer, params=counts.params_total - counts.hidden, matrices=())
    return float(per_step * steps)


def training_memory_bytes(run: Run, *, sequences: int = 1, shards: int = 1) -> float:
    """Bytes on one device: its part of weights, gradients and optimizer state, and the activations of `sequences` at
    once.

    Under `fsdp` the model is cut into as many `shards` as there are devices; under `ddp` every device holds all of it.

    Weights, gradients and the optimizer's state are float32; under bfloat16 autocast the matrices have a half-size
    copy. Activations kept for the backward pass, per layer and token, by the modules that save them: two norms (2d
    each), q k v and the attention output (4 widths), gate, up, their product and SiLU (4h), what a structure keeps
    between its products; at the end the logits, their log-softmax and their gradient in float32.
    """
    shape, counts = run.shape, count(run.shape, run.ranks)
    weights = 8 * counts.params_total + (2 * counts.params_matmul if run.precision == "bfloat16" else 0)
    weights += 8 * helper_params(shape, run.ranks) if run.self_guided else 0
    value_bytes = 2 if run.precision == "bfloat16" else 4
    sizes, used = shape.matrices(), structures(shape, run.ranks)
    inside = sum(structure.saved(*sizes[name]) for name, structure in used.items())
    per_layer = 6 * shape.width + 2 * shape.kv_width + 4 * shape.ff_width + inside
    per_token = value_bytes * (shape.layers * per_layer + 2 * shape.width) + 3 * 4 * shape.vocab_size
    return float((weights + _optimizer_bytes(run)) / shards + per_token * sequences * run.sequence_length)


def state_bytes(run: Run) -> float:
    """Bytes of a checkpoint: weights and optimizer state in float32."""
    return 4.0 * count(run.shape, run.ranks).params_total + _optimizer_bytes(run)


def _optimizer_bytes(run: Run) -> float:
    counts = count(run.shape, run.ranks)
    rule = find_optimizer(run.optimizer.name)
    return float(OTHERS.state_bytes(counts.params_total - counts.hidden) + rule.state_bytes(counts.hidden))


def helper_params(shape: Shape, ranks: Ranks) -> int:
    """Numbers of the helpers of self-guided training; none in structures that take no helper."""
    sizes = shape.matrices()
    guided = structures(shape, ranks, guided=True)
    return shape.layers * sum(structure.helper_params(*sizes[name]) for name, structure in guided.items())


def kv_bytes_per_token(shape: Shape, bytes_per_value: float = 2) -> float:
    """Bytes of keys and values one token leaves in the cache, over all layers."""
    return shape.layers * 2 * shape.kv_width * bytes_per_value
