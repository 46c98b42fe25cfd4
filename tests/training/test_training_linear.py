import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.training.linear import Dense, LowRank, split


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99), st.data())
def test_split_is_the_best_approximation_with_equal_spectra(rows, columns, seed, data):
    rank = data.draw(st.integers(1, min(rows, columns)))
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    a, b = split(w, rank)
    u, s, vh = np.linalg.svd(w.double().numpy(), full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ vh[:rank]
    np.testing.assert_allclose((a @ b).numpy(), best, atol=2e-5)
    for factor in (a, b):
        np.testing.assert_allclose(np.linalg.svd(factor.numpy(), compute_uv=False), np.sqrt(s[:rank]), atol=1e-5)


def test_full_rank_split_loses_nothing():
    w = torch.randn(7, 5)
    a, b = split(w, 5)
    torch.testing.assert_close(a @ b, w)


def test_low_rank_map_applies_its_merged_matrix():
    layer = LowRank(6, 9, 3)
    layer.set_dense(torch.randn(6, 9))
    x = torch.randn(4, 9)
    torch.testing.assert_close(layer(x), x @ layer.merged().T)


def test_dense_and_guided_maps_start_from_the_same_matrix():
    w, x = torch.randn(6, 9), torch.randn(4, 9)
    dense, guided = Dense(6, 9), LowRank(6, 9, 3, guided=True)
    dense.set_dense(w)
    guided.set_dense(w)
    guided.guide = torch.ones(())
    torch.testing.assert_close(guided(x), dense(x))
    guided.guide = torch.tensor(0.25)
    torch.testing.assert_close(guided(x), 0.25 * dense(x) + 0.75 * x @ guided.merged().T)
    guided.guide = None
    torch.testing.assert_close(guided(x), x @ guided.merged().T)


@pytest.mark.parametrize("rank", [0, 6])
def test_impossible_ranks_are_a_broken_invariant(rank):
    with pytest.raises(AssertionError):
        LowRank(5, 7, rank)
