"""Event Stream 2 (`.es`): `Event Stream`, 3 bytes of version, 1 of type, uint16 width and height, little-endian, then bytes.

    DVS (type 1)    byte: step of t in microseconds (bits 1-7), p (bit 0, 1: ON); uint16 x, uint16 y
                    0xFF: 127 microseconds pass; 0xFE: reset, counted
    ATIS (type 2)   byte: step of t (bits 2-7), p (bit 1), exposure measurement (bit 0; counted, no event); uint16 x, uint16 y
                    0xFC to 0xFF: 63 microseconds pass 0 to 3 times

y is given as stored; the format counts it from the bottom. Types 0 (generic), 3 and 4 (colour) hold no polarity and are
refused. Source: "Event Stream", the specification by neuromorphic-paris, version 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import EVENT, Sensor
from neuro.datasets.formats.block import Block, Head, ended, foreign, least, size_from, trimmed
from neuro.errors import FormatError, explain

NAME = "Event Stream"
MARK = b"Event Stream"
KINDS = {0: "generic", 1: "DVS", 2: "ATIS", 3: "asynchronous amplitude-modulated", 4: "colour"}
LAST_US = 2**33  # a pause is written as one byte for 127 us, so late first events would make large files
SIDE = 32767
START = 20


def recognise(data: np.ndarray) -> bool:
    """The words `Event Stream`."""
    return bytes(data[:12]) == MARK


def head(data: np.ndarray) -> Head:
    """Version, type, size."""
    if len(data) < 16:
        raise foreign("Event Stream: the file ends within its head.", f"{len(data)} bytes")
    version, kind = tuple(int(v) for v in data[12:15]), int(data[15])
    if version[0] != 2 or kind not in (1, 2):
        fact = f"version {'.'.join(map(str, version))}   type {kind} ({KINDS.get(kind, 'unknown')})"
        cure = "Events of the other types have no polarity." if version[0] == 2 and kind in KINDS else "The file is damaged or of another format."
        raise FormatError(explain("Event Stream: only DVS and ATIS events of version 2 are read.", fact, cure=cure))
    if len(data) < START:
        raise foreign("Event Stream: the file ends within its head.", f"{len(data)} bytes")
    width, height = (int(v) for v in data[16:20].view("<u2"))
    facts = {"version": ".".join(map(str, version)), "type": KINDS[kind], "y": "as stored; counted from the bottom"}
    return Head(START, size_from(width, height), facts, kind == 2)


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of at most `size` events."""
    from neuro.datasets.formats.es_loop import decode  # numba is heavy

    at, state = head.start, np.zeros(2, np.int64)
    while at < len(data):
        part, before, others = (
            np.ascontiguousarray(data[at : at + 5 * max(size, 1)]),
            state.copy(),
            np.zeros(2, np.int64),
        )
        events = np.empty(len(part) // 5, EVENT)

        def run(units: int, events=events, state=state, part=part, others=others) -> int:
            columns = (events[axis] for axis in "xyt")
            return decode(part[:units], head.item, *columns, events["p"].view(np.uint8), state, others)

        n = run(len(part))
        used = int(state[1])

        def place(k: int, at=at, part=part, before=before, run=run, n=n, used=used) -> int:
            room = np.empty(len(part) // 5, EVENT)
            if k >= n:
                return at + used
            return (
                at
                + least(lambda units: run(units, room, before.copy(), others=np.zeros(2, np.int64)), len(part), k)
                - 4
            )

        counts = {name: int(k) for name, k in zip(("exposure measurements", "resets"), others, strict=True) if k}
        yield Block(trimmed(events, n), counts, place=place)
        if not used:
            yield ended(f"{len(data) - at} bytes left of an event of 5 at byte {at}", at)
            return
        at += used


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file of DVS events."""
    step = np.diff(events["t"], prepend=0)
    last = np.cumsum(step // 127 + 5) - 5  # of each event, its first byte behind those of the pause
    out = np.full(int(last[-1]) + 5 if len(events) else 0, 0xFF, np.uint8)
    out[last] = step % 127 << 1 | events["p"]
    for k, value in enumerate((events["x"], events["x"] >> 8, events["y"], events["y"] >> 8)):
        out[last + 1 + k] = value & 255
    return MARK + bytes([2, 0, 0, 1]) + np.array([sensor.width, sensor.height], "<u2").tobytes() + out.tobytes()
