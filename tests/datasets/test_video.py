"""The camera before video against its equation, pixel by pixel in plain Python, and against closed forms."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets import video
from neuro.datasets.events import check_events
from neuro.datasets.video import Pixels, VideoCamera
from neuro.errors import ParameterError, ShapeError

IDEAL = VideoCamera(threshold=0.25, mismatch=0.0)
NOISY = VideoCamera(0.2, 0.05, refractory_us=150, cutoff_hz=400, leak_hz=20, noise_hz=300)
MASK = 2**64 - 1


def run(camera, logs, times, seed=0):
    """The events of log intensities, without the logarithm before them."""
    logs = np.asarray(logs, float)
    pixels = Pixels(camera, logs[0], seed)
    parts = [pixels.step(logs[k + 1], float(times[k]), float(times[k + 1])) for k in range(len(times) - 1)]
    return np.concatenate(parts)


def by_pixel(events):
    """Each pixel's own events as lists of (t, p)."""
    found = {}
    for x, y, t, p in events.tolist():
        found.setdefault((y, x), []).append((t, p))
    return found


class SlowPixel:
    """One pixel by the text of neuro.datasets.pixel, in plain Python, with a clock of its own in absolute time."""

    def __init__(self, camera, off, on, generator, first):
        self.c, self.off, self.on, self.g, self.log, self.seen = camera, off, on, generator, first, first
        self.hazard = -math.log(self.draw())
        self.d = self.draw() * (on - 1e-6) if camera.leak_hz else 0.0
        self.ready, self.events = 0.0, []

    def draw(self):
        self.g = z = (self.g + 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (((z ^ (z >> 31)) >> 11) + 1) / 2**53

    def see(self, log, start, end):
        """Move on to the next frame."""
        y0, y1, middle = self.seen, log, (self.log + log) / 2
        if self.c.cutoff_hz < math.inf:
            a = 2 * math.pi * self.c.cutoff_hz * (end - start) * 1e-6 * math.exp(middle)
            y1 = y0 + (self.log - y0) * (1 - math.exp(-a)) + (log - self.log) * (1 - (1 - math.exp(-a)) / a)
        slope = (y1 - y0) / (end - start) + self.c.leak_hz * self.on / 1e6
        rate = self.c.noise_hz / 1e6 * (1 - 0.75 * min(1, math.exp(middle)))
        now = max(start, self.ready)
        while now < end:
            chances = [(now + self.hazard / rate, "noise")] if rate else []
            if slope:
                level = self.on if slope > 0 else -self.off
                chances.append((max(now, now + (level - self.d) / slope), "light"))
            time, kind = min(chances, default=(math.inf, ""))
            if kind == "light" and end < time and abs(level - self.d - slope * (end - now)) <= 1e-6:
                time = end
            self.hazard -= rate * (min(time, end) - now)
            if time > end:
                self.d += slope * (end - now)
                break
            on = slope > 0
            if kind == "noise":
                on, self.hazard = self.draw() <= 0.5, -math.log(self.draw())
            self.events.append((math.floor(time), on))
            self.d, now = 0.0, time + self.c.refractory_us
            self.ready = now
        self.log, self.seen = log, y1


def slowly(camera, logs, times, seed):
    """What `run` gives, by pixel, from SlowPixel."""
    start = Pixels(camera, logs[0], seed)  # the draws of thresholds and generators alone
    generators = np.random.default_rng(seed)
    generators.standard_normal((2, *logs[0].shape))
    generators = generators.integers(0, 2**64, logs[0].shape, np.uint64)
    found = {}
    for i, j in np.ndindex(logs[0].shape):
        pixel = SlowPixel(camera, *start.thresholds[:, i, j].tolist(), int(generators[i, j]), float(logs[0][i, j]))
        for k in range(len(times) - 1):
            pixel.see(float(logs[k + 1][i, j]), float(times[k]), float(times[k + 1]))
        if pixel.events:
            found[i, j] = pixel.events
    return found


CAMERAS = st.builds(
    VideoCamera,
    threshold=st.sampled_from([0.1, 0.25]),
    mismatch=st.sampled_from([0.0, 0.05]),
    refractory_us=st.sampled_from([0, 40, 5000]),
    cutoff_hz=st.sampled_from([math.inf, 50.0, 3000.0]),
    leak_hz=st.sampled_from([0.0, 30.0]),
    noise_hz=st.sampled_from([0.0, 500.0]),
)


@given(CAMERAS, st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_every_pixel_does_what_the_plain_text_says(camera, seed):
    rng = np.random.default_rng(seed)
    logs = rng.normal(-1, 0.7, (8, 3, 4))
    times = np.cumsum(rng.integers(300, 3000, 8))
    events = check_events(run(camera, logs, times, seed), Pixels(camera, logs[0], 0).sensor)
    fast, slow = by_pixel(events), slowly(camera, logs, times, seed)
    assert fast.keys() == slow.keys()
    for cell, expected in slow.items():
        assert [p for _, p in fast[cell]] == [p for _, p in expected]
        assert max(abs(a - b) for (a, _), (b, _) in zip(fast[cell], expected, strict=True)) <= 1  # rounding at a whole us


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_a_monotone_path_gives_floor_of_its_length_over_the_threshold(seed):
    rng = np.random.default_rng(seed)
    logs = np.cumsum(rng.integers(0, 40, (6, 3, 5)) / 64 * rng.choice([-1, 1], (3, 5)), axis=0)
    found = by_pixel(run(IDEAL, logs, np.arange(6) * 100))
    for i, j in np.ndindex(3, 5):
        path = logs[-1, i, j] - logs[0, i, j]
        events = found.get((i, j), [])
        assert len(events) == math.floor(abs(path) / 0.25)
        assert all(p == (path > 0) for _, p in events)


def test_a_path_there_and_back_is_counted_from_level_to_level():
    """Up by 1.1 from 0 (thresholds of 0.25): levels 0.25 to 1.0; down to 0: 0.75, 0.5, 0.25, 0."""
    events = run(IDEAL, np.array([0, 1.1, 0]).reshape(3, 1, 1), [0, 1100, 2200])
    assert events["p"].tolist() == [True] * 4 + [False] * 4
    assert np.abs(events["t"] - [250, 500, 750, 1000, 1450, 1700, 1950, 2200]).max() <= 1


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_inverted_light_inverts_polarity_alone(seed):
    logs = np.random.default_rng(seed).normal(size=(7, 3, 5))
    camera = VideoCamera(mismatch=0.0, refractory_us=100)
    plain, inverted = (run(camera, sign * logs, np.arange(7) * 1000) for sign in (1, -1))
    assert len(plain) > 0
    assert np.array_equal(inverted["p"], ~plain["p"])
    assert np.array_equal(inverted[["x", "y", "t"]], plain[["x", "y", "t"]])


@pytest.mark.parametrize("camera", [IDEAL, VideoCamera(refractory_us=70, leak_hz=50, noise_hz=0)], ids=["ideal", "leaky"])
@pytest.mark.parametrize("parts", [2, 7])
def test_more_frames_on_a_straight_line_change_nothing(camera, parts):
    ends = np.random.default_rng(0).normal(size=(2, 6, 5))
    coarse = run(camera, ends, [0, 14_000])
    fine = run(camera, np.linspace(*ends, parts + 1), np.linspace(0, 14_000, parts + 1))
    a, b = by_pixel(coarse), by_pixel(fine)
    assert len(coarse) > 50 and a.keys() == b.keys()
    for cell in a:
        assert [p for _, p in a[cell]] == [p for _, p in b[cell]]
        assert max(abs(s - t) for (s, _), (t, _) in zip(a[cell], b[cell], strict=True)) <= 1


def test_noise_before_a_still_scene_does_not_depend_on_the_frames():
    camera, scene = VideoCamera(noise_hz=50, leak_hz=5, refractory_us=1000), np.full((8, 8), -2.0)
    few, many = run(camera, [scene] * 2, [0, 10**6]), run(camera, [scene] * 401, np.linspace(0, 10**6, 401))
    assert len(few) > 1000 and len(few) == len(many)
    assert np.array_equal(few[["x", "y", "p"]], many[["x", "y", "p"]])
    assert np.abs(few["t"] - many["t"]).max() <= 1


@pytest.mark.parametrize("intensity", [0.0, 0.3, 1.0])
def test_shot_noise_has_the_rate_of_its_intensity(intensity):
    rate, seconds, n = 40.0, 10, 32 * 32
    log = np.full((32, 32), np.log(intensity) if intensity else -30.0)
    events = run(VideoCamera(noise_hz=rate), [log, log], [0, seconds * 10**6])
    mean = rate * (1 - 0.75 * intensity) * seconds * n
    assert abs(len(events) - mean) < 4 * np.sqrt(mean)
    assert abs(events["p"].sum() - len(events) / 2) < 4 * np.sqrt(mean) / 2
    each = np.bincount(events["y"].astype(int) * 32 + events["x"], minlength=n)
    assert abs(each.var() / each.mean() - 1) < 4 * np.sqrt(2 / n)  # Poisson
    assert abs(events["t"].mean() / (seconds * 1e6) - 0.5) < 4 / np.sqrt(12 * mean)


def test_shot_noise_with_a_refractory_time_is_a_renewal_process():
    """Mean interval: 1/rate + refractory; its standard deviation 1/rate."""
    rate, hold, seconds, n = 100.0, 0.02, 10, 16 * 16
    log = np.full((16, 16), -30.0)
    events = run(VideoCamera(noise_hz=rate, refractory_us=hold * 1e6), [log, log], [0, seconds * 10**6])
    interval = 1 / rate + hold
    mean, sigma = n * seconds / interval, np.sqrt(n * seconds / interval) * (1 / rate) / interval
    assert abs(len(events) - mean) < 4 * sigma + n  # each pixel begins released, not at a random point: less than one event


def test_leak_gives_on_events_at_its_rate_and_a_random_phase():
    log = np.full((16, 16), -1.0)
    events = run(VideoCamera(leak_hz=4.0, mismatch=0.05), [log] * 4, np.arange(4) * 10**6)
    assert events["p"].all()
    each = np.bincount(events["y"].astype(int) * 16 + events["x"], minlength=256)
    assert set(each) <= {11, 12, 13} and each.mean() == pytest.approx(12, abs=0.2)
    first = events["t"][np.unique(events["y"] * 16 + events["x"], return_index=True)[1]] / 250_000
    assert abs(first.mean() - 0.5) < 4 / np.sqrt(12 * 256)
    assert first.min() < 0.1 and first.max() > 0.9


@pytest.mark.parametrize("intensity", [0.05, 0.5])
def test_latency_is_that_of_the_low_pass_and_longer_in_the_dark(intensity):
    """A step by D at constant time constant tau passes theta after -tau log(1 - theta / D)."""
    step, cutoff, frame = 0.4, 100.0, 20
    before = math.log(intensity)
    logs = np.full((1500, 1, 1), before + step)
    logs[0] = before
    times = np.concatenate([[0], 1 + np.arange(1499) * frame])  # a step within one microsecond
    events = run(VideoCamera(threshold=0.2, mismatch=0.0, cutoff_hz=cutoff), logs, times)
    tau = 1e6 / (2 * math.pi * cutoff * math.exp(before + step))
    assert abs(events["t"][0] + tau * math.log(1 - 0.2 / step)) < 2 * frame
    assert events["p"].tolist() == [True] + [True] * (len(events) - 1) and len(events) <= 2


def test_the_low_pass_is_exact_for_lines():
    """Against 20 000 small steps of Euler's method."""
    camera = VideoCamera(cutoff_hz=30.0)
    pixels = Pixels(camera, np.full((1, 1), -0.5), 0)
    pixels.step(np.full((1, 1), 0.3), 0.0, 5000.0)
    rate, y, n = 2 * math.pi * 30 * math.exp(-0.1), -0.5, 20_000
    for k in range(n):
        y += (-0.5 + 0.8 * (k + 0.5) / n - y) * rate * 0.005 / n
    assert pixels.seen[0, 0] == pytest.approx(y, abs=1e-5)


@given(st.integers(1, 5000), st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_no_pixel_fires_within_its_refractory_time(period, seed):
    logs = np.random.default_rng(seed).normal(size=(20, 3, 4)).cumsum(0)
    camera = VideoCamera(refractory_us=period, noise_hz=2000, leak_hz=100)
    found = by_pixel(run(camera, logs, np.arange(20) * 1000, seed))
    assert any(len(events) > 1 for events in found.values())
    for events in found.values():
        assert all(b - a >= period for (a, _), (b, _) in itertools.pairwise(events))


def test_after_reset_a_pixel_goes_on_from_what_it_sees_then():
    """A ramp of 1 per ms, threshold 0.25, hold 300 us: events every 550 us."""
    events = run(VideoCamera(0.25, 0.0, refractory_us=300), np.array([0, 4.0]).reshape(2, 1, 1), [0, 4000])
    assert events["t"].tolist() == [250, 800, 1350, 1900, 2450, 3000, 3550]


def test_little_room_gives_the_same_events(monkeypatch):
    logs = np.random.default_rng(3).normal(size=(5, 6, 7)).cumsum(0)
    expected = run(NOISY, logs, np.arange(5) * 2000, 1)
    monkeypatch.setattr(video, "ROOM", 1)
    assert len(expected) > 200
    assert np.array_equal(run(NOISY, logs, np.arange(5) * 2000, 1), expected)


def test_thresholds_scatter_and_one_seed_is_one_recording():
    frames = np.random.default_rng(6).random((5, 64, 64))
    a, b, c = (NOISY.record(frames, np.arange(5) * 1000, seed) for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    thresholds = Pixels(VideoCamera(0.2, 0.03), np.zeros((64, 64)), 5).thresholds
    assert abs(thresholds.mean() - 0.2) < 0.002 and abs(thresholds.std() - 0.03) < 0.002


def test_units_of_intensity():
    bytes_ = np.random.default_rng(0).integers(0, 256, (4, 5, 6)).astype(np.uint8)
    expected = IDEAL.record(bytes_, [0, 1, 2, 3], 0)
    assert len(expected) > 0
    assert np.array_equal(IDEAL.record(bytes_ / 255, [0, 1, 2, 3], 0), expected)
    assert np.array_equal(IDEAL.record(bytes_.astype(np.uint16) * 257, [0, 1, 2, 3], 0), expected)
    one = np.array([[[0.0]], [[1.0]]])  # log(1.02 / 0.02) / 0.25 = 15.7
    assert len(IDEAL.record(one, [0, 1000], 0)) == 15


def test_a_long_video_is_streamed_at_bounded_memory():
    """150 frames of 128 x 128 and their events are 88 MB; a generator of them takes a few."""
    pattern = np.random.default_rng(0).random((128, 256))
    frames = (pattern[:, k % 128 : k % 128 + 128] for k in range(150))
    camera, total = VideoCamera(noise_hz=1.0, dark=0.2), 0
    tracemalloc.start()
    for events in camera.stream(frames, range(0, 150_000, 1000), 0):
        total += events.nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total + 150 * 128 * 128 * 8 > 80e6 and peak < 12e6


def test_a_stream_is_the_recording_in_parts():
    frames, times = np.random.default_rng(1).random((6, 8, 9)), np.arange(6) * 700.5
    parts = list(NOISY.stream(iter(frames), iter(times), 4))
    assert len(parts) == 5
    assert np.array_equal(np.concatenate(parts), NOISY.record(frames, times, 4))
    assert len(NOISY.record(frames[:1], [0], 0)) == len(NOISY.record([], [], 0)) == 0


def test_wrong_videos_are_refused():
    good = np.zeros((2, 3, 4))
    for frames, times, error, words in (
        (good, [0], ShapeError, "more frames than 1"),
        (good, [0, 1, 2], ShapeError, "more times than 2"),
        (good, [1, 1], ParameterError, "increase"),
        (good, [0, math.nan], ParameterError, "increase"),
        (good, [0, 1e300], ParameterError, "2\\^53"),
        (good - 1, [0, 1], ParameterError, "not negative"),
        (good * math.nan, [0, 1], ParameterError, "finite"),
        (good + 255.0, [0, 1], ParameterError, "divide values"),
        (good.astype(int), [0, 1], ParameterError, "int64"),
        (np.zeros((2, 3, 4, 3)), [0, 1], ShapeError, r"\[3, 4, 3\]"),
        (np.zeros((2, 0, 4)), [0, 1], ShapeError, r"\[0, 4\]"),
        ([np.zeros((3, 4)), np.zeros((4, 3))], [0, 1], ShapeError, "one size"),
    ):
        with pytest.raises(error, match=words):
            IDEAL.record(frames, times, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 0.0}, {"mismatch": -1}, {"refractory_us": math.inf}, {"cutoff_hz": 0}, {"leak_hz": 1e9}, {"noise_hz": math.nan}, {"dark": 0}],
)  # fmt: skip
def test_wrong_constants_are_refused_by_name(wrong):
    with pytest.raises(ParameterError, match=f"VideoCamera: {next(iter(wrong))} out of range"):
        VideoCamera(**wrong)
