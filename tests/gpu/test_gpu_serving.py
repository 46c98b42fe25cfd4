"""Serving on the device: the cache gives what recomputation gives, and times are measured beside their prices."""

from __future__ import annotations

import pytest
import torch

from scaling.hardware import DEVICES
from scaling.inference.cost import Setting
from scaling.inference.generate import Cache, merged, step
from scaling.inference.measure import calibrate, measure
from scaling.run import Initialisation, Shape
from scaling.sweeps.counting import matrix_ranks
from scaling.training.model import Decoder, initialise

SHAPE = Shape(3, 64, 4, 172, 256, kv_heads=2)


def a_model(place, ratio):
    model = Decoder(SHAPE, None if ratio is None else matrix_ranks(SHAPE, ratio), sequence_length=64)
    initialise(model, Initialisation(0.3, 0.3, 1.0), seed=0)
    return model.to(place.device)


@pytest.mark.parametrize("ratio", [None, 0.5])
@torch.no_grad()
def test_decoding_with_a_cache_equals_recomputation(place, ratio):
    model = a_model(place, ratio)
    tokens = torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(0)).to(place.device)
    cache = Cache(model, 3, 20)
    step(model, tokens[:, :8], cache)
    for n in range(8, 20):
        torch.testing.assert_close(
            step(model, tokens[:, n : n + 1], cache), model(tokens[:, : n + 1])[:, -1], rtol=0, atol=1e-5
        )


@torch.no_grad()
def test_merged_logits_are_those_of_the_factors(place):
    model = a_model(place, 0.5)
    tokens = torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(0)).to(place.device)
    torch.testing.assert_close(merged(model)(tokens), model(tokens), rtol=0, atol=1e-4)


def test_times_are_measured_beside_prices(place):
    row = DEVICES["h100" if place.is_gpu else "cpu"]
    here = calibrate(row, torch_device=place.name)
    (rates,) = here.serving.values()
    print(rates)
    assert 1e-8 < rates.launch_seconds < 1e-3
    assert 0.001 < rates.arithmetic < 1.5
    assert 0.001 < rates.bandwidth < 20
    rows = measure(SHAPE, matrix_ranks(SHAPE, 0.25), Setting(here, batch=2, context=16), device=place.name)
    assert [one.predicted.form for one in rows] == ["factorized", "merged"]
    assert all(one.decode_seconds > 0 and one.prefill_seconds > 0 for one in rows)
