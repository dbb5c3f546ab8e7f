"""Fewer events per pixel: a dead time after each, or one out of n."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import checked
from neuro.datasets.events import Sensor
from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class Refractory:
    """Drop the events of a pixel that come less than `dead_us` after its last kept one.

    every_event: True measures from the pixel's last event of all, kept or not, so that a fast pixel stays silent.

    Raises:
        ParameterError: dead_us below 0.
        FormatError (on call): events off the sensor or out of order.

    >>> from neuro.datasets.events import make_events
    >>> Refractory(10)(make_events([0] * 4, [0] * 4, [0, 6, 10, 15], [1] * 4), Sensor(1, 1))["t"].tolist()
    [0, 10]
    """

    dead_us: int
    every_event: bool = False

    def __post_init__(self) -> None:
        if self.dead_us < 0:
            raise ParameterError(explain("Refractory: dead_us must be at least 0.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        from neuro.datasets.arranging import selected
        from neuro.datasets.filtering import rested

        checked(events, sensor)
        keep = np.empty(len(events), bool)
        columns = events["x"], events["y"], events["t"]
        rested(*columns, sensor.height, sensor.width, self.dead_us, self.every_event, keep)
        return selected(events, keep)


@dataclass(frozen=True)
class Decimate:
    """Keep the n-th, 2n-th, ... event of each pixel.

    Raises:
        ParameterError: n below 1.
        FormatError (on call): events off the sensor or out of order.

    >>> from neuro.datasets.events import make_events
    >>> Decimate(2)(make_events([0, 1, 0, 0], [0] * 4, [0, 1, 2, 3], [1] * 4), Sensor(1, 2))["t"].tolist()
    [2]
    """

    n: int

    def __post_init__(self) -> None:
        if not isinstance(self.n, (int, np.integer)) or self.n < 1:
            raise ParameterError(explain("Decimate: n must be an integer of at least 1.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        from neuro.datasets.arranging import selected
        from neuro.datasets.filtering import every

        checked(events, sensor)
        keep = np.empty(len(events), bool)
        every(events["x"], events["y"], sensor.height, sensor.width, self.n, keep)
        return selected(events, keep)
