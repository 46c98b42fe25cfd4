from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import scaling.inference.measure as measure_module
from scaling.hardware import DEVICES, Rates
from scaling.inference.cost import Setting, cost, prefill_kernels
from scaling.inference.measure import calibrate, measure
from scaling.run import Shape
from scaling.sweeps.counting import matrix_ranks

SHAPE = Shape(2, 64, 4, 168, 256)


@pytest.fixture(scope="module")
def here():
    threads = torch.get_num_threads()
    yield calibrate(DEVICES["cpu"])
    torch.set_num_threads(threads)


def test_calibration_finds_a_machine_that_exists(here):
    rates = here.serving["float32"]
    assert 1e-8 < rates.launch_seconds < 1e-3
    assert 1e8 < rates.arithmetic * here.peak("float32") < 1e14
    assert 1e8 < rates.bandwidth * here.bandwidth_bytes_per_second < 1e13
    assert "measured here" in here.source
    assert cost(SHAPE, None, Setting(here)).calibrated


@pytest.mark.parametrize("rates", [Rates(0.5, 0.7, 4e-6), Rates(0.9, 0.05, 1e-7), Rates(0.01, 1.0, 1e-4)])
@pytest.mark.parametrize("shape", [Shape(2, 768, 12, 2048, 8), Shape(8, 2048, 16, 5632, 8), SHAPE])
def test_rates_are_found_from_the_times_that_they_give(rates, shape):
    """The times of the cost model itself in place of measured ones."""
    known = replace(DEVICES["h100"], serving={"bfloat16": rates})
    setting = Setting(known, 16, 1024)
    seconds = cost(shape, None, setting).prefill_seconds
    bandwidth = rates.bandwidth * known.bandwidth_bytes_per_second
    found = measure_module._arithmetic(prefill_kernels(shape, None, setting), seconds, rates.launch_seconds, bandwidth)
    assert found is not None
    again = replace(known, serving={"bfloat16": replace(rates, arithmetic=found / known.peak("bfloat16"))})
    assert cost(shape, None, replace(setting, device=again)).prefill_seconds == pytest.approx(seconds)


def test_a_prompt_that_takes_no_longer_than_its_bytes_has_no_rate():
    kernels = prefill_kernels(SHAPE, None, Setting(DEVICES["h100"], 1, 64))
    seconds = sum(kernel.launches * (1e-6 + kernel.bytes / 1e12) for kernel in kernels)
    assert measure_module._arithmetic(kernels, 0.9 * seconds, 1e-6, 1e12) is None


def test_both_forms_are_timed_beside_their_price(here):
    ranks = matrix_ranks(SHAPE, 0.25)
    setting = Setting(here, batch=2, context=16)
    rows = measure(SHAPE, ranks, setting)
    assert [row.predicted.form for row in rows] == ["factorized", "merged"]
    for row in rows:
        assert row.predicted == cost(SHAPE, ranks, setting, row.predicted.form)
        assert row.decode_seconds > 0
        assert row.tokens_per_second == pytest.approx(2 / row.decode_seconds)
        assert row.measured_on == "cpu"
    assert [row.predicted.form for row in measure(SHAPE, None, setting)] == ["dense"]


def test_a_longer_prompt_takes_longer(here):
    """A thousandfold work in one measurement, so that no noise can turn it."""
    short, long = (measure(SHAPE, None, Setting(here, 1, context))[0] for context in (1, 1024))
    assert long.prefill_seconds > short.prefill_seconds
