"""Memory of one training step on one device: asked by the plan, and by the worker that splits a batch by it.

| part | holds |
|---|---|
| weights | float32 parameters, and what `fsdp` gathers |
| gradients | one float32 number for every parameter; under `ddp` the buckets that are averaged too |
| optimizer | what the update rules remember |
| activations | what a forward pass of a part of the batch keeps, bfloat16 copies of weights, gradients in a layer |
| logits | logits, their log-softmax and their gradient, in chunks above `CHUNK_BYTES` |
| update | copies beside what is measured: the direction, Newton–Schulz and its answers, moved factors, norms |
| measuring | hidden matrices as they were before an update whose size is measured |

The peak is weights, gradients and optimizer, and the larger of activations + logits and update + measuring. Counted by
structure from the modules that save each tensor, and compared with a trace of the real step (`results/benchmarks/
memory.md`). Norms are counted as the CPU's: x, x / rms and the output; a fused kernel keeps one fewer. Newton–Schulz is
counted in float32; GPUs do it in bfloat16. Compiled models keep less. So on a GPU the peak is an upper estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scaling.optimizers import find_optimizer
from scaling.parameterizations import structures
from scaling.run import Run
from scaling.sweeps.counting import count, helper_params, optimizer_bytes

Strategy = Literal["ddp", "fsdp"]

CHUNK_BYTES = (
    256 * 2**20
)  # float32 logits done at once; tiny models stay below it, so that their losses keep their bits
MEASURED_NUMBERS = 2**20  # of same-sized maps measured at once: 4 MB, so that tiny models need few kernels
USABLE = 0.9  # of a device's memory; the rest is the driver's and the allocator's (assumption)
F32, BF16 = 4, 2


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device, by part."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    update: float
    measuring: float

    @property
    def peak(self) -> float:
        """Most bytes at any time of a step."""
        kept = self.weights + self.gradients + self.optimizer
        return kept + max(self.activations + self.logits, self.update + self.measuring)


def chunk_rows(vocab_size: int) -> int:
    """Tokens whose float32 logits are computed at once."""
    return max(1, CHUNK_BYTES // (F32 * vocab_size))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one run trains: how many devices, how they hold the model, the part of a batch that a rule asks for, and
    how many runs share its device, each with an equal part of the memory.
    """

    ranks: int = 1
    strategy: Strategy = "ddp"
    micro_batch: int | None = None  # sequences; None: as many as fit
    runs_per_gpu: int = 1


ONE_DEVICE = Placement()


@dataclass(frozen=True, slots=True)
class Split:
    """How a batch goes through one device.

    Attributes:
        sequences: at once; None where the ranks cannot share a batch equally.
        memory: with them; with one sequence where `sequences` is None.
        fits: whether a device of the size asked about holds that.
        problem: why a batch cannot be cut as asked, in numbers; None where it can.
    """

    sequences: int | None
    memory: Memory
    fits: bool
    problem: str | None = None


def split(run: Run, *, memory_bytes: float, placement: Placement = ONE_DEVICE) -> Split:
    """The sequences that a device takes at once: the most that divide its share of a batch and fit, or those asked for.

    A function of the run, the placement and the memory that the device's row states, never of what happens to be free,
    so that a resumed run splits its batches alike. Where not even one sequence fits, one is taken, and `fits` is False.
    """

    def memory(part: int) -> Memory:
        return training_memory(run, sequences=part, ranks=placement.ranks, strategy=placement.strategy)

    usable = USABLE * memory_bytes / placement.runs_per_gpu
    sequences, asked = run.batch_tokens // run.sequence_length, placement.micro_batch
    if problem := _uneven(sequences, placement):
        least = memory(1)
        return Split(None, least, least.peak <= usable, problem)
    parts = divisors(sequences // placement.ranks) if asked is None else [asked]
    needs = ((part, memory(part)) for part in parts)
    part, needed = next(((part, one) for part, one in needs if one.peak <= usable), (parts[-1], memory(parts[-1])))
    return Split(part, needed, needed.peak <= usable)


def _uneven(sequences: int, placement: Placement) -> str | None:
    if sequences % placement.ranks:
        return f"{sequences} sequences over {placement.ranks} ranks"
    share = sequences // placement.ranks
    if placement.micro_batch is not None and share % placement.micro_batch:
        return f"{share} sequences of each of {placement.ranks} ranks in parts of {placement.micro_batch}"
    return None


def divisors(number: int) -> list[int]:
    """Every whole number that divides `number`, the largest first."""
    low = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*low, *(number // n for n in low)}, reverse=True)


def training_memory(run: Run, *, sequences: int, ranks: int = 1, strategy: Strategy = "ddp") -> Memory:
    """Bytes on one device of a training step.

    Args:
        run: the training.
        sequences: how many go through the model at once on this device.
        ranks: devices that train the run together.
        strategy: whether each holds all of the model (`ddp`) or a part of it (`fsdp`).
    """
    shards = ranks if strategy == "fsdp" else 1
    counts, helpers = count(run.shape, run.ranks), helper_params(run.shape, run.ranks) if run.self_guided else 0
    params, hidden = counts.params_total + helpers, counts.hidden + helpers
    state = optimizer_bytes(run) + (find_optimizer(run.optimizer.name).state_bytes(helpers) if helpers else 0)
    saved, working = _activations(run, sequences * run.sequence_length)
    logits = _logits(run, sequences * run.sequence_length)
    measuring = 0.0 if shards > 1 else F32 * counts.hidden
    squares = F32 * max(hidden, params - hidden)  # of the norm of the gradients, which is taken before what is measured
    beside = squares if run.optimizer.gradient_clip else max(0.0, squares - measuring)  # or again, where it clips
    measured = F32 * min(4 * MEASURED_NUMBERS, 2 * counts.hidden)  # maps and those before, of two batches
    return Memory(
        weights=_weights(run, params, hidden, shards),
        gradients=F32 * params / shards * (2 if ranks > 1 else 1),
        optimizer=state / shards,
        activations=_copies(run, params, hidden, shards) + saved + max(0.0, working - logits),
        logits=logits,
        update=max(_update(run, hidden, shards), beside, 0.0 if shards > 1 else measured) / shards,
        measuring=measuring,
    )


def _weights(run: Run, params: int, hidden: int, shards: int) -> float:
    """Under `fsdp` a rank has its rows and the optimizer's copy of them, embedding, head and norms whole, and two
    blocks gathered with one of their gradients.
    """
    if shards == 1:
        return float(F32 * params)
    return F32 * (2 * params / shards + 2 * (params - hidden) + 3 * hidden / run.shape.layers)


def _copies(run: Run, params: int, hidden: int, shards: int) -> float:
    """The bfloat16 copies of weights, from a forward pass to the end of its backward pass."""
    if run.precision != "bfloat16":
        return 0.0
    if shards > 1:
        return BF16 * (hidden / run.shape.layers + params - hidden)
    return float(BF16 * (hidden + run.shape.vocab_size * run.shape.width))


def _activations(run: Run, tokens: int) -> tuple[float, float]:
    """What the forward pass keeps, and what the backward pass of one layer adds to it.

    Kept per layer and token. float32: twice x, x / rms and the normed x (6d); queries, keys, values and the attention
    output (2d + 2kv); gate, its SiLU, up and their product (4h); what structures keep inside; a number per head.
    bfloat16: the norms stay in float32 (4d), and q, k, v, gate and up each cast their input (5d).
    """
    shape, sizes = run.shape, run.shape.matrices()
    inside = sum(one.saved(*sizes[name]) for name, one in structures(shape, run.ranks).items())
    maps = 2 * shape.width + 2 * shape.kv_width + 4 * shape.ff_width + inside
    if run.precision == "bfloat16":
        value, layer = BF16, F32 * (4 * shape.width + shape.heads) + BF16 * (5 * shape.width + maps)
        end = F32 * 2 * shape.width + BF16 * shape.width
    else:
        value, layer = F32, F32 * (6 * shape.width + shape.heads + maps)
        end = F32 * 3 * shape.width
    working = tokens * (2 * value * shape.ff_width + 2 * F32 * shape.width)
    return float(tokens * (shape.layers * layer + end)), float(working)


def _logits(run: Run, tokens: int) -> float:
    """Whole: log-softmax and two gradients. In chunks: logits and log-softmax of a chunk, or its gradient and that of
    the head, beside the gradients of the stream and of the head.
    """
    vocabulary, width = run.shape.vocab_size, run.shape.width
    rows = chunk_rows(vocabulary)
    if tokens <= rows:
        return 3.0 * F32 * tokens * vocabulary
    chunk, head = F32 * rows * vocabulary, F32 * vocabulary * width
    return float(max(2 * chunk, chunk + head) + head + F32 * tokens * width)


def _update(run: Run, hidden: int, shards: int) -> float:
    """The copies of one step of the hidden matrices, over all shards."""
    rule, constants = find_optimizer(run.optimizer.name), run.optimizer
    if not rule.orthogonalising_steps(constants) and not rule.pure:
        return 0.0
    direction = F32 * hidden * (bool(constants.nesterov) + rule.pure)
    sent = 4 * F32 * hidden if shards > 1 else 0  # messages out, in, and whole matrices beside them
    return direction + sent + max(_newton_schulz(run), F32 * hidden * (1 + rule.pure))


def _newton_schulz(run: Run) -> float:
    """Orthogonalising one group of same-shaped matrices after another: X before and after a step, two Gram matrices,
    the joined stacks where a group has several, and the answers so far.
    """
    shape, sizes = run.shape, run.shape.matrices()
    stacks: dict[tuple[tuple[int, int], ...], int] = {}  # sizes of what is stepped together -> how often
    for name, structure in structures(shape, run.ranks, guided=bool(run.self_guided)).items():
        for stepped in structure.matrices(*sizes[name]):
            if stepped.kind != "elementwise":
                own = tuple((matrix.fan_out, matrix.fan_in) for matrix in stepped.matrices)
                stacks[own] = stacks.get(own, 0) + shape.layers
    groups: dict[tuple[int, int], list[int]] = {}
    for own, members in stacks.items():
        for outputs, inputs in own:
            groups.setdefault((min(outputs, inputs), max(outputs, inputs)), []).append(members)
    most = answers = 0
    for (short, long), counts in groups.items():
        matrices = F32 * sum(counts) * short * long
        grams = 2 * F32 * sum(counts) * short * short
        most = max(most, answers + matrices * (2 + (len(counts) > 1)) + grams)
        answers += matrices
    return float(most)
