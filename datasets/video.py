"""Video before an event camera: frames of intensity in, events out, one frame at a time.

`neuro.datasets.pixel` says what each pixel does. Here are the constants, the draw of the thresholds, and the stream: only two
frames, the pixels' states and the events of one interval are in memory, however long the video.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from neuro.datasets.events import EVENT, Sensor, in_order
from neuro.datasets.pixel import advance, low_pass, uniforms
from neuro.errors import ParameterError, ShapeError, explain

LOWEST = 0.01  # a threshold drawn below this log intensity is raised to it
LATEST_US = 2.0**53  # whole microseconds are exact as floats up to here: 285 years
BRIGHTEST = 16.0  # times white; above it the values are most likely 0 to 255
MOST_HZ = 1e6  # leak and noise above one event per microsecond mean nothing
ROOM = 1 << 16  # events that are made room for at first


@dataclass(frozen=True)
class VideoCamera:
    """The constants of a sensor before video. With the defaults, an ideal one but for the scatter of its thresholds.

    threshold, mismatch: log intensity (natural logarithm); every pixel's ON and OFF thresholds are drawn from
        N(threshold, mismatch) and are at least 0.01.
    refractory_us: so long after an event a pixel is held in reset; then it goes on from what it sees.
    cutoff_hz: bandwidth of a pixel at intensity 1; it falls with intensity. This is what makes latency. Infinite: none.
    leak_hz: ON events per second of a pixel before a still scene; it starts at a random point of that cycle.
    noise_hz: shot noise in the dark, events per pixel and second, half of them ON; at intensity 1 a quarter of it.
    dark: intensity that a pixel seems to see in darkness; it is added before the logarithm. Black is 0, white is 1.

    Raises:
        ParameterError: a constant outside its range, named.
    """

    threshold: float = 0.2
    mismatch: float = 0.03
    refractory_us: float = 0.0
    cutoff_hz: float = math.inf
    leak_hz: float = 0.0
    noise_hz: float = 0.0
    dark: float = 0.02

    def __post_init__(self) -> None:
        ranges = {
            "threshold": LOWEST <= self.threshold < math.inf, "mismatch": 0 <= self.mismatch < math.inf,
            "refractory_us": 0 <= self.refractory_us < math.inf, "cutoff_hz": self.cutoff_hz > 0,
            "leak_hz": 0 <= self.leak_hz <= MOST_HZ, "noise_hz": 0 <= self.noise_hz <= MOST_HZ,
            "dark": 0 < self.dark < math.inf,
        }  # fmt: skip
        wrong = [name for name, right in ranges.items() if not right]
        if wrong:
            cure = f"threshold is at least {LOWEST}, cutoff_hz and dark above 0, rates 0 to {MOST_HZ:g} Hz, the others at least 0."
            raise ParameterError(explain(f"VideoCamera: {', '.join(wrong)} out of range.", repr(self), cure=cure))

    def record(self, frames: Iterable[np.ndarray], times_us: Iterable[float], seed) -> np.ndarray:
        """All events of a video, in the order of time, stamped in whole microseconds (rounded down).

        frames: intensity, each [H, W]: floats from 0 to 16, 1 being white, or unsigned integers, whose largest value is white.
        times_us: one per frame, strictly increasing.
        seed: whatever `numpy.random.default_rng` takes; one seed gives one recording.

        Raises:
            ShapeError: a frame that is not [H, W] or not as large as the first; more frames than times, or fewer.
            ParameterError: intensities out of that range or not finite; times that do not increase.

        >>> frames = np.linspace(0, 1, 5)[:, None, None] * np.ones((8, 8))
        >>> events = VideoCamera(threshold=0.5, mismatch=0).record(frames, np.arange(5) * 1000, seed=0)
        >>> len(events), len(events) // 64, bool(events["p"].all())  # log(1.02 / 0.02) = 3.93
        (448, 7, True)
        """
        parts = list(self.stream(frames, times_us, seed))
        return np.concatenate(parts) if parts else np.empty(0, EVENT)

    def stream(self, frames: Iterable[np.ndarray], times_us: Iterable[float], seed) -> Iterator[np.ndarray]:
        """As `record`, one array of events for each interval between frames, as soon as its last frame is there.

        frames and times_us are taken one by one, so generators will do, and a video without end as well.
        """
        pixels, last = None, -math.inf
        for frame, time in paired(frames, times_us):
            log = log_intensity(frame, self.dark)
            if not last < time or abs(time) > LATEST_US:
                fact = f"{time} after {last}"
                raise ParameterError(explain("VideoCamera: times_us must increase strictly, within 2^53.", fact))
            if pixels is None:
                pixels = Pixels(self, log, seed)
            else:
                yield pixels.step(log, last, time)
            last = time


class Pixels:
    """The state of all pixels between two frames. `step` moves it on; the frames are log intensity."""

    def __init__(self, camera: VideoCamera, log_HW: np.ndarray, seed) -> None:
        rng = np.random.default_rng(seed)
        self.camera, self.sensor, size = camera, Sensor(*log_HW.shape), log_HW.shape
        self.thresholds = np.maximum(camera.threshold + camera.mismatch * rng.standard_normal((2, *size)), LOWEST)
        self.generators = rng.integers(0, 2**64, size, np.uint64)
        self.hazard = -np.log(uniforms(self.generators))
        phase = uniforms(self.generators) if camera.leak_hz else np.zeros(size)
        self.difference = phase * (self.thresholds[1] - 1e-6)
        self.release = np.zeros(size)
        self.log, self.seen = log_HW, log_HW
        self.columns = tuple(np.empty(ROOM, dtype) for dtype in ("i2", "i2", "f8", "?"))

    def step(self, log_HW: np.ndarray, start_us: float, end_us: float) -> np.ndarray:
        """The events between the frame before and this one, in the order of time."""
        if log_HW.shape != self.log.shape:
            fact = f"{list(self.log.shape)}, then {list(log_HW.shape)}"
            raise ShapeError(explain("VideoCamera: the frames of a video must be of one size.", fact))
        c, span = self.camera, end_us - start_us
        target = low_pass(self.seen, self.log, log_HW, span * 1e-6, c.cutoff_hz)
        state = (self.difference, self.release, self.hazard, self.generators, self.thresholds)
        rates, filled = (float(c.refractory_us), float(c.leak_hz), float(c.noise_hz)), np.zeros(2, np.int64)
        middle = (self.log + log_HW) / 2
        while not advance(span, self.seen, target, middle, *state, rates, self.columns, filled):
            self.columns = tuple(np.concatenate([column, np.empty_like(column)]) for column in self.columns)
        self.log, self.seen = log_HW, target
        x, y, t, p = (column[: filled[0]] for column in self.columns)
        events = np.empty(len(t), EVENT)
        events["x"], events["y"], events["t"], events["p"] = x, y, np.floor(start_us + t), p
        return in_order(events)


def log_intensity(frame: np.ndarray, dark: float) -> np.ndarray:
    """log(I + dark) [H, W] float64; I of unsigned integers is in units of their largest value.

    >>> log_intensity(np.array([[0, 255]], np.uint8), 0.02).round(3)
    array([[-3.912,  0.02 ]])
    """
    frame = np.asarray(frame)
    if frame.ndim != 2 or 0 in frame.shape:
        cure = "Make pictures grey first, and give one picture at a time: [H, W]."
        raise ShapeError(explain("VideoCamera: this is not a frame.", f"shape {list(frame.shape)}", cure=cure))
    kind = frame.dtype.kind
    if kind not in "fub":
        cure = "Give floats, 1 being white, or unsigned integers."
        raise ParameterError(explain("VideoCamera: the unit of these intensities is not clear.", f"dtype {frame.dtype}", cure=cure))
    intensity = frame.astype(np.float64) / (np.iinfo(frame.dtype).max if kind == "u" else 1)
    if not (np.isfinite(intensity).all() and intensity.min() >= 0 and intensity.max() <= BRIGHTEST):
        fact, cure = f"lowest {intensity.min()}, highest {intensity.max()}", "1 is white: divide values of 0 to 255 by 255."
        raise ParameterError(explain(f"VideoCamera: intensities must be finite, not negative, and at most {BRIGHTEST:g}.", fact, cure=cure))
    return np.log(intensity + dark)


def paired(frames: Iterable[np.ndarray], times_us: Iterable[float]) -> Iterator[tuple[np.ndarray, float]]:
    """Frame and time, as long as there are both; a ShapeError where one of them ends alone."""
    frames, times, end, count = iter(frames), iter(times_us), object(), 0
    while True:
        frame, time = next(frames, end), next(times, end)
        if frame is end and time is end:
            return
        if frame is end or time is end:
            more = "times" if frame is end else "frames"
            raise ShapeError(explain("VideoCamera: every frame needs one time.", f"there are more {more} than {count}"))
        count += 1
        yield frame, float(time)
