"""Windows of time: half-open, [start, end), from a stated origin; where the end is known, the last one includes it.

What is cut into such windows (counts, surfaces, leaky sums) derives from `Windowed` and so takes the same four lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_dtype, check_events, describe
from neuro.errors import FormatError, ParameterError, explain

LIMIT = 2**31  # cells of one array; a single wild time stamp must not fill the memory


class Cut(NamedTuple):
    """How one recording is cut: window = (t - origin) * multiple // divisor, at most length - 1, for t up to span."""

    origin: int
    multiple: int
    divisor: int
    span: int
    length: int

    def ends(self) -> np.ndarray:
        """Where each window ends, in microseconds after the origin, float64 [length]; all are equally long."""
        return np.arange(1, self.length + 1, dtype=np.float64) * self.divisor / self.multiple


class Placed(NamedTuple):
    """Which window each event is in. `dropped` events lie outside and have window -1."""

    window: np.ndarray  # [n] int32
    cut: Cut
    dropped: int


@dataclass(frozen=True)
class Windowed:
    """Equal windows of time. Give `bins` or `window_us`.

        bins=10                        10 equal windows over the recording's own first to last event
        bins=10, duration_us=100_000   10 equal windows over [origin, origin + duration]
        window_us=5000                 windows of 5 ms up to the last event: T varies, and is at least 1
        window_us=5000, duration_us=100_000   windows of 5 ms over [origin, origin + duration]; T = 20

    origin_us: where the first window starts; None: at the first event.
    drop_outside: False raises on events outside the windows; True leaves them out.

    Raises:
        ParameterError: both or neither length, or a length that is not an integer of at least 1.
    """

    bins: int | None = None
    window_us: int | None = None
    duration_us: int | None = None
    origin_us: int | None = None
    drop_outside: bool = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        lengths = (self.bins, self.window_us, self.duration_us)
        if (self.bins is None) == (self.window_us is None):
            raise ParameterError(explain(f"{name}: give either bins or window_us.", repr(self)))
        if any(n is not None and (not isinstance(n, (int, np.integer)) or n < 1) for n in lengths):
            raise ParameterError(
                explain(f"{name}: bins, window_us, duration_us must be integers of at least 1.", repr(self))
            )
        if self.bins is not None and self.duration_us is None and self.origin_us is not None:
            raise ParameterError(
                explain(
                    f"{name}: bins over a recording's own duration start at its first event.",
                    repr(self),
                    cure="Leave origin_us out, or give duration_us too.",
                )
            )

    def windows(self, first: int, last: int) -> Cut:
        """How a recording with these first and last times is cut."""
        origin = first if self.origin_us is None else self.origin_us
        if self.bins is not None:
            span = max(last - first, 1) if self.duration_us is None else self.duration_us
            return Cut(origin, self.bins, span, span, self.bins)
        if self.duration_us is not None:
            length = -(-self.duration_us // self.window_us)
            return Cut(origin, 1, self.window_us, self.duration_us, length)
        length = max((last - origin) // self.window_us + 1, 1)
        return Cut(origin, 1, self.window_us, length * self.window_us - 1, length)

    def cut(self, events: np.ndarray, sensor: Sensor, per_window: int) -> Cut:
        """How these events are cut; `per_window` cells each must fit into memory.

        Raises:
            ShapeError: not an event array.
            FormatError: more than `LIMIT` cells, or times that overflow.
        """
        check_dtype(events)
        t = events["t"]
        cut = self.windows(*((int(t[0]), int(t[-1])) if len(t) else (0, 0)))
        if cut.length * per_window > LIMIT or cut.span * cut.multiple >= 2**62:
            check_events(events, sensor)
            facts = f"{len(t)} events" + (f", t from {t[0]} to {t[-1]} us" if len(t) else "")
            act = f"{type(self).__name__}: {cut.length} windows would need {cut.length * per_window} cells, "
            cure = "Use fewer windows, or look for a wild time stamp."
            raise FormatError(explain(f"{act}or the times are too long.", facts, str(self), cure=cure))
        return cut

    def placed(self, events: np.ndarray, sensor: Sensor, channels: int = 2) -> Placed:
        """The window of each event, checked in the same pass.

        Raises:
            FormatError: events off the sensor, out of order, or outside the windows without `drop_outside`.
        """
        from neuro.datasets.counting import place  # compiled: loaded when first needed

        cut = self.cut(events, sensor, channels * math.prod((sensor.height, sensor.width)))
        window = np.empty(len(events), np.int32)
        dropped, first, bad = place(events["x"], events["y"], events["t"], *cut, sensor.height, sensor.width, window)
        if bad >= 0:
            check_events(events, sensor)  # raises, and says what is wrong
        self.refuse(events, dropped, first)
        return Placed(window, cut, dropped)

    def refuse(self, events: np.ndarray, dropped: int, first: int) -> None:
        """Refuse events outside the windows unless they are to be dropped."""
        if dropped and not self.drop_outside:
            raise FormatError(
                explain(
                    f"{type(self).__name__}: {dropped} of {len(events)} events lie outside the time windows.",
                    f"events[{first}] = {describe(events[first])}   {self}",
                    cure="Give a longer duration_us or another origin_us, or choose drop_outside=True.",
                )
            )
