from __future__ import annotations

import pytest
import torch

from scaling.hardware import DEVICES
from scaling.inference.cost import Setting, cost
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
    assert 1e-8 < here.kernel_seconds < 1e-3
    assert 1e8 < here.peak("float32") < 1e14
    assert 1e8 < here.bandwidth_bytes_per_second < 1e13
    assert "measured here" in here.source
    assert cost(SHAPE, None, Setting(here)).calibrated


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
