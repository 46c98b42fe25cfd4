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


def state_bytes(run: Run) -> float:
    """Bytes of a checkpoint: weights and optimizer state in float32."""
    return 4.0 * count(run.shape, run.ranks).params_total + optimizer_bytes(run)


def optimizer_bytes(run: Run) -> float:
    """Bytes that the update rules of a run remember, helpers left out."""
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
