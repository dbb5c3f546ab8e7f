"""What every event format gives: a head, and blocks of events decoded one after the other.

A format is a module with three functions. `recognise(data)` says whether the bytes are of this format. `head(data)`
reads what comes before the events. `blocks(data, head, size)` decodes at most `size` events (or words) at a time and
keeps nothing but its place, so a file larger than memory is read at bounded memory. `data` is the file as an array of
uint8, mapped and not loaded. Sizes that a file states are never trusted: only bytes that are there are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from neuro.datasets.events import EVENT, Sensor
from neuro.errors import FormatError, explain

LONGEST_LINE = 1 << 16  # bytes; a header line longer than this is binary data


class Head(NamedTuple):
    """What stands before the events. `sensor` is None where the file does not state it."""

    start: int  # byte of the first event
    sensor: Sensor | None
    facts: Mapping[str, Any]


class Block(NamedTuple):
    """Events in the order of the file, counts of what else was met, and, if reading must end here, why."""

    events: np.ndarray
    others: Mapping[str, int] = {}
    fault: str = ""


NO_EVENTS = np.empty(0, EVENT)


def fill(x, y, t, p) -> np.ndarray:
    """Events from columns that are known to fit."""
    events = np.empty(len(x), EVENT)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


def foreign(what: str, *facts: str) -> FormatError:
    """The error for a head that cannot be read."""
    return FormatError(explain(what, *facts, cure="The file is damaged, truncated or of another format."))


def text_lines(data: np.ndarray, mark: bytes) -> tuple[list[str], int]:
    """The lines at the start that begin with `mark` and are printable, and the byte after them."""
    lines, at = [], 0
    while True:
        piece = bytes(data[at : at + LONGEST_LINE])
        end = piece.find(b"\n")
        line = piece[:end].rstrip(b"\r")
        if end < 0 or not piece.startswith(mark) or not all(32 <= c < 127 or c == 9 or c > 159 for c in line):
            return lines, at
        lines.append(line[len(mark) :].decode("utf-8", "replace").strip())
        at += end + 1


def size_from(width: Any, height: Any) -> Sensor | None:
    """A sensor from two numbers of a header, None where they make no sense."""
    try:
        width, height = int(width), int(height)
    except (TypeError, ValueError):
        return None
    return Sensor(height, width) if 0 < width <= 32767 and 0 < height <= 32767 else None


def unwrap(times: np.ndarray, bits: int, last: int | None) -> np.ndarray:
    """Times of `bits` bits made 64-bit: a step back by more than half the range is an overflow, carried on from `last`."""
    times = times.astype(np.int64)
    if not len(times):
        return times
    span = 1 << bits
    before = times[0] if last is None else last
    base = int(before) // span * span
    steps = np.diff(times, prepend=int(before) - base)
    wraps = np.cumsum(steps < -(span // 2)) - np.cumsum(steps > span // 2)
    return times + base + span * wraps
