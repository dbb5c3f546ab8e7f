"""What a sensor reports without a cause: events without company, and pixels that never stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import checked
from neuro.datasets.events import Sensor
from neuro.errors import FormatError, ParameterError, explain

FAR = 2**62  # sums of two times below it do not overflow


@dataclass(frozen=True)
class Denoise:
    """Keep the events that have company: another event on a neighbouring pixel at most `reach_us` away in time.

    Two events that are company to each other are both kept; an event alone is dropped, also at the start of a
    recording.

    reach_us: in microseconds, from 0, below 2^62. radius: neighbours are the other pixels of the square of side 2 radius + 1.
    mutual: False counts only company that came before, as a filter on a running camera must.

    After Delbruck 2008, "Frame-free dynamic digital vision" (background activity filter).

    Raises:
        ParameterError: a value out of range.
        FormatError (on call): events off the sensor or out of order.

    >>> from neuro.datasets.events import make_events
    >>> events = make_events([0, 1, 5], [0, 0, 5], [0, 8, 9], [1, 1, 1])
    >>> Denoise(10)(events, Sensor(6, 6))["t"].tolist()
    [0, 8]
    """

    reach_us: int
    radius: int = 1
    mutual: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.reach_us < FAR or self.radius < 1:
            raise ParameterError(explain("Denoise: needs 0 <= reach_us < 2^62 and radius at least 1.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        from neuro.datasets.arranging import selected
        from neuro.datasets.filtering import supported

        checked(events, sensor)
        if len(events) and max(-int(events["t"][0]), int(events["t"][-1])) >= FAR:
            facts = f"from {events['t'][0]} to {events['t'][-1]} us"
            raise FormatError(explain("Denoise: times beyond 2^62 us.", facts, cure="Look for a wild time stamp."))
        keep = np.empty(len(events), bool)
        size = sensor.height, sensor.width
        supported(events["x"], events["y"], events["t"], *size, self.reach_us, self.radius, self.mutual, keep)
        return selected(events, keep)


@dataclass(frozen=True)
class RemoveHotPixels:
    """Drop all events of pixels with more than `rate_hz` events per second.

    duration_us: over which the rate is taken; None: from the first event to the last, which must then differ.
    `hot(events, sensor)` tells which pixels these are.

    Raises:
        ParameterError: a value not above 0.
        FormatError (on call): events of a single time without duration_us, and so no rate.

    >>> from neuro.datasets.events import make_events
    >>> events = make_events([0, 0, 0, 1], [0] * 4, [0, 10, 20, 30], [1] * 4)
    >>> RemoveHotPixels(50_000.0)(events, Sensor(1, 2))["x"].tolist()
    [1]
    """

    rate_hz: float
    duration_us: int | None = None

    def __post_init__(self) -> None:
        if not self.rate_hz > 0 or (self.duration_us is not None and self.duration_us < 1):
            raise ParameterError(explain("RemoveHotPixels: rate_hz and duration_us must be above 0.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        from neuro.datasets.arranging import selected

        hot = self.hot(events, sensor)
        return selected(events, ~hot[events["y"], events["x"]])

    def hot(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """Which pixels are too fast, boolean [H, W]."""
        checked(events, sensor)
        if not len(events):
            return np.zeros((sensor.height, sensor.width), bool)
        duration = self.duration_us if self.duration_us is not None else int(events["t"][-1] - events["t"][0])
        if duration == 0:
            facts = f"{len(events)} events at t={events['t'][0]} us"
            raise FormatError(
                explain("RemoveHotPixels: no time passes, so there is no rate.", facts, cure="Give duration_us.")
            )
        pixel = events["y"].astype(np.int64) * sensor.width + events["x"]
        counts = np.bincount(pixel, minlength=sensor.height * sensor.width)
        return (counts * 1e6 > self.rate_hz * duration).reshape(sensor.height, sensor.width)
