from __future__ import annotations

import numpy as np
import pytest

from scaling.inference.curve import Curve
from scaling.run import Shape
from scaling.sweeps.counting import count, forward_flops_per_token, kv_bytes_per_token, matrix_ranks
from scaling.sweeps.ladders import LADDERS

SHAPES = [rung.shape(32000) for rung in LADDERS["spectron"]]


def low_rank(params: str = "params_total") -> Curve:
    return Curve([(s, matrix_ranks(s, 0.25)) for s in reversed(SHAPES)], params=params)


@pytest.mark.parametrize("params", ["params_total", "params_non_embedding", "params_matmul"])
def test_real_shapes_are_on_the_curve(params):
    curve = low_rank(params)
    sizes = [rung.params for rung in curve.rungs]
    assert sizes == sorted(count(s, matrix_ranks(s, 0.25)).column(params) for s in SHAPES)
    kv = curve.quantity(lambda shape, _: kv_bytes_per_token(shape))(sizes)
    assert kv == pytest.approx([kv_bytes_per_token(rung.shape) for rung in curve.rungs])
    flops = curve.training_flops_per_token(sizes, sequence_length=2048, convention="exact")
    assert flops == pytest.approx([3 * forward_flops_per_token(r.shape, r.ranks, 2048) for r in curve.rungs])


def test_a_power_is_followed_between_and_beyond():
    curve = low_rank()
    n = np.geomspace(1e6, 1e12, 50)
    power = curve.through([3.0 * rung.params**0.7 for rung in curve.rungs])
    assert power(n) == pytest.approx(3.0 * n**0.7)


def test_6nd_is_six_n_when_n_is_the_total():
    n = np.geomspace(1e7, 1e10, 9)
    assert low_rank().training_flops_per_token(n, sequence_length=1, convention="6ND") == pytest.approx(6 * n)


def test_between_two_shapes_is_between_their_values():
    curve = low_rank()
    quantity = curve.quantity(lambda shape, _: shape.layers)
    for low, high in zip(curve.rungs, curve.rungs[1:], strict=False):
        middle = quantity((low.params * high.params) ** 0.5)
        assert middle == pytest.approx((low.shape.layers * high.shape.layers) ** 0.5)


def test_the_nearest_shape_and_the_ends():
    curve = low_rank()
    assert curve.nearest(1.0).shape == SHAPES[0]
    assert curve.nearest(1e12).shape == SHAPES[-1]
    rung = curve.rungs[4]
    assert curve.nearest(rung.params * 1.01) is rung
    assert not curve.extrapolated(rung.params)
    assert not curve.extrapolated(curve.rungs[0].params)
    assert curve.extrapolated(curve.rungs[0].params * 0.99)
    assert curve.extrapolated(curve.rungs[-1].params * 1.01)


def test_equal_sizes_and_a_single_shape():
    one = Shape(2, 64, 4, 128, 100)
    twin = Shape(2, 64, 2, 128, 100)
    curve = Curve([(one, None), (twin, None)], params="params_total")
    assert [rung.shape for rung in curve.rungs] == [one]
    size = curve.rungs[0].params
    assert curve.quantity(lambda *_: 5.0)([size, 2 * size]) == pytest.approx([5, 10])


def test_a_longer_ladder_keeps_its_shapes_and_the_proportions_of_the_last():
    curve = low_rank()
    longer = curve.longer(100.0)
    assert longer.rungs[: len(curve.rungs)] == curve.rungs
    last, end = curve.rungs[-1], longer.rungs[-1]
    assert 100 <= end.params / last.params < 1000
    assert end.shape.ff_width / end.shape.width == pytest.approx(last.shape.ff_width / last.shape.width, rel=0.01)
    assert end.ranks["q"] / end.shape.width == pytest.approx(last.ranks["q"] / last.shape.width, rel=0.05)
    assert end.shape.layers > last.shape.layers
    assert all(rung.shape.width % (2 * rung.shape.heads) == 0 for rung in longer.rungs[len(curve.rungs) :])
