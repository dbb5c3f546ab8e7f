"""Events to frames: counts per time window, polarity and pixel, with every event accounted for.

Windows are half-open, [start, end), and begin at the origin; where the end is known, the last window includes it.
Augmentations of events are in `neuro.datasets.augment`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_dtype, check_events, describe
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
        if any(n is not None and (not isinstance(n, (int, np.integer)) or n < 1) for n in lengths):
            raise ParameterError(
                explain("Frames: bins, window_us, duration_us must be integers of at least 1.", repr(self))
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
        from neuro.datasets.counting import count  # compiled: loaded when first needed

        check_dtype(events)
        t = events["t"]
        origin, multiple, divisor, span, length = self.windows(*((int(t[0]), int(t[-1])) if len(t) else (0, 0)))
        shape = (length, 2, sensor.height, sensor.width)
        if math.prod(shape) > LIMIT or span * multiple >= 2**62:
            check_events(events, sensor)
            facts = f"{len(t)} events" + (f", t from {t[0]} to {t[-1]} us" if len(t) else "")
            act = f"Frames: {list(shape)} would need {math.prod(shape)} cells, or the times are too long."
            raise FormatError(explain(act, facts, str(self), cure="Use fewer windows, or look for a wild time stamp."))
        x = np.zeros(shape, np.int64)
        dropped, first, bad = count(events["x"], events["y"], t, events["p"], origin, multiple, divisor, span, x)
        if bad >= 0:
            check_events(events, sensor)  # raises, and says what is wrong
        if dropped and not self.drop_outside:
            raise FormatError(
                explain(
                    f"Frames: {dropped} of {len(events)} events lie outside the time windows.",
                    f"events[{first}] = {describe(events[first])}   {self}",
                    cure="Give a longer duration_us or another origin_us, or choose drop_outside=True.",
                )
            )
        return fit(x, self.dtype, self.saturate, dropped)

    def windows(self, first: int, last: int) -> tuple[int, int, int, int, int]:
        """(origin, multiple, divisor, span, length): window = (t - origin) * multiple // divisor, for t up to span."""
        origin = first if self.origin_us is None else self.origin_us
        if self.bins is not None:
            span = max(last - first, 1) if self.duration_us is None else self.duration_us
            return origin, self.bins, span, span, self.bins
        if self.duration_us is not None:
            return origin, 1, self.window_us, self.duration_us, -(-self.duration_us // self.window_us)
        length = max((last - origin) // self.window_us + 1, 1)
        return origin, 1, self.window_us, length * self.window_us - 1, length


def fit(x: np.ndarray, dtype: type, saturate: bool, dropped: int) -> Counted:
    """The counts in `dtype`. A cell that does not fit raises unless `saturate`."""
    most = np.iinfo(dtype).max
    if np.iinfo(dtype).bits == 64 or x.max() <= most:
        return Counted(x.astype(dtype, copy=False), dropped, 0)
    if not saturate:
        raise FormatError(
            explain(
                f"Frames: a pixel counts {x.max()} events, more than {np.dtype(dtype)} holds ({most}).",
                cure="Use a wider dtype, or choose saturate=True.",
            )
        )
    clipped = np.minimum(x, most)
    return Counted(clipped.astype(dtype), dropped, int((x - clipped).sum()))
