"""Voxel grids: shares of each event add up to it, in NumPy and, for a batch, in torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.events import EVENT, Sensor, make_events
from neuro.datasets.voxels import VoxelGrid
from neuro.errors import FormatError, ParameterError

SENSOR = Sensor(height=4, width=7)


def some_events(n, seed=0, last=1000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, n))
    return make_events(rng.integers(7, size=n), rng.integers(4, size=n), t, rng.integers(2, size=n))


def slow(events, bins, origin, span, split):
    """The definition: every event against every point in time."""
    x = np.zeros((bins, 2 if split else 1, 4, 7))
    for event in events:
        place = (bins - 1) * (int(event["t"]) - origin) / span
        for b in range(bins):
            sign = 1 if split or event["p"] else -1
            x[b, int(event["p"]) if split else 0, event["y"], event["x"]] += sign * max(0.0, 1 - abs(b - place))
    return x


@given(st.integers(0, 60), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=80)
def test_d44_the_grid_is_the_slow_definition_and_loses_nothing(n, bins, split, fixed, seed):
    events = some_events(n, seed)
    before = events.copy()
    x = VoxelGrid(bins, **({"duration_us": 1000, "origin_us": 0} if fixed else {}), split=split)(events, SENSOR)
    origin = 0 if fixed or not n else int(events["t"][0])
    span = 1000 if fixed else max(int(events["t"][-1]) - origin, 1) if n else 1
    assert x.dtype == np.float32 and np.allclose(x, slow(events, bins, origin, span, split), atol=1e-5)
    on, off = int(events["p"].sum()), int((~events["p"]).sum())
    if split:
        assert np.allclose(x.sum((0, 2, 3)), [off, on], atol=1e-4)
    else:
        assert np.isclose(x.sum(), on - off, atol=1e-4)
    assert np.array_equal(events, before), "the caller's events are not rewritten"


def test_d44_equal_times_are_at_the_first_point_and_not_nan():
    x = VoxelGrid(5)(make_events([0, 0, 1], [0, 0, 0], [9, 9, 9], [1, 1, 0]), SENSOR)
    assert x[0, 0, 0, :2].tolist() == [2.0, -1.0] and np.abs(x).sum() == 3


def test_an_event_at_the_end_is_all_at_the_last_point():
    x = VoxelGrid(3, duration_us=10, origin_us=0)(make_events([0], [0], [10], [1]), SENSOR)
    assert x[:, 0, 0, 0].tolist() == [0.0, 0.0, 1.0]


def test_d43_an_empty_recording_keeps_shape_and_dtype():
    x = VoxelGrid(5)(np.empty(0, EVENT), SENSOR)
    assert x.shape == (5, 1, 4, 7) and x.dtype == np.float32 and not x.any()


@pytest.mark.parametrize("x, y", [(7, 0), (-1, 0), (0, 4), (0, -1)])
def test_d38_an_event_off_the_sensor_raises(x, y):
    with pytest.raises(FormatError, match="outside the sensor"):
        VoxelGrid(2)(make_events([x], [y], [0], [0]), SENSOR)


def test_events_outside_the_span_raise_or_are_counted():
    events = make_events([0] * 4, [0] * 4, [5, 10, 110, 111], [1] * 4)
    with pytest.raises(FormatError, match="2 of 4 events lie outside"):
        VoxelGrid(3, duration_us=100, origin_us=10)(events, SENSOR)
    gridded = VoxelGrid(3, duration_us=100, origin_us=10, drop_outside=True).gridded(events, SENSOR)
    assert gridded.dropped == 2 and gridded.x.sum() == 2


def test_choices_that_make_no_sense_are_refused():
    for wrong in ({"bins": 0}, {"bins": 2.0}, {"bins": 2, "origin_us": 0}, {"bins": 2, "duration_us": 0}):
        with pytest.raises(ParameterError):
            VoxelGrid(**wrong)
