"""What every event format gives: a head, and blocks of events decoded one after the other.

A format is a module with three functions. `recognise(data)` says whether the bytes are of this format. `head(data)`
reads what comes before the events. `blocks(data, head, size)` decodes at most `size` events (or words) at a time and
keeps nothing but its place, so a file larger than memory is read at bounded memory. `data` is the file as an array of
uint8, mapped and not loaded. Sizes that a file states are never trusted: only bytes that are there are decoded.
A module with `SEVERAL` reads files that may hold several recordings: its `head` takes the one that is wanted as `item`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from neuro.datasets.events import EVENT, Sensor
from neuro.errors import FormatError, ParameterError, explain, unknown

LONGEST_LINE = 1 << 16  # bytes; a header line longer than this is binary data
LARGEST_READ = 1 << 20  # bytes that may be asked for beyond the file's own size
PRINTABLE = bytes([9, *range(32, 127), *range(160, 256)])


class Head(NamedTuple):
    """What stands before the events. `sensor` is None where the file does not state it."""

    start: int  # byte of the first event
    sensor: Sensor | None
    facts: Mapping[str, Any]
    item: Any = None  # what `blocks` needs to know beside; not shown


class Block(NamedTuple):
    """Events in the order of the file, counts of what else was met, and, if reading must end here, why.

    `place(k)` is the byte where event k of the block begins, for k = len(events) the byte of the fault; None where
    the file is compressed and no byte can be told. `rest` are the whole events that lie behind the fault, None: unknown.
    `reach` are the largest x and y, where the decoder has seen that no time steps back and no coordinate is below 0.
    """

    events: np.ndarray
    others: Mapping[str, int] = {}
    fault: str = ""
    place: Callable[[int], int] | None = None
    rest: int | None = 0
    reach: tuple[int, int] | None = None


NO_EVENTS = np.empty(0, EVENT)


def ended(fault: str, at: int | None, rest: int | None = 0) -> Block:
    """The block that ends a reading at byte `at`."""
    return Block(NO_EVENTS, {}, fault, None if at is None else lambda k: at, rest)


def leftover(data: np.ndarray, rest: int, width: int, what: str = "an event") -> Block:
    """The block that ends a file with a part of an event."""
    return ended(f"{rest} bytes left of {what} of {width} at byte {len(data) - rest}", len(data) - rest)


def steps(at: int, width: int, kept: np.ndarray | None = None) -> Callable[[int], int]:
    """`Block.place` of events of `width` bytes from byte `at`; `kept` marks those that became events."""
    if kept is None:
        return lambda k: at + width * k
    return lambda k: at + width * int(np.flatnonzero(kept)[k] if k < np.count_nonzero(kept) else len(kept))


def least(count: Callable[[int], int], units: int, wanted: int) -> int:
    """The unit with which the number of events, `count(units)`, first exceeds `wanted`; found by halving."""
    low, high = 0, units
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle) <= wanted else (low, middle)
    return max(low - 1, 0)


def most_bytes(data: np.ndarray) -> int:
    """Bytes that a compressed file may unfold to: a small multiple of itself, and 16 MiB that no memory minds."""
    return 64 * len(data) + (16 << 20)


class Mapped(io.RawIOBase):
    """The mapped bytes as a file, for libraries that want one; nothing is loaded but what they read."""

    def __init__(self, data: np.ndarray):
        self.data, self.at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, len(self.data))[whence])
        return self.at

    def readinto(self, buffer) -> int:
        """Fill the buffer; a library that follows a damaged address asks for more than the file has, and is stopped."""
        if self.at > len(self.data) or len(buffer) > len(self.data) + LARGEST_READ:
            raise OSError(f"{len(buffer)} bytes at byte {self.at} of a file of {len(self.data)}")
        part = self.data[self.at : self.at + len(buffer)]
        memoryview(buffer)[: len(part)] = memoryview(part)
        self.at += len(part)
        return len(part)


def fill(x, y, t, p) -> np.ndarray:
    """Events from columns that are known to fit."""
    events = np.empty(len(x), EVENT)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """One new array of all events; as bytes, because NumPy copies records field by field."""
    events = np.empty(sum(len(part) for part in parts), EVENT)
    raw, at = events.view(np.uint8), 0
    for part in parts:
        if len(part):
            raw[at : at + part.nbytes] = np.ascontiguousarray(part).view(np.uint8)
            at += part.nbytes
    return events


def trimmed(events: np.ndarray, n: int) -> np.ndarray:
    """The first `n` events; a copy where the array is much larger than they are."""
    return events[:n] if 2 * n >= len(events) else joined([events[:n]])


def foreign(what: str, *facts: str) -> FormatError:
    """The error for a head that cannot be read."""
    return FormatError(explain(what, *facts, cure="The file is damaged, truncated or of another format."))


def choose(found: Mapping[str, Any], item: int | str | None, what: str) -> Any:
    """The recording that `item` names, by name or number; without it the only one.

    Raises:
        FormatError: none or several and no `item`. UnknownName: no such name. ParameterError: no such number.
    """
    names = list(found)
    if item is None:
        if len(names) == 1:
            return found[names[0]]
        if not names:
            raise foreign(f"{what}: no events are in this file in a layout that is known.")
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise FormatError(
            explain(
                f"{what}: the file holds {len(names)} recordings.",
                shown,
                cure="Choose one: item= (--item) its name or number.",
            )
        )
    if isinstance(item, str) and item not in found and item.isdecimal():
        item = int(item)
    if isinstance(item, str):
        if item not in found:
            raise unknown("recording", item, names)
        return found[item]
    if not 0 <= item < len(names):
        raise ParameterError(
            explain(f"{what}: no recording of this number.", f"item={item}   there are {len(names)}, from 0")
        )
    return found[names[item]]


def reached(right: int, below: int, ordered: bool) -> tuple[int, int] | None:
    """`Block.reach` from what a loop has seen."""
    return (right, below) if ordered else None


def text_lines(data: np.ndarray, mark: bytes) -> tuple[list[str], int]:
    """The lines at the start that begin with `mark` and are printable, and the byte after them."""
    lines, at, held, base = [], 0, b"", 0  # `held` are the bytes from `base`
    while True:
        end = held.find(b"\n", at - base)
        if end < 0 and len(held) - (at - base) < LONGEST_LINE and base + len(held) < len(data):
            held, base = bytes(data[at : at + 2 * LONGEST_LINE]), at
            end = held.find(b"\n")
        line = held[at - base : end].rstrip(b"\r")
        if end < 0 or end - (at - base) > LONGEST_LINE or not line.startswith(mark) or line.translate(None, PRINTABLE):
            return lines, at
        lines.append(line[len(mark) :].decode("utf-8", "replace").strip())
        at = base + end + 1


def size_from(width: Any, height: Any) -> Sensor | None:
    """A sensor from two numbers of a header, None where they make no sense."""
    try:
        width, height = int(width), int(height)
    except (TypeError, ValueError):
        return None
    return Sensor(height, width) if 0 < width <= 32767 and 0 < height <= 32767 else None


def pairs(data: np.ndarray, start: int, size: int, layout: tuple[int, ...], dropped: str) -> Iterator[Block]:
    """Blocks of at most `size` events of 8 bytes from byte `start`; words that are no events are counted as `dropped`."""
    from neuro.datasets.formats import fixed  # numba is heavy

    whole, rest = divmod(len(data) - start, 8)
    form, state = fixed.Layout(*layout), np.array([-1, 0], np.int64)
    loop = fixed.pair_loop(form)
    for at in range(start, start + whole * 8, 8 * size):
        part = data[at : min(at + 8 * size, start + whole * 8)]
        events = np.empty(len(part) // 8, EVENT)
        n, *reach = loop(part.view(fixed.PAIR), events, state)
        others = {dropped: len(events) - n} if n < len(events) else {}
        yield Block(
            trimmed(events, n),
            others,
            place=lambda k, at=at, part=part: steps(at, 8, form.kept(part.copy()))(k),
            reach=reached(*reach),
        )
    if rest:
        yield leftover(data, rest, 8)
