"""Mirror a recording: upside down, in polarity, or in time. Left to right is `neuro.datasets.augment.RandomFlip`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import assert_range, checked, copied
from neuro.datasets.events import Sensor


@dataclass(frozen=True)
class RandomFlipVertical:
    """With probability p mirror the whole recording top to bottom: y -> height - 1 - y."""

    p: float = 0.5

    def __post_init__(self) -> None:
        assert_range("RandomFlipVertical", 0 <= self.p <= 1, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        out = copied(checked(events, sensor))
        if rng.random() < self.p:
            out["y"] = sensor.height - 1 - out["y"]
        return out


@dataclass(frozen=True)
class RandomFlipPolarity:
    """With probability p swap ON and OFF: of the whole recording, or with `each` of every event on its own."""

    p: float = 0.5
    each: bool = False

    def __post_init__(self) -> None:
        assert_range("RandomFlipPolarity", 0 <= self.p <= 1, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        out = copied(checked(events, sensor))
        out["p"] ^= rng.random(len(out) if self.each else 1) < self.p
        return out


@dataclass(frozen=True)
class RandomReverseTime:
    """With probability p play the recording backwards: t -> first + last - t, ON and OFF swapped, in order of time.

    What gets brighter forwards gets darker backwards. The polarities stay where `swap` is False.
    """

    p: float = 0.5
    swap: bool = True

    def __post_init__(self) -> None:
        assert_range("RandomReverseTime", 0 <= self.p <= 1, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        checked(events, sensor)
        if rng.random() >= self.p or not len(events):
            return copied(events)
        out = copied(events[::-1])
        out["t"] = events["t"][0] + events["t"][-1] - out["t"]
        if self.swap:
            out["p"] = ~out["p"]
        return out
