import numpy as np
import torch

from scaling.training.history import BLOW_UP, History, count_spikes


def history(*losses, vocab_size=64):
    h = History(vocab_size, mean=lambda x: x)
    for loss in losses:
        h.put(torch.tensor(loss))
    return h


def test_losses_arrive_in_order_once():
    h = history(3.0, 2.0)
    h.collect(wait=False)
    h.put(torch.tensor(1.0))
    h.collect(wait=True)
    h.collect(wait=True)
    assert h.values == [3.0, 2.0, 1.0]
    assert h.broken is None
    assert h.last_finite == 1.0


def test_the_first_bad_loss_decides_whenever_it_is_noticed():
    limit = BLOW_UP * np.log(64)
    for bad in (float("nan"), float("inf"), float(limit) + 0.1):
        late = history(3.0, 2.0, bad, 1.0, float("nan"))
        late.collect(wait=True)
        early = history(3.0, 2.0, bad)
        early.collect(wait=True)
        assert late.broken == early.broken == 2
        assert late.last_finite == early.last_finite == 2.0


def test_broken_at_once_has_no_finite_loss():
    h = history(float("nan"))
    h.collect(wait=True)
    assert h.broken == 0
    assert h.last_finite is None


def test_spikes_are_counted_as_excursions():
    rng = np.random.default_rng(0)
    losses = 3 - np.arange(400) / 400 + 0.02 * rng.standard_normal(400)
    assert count_spikes(losses) == 0
    losses[100] += 1
    losses[200:205] += 1
    assert count_spikes(losses) == 2
    assert count_spikes(losses[:50]) == 0
