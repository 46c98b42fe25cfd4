"""The memory function, and the split of a batch that follows from it. `test_training_memory_trace.py` traces it."""

from dataclasses import replace
from pathlib import Path

import pytest

from scaling.errors import RunnerError
from scaling.results.store import Store
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.runners.worker import StopFlag, Worker, WorkList
from scaling.sweeps.counting import count, matrix_ranks
from scaling.sweeps.grids import plan
from scaling.sweeps.memory import (
    CHUNK_BYTES,
    MEASURED_NUMBERS,
    USABLE,
    Placement,
    chunk_rows,
    divisors,
    split,
    training_memory,
)
from scaling.sweeps.schema import load_sweep

ROOT = Path(__file__).parents[2]
SHAPE = Shape(layers=4, width=256, heads=4, ff_width=688, vocab_size=32000)
RUN = Run(
    shape=SHAPE,
    parameterization="dense",
    initialisation=Initialisation(0.02, 0.02, 1.0),
    optimizer=Optimizer("muon", 0.02, 0.02, 0.9, 0.95, 1e-8, momentum=0.95, nesterov=True, newton_schulz_steps=5),
    schedule=Schedule("linear", 1, 0.0),
    steps=10,
    batch_tokens=24 * 512,
    sequence_length=512,
    seed=0,
    data=DataRef("c4", "bytes", 1024),
)


def test_weights_gradients_and_state_are_counted_once_each() -> None:
    params, hidden = count(SHAPE).params_total, count(SHAPE).hidden
    one = training_memory(RUN, sequences=1)
    assert (one.weights, one.gradients, one.optimizer) == (4 * params, 4 * params, 4 * hidden + 8 * (params - hidden))
    two = training_memory(RUN, sequences=1, ranks=2)
    assert two.gradients == 8 * params  # the buckets that ddp averages
    assert (two.weights, two.optimizer, two.update) == (one.weights, one.optimizer, one.update)
    half = training_memory(RUN, sequences=1, ranks=2, strategy="fsdp")
    assert half.optimizer == one.optimizer / 2
    assert half.gradients == one.gradients  # this rank's rows twice: as gradients, and as the optimizer's copy
    assert half.activations == one.activations


def test_half_precision_copies_weights_and_halves_most_activations() -> None:
    whole, half = (training_memory(replace(RUN, precision=p), sequences=8) for p in ("float32", "bfloat16"))
    copies = 2 * count(SHAPE).params_matmul  # there while activations are, and gone when weights are updated
    assert half.weights == whole.weights
    assert 0.6 < (half.activations - copies) / whole.activations < 0.8


def test_the_norm_of_the_gradients_is_beside_what_is_measured_only_where_it_clips() -> None:
    adamw = replace(RUN, optimizer=replace(RUN.optimizer, name="adamw"))
    hidden, others = count(SHAPE).hidden, count(SHAPE).params_total - count(SHAPE).hidden
    assert others > hidden
    clipped = replace(adamw, optimizer=replace(adamw.optimizer, gradient_clip=1.0))
    updates = [training_memory(run, sequences=1).update for run in (adamw, clipped)]
    assert updates == [max(4 * (others - hidden), 16 * MEASURED_NUMBERS), 4 * others]


def test_logits_stop_growing_where_they_are_done_in_chunks() -> None:
    rows = chunk_rows(32000)
    assert 4 * rows * 32000 <= CHUNK_BYTES < 4 * (rows + 1) * 32000
    few, many, more = (training_memory(RUN, sequences=n).logits for n in (2, 8, 16))
    assert few == 3 * 4 * 1024 * 32000
    assert more - many == 4 * 8 * 512 * 256  # the gradient of the stream alone


def test_a_pure_update_holds_one_more_copy_of_the_factors() -> None:
    shape = replace(SHAPE, vocab_size=256)
    ranks = matrix_ranks(shape, 0.25)
    muon = replace(RUN, shape=shape, parameterization="low_rank", ranks=ranks)
    spectron = replace(muon, optimizer=replace(RUN.optimizer, name="spectron"))
    factors = 4 * count(shape, ranks).hidden
    one, other = (training_memory(run, sequences=1) for run in (muon, spectron))
    assert factors <= other.update - one.update <= 2 * factors  # its average, and at its end what moved
    assert other.measuring == one.measuring == factors


def test_the_split_is_the_largest_equal_part_that_fits() -> None:
    peaks = {part: training_memory(RUN, sequences=part).peak for part in divisors(24)}
    assert list(peaks) == [24, 12, 8, 6, 4, 3, 2, 1]
    for peak in set(peaks.values()):
        fitting = [part for part in peaks if peaks[part] <= peak]
        assert split(RUN, memory_bytes=peak / USABLE + 1).sequences == max(fitting)
    tight = split(RUN, memory_bytes=1e6)
    assert (tight.sequences, tight.fits) == (1, False)
    assert split(RUN, memory_bytes=1e12, placement=Placement(8)).sequences == 3
    assert split(RUN, memory_bytes=1e12, placement=Placement(2, "fsdp", 4)).sequences == 4
    assert split(RUN, memory_bytes=1e12, placement=Placement(5)).problem == "24 sequences over 5 ranks"


def test_a_worker_splits_a_batch_as_the_plan_says(tmp_path) -> None:  # type: ignore[no-untyped-def]
    room = training_memory(RUN, sequences=6).peak / USABLE + 1

    def micro_batch(memory_bytes: float | None, **rule: int) -> int | None:
        listed = WorkList("corpus", (RUN.id,), {}, memory_bytes=memory_bytes, micro_batches=rule)
        read = WorkList.read(listed.write(tmp_path / "list.json"))
        return Worker(Store(tmp_path), read, StopFlag())._micro_batch(RUN)

    assert micro_batch(room) == split(RUN, memory_bytes=room).sequences == 6
    assert micro_batch(room, **{RUN.id: 3}) == 3
    assert micro_batch(None) is None  # a list of 0.1: batches were not split
    with pytest.raises(RunnerError, match="cannot be placed"):
        micro_batch(room, **{RUN.id: 24})


def test_a_planned_run_carries_its_own_memory_whatever_family_came_before_it() -> None:
    sweep = load_sweep(ROOT / "sweeps" / "ablation.yaml")
    for planned in plan(sweep, vocab_size=257, root=ROOT).runs:
        assert planned.memory_bytes == training_memory(planned.run, sequences=1).peak, planned.family
