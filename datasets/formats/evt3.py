"""Prophesee EVT 3.0: words of 16 bits, little-endian, type in bits 12-15; each changes the decoder's state or is an event.

    0 y (bits 0-10)     2 event at x (0-10), polarity bit 11     3 start of a vector: x, polarity
    4, 5 vector         mask of 12 or 8 pixels; bit k set is an event at x + k; then x grows by 12 or 8
    6 time low (0-11)   8 time high (0-11), overflows after 16.8 s and is carried on
    0xA trigger, 7, 0xE, 0xF others and their continuations: counted

t = time high * 4096 + time low: a time low that steps back is no overflow, because a time high has come before. One
word of 2 bytes is up to 12 events of 13 bytes. Source: Prophesee, "EVT 3.0 format", Metavision SDK documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats import prophesee
from neuro.datasets.formats.block import Block, Head
from neuro.datasets.formats.evt2 import NAMES

NAME = "EVT 3.0"
head = prophesee.head


def recognise(data: np.ndarray) -> bool:
    """A RAW header that names EVT 3.0."""
    return prophesee.version(data) == "3.0"


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` words."""
    from neuro.datasets.formats.evt import evt3  # numba is heavy

    names = {**NAMES, 7: "continued words", 15: "continued words of 12", 16: "words before the first time"}
    return prophesee.decode(data, head, size, 2, 12, evt3, names)


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file without vectors: time high, time low, y and x, for each event the words that change.

    Where more than half of the time's range passes between two events, further time-high words keep the overflows.
    """
    text = f"% evt 3.0\n% format EVT3;height={sensor.height};width={sensor.width}\n% geometry {sensor.width}x{sensor.height}\n% end\n"
    words, last, row = [], -1, -1
    for x, y, t, p in events.tolist():
        if t != last:
            high = t >> 12
            step = range((last >> 12) + 1024, high, 1024) if last >= 0 else range(0, high, 1024)
            words += [0x8000 | h & 4095 for h in [*step, high]] + [0x6000 | t & 4095]
            last = t
        if y != row:
            words.append(y)
            row = y
        words.append(0x2000 | int(p) << 11 | x)
    return text.encode() + np.array(words, "<u2").tobytes()


LAST_US = 2**40
SIDE = 2048
