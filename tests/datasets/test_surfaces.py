"""Surfaces, leaky frames, HATS, stacked histograms and Bina-Rep against one-event-at-a-time definitions."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.events import EVENT, Sensor, make_events
from neuro.datasets.hats import AveragedSurface
from neuro.datasets.points import Points
from neuro.datasets.slices import CountFrames, SlidingFrames
from neuro.datasets.stacking import BinaRep, StackedHistogram
from neuro.datasets.surfaces import LeakyFrames, TimeSurface
from neuro.datasets.transforms import Frames
from neuro.datasets.voxels import VoxelGrid
from neuro.errors import FormatError, ParameterError

SENSOR = Sensor(height=4, width=7)
WINDOWS = st.sampled_from([{"bins": 4}, {"bins": 5, "duration_us": 1000, "origin_us": 0}, {"window_us": 240},
                           {"window_us": 240, "duration_us": 1000, "origin_us": 0}])  # fmt: skip
ALL = (
    TimeSurface(bins=3, tau_us=50.0),
    LeakyFrames(bins=3, tau_us=50.0),
    AveragedSurface(3, 1, 50.0, 100),
    StackedHistogram(bins=3, stack=2),
    BinaRep(bins=3, bits=4),
)


def some_events(n, seed=0, last=1000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, n))
    return make_events(rng.integers(7, size=n), rng.integers(4, size=n), t, rng.integers(2, size=n))


def timed(events, windows):
    """(window of each event, end of each window), in plain arithmetic."""
    first, last = (int(events["t"][0]), int(events["t"][-1])) if len(events) else (0, 0)
    origin = windows.get("origin_us", first)
    if "bins" in windows:
        length, width = windows["bins"], (windows.get("duration_us") or max(last - first, 1)) / windows["bins"]
    else:
        width = windows["window_us"]
        length = -(-windows["duration_us"] // width) if "duration_us" in windows else (last - origin) // width + 1
    ends = [origin + (k + 1) * width for k in range(length)]
    return [next((k for k, end in enumerate(ends) if t < end), length - 1) for t in events["t"].tolist()], ends


@given(st.integers(0, 50), WINDOWS, st.floats(5, 5000), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_surfaces_and_leaky_frames_are_the_slow_definition(n, windows, tau, seed):
    events = some_events(n, seed)
    before = events.copy()
    which, ends = timed(events, windows)
    surface, leaky = np.zeros((2, len(ends), 2, 4, 7))
    for k, end in enumerate(ends):
        for event, window in zip(events, which, strict=True):
            if window <= k:
                cell = k, int(event["p"]), event["y"], event["x"]
                surface[cell] = np.exp(-(end - event["t"]) / tau)  # later events write over earlier ones
                leaky[cell] += np.exp(-(end - event["t"]) / tau)
    x, y = (kind(**windows, tau_us=tau)(events, SENSOR) for kind in (TimeSurface, LeakyFrames))
    assert x.shape == surface.shape and x.dtype == np.float32 and np.allclose(x, surface, rtol=1e-5, atol=1e-7)
    assert y.shape == leaky.shape and y.dtype == np.float32 and np.allclose(y, leaky, rtol=1e-5, atol=1e-6)
    assert np.array_equal(events, before)


def test_with_an_endless_memory_leaky_frames_are_the_running_count():
    events = some_events(200)
    x = LeakyFrames(bins=4, tau_us=1e15)(events, SENSOR)
    assert np.allclose(x, np.cumsum(Frames(bins=4)(events, SENSOR), 0), rtol=1e-6)


@given(st.integers(0, 50), st.sampled_from([(3, 1), (2, 2), (10, 1), (1, 0)]), st.integers(1, 400), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_hats_is_the_slow_definition(n, shape, window, seed):
    cell, radius = shape
    events = some_events(n, seed)
    x = AveragedSurface(cell, radius, 60.0, window)(events, SENSOR)
    across, down = -(-7 // cell), -(-4 // cell)
    sums, counts = np.zeros((across * down, 2, 2 * radius + 1, 2 * radius + 1)), np.zeros((across * down, 2))
    where = [(int(e["y"]) // cell * across + int(e["x"]) // cell, int(e["p"])) for e in events]
    for i, a in enumerate(events):
        counts[where[i]] += 1
        for j, b in enumerate(events):
            dx, dy, age = int(b["x"]) - int(a["x"]), int(b["y"]) - int(a["y"]), int(a["t"]) - int(b["t"])
            if where[i] == where[j] and max(abs(dx), abs(dy)) <= radius and 0 < age <= window:
                sums[where[i]][dy + radius, dx + radius] += np.exp(-age / 60.0)
    assert x.dtype == np.float32 and np.allclose(x, sums / np.maximum(counts, 1)[..., None, None], rtol=1e-5, atol=1e-7)


@given(st.integers(0, 80), WINDOWS, st.sampled_from([1, 2, 4]), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_stacked_bins_add_up_to_the_frames(n, windows, stack, seed):
    events = some_events(n, seed)
    counted = StackedHistogram(**windows, stack=stack).counted(events, SENSOR)
    assert counted.x.dtype == np.uint8 and counted.dropped == counted.clipped == 0
    summed = counted.x.reshape(-1, 2, stack, 4, 7).sum(2)
    frames = Frames(**windows)(events, SENSOR)
    assert summed.sum() == n
    assert np.array_equal(summed, frames)


def test_a_clipped_stack_says_how_much():
    events = make_events([0] * 300, [0] * 300, [5] * 300, [1] * 300)
    for most in (1, 10, 255):
        counted = StackedHistogram(bins=1, stack=2, most=most).counted(events, SENSOR)
        assert counted.x.max() == most and counted.clipped == 300 - most


@given(st.integers(0, 80), st.integers(1, 12), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_binarep_is_the_number_that_its_bins_spell(n, bits, seed):
    events = some_events(n, seed)
    x = BinaRep(bins=3, bits=bits)(events, SENSOR)
    seen = Frames(bins=3 * bits)(events, SENSOR) > 0
    for k in range(3):
        spelled = [int("".join(str(int(b)) for b in column), 2) for column in seen[k * bits : (k + 1) * bits].reshape(bits, -1).T]
        assert np.allclose(x[k].ravel(), np.array(spelled) / (2**bits - 1), atol=1e-7)


@pytest.mark.parametrize("how", ALL, ids=lambda how: type(how).__name__)
def test_d38_d43_empty_recordings_keep_their_shape_and_bad_events_raise(how):
    empty, full = how(np.empty(0, EVENT), SENSOR), how(some_events(30), SENSOR)
    assert empty.shape == full.shape and empty.dtype == full.dtype and not empty.any() and full.any()
    with pytest.raises(FormatError, match="outside the sensor"):
        how(make_events([7], [0], [0], [0]), SENSOR)
    with pytest.raises(FormatError, match="backwards"):
        how(make_events([0, 0], [0, 0], [5, 4], [0, 0]), SENSOR)


def test_a_saved_model_can_carry_its_representation():
    from neuro.training.described import build, describe

    for how in (*ALL, VoxelGrid(5, split=True), CountFrames(events=9, overlap=2), SlidingFrames(9, 3), Points(), Frames(bins=2)):
        assert build(json.loads(json.dumps(describe(how)))) == how


def test_choices_that_make_no_sense_are_refused():
    for wrong in (
        lambda: TimeSurface(bins=2, tau_us=0.0), lambda: LeakyFrames(bins=2, tau_us=float("nan")), lambda: TimeSurface(tau_us=1.0),
        lambda: AveragedSurface(0, 1, 1.0, 1), lambda: AveragedSurface(3, 1, 0.0, 1), lambda: BinaRep(bins=1, bits=25),
        lambda: BinaRep(window_us=10, bits=3), lambda: StackedHistogram(bins=1, stack=0), lambda: StackedHistogram(bins=1, stack=1, most=256),
    ):  # fmt: skip
        with pytest.raises(ParameterError):
            wrong()
