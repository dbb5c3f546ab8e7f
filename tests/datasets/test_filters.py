"""Denoise, hot pixels, refractory, decimation and coarser pixels against brute-force definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.augment import Compose
from neuro.datasets.denoise import Denoise, RemoveHotPixels
from neuro.datasets.events import EVENT, Sensor, check_events, make_events
from neuro.datasets.loading import EventFrames
from neuro.datasets.motions import make_motions
from neuro.datasets.resizing import Crop, CropTime, IntegrateDownsample, SpatialDownsample, TimeDownsample
from neuro.datasets.thinning import Decimate, Refractory
from neuro.datasets.transforms import Frames
from neuro.errors import FormatError, ParameterError

SENSOR = Sensor(height=5, width=7)
ALL = (
    Denoise(50), Denoise(50, radius=2, mutual=False), RemoveHotPixels(3000.0), Refractory(40), Refractory(40, every_event=True),
    Decimate(3), SpatialDownsample(2), IntegrateDownsample(2), TimeDownsample(20), Crop(3, 4), CropTime(10, 500),
)  # fmt: skip


def some_events(n, seed=0, last=1000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, n))
    return make_events(rng.integers(7, size=n), rng.integers(5, size=n), t, rng.integers(2, size=n))


SEEDED = given(st.integers(0, 70), st.integers(0, 99))


@SEEDED
@settings(deadline=None, max_examples=40)
def test_d48_an_event_is_kept_exactly_where_it_has_company(n, seed):
    events = some_events(n, seed)
    x, y, t = (events[name].astype(int) for name in "xyt")
    for radius in (1, 2):
        near = (abs(x[:, None] - x) <= radius) & (abs(y[:, None] - y) <= radius) & ((x[:, None] != x) | (y[:, None] != y))
        soon = abs(t[:, None] - t) <= 60
        assert np.array_equal(Denoise(60, radius)(events, SENSOR), events[(near & soon).any(1)])
        before = np.tril(np.ones((n, n), bool), -1)
        assert np.array_equal(Denoise(60, radius, mutual=False)(events, SENSOR), events[(near & soon & before).any(1)])


def test_d48_mutual_support_keeps_both_and_the_first_interval_is_no_exception():
    pair = make_events([2, 3], [2, 2], [0, 9], [1, 1])
    assert len(Denoise(10)(pair, SENSOR)) == 2
    alone = make_events([0, 3, 6], [0, 2, 4], [0, 1, 2], [1, 1, 1])
    assert len(Denoise(10_000)(alone, SENSOR)) == 0
    with pytest.raises(FormatError, match="beyond"):
        Denoise(10)(make_events([0, 1], [0, 0], [-(2**62), 0], [1, 1]), SENSOR)
    same_pixel = make_events([2, 2], [2, 2], [0, 1], [1, 1])
    assert len(Denoise(10)(same_pixel, SENSOR)) == 0, "a pixel is no company to itself"


@SEEDED
@settings(deadline=None, max_examples=40)
def test_refractory_and_decimation_are_the_slow_definitions(n, seed):
    events = some_events(n, seed)
    for every_event in (False, True):
        last, kept = {}, []
        for event in events:
            pixel = (int(event["x"]), int(event["y"]))
            keep = pixel not in last or event["t"] - last[pixel] >= 150
            kept += [event] if keep else []
            if keep or every_event:
                last[pixel] = event["t"]
        assert np.array_equal(Refractory(150, every_event)(events, SENSOR), np.array(kept, EVENT))
    seen, kept = {}, []
    for event in events:
        pixel = (int(event["x"]), int(event["y"]))
        seen[pixel] = seen.get(pixel, 0) + 1
        kept += [event] if seen[pixel] % 2 == 0 else []
    assert np.array_equal(Decimate(2)(events, SENSOR), np.array(kept, EVENT))
    assert np.array_equal(Refractory(0)(events, SENSOR), events) and np.array_equal(Decimate(1)(events, SENSOR), events)


@SEEDED
@settings(deadline=None, max_examples=40)
def test_d46_integration_is_the_slow_definition_and_works_as_documented(n, seed):
    events = some_events(n, seed)
    level, kept = {}, []
    for event in events:
        block = (int(event["x"]) // 2, int(event["y"]) // 2)
        level[block] = level.get(block, 0) + (1 if event["p"] else -1)
        if abs(level[block]) >= 2:
            kept.append((*block, int(event["t"]), level[block] > 0))
            level[block] = 0
    assert IntegrateDownsample(2)(events, SENSOR).tolist() == kept
    assert np.array_equal(IntegrateDownsample(2, threshold=1)(events, SENSOR), SpatialDownsample(2)(events, SENSOR))


@SEEDED
@settings(deadline=None, max_examples=20)
def test_coarser_pixels_and_times_lose_no_event(n, seed):
    events = some_events(n, seed)
    small = SpatialDownsample(3).resized(SENSOR)
    coarse = Frames(bins=1)(SpatialDownsample(3)(events, SENSOR), small)[0]
    fine = np.pad(Frames(bins=1)(events, SENSOR)[0], ((0, 0), (0, 1), (0, 2))).reshape(2, 2, 3, 3, 3).sum((2, 4))
    assert np.array_equal(coarse, fine)
    assert TimeDownsample(30)(events, SENSOR)["t"].tolist() == [t // 30 * 30 for t in events["t"].tolist()]


def test_hot_pixels_are_those_above_the_rate():
    quiet = some_events(100, last=1_000_000)
    hot = make_events([3] * 500, [2] * 500, range(0, 1_000_000, 2000), [1] * 500)
    events = np.sort(np.concatenate([quiet, hot]), order="t")
    step = RemoveHotPixels(100.0, duration_us=1_000_000)
    assert np.argwhere(step.hot(events, SENSOR)).tolist() == [[2, 3]]
    assert np.array_equal(step(events, SENSOR), events[(events["x"] != 3) | (events["y"] != 2)])
    with pytest.raises(FormatError, match="no rate"):
        RemoveHotPixels(100.0)(hot[:1], SENSOR)


def test_a_crop_moves_the_box_to_the_corner_and_becomes_the_sensor():
    events = some_events(300)
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    for step in (Crop(3, 4), Crop(3, 4, random=True)):
        out = step(events, SENSOR, rng)
        top, left = (int(again.integers(3)), int(again.integers(4))) if step.random else (1, 1)
        keep = (events["y"] >= top) & (events["y"] < top + 3) & (events["x"] >= left) & (events["x"] < left + 4)
        assert out["x"].tolist() == (events["x"][keep] - left).tolist() and out["y"].tolist() == (events["y"][keep] - top).tolist()
        check_events(out, step.resized(SENSOR))
    with pytest.raises(ParameterError, match="larger than the sensor"):
        Crop(6, 2)(events, SENSOR)
    with pytest.raises(ParameterError, match="needs a generator"):
        Crop(2, 2, random=True)(events, SENSOR)


def test_time_is_cropped_by_half_open_windows_of_each_recording_itself():
    step = CropTime(10, 20)
    for origin in (0, 5000):  # what one recording is like leaves no trace in the next
        events = make_events([0] * 4, [0] * 4, np.array([0, 10, 19, 20]) + origin, [1] * 4)
        assert (step(events, SENSOR)["t"] - origin).tolist() == [10, 19]
    assert CropTime(10, 20, from_first=False)(events, SENSOR).size == 0


def test_steps_after_a_change_of_size_see_the_new_sensor():
    steps = Compose(Crop(4, 6), SpatialDownsample(2), Refractory(5))
    assert steps.resized(SENSOR) == Sensor(2, 3)
    check_events(steps(some_events(200), SENSOR, np.random.default_rng(0)), Sensor(2, 3))
    data = EventFrames(make_motions(2), Frames(bins=4), Compose(SpatialDownsample(2)))
    assert list(data[1].x.shape) == [4, 2, 16, 16] and data[1].x.sum() == len(data.recordings[1].events)


@pytest.mark.parametrize("step", ALL, ids=repr)
def test_every_filter_keeps_its_promises(step):
    events = some_events(200)
    before = events.copy()
    first, again = step(events, SENSOR), step(events, SENSOR)
    assert np.array_equal(first, again) and np.array_equal(events, before)
    check_events(first, step.resized(SENSOR) if hasattr(step, "resized") else SENSOR)
    first["t"] += 1
    assert np.array_equal(events, before), "the result is not the caller's memory"
    nothing = step(np.empty(0, EVENT), SENSOR)
    assert nothing.dtype == EVENT and len(nothing) == 0
    with pytest.raises(FormatError, match="outside the sensor"):
        step(make_events([7], [0], [0], [0]), SENSOR)


def test_values_out_of_range_are_refused():
    for wrong in (
        lambda: Denoise(-1), lambda: Denoise(1, 0), lambda: Denoise(2**62), lambda: RemoveHotPixels(0.0), lambda: Refractory(-1), lambda: Decimate(0),
        lambda: SpatialDownsample(0), lambda: SpatialDownsample(1.5), lambda: IntegrateDownsample(2, 0), lambda: TimeDownsample(0),
        lambda: Crop(0, 1), lambda: CropTime(5, 5),
    ):  # fmt: skip
        with pytest.raises(ParameterError):
            wrong()
