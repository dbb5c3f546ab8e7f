"""Events to frames: counts per time window, polarity and pixel, with every event accounted for.

Windows are half-open, [start, end), and begin at the origin; where the end is known, the last window includes it.
Augmentations of events are in `neuro.datasets.augment`; frames by number of events or with overlap in
`neuro.datasets.slices`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_events
from neuro.datasets.windows import Windowed
from neuro.errors import FormatError, ParameterError, explain

MOST = {np.dtype(np.float32): 2**24, np.dtype(np.int64): 2**63 - 1}  # the largest count, where iinfo does not say it


class Counted(NamedTuple):
    """A histogram of events and what it leaves out: `x.sum() + dropped + clipped == number of events`."""

    x: np.ndarray  # [T, 2, H, W], channel 0 OFF, channel 1 ON
    dropped: int  # events outside the time windows
    clipped: int  # counts cut off because a cell was full


@dataclass(frozen=True)
class Frames(Windowed):
    """Events to counts [T, 2, H, W]; channel 0 is OFF, channel 1 is ON.

    Which windows:
        Frames(bins=10)                        10 equal windows over the recording's own first to last event
        Frames(bins=10, duration_us=100_000)   10 equal windows over [origin, origin + duration]
        Frames(window_us=5000)                 windows of 5 ms up to the last event: T varies, and is at least 1
        Frames(window_us=5000, duration_us=100_000)   windows of 5 ms over [origin, origin + duration]; T = 20

    origin_us: where the first window starts; None: at the first event.
    drop_outside: False raises on events outside the windows; True leaves them out, and `counted` says how many.
    dtype, saturate: int64 counts never wrap. In a smaller dtype a full cell raises, unless `saturate` clips it;
        `counted` says by how much. float32 is full at 2^24, up to which it counts exactly.

    An empty recording gives zeros of the same shape and dtype. Windows without events are zeros.

    Raises (on call): FormatError for events outside the sensor, the windows or the dtype.

    >>> from neuro.datasets.events import make_events
    >>> Frames(bins=2)(make_events([0, 1], [0, 0], [5, 9], [0, 1]), Sensor(1, 2)).tolist()
    [[[[1, 0]], [[0, 0]]], [[[0, 0]], [[0, 1]]]]
    """

    dtype: type = np.int64
    saturate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count_dtype(self)

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The counts [T, 2, H, W]."""
        return self.counted(events, sensor).x

    def counted(self, events: np.ndarray, sensor: Sensor) -> Counted:
        """The counts with the number of events that they leave out."""
        from neuro.datasets.counting import count  # compiled: loaded when first needed

        cut = self.cut(events, sensor, 2 * sensor.height * sensor.width)
        x, y, t, p = events["x"], events["y"], events["t"], events["p"].view(np.uint8)
        outcome = []

        def fill(cells: np.ndarray, most: np.generic) -> int:
            outcome[:] = count(x, y, t, p, *cut, sensor.height, sensor.width, most, cells)
            return outcome[3]

        cells, clipped = filled(fill, (cut.length, 2, sensor.height, sensor.width), self)
        dropped, first, bad, _ = outcome
        if bad >= 0:
            check_events(events, sensor)  # raises, and says what is wrong
        self.refuse(events, dropped, first)
        return Counted(cells, dropped, clipped)


def check_count_dtype(frames: object) -> None:
    """Refuse a dtype that does not count."""
    if np.dtype(frames.dtype) not in MOST and not np.issubdtype(frames.dtype, np.integer):
        cure = "Use an integer dtype or float32, or convert the result."
        raise ParameterError(explain(f"{type(frames).__name__}: counts are integers.", repr(frames), cure=cure))


def filled(fill: Callable[[np.ndarray, np.generic], int], shape: tuple[int, ...], frames: object) -> tuple[np.ndarray, int]:
    """Cells [*shape] in the dtype of `frames`, counted by `fill(flat cells, most) -> clipped`, and that number.

    Raises:
        FormatError: a cell is full and `frames.saturate` is False.
    """
    dtype = np.dtype(frames.dtype)
    most = MOST[dtype] if dtype in MOST else int(np.iinfo(dtype).max)
    x = np.zeros(shape, dtype)
    clipped = fill(x.reshape(-1), dtype.type(most))
    if clipped and not frames.saturate:
        wide = np.zeros(shape, np.int64)  # counted again only to say how many there are
        fill(wide.reshape(-1), np.int64(MOST[wide.dtype]))
        act = f"{type(frames).__name__}: a pixel counts {wide.max()} events, more than {dtype} holds ({most})."
        raise FormatError(explain(act, cure="Use a wider dtype, or choose saturate=True."))
    return x, clipped
