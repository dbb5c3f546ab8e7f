"""Events of an object brought to the middle, and frames of events after such changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import Augment, checked, moved, resized
from neuro.datasets.events import Sensor
from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class Centred:
    """The square of `size` pixels around the median of all events; those outside it are left out.

    The medians of x and y, rounded down, come to lie on pixel `size // 2`. The sensor is then `size` x `size`.

    Raises:
        ParameterError: a size below 1.

    >>> from neuro.datasets.events import make_events
    >>> Centred(4)(make_events([50, 51, 90], [7, 7, 7], [0, 1, 2], [1, 1, 1]), Sensor(100, 100))[["x", "y"]].tolist()
    [(1, 2), (2, 2)]
    """

    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.size, (int, np.integer)) or self.size < 1:
            raise ParameterError(explain("Centred: size must be a whole number of at least 1.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        checked(events, sensor)
        if not len(events):
            return events.copy()
        x, y = (events[axis].astype(np.int64) - int(np.median(events[axis])) + self.size // 2 for axis in ("x", "y"))
        widest = max(sensor.height, sensor.width, self.size)
        return moved(events, Sensor(widest, widest), np.where(inside(x, self.size) & inside(y, self.size), x, -1), y)

    def resized(self, sensor: Sensor) -> Sensor:
        """The square."""
        return Sensor(self.size, self.size)


def inside(x: np.ndarray, size: int) -> np.ndarray:
    """Where 0 <= x < size."""
    return (x >= 0) & (x < size)


@dataclass(frozen=True)
class Prepared:
    """Changes of the events without chance, one after another, then frames: `(events, sensor) -> [T, C, H, W]`.

    steps: each `(events, sensor, rng) -> events`, with `resized(sensor)` where it changes the size; rng is None.
    frames: such as `Frames`. most: counts above it become it; 0: none do.
    """

    steps: tuple[Augment, ...]
    frames: Callable[[np.ndarray, Sensor], np.ndarray]
    most: int = 0

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        for step in self.steps:
            events, sensor = step(events, sensor, None), resized(step, sensor)
        x = self.frames(events, sensor)
        return np.minimum(x, self.most) if self.most else x
