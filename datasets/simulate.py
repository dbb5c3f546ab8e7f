"""A simulated event camera: log intensity over time in, events out.

A pixel remembers a reference level r. While its log intensity L lies a threshold above r it fires ON and r rises by that
threshold; below, OFF. L is taken as linear between two frames, which gives each crossing its own time:

    t = t_k + (r + theta - L_k) / (L_{k+1} - L_k) * (t_{k+1} - t_k)

Then background noise is added, and a pixel that has fired stays silent for its refractory time (the reference moves on
all the same). Sources: Rebecq, Gehrig, Scaramuzza, "ESIM: an open event camera simulator", CoRL 2018, section 3;
threshold mismatch and noise: Hu, Liu, Delbruck, "v2e", CVPRW 2021, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from neuro.datasets.events import EVENT, Sensor, in_order, make_events
from neuro.errors import ParameterError, ShapeError, explain

LOWEST = 0.01  # a threshold drawn below this log intensity is raised to it
TOLERANCE = 1e-6  # log intensity; a level missed by rounding alone counts as reached


@dataclass(frozen=True)
class Camera:
    """The constants of a sensor. The defaults are those of a quiet DVS in daylight.

    threshold, mismatch: log intensity (natural logarithm); every pixel's ON and OFF thresholds are drawn from
        N(threshold, mismatch) and are at least 0.01.
    refractory_us: after an event, the pixel's next event comes at least so many microseconds later.
    noise_hz: background events per pixel and second, half of them ON.
    """

    height: int = 32
    width: int = 32
    threshold: float = 0.2
    mismatch: float = 0.03
    refractory_us: int = 0
    noise_hz: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold < LOWEST or min(self.mismatch, self.refractory_us, self.noise_hz) < 0:
            raise ParameterError(
                explain(
                    f"Camera: threshold must be at least {LOWEST}, and mismatch, refractory_us, noise_hz not negative.",
                    repr(self),
                )
            )

    @property
    def sensor(self) -> Sensor:
        return Sensor(self.height, self.width)

    def record(self, video: np.ndarray | Callable[[float], np.ndarray], times_us, seed) -> np.ndarray:
        """The events of a scene, in the order of time, stamped in whole microseconds (rounded down).

        video: log intensity, an array [F, H, W] or a function of time (us) that gives [H, W].
        times_us: [F], strictly increasing; where the scene is sampled.
        seed: whatever `numpy.random.default_rng` takes; one seed gives one recording.

        Raises:
            ShapeError: the frames do not fit the sensor or the times.
            ParameterError: times that do not increase, or intensities that are not finite.
        """
        times = np.asarray(times_us, np.float64)
        frames = np.stack([video(t) for t in times]) if callable(video) else np.asarray(video)
        check_video(frames, times, self)
        rng = np.random.default_rng(seed)
        size = (2, self.height, self.width)
        thresholds = np.maximum(self.threshold + self.mismatch * rng.standard_normal(size), LOWEST)
        signal = crossings(np.ascontiguousarray(frames, np.float64), times, thresholds)
        noise = background(self, times[0], times[-1], rng)
        events = in_order(np.concatenate([signal, noise]))
        return events[refractory_mask(events["x"], events["y"], events["t"], self.refractory_us, *size[1:])]


def check_video(frames_FHW: np.ndarray, times_F: np.ndarray, camera: Camera) -> None:
    """Refuse frames that do not fit camera or times."""
    if frames_FHW.shape != (len(times_F), camera.height, camera.width) or len(times_F) < 1:
        raise ShapeError(
            explain(
                "Camera.record: the video does not fit the camera and the times.",
                f"video {list(frames_FHW.shape)}   times_us {list(times_F.shape)}   "
                f"camera height={camera.height} width={camera.width}",
                cure="The video is [F, H, W] with one time stamp per frame.",
            )
        )
    if not np.isfinite(frames_FHW).all():
        raise ParameterError(
            explain("Camera.record: log intensities must be finite.", cure="Take log(I + eps) with an eps above zero.")
        )
    if not (np.diff(times_F) > 0).all():
        raise ParameterError(explain("Camera.record: times_us must increase strictly."))


def crossings(frames_FHW: np.ndarray, times_F: np.ndarray, thresholds_2HW: np.ndarray) -> np.ndarray:
    """The events of the signal alone, pixel by pixel (not yet in the order of time). thresholds: OFF, ON."""
    travel = np.abs(np.diff(frames_FHW, axis=0)).sum(0)
    room = int(np.sum(travel / thresholds_2HW.min(0) + 1))  # a pixel cannot cross more levels than its signal travels
    events = np.empty(room, EVENT)
    x, y, t, p = (np.empty(room, EVENT[name]) for name in "xytp")
    n = cross(frames_FHW, times_F, thresholds_2HW, x, y, t, p)
    events = np.empty(n, EVENT)
    for name, column in zip("xytp", (x, y, t, p), strict=True):
        events[name] = column[:n]
    return events


@numba.njit(cache=True, nogil=True)
def cross(frames, times, thresholds, x, y, t, p):
    """Write the level crossings of every pixel into the four columns; returns how many there are."""
    n = 0
    for i in range(frames.shape[1]):
        for j in range(frames.shape[2]):
            reference, off, on = frames[0, i, j], thresholds[0, i, j], thresholds[1, i, j]
            for k in range(frames.shape[0] - 1):
                start, end = frames[k, i, j], frames[k + 1, i, j]
                rising = end > start
                step = on if rising else -off
                while end != start and (end - reference - step if rising else reference + step - end) >= -TOLERANCE:
                    reference += step
                    part = min(max((reference - start) / (end - start), 0.0), 1.0)
                    x[n], y[n], p[n] = j, i, rising
                    t[n] = int(np.floor(times[k] + part * (times[k + 1] - times[k])))
                    n += 1
    return n


def background(camera: Camera, start_us: float, end_us: float, rng: np.random.Generator) -> np.ndarray:
    """Noise: for every pixel a Poisson process of `noise_hz` over [start, end), ON and OFF with equal chance."""
    mean = camera.noise_hz * camera.height * camera.width * (end_us - start_us) * 1e-6
    n = rng.poisson(mean)
    x, y = rng.integers(camera.width, size=n), rng.integers(camera.height, size=n)
    t = np.floor(rng.uniform(start_us, end_us, n)).astype(np.int64)
    return make_events(x, y, t, rng.random(n) < 0.5)


@numba.njit(cache=True, nogil=True)
def refractory_mask(x, y, t, period, height, width):
    """True for the events that come at least `period` after the last kept event of their pixel."""
    last = np.zeros((height, width), np.int64)
    fired = np.zeros((height, width), np.bool_)
    keep = np.empty(len(t), np.bool_)
    for k in range(len(t)):
        i, j = y[k], x[k]
        keep[k] = not fired[i, j] or t[k] - last[i, j] >= period
        if keep[k]:
            last[i, j], fired[i, j] = t[k], True
    return keep
