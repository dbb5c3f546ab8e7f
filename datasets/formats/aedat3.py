"""AEDAT 3.1 (cAER): lines that start with `#` up to `#!END-HEADER`, then packets, little-endian.

    packet   int16 type, int16 source, int32 bytes of an event, int32 place of t, int32 overflows of t,
             int32 capacity, int32 events, int32 valid events, then the events
    event    of type 1 (polarity): uint32 valid bit 0, p bit 1 (1: ON), y bits 2-16, x bits 17-31; int32 t (microseconds)

t = overflows * 2^31 + t. Packets of other types are stepped over and counted. Events whose valid bit is 0 are left
out and counted, unless the packet says that all are valid (some writers leave the bit 0). DVS128 Gesture is in this
format. Source: "AEDAT file formats", iniVation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats.block import NO_EVENTS, Block, Head, ended, fill, foreign, steps, text_lines

NAME = "AEDAT 3.1"
PACKET = struct.Struct("<hhiiiiii")
WORD = np.dtype([("a", "<u4"), ("t", "<i4")])
KINDS = {0: "special", 2: "frame", 3: "IMU6", 4: "IMU9", 5: "sample", 6: "ear", 7: "configuration", 8: "point"}
END = b"#!END-HEADER"
CHIPS = {
    "DVS128": Sensor(128, 128), "DAVIS240": Sensor(180, 240), "DAVIS346": Sensor(260, 346), "DAVIS640": Sensor(480, 640),
    "DAVIS128": Sensor(128, 128),
}  # fmt: skip


def recognise(data: np.ndarray) -> bool:
    """The line `#!AER-DAT3`."""
    return bytes(data[:10]) == b"#!AER-DAT3"


def head(data: np.ndarray) -> Head:
    """Lines as facts; the sensor where the source is a chip that is known."""
    lines, at = text_lines(data, b"#")
    if "!END-HEADER" not in lines:
        raise foreign("AEDAT 3.1: the line #!END-HEADER is missing.", f"{len(lines)} header lines, {len(data)} bytes")
    place = bytes(data[:at]).index(END) + len(END)  # a packet may begin with '#', so not simply `at`
    place += 2 if bytes(data[place : place + 2]) == b"\r\n" else 1
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:]) if value}
    if facts.get("Format", "RAW") != "RAW":
        raise foreign("AEDAT 3.1: only the RAW form is read.", f"Format: {facts['Format']}")
    source = next((value for key, value in facts.items() if key.startswith("Source")), "")
    sensor = next((size for name, size in CHIPS.items() if source.upper().startswith(name)), None)
    return Head(place, sensor, facts)


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """One block a packet, cut where a packet holds more than `size` events."""
    at = head.start
    while at < len(data):
        if len(data) - at < PACKET.size:
            yield ended(f"{len(data) - at} bytes left of a packet's head at byte {at}", at)
            return
        kind, _, width, _, overflows, capacity, number, valid = PACKET.unpack(bytes(data[at : at + PACKET.size]))
        if width < 1 or number < 0 or capacity < 0 or overflows < 0 or (kind == 1 and width != 8):
            yield ended(
                f"a packet that cannot be at byte {at}: type {kind}, {number} events of {width} bytes", at, None
            )
            return
        at += PACKET.size
        there = min(number, (len(data) - at) // width)
        if kind == 1:
            for start in range(at, at + there * 8, size * 8):
                words = data[start : min(start + size * 8, at + there * 8)].view(WORD)
                yield polarity(words, overflows, valid == number, start)
        elif there:
            yield Block(NO_EVENTS, {f"{KINDS.get(kind, 'unknown')} events": there})
        if there < number:
            yield ended(f"the packet before byte {at} states {number} events, {there} are there", at + there * width)
            return
        at += number * width


def polarity(words: np.ndarray, overflows: int, keep_all: bool, at: int) -> Block:
    """The events of one stretch of a polarity packet, which begins at byte `at`."""
    a, t = words["a"], words["t"].astype(np.int64) + (overflows << 31)
    others, good = {}, None
    if not keep_all:
        good = (a & 1) == 1
        others = {"invalid events": len(a) - int(good.sum())}
        a, t = a[good], t[good]
    return Block(fill(a >> 17, a >> 2 & 0x7FFF, t, a >> 1 & 1), others, place=steps(at, 8, good))


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file of polarity packets of at most 8192 events, each within one overflow."""
    name = next((name for name, size in CHIPS.items() if size == sensor), f"neuro {sensor.width}x{sensor.height}")
    parts = [f"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: {name}\r\n#!END-HEADER\r\n".encode()]
    high = events["t"] >> 31
    cuts = np.union1d(np.arange(0, len(events), 8192), np.flatnonzero(np.diff(high)) + 1).astype(int)
    for start, stop in zip(cuts, np.append(cuts[1:], len(events))[: len(cuts)], strict=True):
        part = events[start:stop]
        words = np.empty(len(part), WORD)
        x, y, p = (part[c].astype(np.uint32) for c in "xyp")
        words["a"], words["t"] = 1 | p << 1 | y << 2 | x << 17, part["t"] & 0x7FFFFFFF
        n = len(part)
        parts += [PACKET.pack(1, 1, 8, 4, int(high[start]), n, n, n), words.tobytes()]
    return b"".join(parts)


LAST_US = 2**62
