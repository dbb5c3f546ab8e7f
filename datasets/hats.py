"""Histograms of averaged time surfaces: what surrounds an event in space and recent time, averaged over a cell.

Source: Sironi et al. 2018, "HATS: Histograms of averaged time surfaces for robust event-based object classification",
eq. 3 to 6. An event is not part of its own surroundings, as in eq. 4, where t_j < t_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import checked
from neuro.datasets.events import Sensor
from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class AveragedSurface:
    """Events to histograms [cells, 2, 2 radius + 1, 2 radius + 1], float32; cells row by row.

    h[c, q, z] = mean over events i of cell c and polarity q of  sum over j of the same cell and polarity at offset z
    from i with 0 < t_i - t_j <= window of exp(-(t_i - t_j) / tau)

    cell: side of a cell in pixels. radius: in pixels. tau_us, window_us: in microseconds. All at least 1, radius from
    0. Cells without events are zeros. Cost: the events within `window_us` of each event in its cell.

    Raises:
        ParameterError: a value out of range.
        FormatError (on call): events off the sensor or out of order.

    >>> from neuro.datasets.events import make_events
    >>> two = make_events([0, 1], [0, 0], [0, 10], [1, 1])
    >>> AveragedSurface(2, 1, 10.0, 100)(two, Sensor(2, 2))[0, 1].astype(float).round(3).tolist()
    [[0.0, 0.0, 0.0], [0.184, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    cell: int
    radius: int
    tau_us: float
    window_us: int

    def __post_init__(self) -> None:
        if min(self.cell, self.window_us) < 1 or self.radius < 0 or not 0 < self.tau_us < np.inf:
            raise ParameterError(explain("AveragedSurface: a value is outside its range.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The histograms."""
        from neuro.datasets.accumulating import averaged

        checked(events, sensor)
        x, y, t = events["x"], events["y"], events["t"]
        across, down = -(-sensor.width // self.cell), -(-sensor.height // self.cell)
        cell = (y.astype(np.int64) // self.cell) * across + x // self.cell
        group = cell * 2 + events["p"]
        side = 2 * self.radius + 1
        sums = np.zeros((across * down * 2, side, side))
        order = np.argsort(group, kind="stable")
        averaged(x, y, t, group, order, self.radius, float(self.tau_us), self.window_us, sums)
        sums /= np.maximum(np.bincount(group, minlength=len(sums)), 1)[:, None, None]
        return sums.reshape(across * down, 2, side, side).astype(np.float32)
