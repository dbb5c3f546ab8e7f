"""Augmentations: seeded, in order, on the sensor, and never in place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.augment import (
    Compose,
    RandomAffine,
    RandomDrop,
    RandomFlip,
    RandomRotate,
    RandomScale,
    RandomShift,
    TimeJitter,
)
from neuro.datasets.events import EVENT, Sensor, check_events, make_events
from neuro.errors import ParameterError

SENSOR = Sensor(height=12, width=17)
ALL = (
    RandomShift(5),
    RandomFlip(),
    RandomRotate(30),
    RandomScale(0.7, 1.4),
    RandomAffine(20, 0.2, 0.1, 2.5),
    TimeJitter(300.0),
    RandomDrop(0.3),
    Compose(RandomShift(3), RandomRotate(10), TimeJitter(50.0), RandomDrop(0.1)),
)


def some_events(n=500, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(17, size=n), rng.integers(12, size=n)
    return make_events(x, y, np.sort(rng.integers(0, 10_000, n)), rng.random(n) < 0.5)


@given(st.integers(0, 80), st.integers(0, 10**6), st.sampled_from(ALL))
@settings(deadline=None, max_examples=150)
def test_d47_the_result_is_sound_and_the_input_untouched(n, seed, augment):
    events = some_events(n, seed)
    before = events.copy()
    first, again = (augment(events, SENSOR, np.random.default_rng(seed)) for _ in range(2))
    check_events(first, SENSOR)
    assert np.array_equal(first, again)
    assert np.array_equal(events, before)
    first["t"] += 1  # whatever is returned is not the caller's memory
    assert np.array_equal(events, before)


@pytest.mark.parametrize("augment", ALL, ids=lambda a: type(a).__name__)
def test_another_seed_gives_another_answer(augment):
    answers = {augment(some_events(), SENSOR, np.random.default_rng(seed)).tobytes() for seed in range(12)}
    assert len(answers) > 1


@pytest.mark.parametrize("augment", ALL, ids=lambda a: type(a).__name__)
def test_an_empty_recording_stays_empty(augment):
    result = augment(np.empty(0, EVENT), SENSOR, np.random.default_rng(0))
    assert result.dtype == EVENT and len(result) == 0


def test_a_shift_moves_all_events_alike_and_drops_what_leaves():
    events = some_events()
    for seed in range(10):
        dx, dy = np.random.default_rng(seed).integers(-5, 6, size=2)
        result = RandomShift(5)(events, SENSOR, np.random.default_rng(seed))
        x, y = events["x"] + dx, events["y"] + dy
        keep = (x >= 0) & (x < 17) & (y >= 0) & (y < 12)
        assert result["x"].tolist() == x[keep].tolist() and result["t"].tolist() == events["t"][keep].tolist()
        assert abs(dx) <= 5 and abs(dy) <= 5


def test_a_flip_twice_is_nothing_and_takes_the_whole_recording():
    events, rng = some_events(), np.random.default_rng(0)
    once = RandomFlip(1.0)(events, SENSOR, rng)
    assert np.array_equal(once["x"], 16 - events["x"]) and np.array_equal(RandomFlip(1.0)(once, SENSOR, rng), events)
    assert np.array_equal(RandomFlip(0.0)(events, SENSOR, rng), events)


def test_nothing_asked_is_nothing_done():
    events = some_events()
    for identity in (RandomShift(0), RandomRotate(0), RandomScale(1, 1), RandomAffine(), TimeJitter(0), RandomDrop(0), Compose()):
        assert np.array_equal(identity(events, SENSOR, np.random.default_rng(3)), events)


def test_jitter_keeps_every_event_within_the_recording():
    events = some_events()
    result = TimeJitter(100.0)(events, SENSOR, np.random.default_rng(1))
    assert sorted(result[["x", "y", "p"]].tolist()) == sorted(events[["x", "y", "p"]].tolist())
    assert result["t"].min() >= events["t"][0] and result["t"].max() <= events["t"][-1]
    assert not np.array_equal(result["t"], events["t"])


def test_d45_the_dropped_part_is_the_part_asked_for():
    events = some_events(20_000)
    kept = len(RandomDrop(0.2)(events, SENSOR, np.random.default_rng(2))) / 20_000
    assert abs(kept - 0.8) < 5 * np.sqrt(0.2 * 0.8 / 20_000)


def test_values_out_of_range_are_refused():
    for wrong in (
        lambda: RandomShift(-1),
        lambda: RandomDrop(1.1),
        lambda: RandomScale(0, 1),
        lambda: RandomScale(2, 1),
    ):
        with pytest.raises(ParameterError):
            wrong()


def test_affine_spreads_events_in_proportion_to_their_place():
    """A shift by a fraction f sends a share f of the events one pixel on, and every event to a neighbour of its place."""
    n, sensor = 20_000, Sensor(9, 9)
    events = make_events([4] * n, [4] * n, range(n), [True] * n)
    rng = np.random.default_rng(3)
    draws = np.random.default_rng(3)
    draws.uniform(-0.0, 0.0), draws.uniform(-0.0, 0.0, 2), draws.uniform(-0.0, 0.0)
    dx, dy = draws.uniform(-0.9, 0.9, 2)
    moved = RandomAffine(pixels=0.9)(events, sensor, rng)
    assert len(moved) == n
    assert abs((moved["x"] - 4).mean() - dx) < 0.02 and abs((moved["y"] - 4).mean() - dy) < 0.02
    assert set(np.unique(moved["x"] - 4)) == {int(np.floor(dx)), int(np.floor(dx)) + 1}
