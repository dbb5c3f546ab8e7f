"""Move each event on its own in space. In time: `neuro.datasets.augment.TimeJitter`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import Changed, assert_range, checked, copied
from neuro.datasets.events import Sensor


@dataclass(frozen=True)
class SpatialJitter:
    """Move each event by normal draws of `sigma_x` and `sigma_y` pixels, rounded to whole pixels.

    Events that would leave the sensor are dropped, or with `clip` held at its edge; `counted` says how many.
    sigma_y: None: as sigma_x. Both at least 0.
    """

    sigma_x: float
    sigma_y: float | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        assert_range(
            "SpatialJitter", min(self.sigma_x, self.sigma_x if self.sigma_y is None else self.sigma_y) >= 0, self
        )

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
        return self.counted(events, sensor, rng).events

    def counted(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> Changed:
        """The events, and how many would have left the sensor."""
        from neuro.datasets.arranging import jitter_space, selected

        out, keep = copied(checked(events, sensor)), np.empty(len(events), bool)
        sigma = float(self.sigma_x), float(self.sigma_x if self.sigma_y is None else self.sigma_y)
        off = jitter_space(rng, *sigma, sensor.height, sensor.width, self.clip, out, keep)
        return Changed(out, 0, off) if self.clip else Changed(selected(out, keep), off, 0)
