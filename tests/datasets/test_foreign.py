"""tonic's transforms among ours and ours among tonic's: against brute force, not against each other."""

import numpy as np
import pytest
import tonic.transforms as theirs

from neuro.datasets.augment import Compose, RandomDrop, RandomShift, TimeJitter
from neuro.datasets.denoise import Denoise
from neuro.datasets.events import EVENT, Sensor, make_events
from neuro.datasets.foreign import ForTonic, FromTonic
from neuro.datasets.transforms import Frames
from neuro.errors import FormatError

SENSOR, SIZE = Sensor(height=12, width=17), (17, 12, 2)


def some_events(n=400, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 10_000, n))
    return make_events(rng.integers(17, size=n), rng.integers(12, size=n), t, rng.integers(2, size=n))


def test_d44_boolean_polarity_is_read_as_on_and_off():
    """By hand: of two bins tonic's grid holds each event's share 1 - f at floor(2 f), and f beyond it."""
    events = make_events([0, 0, 1], [0, 0, 0], [0, 50, 100], [0, 1, 1])
    before = events.copy()
    grid = FromTonic(theirs.ToVoxelGrid(SIZE, 2))(events, SENSOR)
    assert grid[:, 0, 0, 0].tolist() == [-1.0, 1.0]  # OFF at the start, ON in the middle
    assert np.array_equal(events, before), "the caller's events are not rewritten"


def test_d47_what_tonic_leaves_out_of_order_or_off_the_sensor_is_noticed():
    rng = np.random.default_rng(0)
    with pytest.raises(FormatError, match="backwards"):
        FromTonic(theirs.TimeJitter(500.0))(some_events(), SENSOR, rng)
    jittered = FromTonic(theirs.TimeJitter(500.0), sort=True)(some_events(), SENSOR, rng)
    assert (np.diff(jittered["t"]) >= 0).all() and jittered.dtype == EVENT
    with pytest.raises(FormatError, match="outside the sensor"):
        FromTonic(theirs.SpatialJitter(SIZE, var_x=9, var_y=9))(some_events(), SENSOR, rng)


def test_draws_of_tonic_come_from_the_generator_and_leave_the_global_one():
    step = FromTonic(theirs.DropEvent(p=0.3))
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    answers = [step(some_events(), SENSOR, np.random.default_rng(seed)).tobytes() for seed in (1, 1, 2)]
    assert np.random.random() == expected
    assert answers[0] == answers[1] != answers[2]


def test_tonic_steps_stand_between_ours():
    steps = Compose(RandomShift(2), FromTonic(theirs.RandomFlipLR(SIZE, p=1.0)), RandomDrop(0.2))
    events, draws = some_events(), np.random.default_rng(7)
    result = steps(events, SENSOR, np.random.default_rng(7))
    middle = RandomShift(2)(events, SENSOR, draws)
    middle["x"] = 16 - middle["x"]
    draws.integers(2**32)  # the seed lent to tonic
    assert np.array_equal(result, RandomDrop(0.2)(middle, SENSOR, draws))


def test_our_steps_stand_between_tonics():
    chain = theirs.Compose([ForTonic(Denoise(500), SENSOR), ForTonic(TimeJitter(30.0), SENSOR), theirs.ToFrame(SIZE, n_event_bins=1)])
    events = some_events()
    kept = len(Denoise(500)(events, SENSOR))
    assert 0 < kept < 400 and chain(events).sum() == kept
    last = theirs.Compose([theirs.RandomFlipLR(SIZE, p=1.0), ForTonic(Frames(bins=3), SENSOR, draws=False)])
    assert np.array_equal(last(events.copy()), Frames(bins=3)(events, SENSOR)[..., ::-1])


def test_draws_follow_seed_epoch_and_content():
    first, second = some_events(seed=1), some_events(seed=2)
    base = ForTonic(RandomDrop(0.5), SENSOR)
    same = [base(first), ForTonic(RandomDrop(0.5), SENSOR)(first.copy())]
    assert np.array_equal(*same)
    for other in (ForTonic(RandomDrop(0.5), SENSOR, seed=1), ForTonic(RandomDrop(0.5), SENSOR, epoch=1)):
        assert not np.array_equal(other(first), same[0])
    assert len(base(second)) != len(same[0]) or not np.array_equal(base(second)["t"], same[0]["t"])


def test_other_dtypes_and_polarities_are_taken_or_refused():
    events = some_events()
    frames = ForTonic(Frames(bins=2), SENSOR, draws=False)
    for values in ((0, 1), (-1, 1)):
        other = np.empty(len(events), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "i1")])
        for name in "xyt":
            other[name] = events[name]
        other["p"] = np.where(events["p"], values[1], values[0])
        assert np.array_equal(frames(other), Frames(bins=2)(events, SENSOR))
    other["p"][3] = 5
    with pytest.raises(FormatError, match="none of -1, 0 and 1"):
        frames(other)
