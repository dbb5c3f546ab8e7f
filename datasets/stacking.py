"""Fine time bins packed into channels or bits: stacked histograms and Bina-Rep frames.

Sources: Gehrig and Scaramuzza 2023, "Recurrent vision transformers for object detection with event cameras", 3.1;
Barchid et al. 2022, "Bina-Rep event frames", eq. 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.transforms import Counted, Frames
from neuro.datasets.windows import Windowed
from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class StackedHistogram(Windowed):
    """Counts of `stack` fine bins of each window, as channels: uint8 [T, 2 * stack, H, W], OFF bins, then ON bins.

    stack: fine bins per window, from 1. most: counts above it are clipped, 1 to 255; `counted` says how many were.
    Windows and errors as for `Frames`; `window_us` must be a multiple of `stack`.

    >>> from neuro.datasets.events import make_events
    >>> two = make_events([0, 0], [0, 0], [0, 10], [0, 1])
    >>> StackedHistogram(bins=1, stack=2)(two, Sensor(1, 1)).ravel().tolist()
    [1, 0, 0, 1]
    """

    stack: int = field(kw_only=True)
    most: int = field(default=255, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.most <= 255:
            raise ParameterError(explain("StackedHistogram: most must be 1 to 255.", repr(self)))
        self.fine()

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The stacked counts."""
        return self.counted(events, sensor).x

    def counted(self, events: np.ndarray, sensor: Sensor) -> Counted:
        """The stacked counts, and how many events they leave out."""
        x, dropped, clipped = self.fine().counted(events, sensor)
        short = -len(x) % self.stack  # a last window cut short by the end of the recording
        x = np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)]) if short else x
        over = int((x - np.minimum(x, self.most)).sum(dtype=np.int64))
        x = np.minimum(x, self.most).reshape(-1, self.stack, 2, sensor.height, sensor.width)
        return Counted(x.swapaxes(1, 2).reshape(len(x), -1, sensor.height, sensor.width), dropped, clipped + over)

    def fine(self) -> Frames:
        """The fine bins."""
        return replace(fine(self, self.stack), dtype=np.uint8, saturate=True)


@dataclass(frozen=True)
class BinaRep(Windowed):
    """Whether each of `bits` fine bins of a window saw an event, as a binary number: float32 [T, 2, H, W] in [0, 1].

    x = sum over i of 2^(bits - 1 - i) [fine bin i has an event] / (2^bits - 1); the first bin is the highest bit

    bits: 1 to 24, so that float32 tells all codes apart. Windows and errors as for `Frames`; `window_us` must be a
    multiple of `bits`.

    >>> from neuro.datasets.events import make_events
    >>> BinaRep(bins=1, bits=2)(make_events([0], [0], [0], [1]), Sensor(1, 1)).astype(float).round(3).ravel().tolist()
    [0.0, 0.667]
    """

    bits: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.bits <= 24:
            raise ParameterError(explain("BinaRep: bits must be 1 to 24.", repr(self)))
        self.fine()

    def __call__(self, events: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The codes [T, 2, H, W]."""
        x = self.fine()(events, sensor) > 0
        code = np.zeros((-(-len(x) // self.bits), 2, sensor.height, sensor.width), np.int64)
        for i in range(len(x)):
            code[i // self.bits] |= x[i].astype(np.int64) << (self.bits - 1 - i % self.bits)
        return (code / (2**self.bits - 1)).astype(np.float32)

    def fine(self) -> Frames:
        """The fine bins."""
        return replace(fine(self, self.bits), dtype=np.uint8, saturate=True)


def fine(coarse: Windowed, parts: int) -> Frames:
    """Frames whose windows are those of `coarse`, each cut into `parts`."""
    if not isinstance(parts, (int, np.integer)) or parts < 1 or (coarse.window_us or parts) % parts:
        act = f"{type(coarse).__name__}: a window cannot be cut into {parts} equal parts of whole microseconds."
        raise ParameterError(explain(act, repr(coarse)))
    bins = None if coarse.bins is None else coarse.bins * parts
    window = None if coarse.window_us is None else coarse.window_us // parts
    return Frames(bins, window, coarse.duration_us, coarse.origin_us, coarse.drop_outside)
