"""What a recording holds, at bounded memory: counts, span, rates, events of each pixel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.opening import Source, open_file
from neuro.datasets.reading import PIECE, Damaged, EventFile, Log, checked

WINDOW_US = 10_000  # of the busiest stretch
WINDOWS = 1 << 20  # that are counted: longer recordings have no busiest stretch
PIXELS = 1 << 22  # that are counted
HOT = 20  # times the median of the pixels that have events


@dataclass(frozen=True, eq=False)
class Summary:
    """Figures of one recording. `file` has its facts, without the events.

    `pixels` [height, width] counts the events of each pixel, None for a sensor of more than 2^22 pixels;
    `windows` those of each 10 ms from the first event on, None for a recording of more than 2^20 of them.
    """

    file: EventFile
    events: int
    on: int
    first_us: int
    last_us: int
    pixels: np.ndarray | None = field(repr=False)
    windows: np.ndarray | None = field(repr=False)

    @property
    def seconds(self) -> float:
        """Time from the first to the last event."""
        return (self.last_us - self.first_us) / 1e6

    @property
    def rate(self) -> float | None:
        """Events per second; None where no time passes."""
        return self.events / self.seconds if self.seconds else None

    @property
    def peak(self) -> float | None:
        """Events per second in the busiest 10 ms, None where the recording is shorter than that."""
        if self.windows is None or not self.events or self.last_us - self.first_us < WINDOW_US:
            return None
        return int(self.windows.max()) / (WINDOW_US / 1e6)

    def hot(self) -> list[tuple[int, int, int]]:
        """(x, y, events) of the pixels with more than 20 times the median of those that have any, busiest first."""
        if self.pixels is None or not self.events:
            return []
        limit = HOT * float(np.median(self.pixels[self.pixels > 0]))
        y, x = np.nonzero(self.pixels > limit)
        found = [(int(a), int(b), int(self.pixels[b, a])) for a, b in zip(x, y, strict=True)]
        return sorted(found, key=lambda pixel: -pixel[2])


def summarize(
    path: Source,
    *,
    sensor: Sensor | None = None,
    damaged: Damaged = "refuse",
    item: int | str | None = None,
    format: str = "",
) -> Summary:
    """Read a recording once, piece by piece.

    Raises:
        FormatError: as `read_events`.

    >>> from neuro.datasets.events import make_events; from neuro.datasets.reading import encode_events
    >>> data = encode_events(make_events([1, 2], [3, 4], [0, 500_000], [True, False]), Sensor(8, 8), "dat")
    >>> summarize(data).rate
    4.0
    """
    opened = open_file(path, format=format, item=item)
    stated, log = sensor or opened.head.sensor, Log()
    pixels = np.zeros((1, 1) if stated is None else (stated.height, stated.width), np.int64) if _small(stated) else None
    windows = np.zeros(1, np.int64)
    count = on = 0
    first = last = None
    height = width = 1
    for part in checked(opened, stated, damaged, PIECE, log):
        first = int(part["t"][0]) if first is None else first
        last, count, on = int(part["t"][-1]), count + len(part), on + int(np.count_nonzero(part["p"]))
        height, width = max(height, int(part["y"].max()) + 1), max(width, int(part["x"].max()) + 1)
        if pixels is not None:
            pixels = _counted(pixels, part, height, width)
        if windows is not None:
            windows = _windowed(windows, part["t"], first)
    others = {name: number for name, number in log.others.items() if number}
    file = EventFile(
        np.empty(0), stated or Sensor(height, width), stated is not None, opened.module.NAME, opened.path, opened.head.facts, others,
        log.fault, log.dropped_bytes, log.dropped_events,
    )  # fmt: skip
    return Summary(file, count, on, first or 0, last or 0, pixels, windows)


def _small(sensor: Sensor | None) -> bool:
    return sensor is None or sensor.height * sensor.width <= PIXELS


def _counted(pixels: np.ndarray, part: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """`pixels` with the events of `part`, larger where they need it; None where that is too large."""
    height, width = max(height, pixels.shape[0]), max(width, pixels.shape[1])
    if height * width > PIXELS:
        return None
    if (height, width) != pixels.shape:
        pixels = np.pad(pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1])))
    index = part["y"].astype(np.int64) * width + part["x"]
    return pixels + np.bincount(index, minlength=height * width).reshape(height, width)


def _windowed(windows: np.ndarray, t: np.ndarray, first: int) -> np.ndarray | None:
    """`windows` with these times, longer where they need it; None where that is too long."""
    last = (int(t[-1]) - first) // WINDOW_US
    if last >= WINDOWS:
        return None
    if last >= len(windows):
        windows = np.pad(windows, (0, last + 1 - len(windows)))
    index = (t - first) // WINDOW_US
    start = int(index[0])
    windows[start : last + 1] += np.bincount(index - start, minlength=last + 1 - start)
    return windows
