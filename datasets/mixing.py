"""One recording out of two, and how much of it is the first: mixup and cutmix on events.

Sources: Zhang et al. 2018, "mixup"; Yun et al. 2019, "CutMix"; on events, where pixels cannot be added in parts, a
share of the events is taken instead (Shen et al. 2023, "EventMix").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.augment import assert_range, checked, copied
from neuro.datasets.dropping import in_box, random_box, without_box
from neuro.datasets.events import Sensor


class Mixed(NamedTuple):
    """Events of two recordings in order of time, and the weight of the first one's label; the second has 1 - share."""

    events: np.ndarray
    share: float


@dataclass(frozen=True)
class EventMixup:
    """Each event of the first recording with probability `share`, of the second with 1 - share.

    share ~ Beta(alpha, alpha)

    The second recording is moved in time so that both begin together. alpha: above 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        assert_range("EventMixup", 0 < self.alpha < np.inf, self)

    def __call__(self, first: np.ndarray, second: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> Mixed:
        share = float(rng.beta(self.alpha, self.alpha))
        a, b = together(first, second, sensor)
        return Mixed(merged(a[rng.random(len(a)) < share], b[rng.random(len(b)) >= share]), share)


@dataclass(frozen=True)
class EventCutMix:
    """The first recording with one box of the sensor, and all events in it, taken from the second.

    The box has a share of the pixels drawn as 1 - Beta(alpha, alpha), at a uniform place; the weight is the share of
    pixels that stay, counted after rounding. The second recording is moved in time so that both begin together.
    alpha: above 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        assert_range("EventCutMix", 0 < self.alpha < np.inf, self)

    def __call__(self, first: np.ndarray, second: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> Mixed:
        box = random_box(sensor, 1 - float(rng.beta(self.alpha, self.alpha)), rng)
        a, b = together(first, second, sensor)
        share = 1 - box[2] * box[3] / (sensor.height * sensor.width)
        return Mixed(merged(without_box(a, box), b[in_box(b, *box)]), share)


def together(first: np.ndarray, second: np.ndarray, sensor: Sensor) -> tuple[np.ndarray, np.ndarray]:
    """Both recordings, checked, the second one moved in time to begin with the first."""
    checked(first, sensor)
    second = copied(checked(second, sensor))
    if len(first) and len(second):
        second["t"] += first["t"][0] - second["t"][0]
    return first, second


def merged(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two recordings as one in order of time; at equal times the first one's events come first."""
    from neuro.datasets.arranging import by_time

    return by_time(copied(first, second))
