"""LZ4 frames made here from sequences whose meaning is plain, unfolded; damage and excess are errors; AEDAT 4 within them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets import read_events
from neuro.datasets.events import Sensor, make_events
from neuro.datasets.formats import lz4
from neuro.datasets.formats.aedat4 import MARK
from neuro.datasets.reading import encode_events
from neuro.errors import FormatError, NeuroError

SEQUENCES = st.lists(st.tuples(st.binary(max_size=40), st.integers(1, 60), st.integers(4, 600)), max_size=12)


def longer(length: int) -> bytes:
    """The bytes that follow a length of 15 or more in a token."""
    return b"" if length < 15 else bytes([255] * ((length - 15) // 255) + [(length - 15) % 255])


def block(sequences, before: bytes = b"", last: bytes = b"end") -> tuple[bytes, bytes]:
    """A block and the bytes it stands for; distances that would reach too far are cut to what is there."""
    out, raw = bytearray(before), bytearray()
    for literals, distance, length in sequences:
        literals = literals or (b"" if out else b"x")
        out += literals
        distance = min(distance, len(out))
        raw += bytes([min(len(literals), 15) << 4 | min(length - 4, 15)]) + longer(len(literals)) + literals
        raw += struct.pack("<H", distance) + longer(length - 4)
        for _ in range(length):
            out.append(out[-distance])
    raw += bytes([min(len(last), 15) << 4]) + longer(len(last)) + last
    return bytes(raw), bytes(out + last)[len(before) :]


def frame(blocks: list[bytes], size: int = 4, flags: int = 0x40) -> bytes:
    """A frame of compressed blocks."""
    check = b"abcd" if flags & 16 else b""
    body = b"".join(struct.pack("<I", len(b)) + b + check for b in blocks)
    return (
        struct.pack("<IBB", lz4.MAGIC, flags, size << 4) + (b"12345678" if flags & 8 else b"") + b"h" + body + bytes(4)
    )


def unfold(data: bytes, most: int = 1 << 20) -> bytes:
    return lz4.unfold(np.frombuffer(data, np.uint8), most).tobytes()


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, SEQUENCES, st.sampled_from([0x40, 0x48, 0x50, 0x44, 0x5C]))
def test_frames_unfold_to_what_their_sequences_say(first, second, flags):
    a, plain = block(first)
    b, more = block(second, before=plain)  # linked: matches reach into the first block
    assert unfold(frame([a, b], flags=flags)) == plain + more


def test_stored_blocks_and_nothing():
    stored = struct.pack("<IBBcI", lz4.MAGIC, 0x40, 0x40, b"h", 3 | 1 << 31) + b"abc" + bytes(4)
    assert unfold(stored) == b"abc" and unfold(frame([])) == b""


@pytest.mark.parametrize("distance", [0, 4, 65535])
def test_a_match_before_the_start_is_refused(distance):
    """Three bytes are there; memory before them is not ours to read."""
    with pytest.raises(FormatError, match="before the start"):
        unfold(frame([bytes([3 << 4]) + b"abc" + struct.pack("<H", distance) + bytes([1 << 4]) + b"x"]))
    assert unfold(frame([bytes([3 << 4]) + b"abc" + struct.pack("<H", 3) + bytes([1 << 4]) + b"x"])) == b"abcabcax"


@pytest.mark.parametrize(
    "body", [bytes([4 << 4]) + b"abc", bytes([0xF0, 255]), bytes([3 << 4]) + b"abc\1", b"\x3fabc\1\0\xff", b""]
)
def test_a_block_that_ends_too_soon_is_refused(body):
    stored = struct.pack("<IBBc", lz4.MAGIC, 0x40, 0x40, b"h") + struct.pack("<I", len(body)) + body + bytes(4)
    if body:
        with pytest.raises(FormatError, match="ends within a sequence"):
            unfold(stored)
    else:
        assert unfold(stored) == b""


def test_a_bomb_is_refused_before_it_takes_memory():
    bomb, plain = block([(b"x", 1, 60_000)])
    assert unfold(frame([bomb])) == plain
    for most in (0, 100, len(plain) - 1):
        with pytest.raises(FormatError, match="more than"):
            unfold(frame([bomb]), most)


@settings(max_examples=150, deadline=None)
@given(
    SEQUENCES, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6), st.floats(0, 1)
)
def test_damage_is_an_error_or_bounded(sequences, flips, keep):
    raw = bytearray(frame([block(sequences)[0]]))
    for place, change in flips:
        raw[int(place * len(raw))] ^= change
    raw = raw[: max(1, round(len(raw) * keep))]
    try:
        assert len(unfold(raw, 5000)) <= 5000
    except NeuroError:
        pass


def compressed(plain: bytes) -> bytes:
    """An AEDAT 4 file without compression as one with LZ4, every packet a frame of literals and one stored block."""
    at = len(MARK) + 4 + int.from_bytes(plain[len(MARK) : len(MARK) + 4], "little")
    head = bytearray(plain[:at])
    where = len(MARK) + 4 + 28 + 16
    head[where : where + 4] = (1).to_bytes(4, "little")
    out = [bytes(head)]
    while at < len(plain):
        stream, size = struct.unpack_from("<ii", plain, at)
        payload = plain[at + 8 : at + 8 + size]
        body = frame([block([], last=payload[k : k + 5000])[0] for k in range(0, size, 5000)])
        out.append(struct.pack("<ii", stream, len(body)) + body)
        at += 8 + size
    return b"".join(out)


def test_aedat4_reads_packets_of_lz4():
    make = np.random.default_rng(0)
    n = 20_000
    events = make_events(
        make.integers(0, 640, n),
        make.integers(0, 480, n),
        np.sort(make.integers(0, 10**15, n)),
        make.integers(0, 2, n) > 0,
    )
    data = compressed(encode_events(events, Sensor(480, 640), "aedat4"))
    found = read_events(data)
    assert (
        np.array_equal(found.events, events)
        and found.sensor == Sensor(480, 640)
        and found.facts["compression"] == "LZ4"
    )
    for length in range(0, len(data), 9973):
        try:
            cut = read_events(data[:length], damaged="prefix")
        except NeuroError:
            continue
        assert np.array_equal(cut.events, events[: len(cut.events)]) and len(cut.events) % 8192 == 0


def test_a_stream_is_chosen_among_several():
    data = encode_events(make_events([1], [2], [3], [True]), Sensor(8, 8), "aedat4")
    second = data.replace(
        b'<node name="0" path="/mainloop/Recorder/outInfo/0/">', b'<node name="1" path="/mainloop/Recorder/outInfo/1/">'
    )
    assert len(read_events(data, item="0").events) == 1
    with pytest.raises(NeuroError, match="recording"):
        read_events(data, item="7")
    found = read_events(second, item="1", damaged="prefix")  # its packets are of stream 0
    assert found.facts["streams"].startswith("1 EVTS")
