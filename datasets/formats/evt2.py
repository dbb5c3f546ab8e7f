"""Prophesee EVT 2.0: words of 32 bits, little-endian, type in bits 28-31.

    0 OFF, 1 ON     time low 22-27   x 11-21   y 0-10
    8 time high     time 0-27, in units of 64 microseconds; overflows after 4.8 hours and is carried on
    0xA trigger     counted; 0xE others and 0xF continued: counted

t = time high * 64 + time low. Source: Prophesee, "EVT 2.0 format", Metavision SDK documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats import prophesee
from neuro.datasets.formats.block import Block, Head

NAME = "EVT 2.0"
NAMES = {10: "triggers", 14: "other words", 15: "continued words", 16: "events before the first time"}
LAST_US = 2**34 - 1
SIDE = 2048
head = prophesee.head


def recognise(data: np.ndarray) -> bool:
    """A RAW header that names EVT 2.0."""
    return prophesee.version(data) == "2.0"


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` words."""
    from neuro.datasets.formats.evt import evt2  # numba is heavy

    return prophesee.decode(data, head, size, 4, 1, evt2, NAMES)


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file: a time-high word wherever the upper part of the time changes."""
    text = f"% evt 2.0\n% format EVT2;height={sensor.height};width={sensor.width}\n% geometry {sensor.width}x{sensor.height}\n% end\n"
    high = events["t"] >> 6
    new = np.ones(len(events), bool)
    new[1:] = high[1:] != high[:-1]
    at = np.arange(len(events)) + np.cumsum(new)
    words = np.empty(len(events) + int(new.sum()), "<u4")
    x, y, t, p = (events[c].astype(np.int64) for c in "xytp")
    words[at] = p << 28 | (t & 63) << 22 | x << 11 | y
    words[at[new] - 1] = 8 << 28 | high[new]
    return text.encode() + words.tobytes()
