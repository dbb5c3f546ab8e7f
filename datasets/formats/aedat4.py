"""AEDAT 4 (DV): `#!AER-DAT4.0`, a FlatBuffer `IOHE`, then packets, little-endian.

    IOHE      uint32 size, then a table: compression (0 none, 1 and 2 LZ4, 3 and 4 Zstandard), place of the table of
              packets (-1: none), XML that describes the streams
    packet    int32 stream, int32 size, then `size` bytes: a FlatBuffer, uint32 size first, compressed as a whole
    EVTS      a table with one vector of events: int64 t (microseconds), int16 x, int16 y, uint8 p, 3 bytes unused

Packets of other streams (frames, IMU, triggers) are counted. A file of several streams of events needs `item`: the
stream's name, or its number among them. Zstandard needs a decoder: see `zstd.py`. Where packets are compressed, the place of an event is that
of its packet. Source: "AEDAT 4.0 file format", iniVation; FlatBuffers, "Internals".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats import lz4, zstd
from neuro.datasets.formats.block import (
    NO_EVENTS,
    Block,
    Head,
    choose,
    ended,
    fill,
    foreign,
    most_bytes,
    size_from,
    steps,
)
from neuro.errors import FormatError

NAME = "AEDAT 4"
MARK = b"#!AER-DAT4.0\r\n"
SEVERAL = True
EVENT4 = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("unused", "V3")])
METHODS = {0: "none", 1: "LZ4", 2: "LZ4 high", 3: "Zstandard", 4: "Zstandard high"}
KINDS = {"FRME": "frame packets", "IMUS": "IMU packets", "TRIG": "trigger packets"}
FIRST_US, LAST_US = -(2**62), 2**62
TOKEN = re.compile(
    r'<node name="[^"]{0,200}" path="[^"]{0,200}outInfo/(\w{1,50})/(?:info/)?">|<attr key="(\w{1,50})" type="\w{1,20}">([^<]{0,500})</attr>'
)


class Table:
    """A FlatBuffer's root table in bytes; every place that it names is checked to lie within them."""

    def __init__(self, data: bytes):
        self.data = data
        try:
            self.at = self.number("<I", 0)
            self.fields = self.at - self.number("<i", self.at)
            self.size = self.number("<H", self.fields)
        except struct.error as error:
            raise foreign("AEDAT 4: a table points outside its bytes.", str(error)) from error

    def number(self, form: str, at: int) -> int:
        """One number at byte `at`."""
        if at < 0:
            raise struct.error(f"byte {at}")
        return struct.unpack_from(form, self.data, at)[0]

    def place(self, index: int) -> int:
        """The byte of field `index`, 0 where it is missing."""
        offset = self.number("<H", self.fields + 4 + 2 * index) if 6 + 2 * index <= self.size else 0
        return self.at + offset if offset else 0

    def scalar(self, index: int, form: str, default: int) -> int:
        """The number in field `index`."""
        at = self.place(index)
        return self.number(form, at) if at else default

    def vector(self, index: int, width: int, cut: bool = False) -> tuple[int, int]:
        """Start and length of the vector in field `index`, of elements of `width` bytes; if cut, those that are there."""
        at = self.place(index)
        if not at:
            return 0, 0
        at += self.number("<I", at)
        length = self.number("<I", at)
        if cut:
            return at + 4, max(0, min(length, (len(self.data) - at - 4) // width))
        if at + 4 + length * width > len(self.data):
            raise struct.error(f"a vector of {length} elements at byte {at} of {len(self.data)}")
        return at + 4, length


def recognise(data: np.ndarray) -> bool:
    """The line `#!AER-DAT4.0`."""
    return bytes(data[:10]) == MARK[:10]


def streams(xml: str) -> dict[str, dict[str, str]]:
    """The attributes of each stream by its name."""
    found: dict[str, dict[str, str]] = {}
    current = None
    for match in TOKEN.finditer(xml):
        if match[1]:
            current = found.setdefault(match[1], {})
        elif current is not None:
            current[match[2]] = match[3]
    return found


def head(data: np.ndarray, item: int | str | None = None) -> Head:
    """Streams and compression as facts. `item` of the head is (stream, kinds by stream, compression, end of packets)."""
    start = len(MARK)
    size = int.from_bytes(bytes(data[start : start + 4]), "little")
    if bytes(data[:start]) != MARK or len(data) < start + 4 + size or bytes(data[start + 8 : start + 12]) != b"IOHE":
        raise foreign("AEDAT 4: the head is damaged or cut.", f"{size} bytes stated, {len(data)} in the file")
    table = Table(bytes(data[start + 4 : start + 4 + size]))
    try:
        method, end = table.scalar(0, "<i", 0), table.scalar(1, "<q", -1)
        text, length = table.vector(2, 1)
    except struct.error as error:
        raise foreign("AEDAT 4: the head points outside its bytes.", str(error)) from error
    if method not in METHODS:
        raise foreign("AEDAT 4: a compression that is not known.", f"compression {method}")
    if method in (3, 4):
        zstd.decoder()  # without one, better an error now than at the first packet
    known = streams(table.data[text : text + length].decode("utf-8", "replace"))
    kinds = {name: attributes.get("typeIdentifier", "") for name, attributes in known.items()}
    chosen = choose({name: name for name, kind in kinds.items() if kind == "EVTS"}, item, NAME)
    mine = known[chosen]
    facts: dict[str, Any] = {
        "compression": METHODS[method],
        "streams": ", ".join(f"{name} {kind}" for name, kind in kinds.items()),
    }
    facts |= {
        key: mine[key] for key in ("source", "tsOffset", "originalModuleName", "originalOutputName") if key in mine
    }
    return Head(
        start + 4 + size, size_from(mine.get("sizeX"), mine.get("sizeY")), facts, (chosen, kinds, method, end)
    )


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """One block a packet, cut where a packet holds more than `size` events."""
    chosen, kinds, compressed, end = head.item
    at, stop = head.start, min(end, len(data)) if end >= 0 else len(data)
    allowed = most_bytes(data)
    while at < stop:
        if stop - at < 8:
            yield ended(f"{stop - at} bytes left of a packet's head at byte {at}", at)
            return
        stream, length = struct.unpack("<ii", bytes(data[at : at + 8]))
        cut = at + 8 + length > stop
        if length < 0 or str(stream) not in kinds or cut and (compressed or str(stream) != chosen):
            yield ended(
                f"a packet that cannot be at byte {at}: stream {stream}, {length} bytes, {stop - at - 8} are left",
                at,
                None,
            )
            return
        if str(stream) == chosen:
            try:
                payload = data[at + 8 : min(at + 8 + length, stop)]
                if compressed:
                    payload = (lz4 if compressed < 3 else zstd).unfold(payload, allowed)
                words, first = events_of(payload, cut)
            except FormatError as error:
                yield ended(f"the packet at byte {at} cannot be read: {' '.join(str(error).split())}", at, None)
                return
            allowed -= len(payload) if compressed else 0
            for k in range(0, len(words), size):
                part = words[k : k + size]
                place = (lambda _, at=at: at) if compressed else steps(at + 8 + first + k * 16, 16)
                yield Block(fill(part["x"], part["y"], part["t"], part["p"] > 0), place=place)
        else:
            kind = kinds[str(stream)]
            yield Block(NO_EVENTS, {KINDS.get(kind, f"{kind or 'unknown'} packets"): 1})
        if cut:
            yield ended(
                f"the packet at byte {at} states {length} bytes, {stop - at - 8} are there",
                at + 8 + first + len(words) * 16,
            )
            return
        at += 8 + length
    if end > len(data):
        yield ended(f"the table of packets should be at byte {end}, the file has {len(data)} bytes", len(data), None)


def events_of(payload: np.ndarray, cut: bool) -> tuple[np.ndarray, int]:
    """The events of a packet, and the byte where they begin; those that are there if the packet is cut."""
    raw = payload[4:]  # behind the size, which states no more than the packet does
    if len(raw) < 8 or bytes(raw[4:8]) != b"EVTS":
        raise foreign("AEDAT 4: a packet of events without its mark.", f"{len(payload)} bytes")
    table = Table(raw.tobytes())
    try:
        start, length = table.vector(0, EVENT4.itemsize, cut)
    except struct.error as error:
        raise foreign("AEDAT 4: a packet points outside its bytes.", str(error)) from error
    return np.ascontiguousarray(raw[start : start + length * 16]).view(EVENT4), start + 4


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file without compression and without a table of packets; 8192 events a packet."""
    attributes = {
        "compression": "NONE",
        "typeIdentifier": "EVTS",
        "typeDescription": "Array of events (polarity ON/OFF).",
    }
    lines = "".join(f'<attr key="{key}" type="string">{value}</attr>\n' for key, value in attributes.items())
    info = f'<attr key="sizeX" type="int">{sensor.width}</attr>\n<attr key="sizeY" type="int">{sensor.height}</attr>\n<attr key="source" type="string">neuro</attr>\n'
    root = "/mainloop/Recorder/outInfo/"
    xml = (
        f'<dv version="2.0">\n<node name="outInfo" path="{root}">\n<node name="0" path="{root}0/">\n{lines}'
        f'<node name="info" path="{root}0/info/">\n{info}</node>\n</node>\n</node>\n</dv>\n'
    ).encode()
    # root table at byte 28, its fields described at 10: compression at +16, place of the table of packets +8, XML +4
    header = struct.pack("<I4s2xHHHHH8xiIqiI", 28, b"IOHE", 10, 20, 16, 8, 4, 18, 16, -1, 0, len(xml)) + xml + b"\0"
    out = [MARK, struct.pack("<I", len(header)), header]
    for start in range(0, len(events), 8192):
        part = events[start : start + 8192]
        words = np.zeros(len(part), EVENT4)
        for axis in "xytp":
            words[axis] = part[axis]
        # root table at byte 16, its one field described at 10: the vector at byte 24
        packet = struct.pack("<I4s2xHHHiII", 16, b"EVTS", 6, 8, 4, 6, 4, len(part)) + words.tobytes()
        out += [struct.pack("<iiI", 0, len(packet) + 4, len(packet)), packet]
    return b"".join(out)
