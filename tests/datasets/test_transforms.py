"""Frames: every event is in one cell, or is said to be missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.events import EVENT, Sensor, make_events
from neuro.datasets.transforms import Frames
from neuro.errors import FormatError, ParameterError

SENSOR = Sensor(height=4, width=7)
EMPTY = np.empty(0, EVENT)


@st.composite
def recordings(draw, last=10_000):
    n = draw(st.integers(0, 60))
    column = lambda high: draw(st.lists(st.integers(0, high), min_size=n, max_size=n))  # noqa: E731
    return make_events(column(6), column(3), sorted(column(last)), column(1))


MODES = st.one_of(
    st.builds(Frames, bins=st.integers(1, 40)),
    st.builds(Frames, bins=st.integers(1, 40), duration_us=st.just(10_000), origin_us=st.just(0)),
    st.builds(Frames, window_us=st.integers(50, 20_000)),
    st.builds(Frames, window_us=st.integers(50, 20_000), origin_us=st.just(0)),
    st.builds(Frames, window_us=st.integers(50, 20_000), duration_us=st.just(10_000), origin_us=st.just(0)),
)


def slow(events, edges):
    """The definition: one event at a time, windows [edge, next edge), the last one closed."""
    x = np.zeros((len(edges) - 1, 2, SENSOR.height, SENSOR.width), np.int64)
    for event in events:
        t = int(event["t"])
        fits = [k for k in range(len(edges) - 1) if edges[k] <= t < edges[k + 1]]
        x[fits[0] if fits else len(edges) - 2, int(event["p"]), event["y"], event["x"]] += 1
    return x


@given(recordings(), MODES)
@settings(deadline=None, max_examples=200)
def test_d41_no_event_is_lost_in_any_mode(events, frames):
    before = events.copy()
    counted = frames.counted(events, SENSOR)
    assert counted.x.sum() == len(events) and counted.dropped == counted.clipped == 0
    assert counted.x.dtype == np.int64 and counted.x.shape[1:] == (2, 4, 7)
    per_polarity = [(~events["p"]).sum(), events["p"].sum()]
    assert counted.x.sum((0, 2, 3)).tolist() == per_polarity
    assert np.array_equal(events, before)
    assert np.array_equal(frames(events, SENSOR), counted.x)


@given(recordings(last=1000), st.integers(1, 13))
@settings(deadline=None, max_examples=60)
def test_fixed_duration_is_the_slow_definition(events, bins):
    edges = [1000 * k / bins for k in range(bins + 1)]
    assert np.array_equal(Frames(bins=bins, duration_us=1000, origin_us=0)(events, SENSOR), slow(events, edges))


@given(recordings(last=1000), st.integers(50, 400))
@settings(deadline=None, max_examples=60)
def test_fixed_windows_are_the_slow_definition(events, window):
    x = Frames(window_us=window, origin_us=0)(events, SENSOR)
    last = int(events["t"][-1]) if len(events) else 0
    assert len(x) == last // window + 1
    assert np.array_equal(x, slow(events, [window * k for k in range(len(x) + 1)]))


def test_windows_begin_at_the_first_event_unless_told():
    events = make_events([0, 0, 0], [0, 0, 0], [95, 104, 105], [1, 1, 1])
    assert Frames(window_us=10)(events, SENSOR)[:, 1, 0, 0].tolist() == [2, 1]
    assert Frames(window_us=10, origin_us=90)(events, SENSOR)[:, 1, 0, 0].tolist() == [1, 2]
    assert Frames(bins=2)(events, SENSOR)[:, 1, 0, 0].tolist() == [1, 2]


def test_a_shorter_last_window_still_includes_the_end():
    events = make_events([0, 0], [0, 0], [0, 100], [1, 1])
    x = Frames(window_us=30, duration_us=100, origin_us=0)(events, SENSOR)
    assert x[:, 1, 0, 0].tolist() == [1, 0, 0, 1]


def test_d41_events_closer_than_bins_are_all_there():
    events = make_events([0] * 5, [0] * 5, [0, 2, 4, 6, 8], [1] * 5)
    assert Frames(bins=16)(events, SENSOR).sum() == 5
    together = make_events([0] * 3, [0] * 3, [9, 9, 9], [1] * 3)
    assert Frames(bins=16)(together, SENSOR)[0].sum() == 3


def test_d37_windows_without_events_are_zeros():
    events = make_events([0, 1], [0, 0], [0, 1000], [0, 1])
    assert Frames(window_us=100)(events, SENSOR).sum((1, 2, 3)).tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert Frames(bins=10)(events[:1], SENSOR).shape == (10, 2, 4, 7)


def test_d43_an_empty_recording_keeps_shape_and_dtype():
    full = make_events([0], [0], [0], [0])
    for frames in (
        Frames(bins=5),
        Frames(bins=5, duration_us=99),
        Frames(window_us=9, duration_us=45),
        Frames(window_us=9),
    ):
        x, y = frames(EMPTY, SENSOR), frames(full, SENSOR)
        assert x.shape == y.shape and x.dtype == y.dtype and x.sum() == 0


def test_d42_counts_do_not_wrap():
    n = 70_000
    events = make_events(np.full(n, 6), np.full(n, 3), np.arange(n), np.ones(n))
    assert Frames(bins=1)(events, SENSOR)[0, 1, 3, 6] == n
    with pytest.raises(FormatError, match="70000 events, more than uint16 holds"):
        Frames(bins=1, dtype=np.uint16)(events, SENSOR)
    counted = Frames(bins=1, dtype=np.uint8, saturate=True).counted(events, SENSOR)
    assert counted.x.dtype == np.uint8 and counted.x.max() == 255 and counted.clipped == n - 255


@pytest.mark.parametrize("x, y", [(7, 0), (-1, 0), (0, 4), (0, -1)])
def test_d38_an_event_off_the_sensor_is_not_written_into_the_next_row(x, y):
    with pytest.raises(FormatError, match="outside the sensor"):
        Frames(bins=1)(make_events([x], [y], [0], [0]), SENSOR)


def test_d38_a_polarity_of_minus_one_is_not_taken_for_on():
    with pytest.raises(FormatError, match="p does not fit"):
        make_events([0], [0], [0], [-1])


def test_slices_and_arrays_that_cannot_be_written_are_counted_too():
    events = make_events(np.arange(6), [0] * 6, range(6), [1, 0] * 3)
    events.flags.writeable = False
    assert np.array_equal(Frames(bins=2)(events[::2], SENSOR), Frames(bins=2)(events[::2].copy(), SENSOR))


def test_events_outside_the_windows_raise_or_are_counted():
    events = make_events([0] * 4, [0] * 4, [5, 10, 110, 111], [1] * 4)
    frames = {"bins": 2, "duration_us": 100, "origin_us": 10}
    with pytest.raises(FormatError, match="2 of 4 events lie outside"):
        Frames(**frames)(events, SENSOR)
    counted = Frames(**frames, drop_outside=True).counted(events, SENSOR)
    assert counted.dropped == 2 and counted.x[:, 1, 0, 0].tolist() == [1, 1]


def test_a_wild_time_stamp_does_not_fill_the_memory():
    events = make_events([0, 0], [0, 0], [0, 2**50], [1, 1])
    with pytest.raises(FormatError, match="would need"):
        Frames(window_us=1)(events, SENSOR)
    assert Frames(bins=4)(events, SENSOR).sum() == 2


def test_times_that_would_overflow_are_refused():
    events = make_events([0, 0], [0, 0], [-(2**61), 2**61], [1, 1])
    with pytest.raises(FormatError, match="wild time stamp"):
        Frames(bins=4)(events, SENSOR)


def test_events_before_the_origin_are_outside_and_not_in_the_first_window():
    events = make_events([0, 0, 0], [0, 0, 0], [3, 9, 10], [1, 1, 1])
    counted = Frames(window_us=10, origin_us=10, drop_outside=True).counted(events, SENSOR)
    assert counted.dropped == 2 and counted.x.shape[0] == 1 and counted.x.sum() == 1


def test_time_running_backwards_is_refused():
    with pytest.raises(FormatError, match="backwards"):
        Frames(bins=4)(make_events([0] * 3, [0] * 3, [5, 4, 9], [1] * 3), SENSOR)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32])
def test_every_dtype_counts_alike_and_full_cells_are_reported(dtype):
    rng = np.random.default_rng(0)
    n = 3000
    events = make_events(rng.integers(7, size=n), rng.integers(4, size=n), np.sort(rng.integers(0, 99, n)), rng.integers(2, size=n))
    x = Frames(bins=3, dtype=dtype)(events, SENSOR)
    assert x.dtype == dtype and np.array_equal(x, Frames(bins=3)(events, SENSOR))
    one = make_events([2] * 700, [1] * 700, range(700), [1] * 700)
    counted = Frames(bins=2, dtype=dtype, saturate=True).counted(one, SENSOR)
    assert counted.x.sum(dtype=np.int64) + counted.clipped == 700
    assert (counted.clipped > 0) == (dtype is np.uint8)


def test_choices_that_make_no_sense_are_refused():
    wrong = (
        {},
        {"bins": 0},
        {"bins": 2.0},
        {"bins": 2, "window_us": 3},
        {"window_us": 0.5},
        {"bins": 2, "origin_us": 0},
        {"bins": 1, "dtype": float},
    )
    for choices in wrong:
        with pytest.raises(ParameterError):
            Frames(**choices)
