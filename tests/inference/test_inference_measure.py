from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scaling.errors import RunnerError
from scaling.hardware import DEVICES, Rates
from scaling.inference.cost import Setting, cost
from scaling.inference.measure import REFERENCES, calibrate, measure, rates_of
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


@pytest.mark.parametrize("rates", [Rates(0.5, 0.7, 4e-6), Rates(0.9, 0.5, 1e-7), Rates(0.05, 1.0, 1e-4)])
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_rates_are_found_from_the_times_that_they_give(rates, kind):
    """The times of the cost model itself in place of measured ones."""
    known = replace(DEVICES["h100"], serving={"bfloat16": rates})
    references = REFERENCES[kind]
    settings = [Setting(known, one.batch, one.context) for one in references]
    prices = [cost(one.shape, None, setting) for one, setting in zip(references, settings, strict=True)]
    seconds = (prices[0].decode_seconds, prices[1].decode_seconds, prices[2].prefill_seconds)
    found = rates_of(references, settings, seconds)
    assert found is not None
    assert (found.bandwidth, found.launch_seconds) == pytest.approx((rates.bandwidth, rates.launch_seconds))
    again = replace(settings[2], device=replace(known, serving={"bfloat16": found}))
    assert cost(references[2].shape, None, again).prefill_seconds == pytest.approx(seconds[2])
    if kind == "cuda":  # a small model's prompt is bound by its bytes: any rate above some gives its time
        assert found.arithmetic == pytest.approx(rates.arithmetic)


def test_a_device_too_small_to_calibrate_is_refused_with_both_sizes():
    with pytest.raises(RunnerError, match="too small") as error:
        calibrate(replace(DEVICES["cpu"], memory_bytes=1e6))
    assert "0.001 GB" in str(error.value)
    assert "0.06" in str(error.value)


@pytest.mark.parametrize("seconds", [(2.0, 1.0, 1.0), (1e-3, 1.0, 1e-3), (1e-3, 1e-3, 1.0)])
def test_times_that_no_rates_give_are_refused(seconds):
    """A wide model that decodes faster than a narrow one, a prompt faster than its bytes, no time for any byte."""
    settings = [Setting(DEVICES["h100"], one.batch, one.context) for one in REFERENCES["cuda"]]
    assert rates_of(REFERENCES["cuda"], settings, seconds) is None


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
