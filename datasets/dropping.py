"""Leave out events: a share of them, a stretch of time, or a box of the sensor.

`(low, high)` in place of a share draws it uniformly between the two for each recording. The three together, with the
events left as they are as a fourth choice, are EventDrop (Gu et al. 2021, "EventDrop: data augmentation for event-based
learning", section 3); see `neuro.datasets.policies`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import assert_range, checked, copied
from neuro.datasets.events import Sensor

Share = float | tuple[float, float]


@dataclass(frozen=True)
class DropShare:
    """Leave out round(share * n) of n events, every choice equally likely. Independent draws: `augment.RandomDrop`."""

    share: Share

    def __post_init__(self) -> None:
        assert_range("DropShare", is_share(self.share), self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        from neuro.datasets.arranging import sample, selected

        n = len(checked(events, sensor))
        keep = np.empty(n, bool)
        sample(rng, n - round(drawn(self.share, rng) * n), keep)
        return selected(events, keep)


@dataclass(frozen=True)
class DropTime:
    """Leave out the events of one stretch [start, start + share * (last - first)) at a uniform place."""

    share: Share

    def __post_init__(self) -> None:
        assert_range("DropTime", is_share(self.share), self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        checked(events, sensor)
        share, place = drawn(self.share, rng), rng.random()
        if not len(events):
            return copied(events)
        first, last = int(events["t"][0]), int(events["t"][-1])
        length = share * (last - first)
        start = first + place * (last - first - length)
        low, high = np.searchsorted(events["t"], [start, start + length])
        return copied(events[:low], events[high:])


@dataclass(frozen=True)
class DropArea:
    """Leave out the events of one box with `share` of the sensor's pixels, in the sensor's proportions.

    The sides are round(height * sqrt(share)) and round(width * sqrt(share)); `box` gives the one that a generator
    draws.
    """

    share: Share

    def __post_init__(self) -> None:
        assert_range("DropArea", is_share(self.share), self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        checked(events, sensor)
        return without_box(events, self.box(sensor, rng))

    def box(self, sensor: Sensor, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, left, height, width)."""
        return random_box(sensor, drawn(self.share, rng), rng)


def random_box(sensor: Sensor, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a box with a share of the pixels, wholly on the sensor, at a uniform place."""
    height, width = (round(side * share**0.5) for side in (sensor.height, sensor.width))
    top, left = rng.integers(sensor.height - height + 1), rng.integers(sensor.width - width + 1)
    return int(top), int(left), height, width


def without_box(events: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """A copy of the events that do not lie in the box (top, left, height, width)."""
    from neuro.datasets.arranging import outside_box, selected

    keep = np.empty(len(events), bool)
    outside_box(events["x"], events["y"], *box, keep)
    return selected(events, keep)


def in_box(events: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Which events lie in the box, boolean [n]."""
    x, y = events["x"], events["y"]
    return (x >= left) & (x < left + width) & (y >= top) & (y < top + height)


def is_share(share: Share) -> bool:
    """Whether this is a number in 0 to 1, or a pair of them in order."""
    low, high = share if isinstance(share, tuple) else (share, share)
    return 0 <= low <= high <= 1


def drawn(share: Share, rng: np.random.Generator) -> float:
    """The share for one recording."""
    return float(rng.uniform(*share)) if isinstance(share, tuple) else float(share)
