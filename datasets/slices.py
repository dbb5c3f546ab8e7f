"""Frames that are not plain windows of time: equal numbers of events, or windows that overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.datasets.augment import checked
from neuro.datasets.events import Sensor, describe
from neuro.datasets.transforms import Counted, check_count_dtype, filled
from neuro.datasets.windows import LIMIT
from neuro.errors import FormatError, ParameterError, explain


@dataclass(frozen=True)
class CountFrames:
    """Events to counts [T, 2, H, W], by number of events.

        CountFrames(bins=10)            10 frames; event i of n is in frame i * 10 // n, so sizes differ by at most one
        CountFrames(events=2000)        frames of 2000 events each; the last one holds what is left
        CountFrames(events=2000, overlap=500)   each frame begins with the last 500 events of the one before

    Without overlap every event is in one frame; with overlap an event counts in each frame that holds it, and the
    last frame is the first that reaches the last event. dtype, saturate: as in `Frames`. An empty recording gives
    zeros, one frame of them for `events`.

    Raises:
        ParameterError: both or neither of bins and events, or an overlap outside 0 to events - 1.
        FormatError (on call): events off the sensor or out of order, or a full cell without `saturate`.

    >>> from neuro.datasets.events import make_events
    >>> three = make_events([0, 0, 0], [0, 0, 0], [5, 6, 7], [1, 1, 1])
    >>> CountFrames(bins=2)(three, Sensor(1, 1))[:, 1, 0, 0].tolist()
    [2, 1]
    """

    bins: int | None = None
    events: int | None = None
    overlap: int = 0
    dtype: type = np.int64
    saturate: bool = False

    def __post_init__(self) -> None:
        size = self.events if self.bins is None else self.bins
        good = (self.bins is None) != (self.events is None) and isinstance(size, (int, np.integer)) and size >= 1
        if not good or not 0 <= self.overlap < (self.events or 1):
            raise ParameterError(
                explain(
                    "CountFrames: a choice is missing, doubled or out of range.",
                    repr(self),
                    cure="Give bins or events, at least 1; an overlap goes with events and is smaller.",
                )
            )
        check_count_dtype(self)

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The counts [T, 2, H, W]."""
        return self.counted(events, sensor).x

    def counted(self, events: np.ndarray, sensor: Sensor) -> Counted:
        """The counts, and how many did not fit."""
        starts, stops = self.ranges(len(events))
        return count_slices(events, sensor, starts, stops, self)

    def ranges(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """First event, and the one after the last, of each frame of n events."""
        if self.bins is not None:
            edges = -(-np.arange(self.bins + 1, dtype=np.int64) * n // self.bins)  # least i with i * bins // n >= k
            return edges[:-1], edges[1:]
        step = self.events - self.overlap
        starts = step * np.arange(max(-(-(n - self.overlap) // step), 1), dtype=np.int64)
        return starts, np.minimum(starts + self.events, n)


@dataclass(frozen=True)
class SlidingFrames:
    """Events to counts [T, 2, H, W] in windows [origin + k * stride, origin + k * stride + window), which may overlap.

    window_us, stride_us: in microseconds, stride at most window, so that no event falls between two windows.
    duration_us: T is the least that covers [origin, origin + duration), and events outside it raise; None: T is the
        least that reaches the last event. origin_us: None: the first event.

    An event counts in each window that holds it: with stride = window the total is the number of events.

    Raises:
        ParameterError: a length below 1, or a stride above the window.
        FormatError (on call): events off the sensor, out of order or outside the windows, or a full cell.

    >>> from neuro.datasets.events import make_events
    >>> SlidingFrames(10, 5)(make_events([0, 0], [0, 0], [0, 7], [1, 1]), Sensor(1, 1))[:, 1, 0, 0].tolist()
    [2]
    >>> SlidingFrames(10, 5)(make_events([0, 0], [0, 0], [0, 12], [1, 1]), Sensor(1, 1))[:, 1, 0, 0].tolist()
    [1, 1]
    """

    window_us: int
    stride_us: int
    duration_us: int | None = None
    origin_us: int | None = None
    dtype: type = np.int64
    saturate: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.stride_us <= self.window_us or (self.duration_us is not None and self.duration_us < 1):
            raise ParameterError(
                explain("SlidingFrames: needs 1 <= stride_us <= window_us and duration_us >= 1.", repr(self))
            )
        check_count_dtype(self)

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The counts [T, 2, H, W]."""
        return self.counted(events, sensor).x

    def counted(self, events: np.ndarray, sensor: Sensor) -> Counted:
        """The counts, and how many did not fit."""
        checked(events, sensor)
        t = events["t"]
        origin = self.origin_us if self.origin_us is not None else int(t[0]) if len(t) else 0
        last = int(t[-1]) if len(t) else origin
        span = self.duration_us if self.duration_us is not None else max(last - origin, 0) + 1
        if len(t) and (t[0] < origin or last >= origin + span):
            wild = events[0] if t[0] < origin else events[-1]
            facts = f"{describe(wild)}   windows cover [{origin}, {origin + span}) us   {self}"
            raise FormatError(explain("SlidingFrames: events lie outside the time windows.", facts))
        length = max(-(-(span - self.window_us) // self.stride_us), 0) + 1
        check_cells(length, sensor, self)
        starts = origin + self.stride_us * np.arange(length, dtype=np.int64)
        edges = np.searchsorted(t, starts), np.searchsorted(t, starts + self.window_us)
        return count_slices(events, sensor, *edges, self)


def count_slices(events: np.ndarray, sensor: Sensor, starts: np.ndarray, stops: np.ndarray, how: object) -> Counted:
    """Counts [T, 2, H, W] of the events starts[k] to stops[k] - 1, in the dtype of `how`."""
    from neuro.datasets.counting import count_ranges

    checked(events, sensor)
    x, y, p = events["x"], events["y"], events["p"].view(np.uint8)
    check_cells(len(starts), sensor, how)

    def fill(cells: np.ndarray, most: np.generic) -> int:
        return count_ranges(x, y, p, starts, stops, sensor.height, sensor.width, most, cells)

    cells, clipped = filled(fill, (len(starts), 2, sensor.height, sensor.width), how)
    return Counted(cells, 0, clipped)


def check_cells(length: int, sensor: Sensor, how: object) -> None:
    """Refuse more frames than memory should hold."""
    cells = length * 2 * sensor.height * sensor.width
    if cells > LIMIT:
        cure = "Use fewer frames, or look for a wild time stamp."
        raise FormatError(
            explain(f"{type(how).__name__}: {length} frames would need {cells} cells.", repr(how), cure=cure)
        )
