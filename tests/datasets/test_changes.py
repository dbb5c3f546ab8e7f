"""Flips, jitter, drops, mixtures and policies: sound results, right shares, untouched input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.arranging import by_time
from neuro.datasets.augment import TimeJitter
from neuro.datasets.dropping import DropArea, DropShare, DropTime
from neuro.datasets.events import EVENT, Sensor, check_events, in_order, make_events
from neuro.datasets.flipping import RandomFlipPolarity, RandomFlipVertical, RandomReverseTime
from neuro.datasets.jitter import SpatialJitter
from neuro.datasets.mixing import EventCutMix, EventMixup
from neuro.datasets.policies import (
    Cutout,
    Identity,
    OneOf,
    RandomRoll,
    RandomShear,
    ShiftAxis,
    event_drop,
    nda,
    snn_augment_wide,
)
from neuro.datasets.thinning import Decimate
from neuro.errors import ParameterError

SENSOR = Sensor(height=12, width=17)
RANDOM = (
    RandomFlipVertical(), RandomFlipPolarity(), RandomFlipPolarity(each=True), RandomReverseTime(), SpatialJitter(2.0),
    SpatialJitter(1.0, 3.0, clip=True), DropShare((0.1, 0.6)), DropTime(0.3), DropTime((0.1, 0.9)), DropArea(0.2),
    RandomShear(0.3), RandomRoll(5), ShiftAxis(4, 0), ShiftAxis(4, 1), Cutout(5), nda(), nda(2), snn_augment_wide(), event_drop(),
)  # fmt: skip


def some_events(n=500, seed=0, first=70_000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(first, first + 10_000, n))
    return make_events(rng.integers(17, size=n), rng.integers(12, size=n), t, rng.random(n) < 0.5)


@given(st.integers(0, 80), st.integers(0, 10**6), st.sampled_from((*RANDOM, Identity())))
@settings(deadline=None, max_examples=150)
def test_d47_the_result_is_sound_and_the_input_untouched(n, seed, change):
    events = some_events(n, seed)
    before = events.copy()
    first, again = (change(events, SENSOR, np.random.default_rng(seed)) for _ in range(2))
    check_events(first, SENSOR)
    assert np.array_equal(first, again) and np.array_equal(events, before)
    first["t"] += 1
    assert np.array_equal(events, before), "the result is not the caller's memory"


@pytest.mark.parametrize("change", RANDOM, ids=repr)
def test_another_seed_gives_another_answer(change):
    assert len({change(some_events(), SENSOR, np.random.default_rng(seed)).tobytes() for seed in range(12)}) > 1


def test_flips_twice_are_nothing():
    events, rng = some_events(), np.random.default_rng(0)
    for flip in (RandomFlipVertical(1.0), RandomFlipPolarity(1.0), RandomReverseTime(1.0), RandomReverseTime(1.0, swap=False)):
        once = flip(events, SENSOR, rng)
        assert not np.array_equal(once, events) and np.array_equal(flip(once, SENSOR, rng), events)
    assert np.array_equal(RandomFlipVertical(1.0)(events, SENSOR, rng)["y"], 11 - events["y"])
    assert np.array_equal(RandomFlipPolarity(1.0)(events, SENSOR, rng)["p"], ~events["p"])


def test_d47_polarity_is_flipped_for_all_events_or_for_each_as_said():
    events = some_events(4000)
    shares = [(RandomFlipPolarity(0.3)(events, SENSOR, np.random.default_rng(s))["p"] != events["p"]).mean() for s in range(20)]
    assert set(shares) == {0.0, 1.0}
    each = (RandomFlipPolarity(0.3, each=True)(events, SENSOR, np.random.default_rng(0))["p"] != events["p"]).mean()
    assert abs(each - 0.3) < 5 * np.sqrt(0.21 / 4000)


def test_d47_jitter_in_space_accounts_for_what_leaves_the_sensor():
    events = some_events(5000)
    dropped = SpatialJitter(3.0).counted(events, SENSOR, np.random.default_rng(0))
    held = SpatialJitter(3.0, clip=True).counted(events, SENSOR, np.random.default_rng(0))
    assert dropped.dropped > 500 and len(dropped.events) + dropped.dropped == 5000 and dropped.clipped == 0
    assert len(held.events) == 5000 and held.clipped == dropped.dropped and held.dropped == 0
    centre = make_events([200] * 5000, [200] * 5000, range(5000), [1] * 5000)
    moved = SpatialJitter(2.0, 5.0)(centre, Sensor(400, 400), np.random.default_rng(1))
    assert abs(moved["x"].std() - 2) < 0.2 and abs(moved["y"].std() - 5) < 0.4 and abs(moved["x"].mean() - 200) < 0.2
    assert np.array_equal(SpatialJitter(0.0)(events, SENSOR, np.random.default_rng(0)), events)


def test_d47_jitter_in_time_counts_what_it_holds_at_the_ends():
    events = make_events([0] * 3, [0] * 3, [0, 500_000, 1_000_000], [0, 1, 0])
    counted = TimeJitter(10.0).counted(events, SENSOR, np.random.default_rng(0))
    draws = np.rint(np.random.default_rng(0).normal(0, 10.0, 3))
    assert counted.clipped == (draws[0] < 0) + (draws[2] > 0) and counted.events["t"].max() <= 1_000_000


@given(st.integers(0, 400), st.integers(0, 99), st.sampled_from([1, 50, 10**5, 2**40]))
@settings(deadline=None, max_examples=60)
def test_sorting_by_time_keeps_the_order_of_equals(n, seed, span):
    rng = np.random.default_rng(seed)
    events = make_events(np.arange(n) % 17, np.arange(n) // 17 % 12, rng.integers(-span, span, n), np.zeros(n))
    assert np.array_equal(by_time(events), in_order(events))


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
def test_d45_the_share_left_out_is_the_share_asked_for(share):
    events, rng = some_events(20_000), np.random.default_rng(2)
    assert len(DropShare(share)(events, SENSOR, rng)) == 20_000 - round(share * 20_000)
    kept = np.mean([len(DropTime(share)(events, SENSOR, rng)) for _ in range(20)]) / 20_000
    assert abs(kept - (1 - share)) < 0.02, "also where time does not begin at zero"


def test_d45_a_box_has_the_area_asked_for_and_reaches_every_corner():
    events, sensor = some_events(20_000), Sensor(120, 170)
    events["x"] *= 10
    events["y"] *= 10
    for share in (0.0, 0.1, 0.2, 1.0):
        boxes = [DropArea(share).box(sensor, np.random.default_rng(s)) for s in range(300)]
        assert all(abs(h * w / (120 * 170) - share) < 0.01 and t + h <= 120 and x + w <= 170 for t, x, h, w in boxes)
    tops = {DropArea(0.9).box(SENSOR, np.random.default_rng(s))[:2] for s in range(200)}
    assert tops == {(t, x) for t in range(12 - 11 + 1) for x in range(17 - 16 + 1)}
    drop = DropArea((0.1, 0.2))
    for seed in range(20):
        top, left, height, width = drop.box(sensor, np.random.default_rng(seed))
        kept = drop(events, sensor, np.random.default_rng(seed))
        inside = (events["x"] >= left) & (events["x"] < left + width) & (events["y"] >= top) & (events["y"] < top + height)
        assert np.array_equal(kept, events[~inside]) and 0.09 <= height * width / (120 * 170) <= 0.21


def test_every_subset_is_equally_likely():
    events, counts = some_events(4), {}
    rng = np.random.default_rng(0)
    for _ in range(6000):
        kept = tuple(DropShare(0.5)(events, SENSOR, rng)["t"].tolist())
        counts[kept] = counts.get(kept, 0) + 1
    assert len(counts) == 6 and max(counts.values()) - min(counts.values()) < 5 * np.sqrt(2 * 1000)


def test_a_mixture_holds_events_of_both_in_the_shares_that_it_states():
    first, second = some_events(4000, 1), some_events(4000, 2, first=5)
    first["p"], second["p"] = True, False  # tells them apart
    for seed in range(10):
        mixed = EventMixup(2.0)(first, second, SENSOR, np.random.default_rng(seed))
        check_events(mixed.events, SENSOR)
        assert abs(mixed.events["p"].sum() / 4000 - mixed.share) < 0.05
        assert abs((~mixed.events["p"]).sum() / 4000 - (1 - mixed.share)) < 0.05
        cut = EventCutMix()(first, second, SENSOR, np.random.default_rng(seed))
        check_events(cut.events, SENSOR)
        pixels = {(x, y): p for x, y, _, p in cut.events.tolist()}
        assert all(pixels[x, y] == p for x, y, _, p in cut.events.tolist()), "each pixel is of one recording"
        assert np.isclose(np.mean(list(pixels.values())), cut.share, atol=0.02)
    assert mixed.events["t"].min() >= 70_000 - 1 and len(EventMixup()(first[:0], second[:0], SENSOR, np.random.default_rng(0)).events) == 0


def test_rolling_loses_nothing_and_shear_leaves_the_middle():
    events = some_events()
    rolled = RandomRoll(5)(events, SENSOR, np.random.default_rng(3))
    dx, dy = np.random.default_rng(3).integers(-5, 6, size=2)
    assert np.array_equal(rolled["x"], (events["x"] + dx) % 17) and np.array_equal(rolled["y"], (events["y"] + dy) % 12)
    middle = make_events(range(9), [4] * 9, range(9), [1] * 9)
    assert np.array_equal(RandomShear(0.9)(middle, Sensor(9, 9), np.random.default_rng(0)), middle)


def test_one_of_takes_each_and_only_one():
    step = OneOf(Decimate(1), DropShare(1.0))
    sizes = [len(step(some_events(), SENSOR, np.random.default_rng(s))) for s in range(60)]
    assert set(sizes) == {0, 500} and 15 < sizes.count(0) < 45


def test_values_out_of_range_are_refused():
    for wrong in (
        lambda: RandomFlipVertical(1.1), lambda: SpatialJitter(-1.0), lambda: SpatialJitter(1.0, -1.0), lambda: DropShare(1.2),
        lambda: DropTime((0.5, 0.2)), lambda: DropArea(-0.1), lambda: EventMixup(0.0), lambda: EventCutMix(0.0), lambda: OneOf(),
        lambda: nda(0), lambda: Cutout(-1), lambda: ShiftAxis(1, 2), lambda: RandomRoll(-1), lambda: RandomShear(-0.1),
    ):  # fmt: skip
        with pytest.raises(ParameterError):
            wrong()


def test_an_empty_recording_stays_empty():
    for change in RANDOM:
        result = change(np.empty(0, EVENT), SENSOR, np.random.default_rng(0))
        assert result.dtype == EVENT and len(result) == 0
