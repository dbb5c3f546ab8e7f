"""Zstandard frames written here by hand, of stored and repeated bytes, through every decoder that is installed; AEDAT 4 within them."""

from __future__ import annotations

import importlib.util
import struct

import numpy as np
import pytest

from neuro.datasets import read_events
from neuro.datasets.events import Sensor, make_events
from neuro.datasets.formats import zstd
from neuro.datasets.formats.aedat4 import MARK
from neuro.datasets.reading import encode_events
from neuro.errors import FormatError

BLOCK = 1 << 17  # bytes that one block may hold


def there(name: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


INSTALLED = [name for name in zstd.DECODERS if there(name)]
needs_one = pytest.mark.skipif(not INSTALLED, reason="no decoder of Zstandard is installed")


@pytest.fixture(params=INSTALLED or [""])
def only(request, monkeypatch):
    """One decoder at a time."""
    monkeypatch.setattr(zstd, "DECODERS", (request.param,))


def frame(*blocks: tuple[bytes, int], window: int = 7 << 3) -> np.ndarray:
    """A frame of blocks (bytes, times): stored where times is 1, else one byte repeated. window: 2^(10 + its upper 5 bits) bytes."""
    out = bytearray((0xFD2FB528).to_bytes(4, "little") + bytes([0, window]))
    for k, (data, times) in enumerate(blocks):
        kind, size = (0, len(data)) if times == 1 else (1, times)
        out += (int(k == len(blocks) - 1) | kind << 1 | size << 3).to_bytes(3, "little") + data
    return np.frombuffer(bytes(out), np.uint8)


@needs_one
def test_frames_unfold(only):
    assert zstd.unfold(frame((b"spikes", 1)), 6).tobytes() == b"spikes"
    assert zstd.unfold(frame((b"ab", 1), (b"c", 5), (b"", 1)), 100).tobytes() == b"abccccc"
    assert zstd.unfold(frame((b"", 1)), 0).tobytes() == b""
    assert len(zstd.unfold(frame(*[(b"z", BLOCK)] * 300), 300 * BLOCK)) == 300 * BLOCK


@needs_one
def test_damage_and_excess_are_errors(only):
    whole = frame((b"ab", 1), (b"c", 5000))
    for size in range(len(whole)):
        with pytest.raises(FormatError, match="Zstandard"):
            zstd.unfold(whole[:size], 10_000)
    with pytest.raises(FormatError, match="more than is allowed.\n  5001 bytes"):
        zstd.unfold(whole, 5001)
    with pytest.raises(FormatError, match="damaged"):
        zstd.unfold(np.frombuffer(b"no frame begins here", np.uint8), 100)


@needs_one
def test_a_bomb_takes_no_more_than_is_allowed(only):
    """2000 blocks of 4 bytes stand for 250 MiB; a window of 2 GiB is refused."""
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(FormatError, match="more than is allowed"):
        zstd.unfold(frame(*[(b"z", BLOCK)] * 2000), 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    with pytest.raises(FormatError, match="damaged"):
        zstd.unfold(frame((b"z", 5), window=21 << 3), 1 << 20)


def packed(plain: bytes, method: int) -> bytes:
    """An AEDAT 4 file without compression as one with Zstandard, every packet a frame of stored blocks."""
    size = int.from_bytes(plain[len(MARK) : len(MARK) + 4], "little")
    start = len(MARK) + 4 + size
    head = bytearray(plain[:start])
    head[len(MARK) + 4 + 28 + 16 : len(MARK) + 4 + 28 + 20] = struct.pack("<i", method)
    out, at = bytes(head), start
    while at < len(plain):
        stream, length = struct.unpack("<ii", plain[at : at + 8])
        data = plain[at + 8 : at + 8 + length]
        folded = frame(*((data[k : k + BLOCK // 2], 1) for k in range(0, len(data), BLOCK // 2))).tobytes()
        out += struct.pack("<ii", stream, len(folded)) + folded
        at += 8 + length
    return out


def recording() -> tuple[np.ndarray, bytes]:
    """Events, and their file without compression."""
    make = np.random.default_rng(0)
    n = 10_000
    events = make_events(make.integers(0, 64, n), make.integers(0, 48, n), np.sort(make.integers(0, 10**6, n)), make.integers(0, 2, n))
    return events, encode_events(events, Sensor(48, 64), "aedat4")


@needs_one
@pytest.mark.parametrize(("method", "name"), [(3, "Zstandard"), (4, "Zstandard high")])
def test_a_file_of_dv(only, method, name):
    events, plain = recording()
    folded = packed(plain, method)
    found = read_events(folded)
    assert found.facts["compression"] == name and np.array_equal(found.events, events)
    cut = read_events(folded[:-20], damaged="prefix")
    assert np.array_equal(cut.events, events[:8192]) and "a packet that cannot be" in cut.fault
    hurt = bytearray(folded)
    hurt[folded.rindex(b"\x28\xb5\x2f\xfd")] ^= 255
    with pytest.raises(FormatError, match="Zstandard: a frame is damaged"):
        read_events(bytes(hurt))


def test_without_a_decoder_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(zstd, "DECODERS", ("no.such.module",))
    with pytest.raises(FormatError, match="pip install zstandard"):
        read_events(packed(recording()[1], 3), damaged="prefix")
