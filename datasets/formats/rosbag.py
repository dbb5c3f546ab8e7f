"""ROS 1 bags, `#ROSBAG V2.0`: event messages as the drivers of DVS and Prophesee cameras record them (RPG, MVSEC).

    record    uint32 size, header fields (uint32 size, name=value), uint32 size, data; little-endian
              op 5: chunk of records (none, bz2 or lz4)   7: connection, with topic and type   2: message
              3, 4, 6: head and indices, stepped over
    message   of type `.../EventArray`: std_msgs/Header, uint32 height, uint32 width, uint32 number, then events of 13 bytes:
              uint16 x, uint16 y, uint32 seconds, uint32 nanoseconds, uint8 p

t is in microseconds of ROS time; nanoseconds are cut. The sensor is the one that the first message states. A bag with
several topics of events needs `item`: the topic. Messages of other topics are counted. Records are read in the order of
the file, indices only for the list of topics. Source: "Bags, format 2.0", ROS wiki; `dvs_msgs/EventArray`.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats import lz4
from neuro.datasets.formats.block import NO_EVENTS, Block, Head, choose, ended, fill, foreign, most_bytes, size_from
from neuro.errors import FormatError

NAME = "ROS bag"
MARK = b"#ROSBAG V2.0\n"
SEVERAL = True
EVENT13 = np.dtype([("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
CHUNK, CONNECTION, MESSAGE = 5, 7, 2


class Record(NamedTuple):
    """One record: its fields, its data, and the bytes of the file where the outermost record begins and ends."""

    fields: dict[str, bytes]
    data: np.ndarray
    at: int
    end: int

    def number(self, name: str) -> int:
        """A field as a number, -1 where it is missing."""
        return int.from_bytes(self.fields[name], "little") if name in self.fields else -1

    def text(self, name: str) -> str:
        """A field as text."""
        return self.fields.get(name, b"").decode("utf-8", "replace")


def recognise(data: np.ndarray) -> bool:
    """The line `#ROSBAG V2.0`."""
    return bytes(data[:13]) == MARK


def size_at(data: np.ndarray, at: int) -> int:
    """The uint32 at a byte, or a number that no file reaches."""
    word = bytes(data[at : at + 4])
    return int.from_bytes(word, "little") if len(word) == 4 else 1 << 62


def fields_of(raw: bytes) -> dict[str, bytes]:
    """The fields of a record's header; damage ends them."""
    found, at = {}, 0
    while at + 4 <= len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        name, equal, value = raw[at + 4 : at + 4 + size].partition(b"=")
        if not equal or at + 4 + size > len(raw):
            break
        found[name.decode("latin-1")] = value
        at += 4 + size
    return found


def records(data: np.ndarray, start: int, inside: tuple[int, int] | None = None) -> Iterator[Record | str]:
    """The records from a byte on; a sentence where they end before the data does.

    `inside` are the bytes of the file that a chunk covers, where `data` is what it unfolds to.
    """
    at = start
    while at < len(data):
        head = size_at(data, at)
        body = size_at(data, at + 4 + head)
        end = at + 8 + head + body
        if end > len(data):
            whole = Record(
                fields_of(bytes(data[at + 4 : at + 4 + head])), data[at + 8 + head :], *(inside or (at, end))
            )
            if whole.number("op") == CHUNK and whole.text("compression") == "none":
                yield whole  # its first records are there
            yield f"a record at byte {at} that is not all there"
            return
        yield Record(fields_of(bytes(data[at + 4 : at + 4 + head])), data[at + 8 + head : end], *(inside or (at, end)))
        at = end


def every(data: np.ndarray, start: int, allowed: int) -> Iterator[Record | tuple[str, int]]:
    """Connections and messages, those of chunks unfolded; at the end a sentence and a byte where not all can be read."""
    last = start
    for record in records(data, start):
        if isinstance(record, str):
            yield record, last
            return
        if record.number("op") != CHUNK:
            yield record
        else:
            try:
                inner = unfolded(record, allowed)
            except FormatError as error:
                yield f"the chunk at byte {record.at} cannot be read: {' '.join(str(error).split())}", record.at
                return
            allowed -= len(inner) if record.text("compression") != "none" else 0
            for one in records(inner, 0, (record.at, record.end)):
                if isinstance(one, str):
                    yield f"in the chunk at byte {record.at}: {one}", record.at
                    return
                yield one
        last = record.end


def unfolded(record: Record, allowed: int) -> np.ndarray:
    """The records of a chunk.

    Raises:
        FormatError: another compression, damage, or more than `allowed` bytes.
    """
    method = record.text("compression")
    if method == "none":
        return record.data
    if method == "lz4":
        return lz4.unfold(record.data, allowed)
    if method != "bz2":
        raise foreign("ROS bag: a compression that is not known.", f"{method[:40]!r}")
    try:
        tool = bz2.BZ2Decompressor()
        out = tool.decompress(record.data.tobytes(), max(allowed, 0) + 1)
    except (OSError, ValueError, EOFError) as error:
        raise foreign("ROS bag: a chunk of bz2 is damaged.", str(error)) from error
    if len(out) > allowed or not tool.eof:
        raise foreign("ROS bag: a chunk of bz2 is cut or holds more than is allowed.", f"{allowed} bytes")
    return np.frombuffer(out, np.uint8)


def connections(data: np.ndarray) -> dict[int, tuple[str, str]]:
    """Topic and type of each connection: from the end of the file, where the bag's head says they are, or from all of it."""
    first = next(records(data, len(MARK)), "")
    place = -1 if isinstance(first, str) else first.number("index_pos")
    there = records(data, place) if len(MARK) < place < len(data) else ()
    found = of_connections(record for record in there if isinstance(record, Record))
    return found or of_connections(
        record for record in every(data, len(MARK), most_bytes(data)) if isinstance(record, Record)
    )


def of_connections(given: Iterable[Record]) -> dict[int, tuple[str, str]]:
    """Topic and type of the connections among records."""
    mine = (record for record in given if record.number("op") == CONNECTION)
    return {
        r.number("conn"): (r.text("topic"), fields_of(r.data.tobytes()).get("type", b"").decode("utf-8", "replace"))
        for r in mine
    }


def head(data: np.ndarray, item: int | str | None = None) -> Head:
    """Topics as facts. `item` of the head is (connections of the topic, topic by connection)."""
    known = connections(data)
    chosen = choose({topic: topic for topic, kind in known.values() if kind.endswith("/EventArray")}, item, NAME)
    mine = {conn for conn, (topic, _) in known.items() if topic == chosen}
    given = (r for r in every(data, len(MARK), most_bytes(data)) if isinstance(r, Record) and r.number("op") == MESSAGE)
    first = next((record for record in given if record.number("conn") in mine), None)
    sensor = message(first.data)[1] if first is not None else None
    facts = {"topic": chosen, "topics": ", ".join(f"{topic} ({kind})" for topic, kind in known.values())}
    return Head(len(MARK), sensor, facts, (mine, {conn: topic for conn, (topic, _) in known.items()}))


def message(data: np.ndarray) -> tuple[np.ndarray | None, Sensor | None]:
    """The events and the sensor of an EventArray; no events where it is damaged."""
    at = 16 + size_at(data, 12)  # header: seq, stamp of two numbers, name of the frame
    if at + 12 > len(data):
        return None, None
    height, width, number = (size_at(data, at + k) for k in (0, 4, 8))
    sensor = size_from(width, height)
    if at + 12 + 13 * number != len(data):
        return None, sensor
    return np.ascontiguousarray(data[at + 12 :]).view(EVENT13), sensor


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """One block a message, cut where a message holds more than `size` events."""
    mine, topics = head.item
    for record in every(data, head.start, most_bytes(data)):
        if not isinstance(record, Record):
            yield ended(*record, rest=None)
            return
        if record.number("op") != MESSAGE:
            continue
        conn = record.number("conn")
        if conn not in mine:
            yield Block(NO_EVENTS, {f"messages of {topics.get(conn, 'unknown topics')}": 1})
            continue
        events = message(record.data)[0]
        if events is None:
            yield ended(f"a message of events that cannot be, in the record at byte {record.at}", record.at, None)
            return
        for start in range(0, len(events), size):
            part = events[start : start + size]
            t = part["s"].astype(np.int64) * 1_000_000 + part["ns"] // 1000
            narrow = np.minimum(part["x"], 32767), np.minimum(part["y"], 32767)
            yield Block(fill(*narrow, t, part["p"] > 0), place=lambda _, at=record.at: at)
