"""MATLAB files written here byte by byte: every layout, both byte orders, packed or not; damage; the writer of SciPy; a real one."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets import read_events
from neuro.datasets.events import Sensor, make_events
from neuro.errors import FormatError, NeuroError

TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
DOUBLE, STRUCT, CELL = 6, 2, 1
MAKE = np.random.default_rng(3)
EVENTS = make_events(MAKE.integers(1, 60, 300), MAKE.integers(1, 40, 300), np.sort(MAKE.integers(0, 10**6, 300)), MAKE.integers(0, 2, 300))
COLUMNS = {"x": EVENTS["x"], "y": EVENTS["y"], "ts": EVENTS["t"], "pol": EVENTS["p"].astype(np.uint8)}


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    """Tag and data; the small form where 4 bytes hold it."""
    if 0 < len(data) <= 4 and kind != 14:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name: str, value, order: str = "<", kind: int = DOUBLE, flags: int = 0) -> bytes:
    """A variable: an array, or of a dict a structure."""
    body = element(6, struct.pack(f"{order}II", (STRUCT if isinstance(value, dict) else kind) | flags, 0), order)
    if isinstance(value, dict):
        body += element(5, struct.pack(f"{order}2i", 1, 1), order) + element(1, name.encode(), order)
        names = b"".join(key.encode().ljust(8, b"\0") for key in value)
        body += element(5, struct.pack(f"{order}i", 8), order) + element(1, names, order)
        body += b"".join(matrix("", field, order) for field in value.values())
    else:
        array = np.asarray(value)
        array = array.reshape(-1, 1) if array.ndim == 1 else array
        body += element(5, np.array(array.shape, f"{order}i4").tobytes(), order) + element(1, name.encode(), order)
        stored = array.astype(array.dtype.newbyteorder(order))
        body += element(TYPES[array.dtype.str[1:]], stored.tobytes("F"), order)
    return element(14, body, order)


def mat(variables: dict, order: str = "<", packed: bool = False) -> bytes:
    """A file."""
    out = b"MATLAB 5.0 MAT-file, written by a test".ljust(124) + struct.pack(f"{order}H", 0x100) + (b"IM" if order == "<" else b"MI")
    for name, value in variables.items():
        one = value if isinstance(value, bytes) else matrix(name, value, order)
        folded = zlib.compress(one)
        out += struct.pack(f"{order}II", 15, len(folded)) + folded if packed else one
    return out


def of_events(events: np.ndarray) -> bytes:
    """A file for fuzz.py."""
    return mat({"TD": {"x": events["x"], "y": events["y"], "ts": events["t"], "p": events["p"].astype(np.float64)}})


def assert_read(data: bytes, events: np.ndarray = EVENTS):
    found = read_events(data)
    assert found.format == "MATLAB" and np.array_equal(found.events, events)
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_layouts_of_events(order, packed):
    columns = {name: np.array(column) for name, column in COLUMNS.items()}
    found = assert_read(mat(columns, order, packed))
    assert not found.sensor_stated and found.facts["unit"] == "microseconds" and "smallest are x 1, y 1" in found.facts["coordinates"]
    rows = {name: column.astype(np.float64)[None] for name, column in columns.items()}
    assert_read(mat({"TD": rows | {"pol": rows["pol"] * 2 - 1}}, order, packed))
    table = np.stack([COLUMNS["ts"] / 1e6, COLUMNS["x"], COLUMNS["y"], COLUMNS["pol"]], 1)
    assert assert_read(mat({"events": table}, order, packed)).facts["columns"] == "t x y p, guessed"
    sized = columns | {"width": np.array([64.0]), "height": np.array([48.0])}
    assert assert_read(mat(sized, order, packed)).sensor == Sensor(48, 64)


def test_a_spike_train_of_taxels():
    train = np.zeros((101, 4))
    train[[3, 47, 99, 20], range(4)] = [1, -1, 1, 1]
    train[100] = [0.25, 0.25, 0.5, 0.75]
    found = read_events(mat({"spiketrain": train}))
    assert found.sensor == Sensor(10, 10)
    assert found.events.tolist() == [(3, 0, 250_000, True), (7, 4, 250_000, False), (9, 9, 500_000, True), (0, 2, 750_000, True)]


def test_what_is_no_column_is_stepped_over():
    cell = element(14, element(6, struct.pack("<II", CELL, 0)) + element(5, struct.pack("<2i", 1, 1)) + element(1, b"c"))
    whole = matrix("z", np.array([1.0]), flags=0x800) + cell + element(14, b"") + element(3, b"abcdef")
    assert_read(mat({"first": whole} | COLUMNS))
    with pytest.raises(FormatError, match="variables of numbers: x .300, 1., y"):
        read_events(mat({key: COLUMNS[key] for key in ("x", "y", "ts")}))
    with pytest.raises(FormatError, match="x .300.   y .299."):
        read_events(mat(COLUMNS | {"y": COLUMNS["y"][1:]}))


def test_one_of_several_recordings():
    one, two = ({key: value[part] for key, value in COLUMNS.items()} for part in (slice(0, 100), slice(100, 300)))
    data = mat({"left": one, "right": two})
    with pytest.raises(FormatError, match="2 recordings.\n  left, right"):
        read_events(data)
    assert np.array_equal(read_events(data, item="right").events, EVENTS[100:])
    assert np.array_equal(read_events(data, item=0).events, EVENTS[:100])


def test_a_wrong_event_ends_the_reading():
    data = mat(COLUMNS | {"x": np.where(np.arange(300) == 40, 3.5, COLUMNS["x"])})
    with pytest.raises(FormatError, match="x=3.5"):
        read_events(data)
    found = read_events(data, damaged="prefix")
    assert np.array_equal(found.events, EVENTS[:40]) and found.dropped_events == 260


def test_truncation_anywhere_is_an_error():
    for packed in (False, True):
        data = mat({name: column[:20] for name, column in COLUMNS.items()}, packed=packed)
        for size in range(1, len(data), 1 if packed else 7):
            with pytest.raises(FormatError):
                read_events(data[:size], damaged="prefix")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_flipped_bytes_never_crash(flips, packed):
    data = bytearray(mat({"TD": {name: column[:20] for name, column in COLUMNS.items()}}, packed=packed))
    for at, value in flips:
        data[at % len(data)] = value
    try:
        found = read_events(bytes(data), damaged="prefix")
    except NeuroError:
        return
    assert len(found.events) <= 20


def test_bombs_are_refused():
    bomb = zlib.compress(matrix("x", np.zeros(40 << 20, np.int8)), 9)
    with pytest.raises(FormatError, match="unfolds to more"):
        read_events(mat({}) + struct.pack("<II", 15, len(bomb)) + bomb)
    train = np.ones((101, 1 << 17), np.int8)
    folded = zlib.compress(matrix("spiketrain", train), 9)
    with pytest.raises(FormatError, match="more events than a file of this size"):
        read_events(mat({}) + struct.pack("<II", 15, len(folded)) + folded)
    many = element(14, element(6, bytes([6, 0, 0, 0, 0, 0, 0, 0])) + element(5, bytes(4 * 100)) + element(1, b"x") + element(9, b""))
    with pytest.raises(FormatError, match="no events"):
        read_events(mat({"x": many}))


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_scipy(packed):
    scipy = pytest.importorskip("scipy.io")
    file = io.BytesIO()
    scipy.savemat(file, {"note": "two words", "TD": COLUMNS | {"pol": COLUMNS["pol"] > 0}, "c": np.array([1, "a"], object)}, do_compression=packed)
    assert_read(file.getvalue())


@pytest.mark.parametrize("shape", [(1, -1), (-1, 1)])
def test_files_of_version_7_3_are_hdf5_behind_a_text(shape):
    h5py = pytest.importorskip("h5py")
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as out:
        for name, column in COLUMNS.items():
            out.create_dataset(f"TD/{name}", data=column.reshape(shape).astype(np.float64))
    data = bytearray(file.getvalue())
    data[:124] = b"MATLAB 7.3 MAT-file, written by a test".ljust(124)
    found = read_events(bytes(data))
    assert found.format == "HDF5" and np.array_equal(found.events, EVENTS)
    assert np.array_equal(read_events(bytes(data), item="TD").events, EVENTS)


def test_a_real_file():
    path = Path(os.environ.get("NEURO_DATA", "nowhere")) / "event_formats" / "mat" / "sample_stmnist.mat"
    if not path.exists():
        pytest.skip("NEURO_DATA holds no event_formats")
    found = read_events(path)
    assert (len(found.events), int(found.events["p"].sum())) == (2346, 1601)
    assert (found.events["t"][0], found.events["t"][-1], found.sensor) == (196_626, 895_745, Sensor(10, 10))
