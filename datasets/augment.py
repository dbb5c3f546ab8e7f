"""Random changes of a recording for training: `(events, sensor, rng) -> events`.

More of them: `flipping`, `jitter`, `dropping`, `mixing` (two recordings), `policies` (one of many), `resizing`, and
the filters of `denoise` and `thinning`, which draw nothing.

All draws come from the generator that is passed in; nothing is remembered. The input is never changed, the order of
time is kept, and every event that is returned lies on the sensor: what a change moves off it is dropped, as an object
that leaves the picture is. Some of these change the class of some data: a mirrored "left" is a "right".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_dtype, check_events
from neuro.errors import ParameterError, explain

Augment = Callable[[np.ndarray, Sensor, np.random.Generator], np.ndarray]


class Changed(NamedTuple):
    """The events of a change that says what it did to those that left the recording's bounds."""

    events: np.ndarray
    dropped: int  # left out
    clipped: int  # held at the bound


@dataclass(frozen=True, init=False)
class Compose:
    """Several changes, one after another, all fed by one generator.

    A step that has `resized(sensor)` changes the size of the sensor for the steps after it; `Compose.resized` gives
    the last.
    """

    steps: tuple[Augment, ...]

    def __init__(self, *steps: Augment) -> None:
        object.__setattr__(self, "steps", steps)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        for step in self.steps:
            events = step(events, sensor, rng)
            sensor = resized(step, sensor)
        return events

    def resized(self, sensor: Sensor) -> Sensor:
        """The sensor after all steps."""
        for step in self.steps:
            sensor = resized(step, sensor)
        return sensor


@dataclass(frozen=True)
class RandomShift:
    """Move the whole recording by whole pixels, uniform in -pixels..pixels for each axis."""

    pixels: int

    def __post_init__(self) -> None:
        assert_range("RandomShift", self.pixels >= 0, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        dx, dy = rng.integers(-self.pixels, self.pixels + 1, size=2)
        return moved(events, sensor, events["x"].astype(np.int64) + dx, events["y"].astype(np.int64) + dy)


@dataclass(frozen=True)
class RandomFlip:
    """With probability p mirror the whole recording left to right: x -> width - 1 - x."""

    p: float = 0.5

    def __post_init__(self) -> None:
        assert_range("RandomFlip", 0 <= self.p <= 1, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        flip = rng.random() < self.p
        return moved(events, sensor, sensor.width - 1 - events["x"] if flip else events["x"], events["y"])


@dataclass(frozen=True)
class RandomRotate:
    """Turn the whole recording about the sensor's centre by an angle uniform in -degrees..degrees."""

    degrees: float

    def __post_init__(self) -> None:
        assert_range("RandomRotate", 0 <= self.degrees <= 180, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        c, s = np.cos(angle), np.sin(angle)
        return linear(events, sensor, c, -s, s, c)


@dataclass(frozen=True)
class RandomScale:
    """Enlarge the whole recording about the sensor's centre by a factor uniform in low..high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        assert_range("RandomScale", 0 < self.low <= self.high, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        factor = rng.uniform(self.low, self.high)
        return linear(events, sensor, factor, 0.0, 0.0, factor)


@dataclass(frozen=True)
class RandomAffine:
    """Turn, stretch, shear and move the whole recording at once, about the sensor's centre.

    The matrix is a rotation by up to `degrees` times [[1 + s_x, h], [0, 1 + s_y]] with s_x, s_y uniform in
    -scale..scale and h in -shear..shear; the shift is uniform in -pixels..pixels, fractions included. Each event goes
    to one of the pixels around its new place at random, in proportion to how near it is, so that enlarged objects
    have no holes in a pattern.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    pixels: float = 0.0

    def __post_init__(self) -> None:
        good = 0 <= self.degrees <= 180 and 0 <= self.scale < 1 and min(self.shear, self.pixels) >= 0
        assert_range("RandomAffine", good, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        sx, sy = 1 + rng.uniform(-self.scale, self.scale, 2)
        shear = rng.uniform(-self.shear, self.shear)
        dx, dy = rng.uniform(-self.pixels, self.pixels, 2)
        c, s = np.cos(angle), np.sin(angle)
        middle_x, middle_y = (sensor.width - 1) / 2, (sensor.height - 1) / 2
        u, v = events["x"] - middle_x, events["y"] - middle_y
        u, v = sx * u + shear * v, sy * v
        x = c * u - s * v + middle_x + dx + rng.random(len(events))
        y = s * u + c * v + middle_y + dy + rng.random(len(events))
        return moved(events, sensor, np.floor(x), np.floor(y))


@dataclass(frozen=True)
class TimeJitter:
    """Move each event in time by a normal draw of `sigma_us`, within the recording's first and last time; then sort."""

    sigma_us: float

    def __post_init__(self) -> None:
        assert_range("TimeJitter", self.sigma_us >= 0, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        return self.counted(events, sensor, rng).events

    def counted(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> Changed:
        """The events, and how many times were held at the first or last."""
        from neuro.datasets.arranging import by_time, jitter_time

        changed = copied(checked(events, sensor))
        clipped = jitter_time(rng, float(self.sigma_us), changed) if len(changed) else 0
        return Changed(by_time(changed), 0, clipped)


@dataclass(frozen=True)
class RandomDrop:
    """Drop each event with probability p, independently."""

    p: float

    def __post_init__(self) -> None:
        assert_range("RandomDrop", 0 <= self.p <= 1, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        from neuro.datasets.arranging import chance, selected

        keep = np.empty(len(checked(events, sensor)), bool)
        chance(rng, float(self.p), keep)
        return selected(events, keep)


def linear(events: np.ndarray, sensor: Sensor, a: float, b: float, c: float, d: float) -> np.ndarray:
    """Map offsets from the sensor's centre by [[a, b], [c, d]], to the nearest pixel."""
    middle_x, middle_y = (sensor.width - 1) / 2, (sensor.height - 1) / 2
    u, v = events["x"] - middle_x, events["y"] - middle_y
    return moved(events, sensor, np.rint(a * u + b * v + middle_x), np.rint(c * u + d * v + middle_y))


def moved(events: np.ndarray, sensor: Sensor, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A copy of the events at new coordinates, without those off the sensor."""
    from neuro.datasets.arranging import selected

    checked(events, sensor)
    keep = (x >= 0) & (x < sensor.width) & (y >= 0) & (y < sensor.height)
    changed = selected(events, keep)
    changed["x"], changed["y"] = x[keep], y[keep]
    return changed


def checked(events: np.ndarray, sensor: Sensor) -> np.ndarray:
    """What `check_events` does, in one compiled pass."""
    from neuro.datasets.counting import first_bad  # compiled: loaded when first needed

    check_dtype(events)
    if first_bad(events["x"], events["y"], events["t"], sensor.height, sensor.width) >= 0:
        check_events(events, sensor)  # raises, and says what is wrong
    return events


def copied(*parts: np.ndarray) -> np.ndarray:
    """A copy of the events of all parts, one after another; as plain bytes, not field by field."""
    whole = [part.view(np.dtype((np.void, part.dtype.itemsize))) for part in parts]
    return (whole[0].copy() if len(whole) == 1 else np.concatenate(whole)).view(parts[0].dtype)


def resized(step: Augment | None, sensor: Sensor) -> Sensor:
    """The sensor after a step: what its `resized` says, else the same."""
    return step.resized(sensor) if hasattr(step, "resized") else sensor


def assert_range(name: str, good: bool, values: object) -> None:
    """Refuse a parameter outside its range."""
    if not good:
        raise ParameterError(explain(f"{name}: a value is outside its range.", repr(values)))
