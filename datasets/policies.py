"""Augmentations that draw one of several changes for each recording: EventDrop, NDA, SNNAugmentWide.

NDA and SNNAugmentWide are published for frames; here the same changes act on events, so that nothing is interpolated
and pixels that leave the sensor take their events with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import (
    Augment,
    Compose,
    RandomFlip,
    RandomRotate,
    assert_range,
    checked,
    copied,
    linear,
    moved,
)
from neuro.datasets.dropping import DropArea, DropShare, DropTime, without_box
from neuro.datasets.events import Sensor


@dataclass(frozen=True, init=False)
class OneOf:
    """One of these changes, each equally likely."""

    steps: tuple[Augment, ...]

    def __init__(self, *steps: Augment) -> None:
        assert_range("OneOf", len(steps) > 0, steps)
        object.__setattr__(self, "steps", steps)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        return self.steps[rng.integers(len(self.steps))](events, sensor, rng)


@dataclass(frozen=True)
class Identity:
    """The events as they are, as a copy."""

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> np.ndarray:
        return copied(checked(events, sensor))


@dataclass(frozen=True)
class RandomShear:
    """x -> x + s * (y - middle), s uniform in -most..most, to the nearest pixel; what leaves the sensor is dropped."""

    most: float

    def __post_init__(self) -> None:
        assert_range("RandomShear", 0 <= self.most < np.inf, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        return linear(events, sensor, 1.0, rng.uniform(-self.most, self.most), 0.0, 1.0)


@dataclass(frozen=True)
class RandomRoll:
    """Move by whole pixels, uniform in -pixels..pixels for each axis; what leaves comes back on the other side."""

    pixels: int

    def __post_init__(self) -> None:
        assert_range("RandomRoll", self.pixels >= 0, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        dx, dy = rng.integers(-self.pixels, self.pixels + 1, size=2)
        out = copied(checked(events, sensor))
        out["x"] = (out["x"] + dx) % sensor.width
        out["y"] = (out["y"] + dy) % sensor.height
        return out


@dataclass(frozen=True)
class ShiftAxis:
    """Move along one axis by whole pixels, uniform in -pixels..pixels; what leaves is dropped. axis: 0 y, 1 x."""

    pixels: int
    axis: int

    def __post_init__(self) -> None:
        assert_range("ShiftAxis", self.pixels >= 0 and self.axis in (0, 1), self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        step = int(rng.integers(-self.pixels, self.pixels + 1))
        x, y = events["x"].astype(np.int64), events["y"].astype(np.int64)
        return moved(events, sensor, x + step * self.axis, y + step * (1 - self.axis))


@dataclass(frozen=True)
class Cutout:
    """Leave out a square of `side` pixels around a uniform pixel, cut at the edges. DeVries and Taylor 2017."""

    side: int

    def __post_init__(self) -> None:
        assert_range("Cutout", self.side >= 0, self)

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        checked(events, sensor)
        y, x = int(rng.integers(sensor.height)), int(rng.integers(sensor.width))
        return without_box(events, (y - self.side // 2, x - self.side // 2, self.side, self.side))


def nda(magnitude: int = 1, flip: float = 0.5) -> Compose:
    """Neuromorphic data augmentation: a mirror with probability `flip`, then one of roll, rotation, cutout, shear.

    Roll up to 2 m + 1 pixels, rotation up to 15 m degrees, cutout of side 8 m, shear up to 0.15 m, m = magnitude.
    After Li et al. 2022, "Neuromorphic data augmentation for training spiking neural networks" (arXiv:2203.06145);
    the roll, rotation and cutout are those of public code for CIFAR10-DVS, the slope of the shear is our choice.

    >>> len(nda().steps)
    2
    """
    assert_range("nda", magnitude >= 1, magnitude)
    m = magnitude
    one = OneOf(RandomRoll(2 * m + 1), RandomRotate(min(15.0 * m, 180.0)), Cutout(8 * m), RandomShear(0.15 * m))
    return Compose(RandomFlip(flip), one)


def snn_augment_wide() -> OneOf:
    """One of: nothing, shear up to 0.3, shift by up to 5 pixels in x or in y, rotation up to 30 degrees, box left out.

    The box covers 0.1 % to 11 % of the sensor. As the frames of CIFAR10-DVS are augmented for Spikformer and QKFormer.

    >>> len(snn_augment_wide().steps)
    6
    """
    return OneOf(
        Identity(), RandomShear(0.3), ShiftAxis(5, 1), ShiftAxis(5, 0), RandomRotate(30.0), DropArea((0.001, 0.11))
    )


def event_drop(most: float = 0.9) -> OneOf:
    """One of: nothing, a stretch of time, a box, or a share of the events left out, each up to `most`.

    At least a tenth for time and events; 0.05 to 0.25 of the sensor's pixels for the box. After Gu et al. 2021,
    "EventDrop".

    >>> len(event_drop().steps)
    4
    """
    return OneOf(Identity(), DropTime((0.1, most)), DropArea((0.05, 0.25)), DropShare((0.1, most)))
