"""Prophesee DAT: lines that start with `% `, two bytes (event type, event size 8), then 8 bytes an event.

    uint32 t (microseconds)   uint32: x bits 0-13, y bits 14-27, p bits 28-31 (1: ON), little-endian

Version 1 files hold x in bits 0-8, y in bits 9-16, p in bit 17. Types 0 and 12 are change detections; others are
refused. t overflows after 71 minutes and is carried on. Source: Prophesee, "DAT file format", Metavision SDK
documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats.block import Block, Head, foreign, pairs, size_from, text_lines

NAME = "DAT"
WORD = np.dtype([("t", "<u4"), ("a", "<u4")])
SIDE = 2**14


def recognise(data: np.ndarray) -> bool:
    """Lines of `% `, none of them naming an EVT encoding, then an event size of 8."""
    lines, at = text_lines(data, b"% ")
    keys = {line.split(" ")[0].lower() for line in lines}
    return bool(lines) and not keys & {"evt", "format"} and (len(data) < at + 2 or data[at + 1] == 8)


def head(data: np.ndarray) -> Head:
    """The lines as facts, the sensor where Width and Height are given."""
    lines, at = text_lines(data, b"% ")
    facts = dict(line.partition(" ")[::2] for line in lines if not line.startswith("Data file"))  # a sentence
    if len(data) < at + 2:
        raise foreign("DAT: the file ends before the event type.", f"{len(data)} bytes")
    kind, size = int(data[at]), int(data[at + 1])
    if kind not in (0, 12) or size != 8:
        raise foreign("DAT: only change detections are read.", f"event type {kind}   event size {size}")
    lower = {key.lower(): value for key, value in facts.items()}
    return Head(at + 2, size_from(lower.get("width"), lower.get("height")), {**facts, "event type": kind})


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` events."""
    old = str(head.facts.get("Version", "2")) == "1"
    layout = (0, 1, 0, 511, 9, 255, 17, 1, 0, 0, 0) if old else (0, 1, 0, 16383, 14, 16383, 28, 15, 0, 0, 0)
    return pairs(data, head.start, size, layout, "")


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file of version 2."""
    text = f"% Data file containing CD events.\n% Version 2\n% Height {sensor.height}\n% Width {sensor.width}\n"
    words = np.empty(len(events), WORD)
    words["t"] = events["t"]
    x, y, p = (events[c].astype(np.uint32) for c in "xyp")
    words["a"] = x | y << 14 | p << 28
    return text.encode() + bytes([0, 8]) + words.tobytes()


LAST_US = 2**32 - 1
