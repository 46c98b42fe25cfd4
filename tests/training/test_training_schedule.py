import math

import pytest

from scaling.errors import TrainingError
from scaling.run import Schedule
from scaling.training.schedule import helper_share, rate_factor


def factors(kind, *, steps=10, **fields):
    schedule = Schedule(kind, **({"warmup_steps": 2, "final": 0.1} | fields))
    return [rate_factor(schedule, t, steps=steps) for t in range(steps)]


def test_every_schedule_warms_up_to_the_peak():
    for kind in ("constant", "linear", "cosine", "wsd"):
        assert factors(kind, decay_steps=4)[:3] == pytest.approx([0.5, 1.0, 1.0])


def test_shapes_of_the_decay():
    assert factors("constant")[2:] == [1.0] * 8
    assert factors("linear")[2:] == pytest.approx([1 - 0.9 * t / 8 for t in range(8)])
    assert factors("cosine")[6] == pytest.approx(0.1 + 0.9 / 2)
    assert factors("wsd", decay_steps=4)[2:] == pytest.approx([1, 1, 1, 1, 1, 0.1 + 0.9 * 0.75, 0.55, 0.325])


def test_no_warmup_starts_at_the_peak():
    assert factors("linear", warmup_steps=0)[0] == 1.0


def test_a_wsd_trunk_does_not_depend_on_the_horizon():
    short, long = (factors("wsd", steps=n, decay_steps=4) for n in (10, 30))
    assert short[:6] == long[:6]


def test_helper_share_fades_over_its_fraction():
    shares = [helper_share(t, steps=10, fraction=0.5) for t in range(10)]
    assert shares[:5] == pytest.approx([(1 + math.cos(math.pi * t / 5)) / 2 for t in range(5)])
    assert shares[5:] == [None] * 5


@pytest.mark.parametrize(("kind", "where"), [("steps", "schedule.kind"), ("wsd", "schedule.decay_steps")])
def test_bad_schedules_are_refused(kind, where):
    with pytest.raises(TrainingError) as error:
        factors(kind)
    assert error.value.where == where
