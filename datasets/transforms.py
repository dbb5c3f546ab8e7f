"""Events to frames: counts per time window, polarity and pixel, with every event accounted for.

Windows are half-open, [start, end), and begin at the origin; where the end is known, the last window includes it.
Augmentations of events are in `neuro.datasets.augment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_events, describe
from neuro.errors import FormatError, ParameterError, explain

LIMIT = 2**31  # cells of one histogram; a single wild time stamp must not fill the memory


class Counted(NamedTuple):
    """A histogram of events and what it leaves out: `x.sum() + dropped + clipped == number of events`."""

    x: np.ndarray  # [T, 2, H, W], channel 0 OFF, channel 1 ON
    dropped: int  # events outside the time windows
    clipped: int  # counts cut off because a cell was full


@dataclass(frozen=True)
class Frames:
    """Events to counts [T, 2, H, W]; channel 0 is OFF, channel 1 is ON.

    Which windows:
        Frames(bins=10)                        10 equal windows over the recording's own first to last event
        Frames(bins=10, duration_us=100_000)   10 equal windows over [origin, origin + duration]
        Frames(window_us=5000)                 windows of 5 ms up to the last event: T varies, and is at least 1
        Frames(window_us=5000, duration_us=100_000)   windows of 5 ms over [origin, origin + duration]; T = 20

    origin_us: where the first window starts; None: at the first event.
    drop_outside: False raises on events outside the windows; True leaves them out, and `counted` says how many.
    dtype, saturate: int64 counts never wrap. In a smaller dtype a full cell raises, unless `saturate` clips it;
        `counted` says by how much.

    An empty recording gives zeros of the same shape and dtype. Windows without events are zeros.

    Raises (on call): FormatError for events outside the sensor, the windows or the dtype.

    >>> from neuro.datasets.events import make_events
    >>> Frames(bins=2)(make_events([0, 1], [0, 0], [5, 9], [0, 1]), Sensor(1, 2)).tolist()
    [[[[1, 0]], [[0, 0]]], [[[0, 0]], [[0, 1]]]]
    """

    bins: int | None = None
    window_us: int | None = None
    duration_us: int | None = None
    origin_us: int | None = None
    drop_outside: bool = False
    dtype: type = np.int64
    saturate: bool = False

    def __post_init__(self) -> None:
        lengths = (self.bins, self.window_us, self.duration_us)
        if (self.bins is None) == (self.window_us is None):
            raise ParameterError(explain("Frames: give either bins or window_us.", repr(self)))
        if any(n is not None and (n < 1 or n != int(n)) for n in lengths):
            raise ParameterError(
                explain("Frames: bins, window_us, duration_us must be whole and at least 1.", repr(self))
            )
        if self.bins is not None and self.duration_us is None and self.origin_us is not None:
            raise ParameterError(
                explain(
                    "Frames: bins over a recording's own duration start at its first event.",
                    repr(self),
                    cure="Leave origin_us out, or give duration_us too.",
                )
            )
        if not np.issubdtype(self.dtype, np.integer):
            raise ParameterError(explain("Frames: counts are integers.", repr(self), cure="Convert the result."))

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The counts [T, 2, H, W]."""
        return self.counted(events, sensor).x

    def counted(self, events: np.ndarray, sensor: Sensor) -> Counted:
        """The counts with the number of events that they leave out."""
        check_events(events, sensor)
        index, length = self.windows(events["t"])
        outside = (index < 0) | (index >= length)
        dropped = int(outside.sum())
        if dropped and not self.drop_outside:
            first = np.flatnonzero(outside)[0]
            raise FormatError(
                explain(
                    f"Frames: {dropped} of {len(events)} events lie outside the time windows.",
                    f"events[{first}] = {describe(events[first])}   {self}",
                    cure="Give a longer duration_us or another origin_us, or choose drop_outside=True.",
                )
            )
        if dropped:
            events, index = events[~outside], index[~outside]
        shape = (length, 2, sensor.height, sensor.width)
        cells = length * 2 * sensor.height * sensor.width
        if cells > LIMIT:
            span = f"t from {events['t'][0]} to {events['t'][-1]} us" if len(events) else "no events"
            raise FormatError(explain(f"Frames: {list(shape)} would need {cells} cells.", f"{span}   {self}"))
        flat = ((index * 2 + events["p"]) * sensor.height + events["y"]) * sensor.width + events["x"]
        counts, clipped = fit(np.bincount(flat, minlength=cells), self.dtype, self.saturate)
        return Counted(counts.reshape(shape), dropped, clipped)

    def windows(self, t: np.ndarray) -> tuple[np.ndarray, int]:
        """The number of each event's window (out of range: outside), and the number of windows."""
        first, last = (int(t[0]), int(t[-1])) if len(t) else (0, 0)
        origin = first if self.origin_us is None else self.origin_us
        since = t - origin
        if self.duration_us is None and self.window_us is not None:
            return since // self.window_us, max((last - origin) // self.window_us + 1, 1)
        span = max(last - first, 1) if self.duration_us is None else self.duration_us
        if self.bins is not None:
            index, length = since * self.bins // span, self.bins
        else:
            index, length = since // self.window_us, -(-span // self.window_us)
        return np.where(since == span, length - 1, np.where(since > span, length, index)), length


def fit(counts: np.ndarray, dtype: type, saturate: bool) -> tuple[np.ndarray, int]:
    """Counts in `dtype` and how many were clipped. A cell that does not fit raises unless `saturate`."""
    most = np.iinfo(dtype).max
    if np.iinfo(dtype).bits == 64 or not len(counts) or counts.max() <= most:
        return counts.astype(dtype), 0
    if not saturate:
        raise FormatError(
            explain(
                f"Frames: a pixel counts {counts.max()} events, more than {np.dtype(dtype)} holds ({most}).",
                cure="Use a wider dtype, or choose saturate=True.",
            )
        )
    clipped = np.minimum(counts, most)
    return clipped.astype(dtype), int((counts - clipped).sum())
