from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import PlanError
from scaling.hardware import DEVICES, Device, Rates
from scaling.inference.cost import Setting, cost, decode_kernels, forms, prefill_kernels
from scaling.run import Shape
from scaling.sweeps.counting import count, forward_flops_per_token, matrix_ranks

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from serving_latency import PUBLISHED, SEVEN, Measured, Published, calibrated, measured

SHAPE = Shape(layers=3, width=64, heads=4, ff_width=168, vocab_size=1000, kv_heads=2)
RANKS = matrix_ranks(SHAPE, 0.25)


@given(
    layers=st.integers(1, 4),
    heads=st.sampled_from([2, 4]),
    head_dim=st.sampled_from([4, 16]),
    ff=st.integers(8, 99),
    kv=st.sampled_from([None, 1, 2]),
    ratio=st.sampled_from([None, 0.1, 0.5, 1.0]),
    batch=st.integers(1, 9),
    context=st.integers(1, 99),
)
def test_kernels_add_up_to_what_the_shape_counts(layers, heads, head_dim, ff, kv, ratio, batch, context):
    shape = Shape(layers, heads * head_dim, heads, ff, 300, kv)
    ranks = None if ratio is None else matrix_ranks(shape, ratio)
    setting = Setting(DEVICES["h200"], batch, context)
    row = cost(shape, ranks, setting)
    counts = count(shape, ranks)
    scores = 4 * layers * shape.width * context
    assert row.decode_flops_per_token == pytest.approx(2 * counts.params_matmul + scores)
    head = 2 * counts.head_products
    wanted = forward_flops_per_token(shape, ranks, context) - head + head / context
    assert row.prefill_flops_per_token == pytest.approx(wanted)
    weights = sum(k.bytes * k.launches for k in decode_kernels(shape, ranks, Setting(DEVICES["h200"], 1, context)))
    assert weights >= 2 * counts.params_matmul + row.kv_bytes / batch
    assert row.params == counts.params_total


def test_a_dense_product_by_hand(device):
    """One matrix of 168 × 64 and a batch of 5, bfloat16, in numbers anybody can check."""
    kernels = {k.name: k for k in decode_kernels(SHAPE, None, Setting(device, batch=5, context=100))}
    up = kernels["up.weight"]
    assert (up.flops, up.bytes, up.launches) == (2 * 5 * 168 * 64, 2 * (168 * 64 + 5 * (168 + 64)), 3)
    attention = kernels["attention"]
    assert attention.flops == 4 * 5 * 64 * 100
    assert attention.bytes == 2 * (5 * 100 * 2 * 32 + 2 * 5 * 64)


def launching_in(device: Device, seconds: float) -> Device:
    return replace(device, serving=dict.fromkeys(device.peak_flops, Rates(1.0, 1.0, seconds)))


def test_a_kernel_takes_its_launch_and_then_its_arithmetic_or_its_bytes(device):
    row = cost(SHAPE, RANKS, Setting(launching_in(device, 1.0), 1, 16))
    assert row.decode_seconds == pytest.approx(row.kernels)
    free = launching_in(device, 0.0)
    starved = Setting(replace(free, bandwidth_bytes_per_second=1.0), 4, 16)
    row = cost(SHAPE, None, starved)
    assert row.decode_seconds == pytest.approx(row.step_bytes)
    launched = cost(SHAPE, None, replace(starved, device=launching_in(starved.device, 2.0)))
    assert launched.decode_seconds == pytest.approx(row.step_bytes + 2 * row.kernels)
    slow = Setting(replace(free, peak_flops={"float32": 1.0}), 4, 16)
    row = cost(SHAPE, None, slow)
    assert row.decode_seconds == pytest.approx(4 * row.decode_flops_per_token, rel=1e-6)
    half = replace(slow, device=replace(slow.device, serving={"float32": Rates(0.5, 1.0, 0.0)}))
    assert cost(SHAPE, None, half).decode_seconds == pytest.approx(2 * row.decode_seconds, rel=1e-6)


def test_what_low_rank_saves_and_what_it_does_not(device):
    shape = Shape(12, 768, 12, 2048, 32000)
    ranks = matrix_ranks(shape, 0.25)
    setting = Setting(device, batch=8, context=512)
    dense, factorized, merged = (
        cost(shape, None, setting),
        cost(shape, ranks, setting),
        cost(shape, ranks, setting, "merged"),
    )
    assert replace(merged, form="dense") == dense
    assert factorized.weight_bytes < 0.75 * dense.weight_bytes
    assert factorized.decode_flops_per_token < 0.75 * dense.decode_flops_per_token
    assert factorized.kv_bytes == dense.kv_bytes
    assert factorized.kernels - dense.kernels == 7 * shape.layers
    # launches decide at batch 1, arithmetic in a long prompt
    assert (
        cost(shape, ranks, Setting(device, 1, 1)).decode_seconds
        > cost(shape, None, Setting(device, 1, 1)).decode_seconds
    )
    long = Setting(device, 8, 4096)
    assert cost(shape, ranks, long).prefill_seconds < cost(shape, None, long).prefill_seconds


def test_full_rank_factors_save_nothing():
    ranks = matrix_ranks(SHAPE, 1.0)
    setting = Setting(DEVICES["cpu"])
    assert cost(SHAPE, ranks, setting).decode_seconds > cost(SHAPE, ranks, setting, "merged").decode_seconds
    assert forms(ranks) == ("factorized", "merged")
    assert forms(None) == ("dense",)


def test_memory_and_calibration_are_told(device):
    small = Setting(replace(device, memory_bytes=1e6), 1, 16)
    assert cost(SHAPE, None, small).fits
    assert not cost(SHAPE, None, replace(small, batch=10_000)).fits
    assert cost(SHAPE, None, small).calibrated
    assert not cost(SHAPE, None, Setting(replace(device, serving={}))).calibrated


def test_precision_follows_the_device(device):
    assert Setting(device).values == "bfloat16"
    assert Setting(DEVICES["cpu"]).values == "float32"
    assert cost(SHAPE, None, Setting(device, precision="float32")).kv_bytes_per_token == 3 * 2 * 32 * 4


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"context": 0}, {"precision": "int3"}, {"precision": "float16"}])
def test_an_impossible_setting_says_what_is_allowed(device: Device, wrong):
    with pytest.raises(PlanError):
        Setting(device, **wrong)


def test_prefill_reads_the_weights_once(device):
    by_name = {k.name: k for k in prefill_kernels(SHAPE, RANKS, Setting(device, batch=2, context=50))}
    q_b = by_name["q.b"]
    assert q_b.bytes == 2 * (RANKS["q"] * 64 + 100 * (RANKS["q"] + 64))
    assert by_name["head"].flops == 2 * 2 * 1000 * 64


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: f"{one.source}-{one.device}-{one.model}-{one.batch}")
def test_published_latencies_are_met_within_a_quarter_and_held_by_the_range(one: Published) -> None:
    seconds, fast, slow = one.predicted()
    assert seconds == pytest.approx(one.seconds, rel=0.25)
    assert fast <= one.seconds <= slow


@pytest.mark.parametrize("one", measured(), ids=lambda one: f"{one.model}-{one.form}-{one.batch}-{one.prompt}")
def test_decode_steps_that_we_measured_are_met(one: Measured) -> None:
    """On an H100, by benchmarks/gpu.py."""
    typical = one.price(DEVICES["h100"])
    assert typical.decode_seconds == pytest.approx(one.decode, rel=0.2)
    assert typical.decode_seconds_low <= one.decode <= typical.decode_seconds_high
    assert one.price(calibrated(measured())).decode_seconds == pytest.approx(one.decode, rel=0.15)


def test_llama_2_7b_is_counted_as_published() -> None:
    row = cost(SEVEN, None, Setting(DEVICES["a100"], 1, 2048))
    assert row.params == 6_738_415_616  # arXiv 2307.09288; the published checkpoint
    assert row.kv_bytes_per_token == 524_288


def test_a_measured_device_has_times_without_a_range(device: Device) -> None:
    row = cost(SHAPE, RANKS, Setting(device, 2, 64))
    assert (row.decode_seconds_low, row.decode_seconds_high) == (row.decode_seconds, row.decode_seconds)
    typical = cost(SHAPE, RANKS, Setting(replace(device, serving={}), 2, 64))
    low, high = typical.decode_seconds_low, typical.decode_seconds_high
    assert low < typical.decode_seconds < high


def test_a_prompt_is_prefilled_and_the_rest_decoded_at_its_average_length(device: Device) -> None:
    whole = Setting(device, 2, 96)
    row = cost(SHAPE, RANKS, Setting(device, 2, 96, prompt=32))
    assert row.prefill_seconds == cost(SHAPE, RANKS, Setting(device, 2, 32)).prefill_seconds
    assert row.decode_flops_per_token == cost(SHAPE, RANKS, Setting(device, 2, 64)).decode_flops_per_token
    assert row.kv_bytes == cost(SHAPE, RANKS, whole).kv_bytes
    with pytest.raises(PlanError, match="below the context"):
        Setting(device, 2, 96, prompt=96)


@pytest.mark.parametrize("tied", [False, True])
def test_int8_halves_the_matrices_and_nothing_else(device: Device, tied: bool) -> None:
    shape = replace(SHAPE, tied=tied)
    plain, small = (cost(shape, None, Setting(device, 3, 64, precision)) for precision in ("bfloat16", "int8"))
    assert plain.weight_bytes - small.weight_bytes == count(shape, None).params_matmul
    assert plain.step_bytes - small.step_bytes == count(shape, None).params_matmul
    assert plain.kv_bytes == small.kv_bytes
    assert plain.decode_flops_per_token == small.decode_flops_per_token
