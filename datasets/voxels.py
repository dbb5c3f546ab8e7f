"""Events to a voxel grid: each event is shared between the two nearest of B points in time.

Source: Zhu et al. 2019, "Unsupervised event-based learning of optical flow, depth, and egomotion", eq. 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_dtype, check_events, describe
from neuro.datasets.windows import LIMIT
from neuro.errors import FormatError, ParameterError, explain


class Gridded(NamedTuple):
    """A voxel grid and the number of events that it leaves out."""

    x: np.ndarray  # [B, 1 or 2, H, W]
    dropped: int


@dataclass(frozen=True)
class VoxelGrid:
    """Events to a grid [bins, 1, H, W], float32: signed, ON +1 and OFF -1; or [bins, 2, H, W] with `split`.

    t* = (bins - 1) (t - t_0) / span;   grid[b] = sum over events of sign * max(0, 1 - |b - t*|)

    The two shares of an event add up to 1, so the grid sums to ON - OFF, and with `split` to the number of events, each
    polarity in its own channel. Sums are made in float64 and rounded once.

    bins: points in time, at least 1; the first stands at t_0, the last at t_0 + span.
    duration_us: the span; None: from the first event to the last. origin_us: t_0; None: the first event.
    drop_outside: False raises on events outside [t_0, t_0 + span]; True leaves them out, `gridded` says how many.

    An empty recording gives zeros. Where all times are equal, all events are at the first point.

    Raises:
        ParameterError: bins or duration below 1, or an origin without a duration.
        FormatError (on call): events off the sensor, out of order or outside the span.

    >>> from neuro.datasets.events import make_events
    >>> VoxelGrid(3)(make_events([0] * 3, [0] * 3, [0, 5, 20], [1, 1, 0]), Sensor(1, 1)).ravel().tolist()
    [1.5, 0.5, -1.0]
    """

    bins: int
    duration_us: int | None = None
    origin_us: int | None = None
    split: bool = False
    drop_outside: bool = False

    def __post_init__(self) -> None:
        lengths = (self.bins, self.duration_us)
        if any(n is not None and (not isinstance(n, (int, np.integer)) or n < 1) for n in lengths):
            raise ParameterError(explain("VoxelGrid: bins and duration_us must be integers of at least 1.", repr(self)))
        if self.origin_us is not None and self.duration_us is None:
            raise ParameterError(explain("VoxelGrid: origin_us needs duration_us.", repr(self)))

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The grid."""
        return self.gridded(events, sensor).x

    def gridded(self, events: np.ndarray, sensor: Sensor) -> Gridded:
        """The grid, and how many events it leaves out."""
        from neuro.datasets.accumulating import voxels  # compiled: loaded when first needed

        check_dtype(events)
        x, y, t, p = events["x"], events["y"], events["t"], events["p"].view(np.uint8)
        origin, span = self.span(t)
        shape = (self.bins, 2 if self.split else 1, sensor.height, sensor.width)
        cells = int(np.prod(shape, dtype=np.int64))
        if cells > LIMIT or span >= 2**53:
            check_events(events, sensor)
            raise FormatError(explain(f"VoxelGrid: {cells} cells or {span} us are too many.", repr(self)))
        grid = np.zeros(cells)
        dropped, first, bad = voxels(
            x, y, t, p, origin, span, self.bins - 1, sensor.height, sensor.width, self.split, grid
        )
        if bad >= 0:
            check_events(events, sensor)  # raises, and says what is wrong
        if dropped and not self.drop_outside:
            act = f"VoxelGrid: {dropped} of {len(events)} events lie outside the span."
            cure = "Give a longer duration_us or another origin_us, or choose drop_outside=True."
            raise FormatError(explain(act, f"events[{first}] = {describe(events[first])}   {self}", cure=cure))
        return Gridded(grid.reshape(shape).astype(np.float32), dropped)

    def span(self, t: np.ndarray) -> tuple[int, int]:
        """(t_0, span) of a recording with these times."""
        first, last = (int(t[0]), int(t[-1])) if len(t) else (0, 0)
        if self.duration_us is None:
            return first, max(last - first, 1)
        return first if self.origin_us is None else self.origin_us, self.duration_us
