"""Steps that leave a recording of another size: cropped, or with coarser pixels or times.

Where the sensor changes, `resized(sensor)` gives the new one; `Compose` passes it to the steps that follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import checked, copied
from neuro.datasets.events import Sensor
from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class Crop:
    """The events of a box of the sensor, with coordinates from the box's corner; the box becomes the sensor.

    height, width: of the box. random: its place is drawn uniformly; otherwise it is in the middle, rounded up and left.

    Raises:
        ParameterError: a side below 1, or (on call) a box larger than the sensor.

    >>> from neuro.datasets.events import make_events
    >>> crop = Crop(2, 2)
    >>> crop(make_events([0, 1, 2], [1, 1, 1], [0, 1, 2], [1, 1, 1]), Sensor(4, 4))[["x", "y"]].tolist()
    [(0, 0), (1, 0)]
    >>> crop.resized(Sensor(4, 4))
    Sensor(height=2, width=2)
    """

    height: int
    width: int
    random: bool = False

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ParameterError(explain("Crop: height and width must be at least 1.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        from neuro.datasets.arranging import shift

        self.resized(sensor)
        checked(events, sensor)
        down, across = sensor.height - self.height, sensor.width - self.width
        top, left = down // 2, across // 2
        if self.random:
            if rng is None:
                raise ParameterError(explain("Crop: a random crop needs a generator.", repr(self), cure="Pass rng."))
            top, left = int(rng.integers(down + 1)), int(rng.integers(across + 1))
        out = np.empty_like(events)
        return out[: shift(-left, -top, left, top, self.height, self.width, events, out)]

    def resized(self, sensor: Sensor) -> Sensor:
        """The box as a sensor."""
        if self.height > sensor.height or self.width > sensor.width:
            raise ParameterError(explain("Crop: the box is larger than the sensor.", f"{self}   {sensor}"))
        return Sensor(self.height, self.width)


@dataclass(frozen=True)
class SpatialDownsample:
    """Blocks of factor x factor pixels become one: x // factor, y // factor. Every event is kept.

    Raises:
        ParameterError: a factor that is not an integer of at least 1.

    >>> from neuro.datasets.events import make_events
    >>> SpatialDownsample(2)(make_events([0, 3], [1, 2], [0, 1], [1, 1]), Sensor(3, 4))[["x", "y"]].tolist()
    [(0, 0), (1, 1)]
    """

    factor: int

    def __post_init__(self) -> None:
        check_factor(self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        return shrunk(checked(events, sensor), sensor, self.factor)

    def resized(self, sensor: Sensor) -> Sensor:
        """The coarser sensor, rounded up, so that a part of a block at the edge is a pixel too."""
        return Sensor(-(-sensor.height // self.factor), -(-sensor.width // self.factor))


@dataclass(frozen=True)
class IntegrateDownsample:
    """Blocks of pixels as integrate-and-fire neurons: ON adds 1, OFF takes 1; at +-threshold one event, then from 0.

    The event carries the time of the one that reached the threshold and the sign of the sum. With threshold 1 every
    event passes, as in `SpatialDownsample`; higher ones cancel flicker.

    After Ghosh et al. 2023, "Insect-inspired spatio-temporal downsampling of event-based input", integrator stage, here
    event by event instead of in steps of time.

    Raises:
        ParameterError: factor or threshold that is not an integer of at least 1.

    >>> from neuro.datasets.events import make_events
    >>> four = make_events([0, 1, 0, 1], [0] * 4, [0, 1, 2, 3], [1, 0, 1, 1])
    >>> IntegrateDownsample(2, threshold=2)(four, Sensor(2, 2)).tolist()
    [(0, 0, 3, True)]
    """

    factor: int
    threshold: int = 2

    def __post_init__(self) -> None:
        check_factor(self)
        if not isinstance(self.threshold, (int, np.integer)) or self.threshold < 1:
            raise ParameterError(
                explain("IntegrateDownsample: threshold must be an integer of at least 1.", repr(self))
            )

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        from neuro.datasets.arranging import selected
        from neuro.datasets.filtering import integrated

        checked(events, sensor)
        keep, sign = np.empty(len(events), bool), np.empty(len(events), bool)
        small = self.resized(sensor)
        columns = events["x"], events["y"], events["p"].view(np.uint8)
        integrated(*columns, self.factor, self.factor, small.height, small.width, self.threshold, keep, sign)
        out = selected(events, keep)
        out["p"] = sign[keep]
        return shrunk(out, sensor, self.factor)

    def resized(self, sensor: Sensor) -> Sensor:
        """The coarser sensor, rounded up."""
        return Sensor(-(-sensor.height // self.factor), -(-sensor.width // self.factor))


@dataclass(frozen=True)
class TimeDownsample:
    """Times rounded down to multiples of `step_us`, counted from 0. Every event is kept.

    >>> from neuro.datasets.events import make_events
    >>> TimeDownsample(10)(make_events([0, 0], [0, 0], [9, 25], [1, 1]), Sensor(1, 1))["t"].tolist()
    [0, 20]
    """

    step_us: int

    def __post_init__(self) -> None:
        if not isinstance(self.step_us, (int, np.integer)) or self.step_us < 1:
            raise ParameterError(explain("TimeDownsample: step_us must be an integer of at least 1.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        out = copied(checked(events, sensor))
        out["t"] -= out["t"] % self.step_us
        return out


@dataclass(frozen=True)
class CropTime:
    """The events with start_us <= t - origin < stop_us; times stay as they are. origin: 0, or the first event.

    stop_us: None: to the end. from_first: True counts from the recording's first event, False from time 0.

    >>> from neuro.datasets.events import make_events
    >>> CropTime(10, 20)(make_events([0] * 3, [0] * 3, [5, 15, 25], [1] * 3), Sensor(1, 1))["t"].tolist()
    [15]
    """

    start_us: int = 0
    stop_us: int | None = None
    from_first: bool = True

    def __post_init__(self) -> None:
        if self.stop_us is not None and self.stop_us <= self.start_us:
            raise ParameterError(explain("CropTime: stop_us must lie after start_us.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        checked(events, sensor)
        origin = int(events["t"][0]) if self.from_first and len(events) else 0
        stop = len(events) if self.stop_us is None else np.searchsorted(events["t"], origin + self.stop_us)
        return copied(events[np.searchsorted(events["t"], origin + self.start_us) : stop])


def shrunk(events: np.ndarray, sensor: Sensor, factor: int) -> np.ndarray:
    """A copy of the events with x // factor and y // factor."""
    from neuro.datasets.arranging import looked_up

    out = np.empty_like(events)
    sides = [(np.arange(side) // factor).astype(np.int16) for side in (sensor.width, sensor.height)]
    looked_up(*sides, events, out)
    return out


def check_factor(step: object) -> None:
    """Refuse a factor that does not divide pixels."""
    if not isinstance(step.factor, (int, np.integer)) or step.factor < 1:
        raise ParameterError(explain(f"{type(step).__name__}: factor must be an integer of at least 1.", repr(step)))
