"""The simulated camera against what its equation says."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.events import check_events
from neuro.datasets.simulate import Camera
from neuro.errors import ParameterError, ShapeError

IDEAL = Camera(height=3, width=5, threshold=0.25, mismatch=0.0)  # dyadic, so that levels are exact


def per_pixel(events, camera, polarity):
    chosen = events[events["p"] == polarity]
    return np.bincount(chosen["y"].astype(int) * camera.width + chosen["x"], minlength=camera.height * camera.width)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_a_monotone_change_gives_floor_of_change_over_threshold(seed):
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 40, (6, 3, 5)) / 64 * rng.choice([-1, 1], (3, 5))
    frames = np.cumsum(steps, axis=0)
    events = check_events(IDEAL.record(frames, np.arange(6) * 100, 0), IDEAL.sensor)
    change = (frames[-1] - frames[0]).ravel()
    assert np.array_equal(per_pixel(events, IDEAL, True), np.floor(np.maximum(change, 0) / 0.25))
    assert np.array_equal(per_pixel(events, IDEAL, False), np.floor(np.maximum(-change, 0) / 0.25))


def test_crossing_times_are_interpolated():
    ramp = np.zeros((2, 3, 5))
    ramp[1, 2, 4] = 1.0
    events = IDEAL.record(ramp, [1000, 2000], 0)
    assert [e.tolist() for e in events] == [(4, 2, t, True) for t in (1250, 1500, 1750, 2000)]


def test_frames_in_between_on_the_line_change_nothing():
    ends = np.random.default_rng(0).normal(size=(2, 3, 5))
    many = np.linspace(ends[0], ends[1], 9)
    coarse, fine = IDEAL.record(ends, [0, 8000], 0), IDEAL.record(many, np.arange(9) * 1000, 0)
    assert len(coarse) == len(fine)
    for name in "xyp":
        assert np.array_equal(np.sort(coarse[name]), np.sort(fine[name]))
    assert np.abs(coarse["t"] - fine["t"]).max() <= 1


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_reversed_time_and_inverted_contrast_give_the_events_in_reverse(seed):
    """A signal that climbs n thresholds crosses levels 1 to n on its way, and n-1 to 0 in reverse, at mirrored times."""
    rng = np.random.default_rng(seed)
    levels = np.cumsum(rng.integers(1, 5, (5, 3, 5)), axis=0) * 0.25 * rng.choice([-1, 1], (3, 5))
    times = np.arange(5) * 12_000  # whole microseconds for 1 to 4 crossings per interval
    forth, back = IDEAL.record(levels, times, 0), IDEAL.record(-levels[::-1], times, 0)
    for y, x in np.ndindex(3, 5):
        there, again = (e[(e["x"] == x) & (e["y"] == y)] for e in (forth, back))
        assert np.array_equal(there["p"], again["p"])
        assert np.array_equal(there["t"][:-1], 48_000 - again["t"][::-1][1:])


def test_polarity_follows_the_sign_alone():
    frames = np.random.default_rng(1).normal(size=(7, 3, 5)).cumsum(0)
    plain, inverted = IDEAL.record(frames, np.arange(7), 0), IDEAL.record(-frames, np.arange(7), 0)
    assert np.array_equal(inverted["p"], ~plain["p"])
    assert np.array_equal(inverted[["x", "y", "t"]], plain[["x", "y", "t"]])


@pytest.mark.parametrize("period", [1, 300, 1000])
def test_the_refractory_time_is_exact(period):
    camera = Camera(4, 4, refractory_us=period, noise_hz=2000.0)
    frames = np.random.default_rng(2).normal(size=(30, 4, 4)).cumsum(0)
    times = np.arange(30) * 1000
    kept = camera.record(frames, times, 3)
    free = Camera(4, 4, noise_hz=2000.0).record(frames, times, 3)
    expected, last = [], {}
    for event in free.tolist():
        pixel = event[:2]
        if pixel not in last or event[2] - last[pixel] >= period:
            last[pixel] = event[2]
            expected.append(event)
    assert kept.tolist() == expected
    assert len(kept) < len(free)


def test_noise_has_its_rate_and_no_preference():
    camera = Camera(16, 16, noise_hz=20.0)
    noise = camera.record(np.zeros((2, 16, 16)), [0, 5_000_000], 4)
    mean = 20 * 16 * 16 * 5
    assert abs(len(noise) - mean) < 5 * np.sqrt(mean)
    assert abs(noise["p"].sum() - len(noise) / 2) < 5 * np.sqrt(mean) / 2
    cells = per_pixel(noise, camera, True) + per_pixel(noise, camera, False)
    assert 0.7 < cells.var() / cells.mean() < 1.35  # 1 for Poisson; 255 pixels
    assert abs(noise["t"].mean() / 5e6 - 0.5) < 0.02


def test_thresholds_scatter_with_the_mismatch():
    camera = Camera(64, 64, threshold=0.2, mismatch=0.03)
    frames = np.stack([np.zeros((64, 64)), np.full((64, 64), 0.3)])
    first = camera.record(frames, [0, 300_000], 5)
    _, index = np.unique(first["y"] * 64 + first["x"], return_index=True)
    thresholds = first["t"][index] / 1e6  # 0.3 in 300 ms: a threshold of theta is crossed after theta seconds
    assert abs(thresholds.mean() - 0.2) < 0.002
    assert abs(thresholds.std() - 0.03) < 0.003


def test_one_seed_gives_one_recording():
    camera = Camera(8, 8, refractory_us=100, noise_hz=50.0)
    frames = np.random.default_rng(6).normal(size=(10, 8, 8))
    before = frames.copy()
    a, b, c = (camera.record(frames, np.arange(10) * 1000, seed) for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert np.array_equal(frames, before)
    check_events(a, camera.sensor)


def test_a_seed_gives_the_recording_that_it_always_gave():
    """The demo's figures rest on it. Quotients of small integers and IEEE arithmetic alone: the same on every machine."""
    frames = np.random.default_rng(7).integers(-64, 64, (12, 9, 11)).cumsum(0) / 64
    camera = Camera(9, 11, threshold=0.2, mismatch=0.03, refractory_us=200, noise_hz=500.0)
    events = camera.record(frames, np.arange(12) * 1500, 8)
    assert len(events) == 2673
    assert hashlib.sha256(events.tobytes()).hexdigest()[:16] == "e10924f0eaa28c68"


def test_nothing_moves_nothing_fires():
    still = np.full((5, 32, 32), 3.7)
    assert len(Camera().record(still, np.arange(5), 0)) == 0
    assert len(Camera().record(still[:1], [0], 0)) == 0


def test_a_function_of_time_is_sampled():
    camera, times = Camera(3, 5, mismatch=0.0), np.arange(6) * 1000.0
    scene = lambda t: np.full((3, 5), t / 2000)  # noqa: E731
    assert np.array_equal(camera.record(scene, times, 0), camera.record(np.stack([scene(t) for t in times]), times, 0))


def test_wrong_videos_are_refused():
    with pytest.raises(ShapeError, match=r"video \[2, 4, 5\]"):
        IDEAL.record(np.zeros((2, 4, 5)), [0, 1], 0)
    with pytest.raises(ParameterError, match="increase"):
        IDEAL.record(np.zeros((2, 3, 5)), [1, 1], 0)
    with pytest.raises(ParameterError, match="finite"):
        IDEAL.record(np.full((2, 3, 5), np.nan), [0, 1], 0)
    with pytest.raises(ParameterError, match="threshold"):
        Camera(threshold=0.0)
