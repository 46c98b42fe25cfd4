"""Which tokens a step sees: a permutation that is computed, not stored.

The training tokens are cut into n sequences of T + 1 tokens that overlap by one. Sequence k of a run is number
perm_e(k mod n) in epoch e = k // n, where perm_e is a bijection of [0, n) computed from (seed, e) alone: a Feistel
network on a grid of a × a ≥ n squares, with additions modulo a in place of exclusive-or, applied again while the
result is not below n (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"). So any process can ask for
any batch: nothing is stored, resumed or communicated, each sequence is seen once per epoch, and equal seeds see equal
data whatever the model and the number of ranks. Integers only: every machine agrees.

Validation windows are the same tokens for every run. The held-out tokens are cut into slots of T tokens that follow
each other; as many as the sweep's validation tokens ask for are taken at even distances, so that a small set still
sees many documents. The document of every target is kept: losses are summed per document, because tokens of one text
are not independent.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.data.shards import TokenData, ValidationSet
from scaling.errors import DataError

Tokens = NDArray[np.unsignedinteger]

ROUNDS = 8  # each mixes one half
STEPS_AT_ONCE = 32  # sequence numbers are computed for so many steps together: the calls cost more than the arithmetic
# splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"): increment and multipliers
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Batches:
    """The global batches of one run.

    Args:
        train: training tokens, one-dimensional.
        sequence_length: T, tokens predicted per sequence.
        batch_sequences: b, sequences of a global batch.
        seed: the run's seed.

    Raises:
        DataError: fewer than T + 1 training tokens.
    """

    def __init__(self, train: Tokens, *, sequence_length: int, batch_sequences: int, seed: int) -> None:
        if len(train) <= sequence_length:
            raise DataError(
                "the sequence is longer than the training text",
                where="training.sequence_length",
                got=f"{sequence_length} tokens in a sequence, {len(train)} in the corpus",
                allowed=f"at most {max(len(train) - 1, 0)}",
            )
        assert sequence_length > 0
        assert batch_sequences > 0
        self.train, self.sequence_length = train, sequence_length
        self.batch_sequences, self.seed = batch_sequences, seed
        self._some = functools.lru_cache(maxsize=1)(self._numbers_of_steps)

    @property
    def sequences(self) -> int:
        """n, sequences in one epoch."""
        return (len(self.train) - 1) // self.sequence_length

    def epochs(self, steps: int) -> float:
        """Passes over the training tokens after `steps` steps."""
        return steps * self.batch_sequences / self.sequences

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets of one rank's contiguous part of the batch of `step`, both [b / world, T].

        Raises:
            DataError: `world` does not divide the batch.
        """
        if self.batch_sequences % world:
            raise DataError(
                "the batch cannot be shared equally", where="training.batch_tokens",
                got=f"{self.batch_sequences} sequences for {world} ranks", allowed=f"a multiple of {world} sequences",
            )  # fmt: skip
        share = self.batch_sequences // world
        numbers = self._some(step // STEPS_AT_ONCE)[step % STEPS_AT_ONCE]
        rows = cut(self.train, numbers[rank * share : (rank + 1) * share], self.sequence_length)
        return rows[:, :-1], rows[:, 1:]

    def numbers(self, k: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Which of the n sequences the run's k-th are, in [0, n)."""
        n = np.uint64(self.sequences)
        seed = np.full_like(k, (self.seed + _GOLDEN) % 2**64)
        return permuted(k % n, n=self.sequences, key=_mixed(_mixed(seed) ^ (k // n)))

    def _numbers_of_steps(self, block: int) -> NDArray[np.int64]:
        first = block * STEPS_AT_ONCE * self.batch_sequences
        k = np.arange(first, first + STEPS_AT_ONCE * self.batch_sequences, dtype=np.uint64)
        return self.numbers(k).reshape(STEPS_AT_ONCE, self.batch_sequences)


def permuted(k: NDArray[np.uint64], *, n: int, key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The bijection of [0, n) that `key` selects, at `k`; an array of keys as long as `k`."""
    side = math.isqrt(n - 1) + 1
    out = _feistel(k, side, key)
    while len(outside := np.flatnonzero(out >= n)):
        out[outside] = _feistel(out[outside], side, key[outside])
    return out.astype(np.int64)


def _feistel(k: NDArray[np.uint64], side: int, key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    a = np.uint64(side)
    left, right = k // a, k % a
    for number in range(1, ROUNDS + 1):
        mixed = _mixed(key + np.uint64(number * _GOLDEN % 2**64) + right)
        left, right = right, (left + mixed % a) % a
    return np.asarray(left * a + right)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of splitmix64: every bit of the result depends on every bit of `x`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return np.asarray(x ^ (x >> np.uint64(31)))


def cut(tokens: Tokens, numbers: NDArray[np.int64], sequence_length: int) -> NDArray[np.int64]:
    """Sequences by number, each with the token after it: [sequences, T + 1]."""
    return np.asarray(tokens[numbers[:, None] * sequence_length + np.arange(sequence_length + 1)], np.int64)


@dataclass(frozen=True)
class Windows:
    """What is predicted. A document's bytes are spread over its tokens, so that a summed loss gives a loss per byte."""

    inputs: NDArray[np.int64]  # [W, T]
    targets: NDArray[np.int64]  # [W, T]
    documents: NDArray[np.int64]  # [W, T] the document that each target belongs to
    document_bytes: NDArray[np.float64]  # [documents of the set] bytes of the targets, 0 where no window touches it

    @property
    def bytes(self) -> float:
        """UTF-8 bytes of all targets, separators counted as one."""
        return float(self.document_bytes.sum())


def validation_windows(data: ValidationSet, sequence_length: int) -> Windows:
    """The fixed windows of a set: ``window_tokens // sequence_length`` of them, or all where the set is smaller.

    Raises:
        DataError: not even one window fits.
    """
    slots = (len(data.tokens) - 1) // sequence_length
    wanted = min(slots, data.window_tokens // sequence_length)
    if wanted < 1:
        raise DataError(
            "the sequence is longer than the validation set",
            where=f"data.validation: {data.name}",
            got=f"{sequence_length} tokens in a sequence",
            allowed=f"at most {min(len(data.tokens) - 1, data.window_tokens)}",
        )
    numbers = np.arange(wanted, dtype=np.int64) * slots // wanted
    rows = cut(data.tokens, numbers, sequence_length)
    targets_at = numbers[:, None] * sequence_length + np.arange(1, sequence_length + 1)
    documents = np.searchsorted(data.document_starts, targets_at, side="right") - 1
    lengths = np.diff(data.document_starts, append=len(data.tokens))
    seen = np.bincount(documents.ravel(), minlength=len(lengths))
    return Windows(rows[:, :-1], rows[:, 1:], documents, seen * data.document_bytes / lengths)


def check_data(data: TokenData, *, sequence_length: int, vocab_size: int) -> None:
    """Refuse, before anything is trained, data that models of this sequence length and vocabulary cannot read.

    Raises:
        DataError: too few training tokens, a validation set without one window, or token ids beyond the vocabulary.
    """
    Batches(data.train, sequence_length=sequence_length, batch_sequences=1, seed=0)
    for windows in data.validation.values():
        validation_windows(windows, sequence_length)
    if data.vocab_size > vocab_size:
        raise DataError(
            "the data has token ids beyond the vocabulary",
            where="data.vocab_size",
            got=vocab_size,
            allowed=f"at least {data.vocab_size}",
        )
