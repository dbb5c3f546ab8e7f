"""Prophesee EVT 2.1: words of 64 bits, little-endian, type in bits 60-63.

    0 OFF, 1 ON     time low 54-59   x 43-53   y 32-42   mask 0-31: bit k set is an event at x + k
    8 time high     time 32-59, in units of 64 microseconds; overflows after 4.8 hours and is carried on
    0xA trigger, 0xE others, 0xF continued: counted

One word of 8 bytes is up to 32 events of 13 bytes: a file of full masks needs 52 times its size in memory. Source:
Prophesee, "EVT 2.1 format", Metavision SDK documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuro.datasets.formats import prophesee
from neuro.datasets.formats.block import Block, Head
from neuro.datasets.formats.evt2 import NAMES

NAME = "EVT 2.1"
head = prophesee.head


def recognise(data: np.ndarray) -> bool:
    """A RAW header that names EVT 2.1."""
    return prophesee.version(data) == "2.1"


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` words."""
    from neuro.datasets.formats.evt import evt21  # numba is heavy

    return prophesee.decode(data, head, size, 8, 32, evt21, {**NAMES, 16: "words before the first time"})
