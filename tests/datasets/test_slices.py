"""Frames by number of events and with overlap: each event where the definition puts it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.events import EVENT, Sensor, make_events
from neuro.datasets.slices import CountFrames, SlidingFrames
from neuro.datasets.transforms import Frames
from neuro.errors import FormatError, ParameterError

SENSOR = Sensor(height=4, width=7)
EMPTY = np.empty(0, EVENT)


def some_events(n, seed=0, last=1000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, n))
    return make_events(rng.integers(7, size=n), rng.integers(4, size=n), t, rng.integers(2, size=n))


def slow(events, members):
    """One event at a time into every frame whose predicate takes it."""
    x = np.zeros((len(members), 2, 4, 7), np.int64)
    for i, event in enumerate(events):
        for k, takes in enumerate(members):
            x[k, int(event["p"]), event["y"], event["x"]] += takes(i, int(event["t"]))
    return x


@given(st.integers(0, 60), st.integers(1, 13), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_d37_d41_equal_shares_lose_nothing(n, bins, seed):
    events = some_events(n, seed)
    x = CountFrames(bins=bins)(events, SENSOR)
    assert np.array_equal(x, slow(events, [lambda i, t, k=k: i * bins // n == k for k in range(bins)]))
    sizes = x.sum((1, 2, 3))
    assert sizes.sum() == n and sizes.max() - sizes.min() <= 1


@given(st.integers(0, 60), st.integers(1, 13), st.data())
@settings(deadline=None, max_examples=60)
def test_d41_frames_of_so_many_events_with_overlap_are_the_slow_definition(n, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    events = some_events(n, n)
    x = CountFrames(events=size, overlap=overlap)(events, SENSOR)
    step = size - overlap
    assert np.array_equal(x, slow(events, [lambda i, t, k=k: k * step <= i < k * step + size for k in range(len(x))]))
    assert (len(x) - 1) * step + size >= n, "the last event is in a frame"
    assert len(x) == 1 or (len(x) - 2) * step + size < n, "and the frame before did not reach it"
    if not overlap:
        assert x.sum() == n


@given(st.integers(1, 60), st.integers(1, 400), st.data())
@settings(deadline=None, max_examples=60)
def test_sliding_windows_are_the_slow_definition(n, window, data):
    stride = data.draw(st.integers(max(window // 5, 1), window))
    events = some_events(n, n)
    origin = int(events["t"][0])
    x = SlidingFrames(window, stride)(events, SENSOR)
    edges = [origin + k * stride for k in range(len(x))]
    assert np.array_equal(x, slow(events, [lambda i, t, e=e: e <= t < e + window for e in edges]))
    assert edges[-1] + window > events["t"][-1] and (len(x) == 1 or edges[-2] + window <= events["t"][-1])


def test_without_overlap_sliding_windows_are_those_of_frames():
    events = some_events(200)
    assert np.array_equal(SlidingFrames(90, 90)(events, SENSOR), Frames(window_us=90)(events, SENSOR))
    fixed = SlidingFrames(100, 50, duration_us=1000, origin_us=0)(events, SENSOR)
    assert len(fixed) == 19 and fixed[::2].sum() == 200


def test_d43_an_empty_recording_keeps_shape_and_dtype():
    full = make_events([0], [0], [0], [0])
    for how in (CountFrames(bins=3), CountFrames(events=5), SlidingFrames(10, 5), SlidingFrames(10, 5, duration_us=100)):
        x, y = how(EMPTY, SENSOR), how(full, SENSOR)
        assert x.shape == y.shape and x.dtype == y.dtype and x.sum() == 0


def test_d38_d42_events_off_the_sensor_raise_and_counts_do_not_wrap():
    many = make_events([6] * 300, [3] * 300, range(300), [1] * 300)
    for how in (CountFrames, SlidingFrames):
        size = {"bins": 1} if how is CountFrames else {"window_us": 1000, "stride_us": 1000}
        with pytest.raises(FormatError, match="outside the sensor"):
            how(**size)(make_events([7], [0], [0], [0]), SENSOR)
        with pytest.raises(FormatError, match="300 events, more than uint8 holds"):
            how(**size, dtype=np.uint8)(many, SENSOR)
        counted = how(**size, dtype=np.uint8, saturate=True).counted(many, SENSOR)
        assert counted.x.max() == 255 and counted.clipped == 45


def test_events_outside_a_stated_duration_raise():
    with pytest.raises(FormatError, match="outside the time windows"):
        SlidingFrames(10, 5, duration_us=100, origin_us=0)(make_events([0], [0], [100], [1]), SENSOR)


def test_choices_that_make_no_sense_are_refused():
    for wrong in ({}, {"bins": 2, "events": 3}, {"bins": 0}, {"events": 4, "overlap": 4}, {"bins": 4, "overlap": 1}):
        with pytest.raises(ParameterError):
            CountFrames(**wrong)
    for wrong in ((0, 0), (5, 6), (5, 5, 0)):
        with pytest.raises(ParameterError):
            SlidingFrames(*wrong)
