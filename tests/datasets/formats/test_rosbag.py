"""ROS bags written here: events by topic, chunks of every compression, damage."""

from __future__ import annotations

import bz2
import struct

import numpy as np
import pytest

from neuro.datasets import iterate_events, read_events
from neuro.datasets.events import Sensor, make_events
from neuro.datasets.formats.rosbag import EVENT13, MARK
from neuro.errors import NeuroError

SENSOR = Sensor(180, 240)


def record(data: bytes, **fields) -> bytes:
    """One record; whole numbers are stored in the sizes that the format gives them."""
    sizes = {"op": 1, "conn": 4, "size": 4, "conn_count": 4, "chunk_count": 4, "index_pos": 8, "time": 8}
    raw = b""
    for name, value in fields.items():
        value = value.to_bytes(sizes[name], "little") if isinstance(value, int) else value.encode()
        raw += struct.pack("<I", len(name) + 1 + len(value)) + name.encode() + b"=" + value
    return struct.pack("<I", len(raw)) + raw + struct.pack("<I", len(data)) + data


def message(events: np.ndarray, sensor: Sensor = SENSOR) -> bytes:
    """A dvs_msgs/EventArray."""
    words = np.zeros(len(events), EVENT13)
    for axis in "xyp":
        words[axis] = events[axis]
    words["s"], words["ns"] = events["t"] // 1_000_000, events["t"] % 1_000_000 * 1000
    frame = b"cam"
    return (
        struct.pack("<III", 1, 0, 0)
        + struct.pack("<I", len(frame))
        + frame
        + struct.pack("<III", sensor.height, sensor.width, len(events))
        + words.tobytes()
    )


def connection(conn: int, topic: str, kind: str = "dvs_msgs/EventArray") -> bytes:
    """A connection record."""
    inner = b"".join(
        struct.pack("<I", len(f)) + f
        for f in (b"topic=" + topic.encode(), b"type=" + kind.encode(), b"md5sum=*", b"message_definition=")
    )
    return record(inner, op=7, conn=conn, topic=topic)


def stored(raw: bytes) -> bytes:
    """An LZ4 frame of stored blocks."""
    parts = [raw[k : k + 60_000] for k in range(0, len(raw), 60_000)]
    return (
        struct.pack("<IBBc", 0x184D2204, 0x40, 0x40, b"h")
        + b"".join(struct.pack("<I", len(p) | 1 << 31) + p for p in parts)
        + bytes(4)
    )


PACK = {"none": bytes, "bz2": bz2.compress, "lz4": stored}


def bag(events: np.ndarray, method: str = "none", indexed: bool = True, each: int = 50, topics: int = 1) -> bytes:
    """A bag: two chunks of messages of `each` events, with a message of another topic in each."""
    half, chunks = (len(events) // 2) // each * each, []
    for part in (events[:half], events[half:]):
        raw = b"".join(connection(k, f"/cam{k}/events") for k in range(topics)) + connection(
            9, "/imu", "sensor_msgs/Imu"
        )
        for k in range(0, len(part), each):
            raw += b"".join(record(message(part[k : k + each]), op=2, conn=c, time=0) for c in range(topics))
        raw += record(b"123", op=2, conn=9, time=0)
        chunks.append(record(PACK[method](raw), op=5, compression=method, size=len(raw)))
    body = b"".join(chunks)
    size = len(record(b"", op=3, index_pos=0, conn_count=2, chunk_count=2))
    at = len(MARK) + size + len(body)
    top = record(b"", op=3, index_pos=at if indexed else 0, conn_count=2, chunk_count=2)
    tail = (
        b"".join(connection(k, f"/cam{k}/events") for k in range(topics)) + connection(9, "/imu", "sensor_msgs/Imu")
        if indexed
        else b""
    )
    return MARK + top + body + tail


def some(count: int = 400) -> np.ndarray:
    make = np.random.default_rng(3)
    t = 1_500_000_000_000_000 + np.sort(make.integers(0, 3_000_000, count))
    return make_events(make.integers(0, 240, count), make.integers(0, 180, count), t, make.integers(0, 2, count) > 0)


@pytest.mark.parametrize("method", PACK)
@pytest.mark.parametrize("indexed", [True, False])
def test_events_come_back_from_every_compression(method, indexed):
    found = read_events(bag(some(), method, indexed))
    assert np.array_equal(found.events, some()) and found.sensor == SENSOR and found.sensor_stated
    assert found.others == {"messages of /imu": 2} and found.facts["topic"] == "/cam0/events"
    assert np.array_equal(np.concatenate(list(iterate_events(bag(some(), method, indexed), 33))), some())


def test_one_of_several_topics_is_chosen():
    data = bag(some(), topics=2)
    with pytest.raises(NeuroError, match="holds 2 recordings"):
        read_events(data)
    for item in (1, "1", "/cam1/events"):
        assert np.array_equal(read_events(data, item=item).events, some())
    for item in (2, "/cam7/events", -1):
        with pytest.raises(NeuroError):
            read_events(data, item=item)


@pytest.mark.parametrize("method", PACK)
def test_truncation_gives_a_prefix(method):
    data, given = bag(some(100), method, each=10), 0
    for length in range(0, len(data), 7):
        try:
            found = read_events(data[:length], damaged="prefix")
        except NeuroError:
            continue
        assert np.array_equal(found.events, some(100)[: len(found.events)]) and (
            found.fault or len(found.events) == 100
        )
        given += 0 < len(found.events) < 100
    assert given


def test_flipped_bytes_never_crash():
    make = np.random.default_rng(0)
    for method in PACK:
        whole = bag(some(60), method, each=20)
        for _ in range(120):
            raw = bytearray(whole)
            for at in make.integers(0, len(raw), 4):
                raw[at] ^= int(make.integers(1, 256))
            try:
                found = read_events(raw, damaged="prefix")
            except NeuroError:
                continue
            assert len(found.events) < len(raw) and (np.diff(found.events["t"]) >= 0).all()


def test_a_bomb_of_bz2_is_refused():
    raw = record(bz2.compress(bytes(100 << 20)), op=5, compression="bz2", size=100 << 20)
    with pytest.raises(NeuroError, match="no events are in this file"):
        read_events(MARK + record(b"", op=3, index_pos=0, conn_count=1, chunk_count=1) + raw)
