"""Files as others write them: HDF5 layouts, orders and names of columns, units, Event Stream and EVT words, and their hostile kin."""

from __future__ import annotations

import io
import struct
import zipfile

import h5py
import numpy as np
import pytest

from neuro.datasets import iterate_events, make_events, read_events
from neuro.datasets.events import EVENT, Sensor
from neuro.datasets.formats import columns
from neuro.datasets.formats.block import Mapped
from neuro.datasets.reading import encode_events
from neuro.errors import NeuroError

N = 500
SENSOR = Sensor(240, 346)


def some() -> np.ndarray:
    make = np.random.default_rng(5)
    t = np.sort(make.integers(10**6, 10**7, N))
    return make_events(make.integers(0, 346, N), make.integers(0, 240, N), t, make.integers(0, 2, N) > 0)


def hdf5(fill) -> bytes:
    """The bytes of a file that `fill` writes into."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        fill(file)
    return memory.getvalue()


def dsec(file) -> None:
    e = some()
    for axis in "xyp":
        file[f"events/{axis}"] = e[axis].astype(np.uint16)
    file["events/t"] = (e["t"] - 10**6).astype(np.uint32)
    file["t_offset"] = 10**6
    file["ms_to_idx"] = np.arange(3)


def rpg(file) -> None:
    e = some()
    for axis in "xyp":
        file[f"events/{axis}s"] = e[axis].astype(np.int16)
    file["events/ts"] = e["t"] / 1e6
    file.attrs["sensor_resolution"] = (240, 346)


def prophesee(file) -> None:
    e = some()
    records = np.empty(N, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for axis in "xytp":
        records[axis] = e[axis]
    file.create_dataset("CD/events", data=records, compression="gzip", chunks=(100,))
    file.attrs["geometry"] = "346x240"


def mvsec(file) -> None:
    e = some()
    file["davis/left/events"] = np.stack([e["x"], e["y"], e["t"] / 1e6, e["p"] * 2.0 - 1], axis=1)


@pytest.mark.parametrize("fill", [dsec, rpg, prophesee, mvsec])
def test_hdf5_layouts(fill):
    data = hdf5(fill)
    found = read_events(data)
    assert np.array_equal(found.events, some())
    assert found.sensor == SENSOR if fill in (rpg, prophesee) else not found.sensor_stated
    assert np.array_equal(np.concatenate(list(iterate_events(data, 77))), some())


def shd(file, number: int = 3) -> None:
    kinds = h5py.vlen_dtype(np.float16), h5py.vlen_dtype(np.uint16)
    times, units = (
        file.create_dataset(f"spikes/{name}", (number,), kind)
        for name, kind in zip(("times", "units"), kinds, strict=True)
    )
    for k in range(number):
        times[k], units[k] = np.linspace(0, 0.5, 4 + k).astype(np.float16), np.arange(4 + k) * 100
    file["labels"] = np.arange(7, 7 + number)


def test_spikes_of_shd():
    data = hdf5(shd)
    with pytest.raises(NeuroError, match="0 to 2"):
        read_events(data)
    found = read_events(data, item=2)
    assert found.facts["label"] == 9 and found.events["x"].tolist() == [0, 100, 200, 300, 400, 500]
    assert found.events["t"].tolist() == [0, 99976, 199951, 300049, 399902, 500000]  # float16 keeps no more
    assert found.events["p"].all() and not found.events["y"].any()
    with pytest.raises(NeuroError, match="no recording of this number"):
        read_events(data, item=3)


def test_a_file_of_several_recordings_needs_a_choice():
    def fill(file):
        for name in ("0/a", "0/b"):
            file[name] = some()[: 10 if name == "0/a" else 20].astype(
                [("x", "u2"), ("y", "u2"), ("ts", "i8"), ("p", "i1")]
            )

    data = hdf5(fill)
    with pytest.raises(NeuroError, match="holds 2 recordings"):
        read_events(data)
    assert [len(read_events(data, item=item).events) for item in ("0/a", "0/b", 0, 1)] == [10, 20, 10, 20]


def test_hdf5_that_states_what_is_not_there_is_refused():
    def huge(file):
        for axis in "xytp":
            file.create_dataset(f"events/{axis}", (2**40,), "u2", chunks=(1024,))

    def hollow(file):
        for axis in "xytp":
            file.create_dataset(f"events/{axis}", (10_000,), "u2", chunks=(100,))

    def unequal(file):
        for axis in "xytp":
            file[f"events/{axis}"] = np.zeros(3 + (axis == "t"), np.uint16)

    for fill, words in (
        (huge, "may unfold to"),
        (hollow, "not all there"),
        (unequal, "equally long"),
        (lambda file: None, "no events"),
    ):
        with pytest.raises(NeuroError, match=words):
            read_events(hdf5(fill), damaged="prefix")


def test_values_and_links_of_other_files_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(range(200)) * 10)

    def outside(file):
        for axis in "xyp":
            file[f"events/{axis}"] = np.zeros(100, np.uint8)
        file.create_dataset("events/t", (100,), "u8", external=[(str(tmp_path / "secret"), 0, 800)])

    with pytest.raises(NeuroError, match="keeps its values in another file"):
        read_events(hdf5(outside))

    with h5py.File(tmp_path / "other.h5", "w") as other:
        dsec(other)
    with pytest.raises(NeuroError, match="no events"):
        read_events(
            hdf5(lambda file: file.__setitem__("events", h5py.ExternalLink(str(tmp_path / "other.h5"), "/events")))
        )


def test_a_library_that_follows_a_damaged_address_is_stopped():
    file = Mapped(np.zeros(100, np.uint8))
    file.seek(101)
    with pytest.raises(OSError, match="of a file of 100"):
        file.read(1)
    file.seek(0)
    with pytest.raises(OSError, match="of a file of 100"):
        file.readinto(bytearray(2 << 20))


@pytest.mark.parametrize("order", columns.ORDERS)
@pytest.mark.parametrize("separator", [",", " ", "\t", "; "])
def test_text_without_names_in_any_known_order(order, separator):
    rows = "".join(separator.join(str(int(e[axis])) for axis in order) + "\r\n" for e in some())
    found = read_events(rows.encode())
    assert np.array_equal(found.events, some()) and found.facts["columns"] == " ".join(order) + ", guessed"


def test_text_of_pandas_numpy_and_rpg():
    e = some()
    pandas = "\ufeff,x,y,t,p\n" + "".join(f"{k},{x},{y},{t},{p}\n" for k, (x, y, t, p) in enumerate(e.tolist()))
    numpy = io.BytesIO()
    np.savetxt(numpy, np.stack([e["t"] / 1e6, e["x"], e["y"], e["p"] * 2.0 - 1], axis=1))  # exponents, -1 for OFF
    rpg = "346 240\n" + "".join(f"{t / 1e6:.9f} {x} {y} {int(p)}\n" for x, y, t, p in e.tolist())
    for text in (pandas.encode(), numpy.getvalue(), rpg.encode()):
        assert np.array_equal(read_events(text).events, e)
    assert read_events(rpg.encode()).sensor == Sensor(240, 346) and read_events(rpg.encode()).facts["unit"] == "seconds"
    assert read_events(rpg.encode()[:-1]).events[-1] == e[-1]  # without the last newline


@pytest.mark.parametrize(
    "line",
    [
        "1,2",
        "1,2,3",
        "a,b,c,d",
        "5000,1,2,7",
        "5000,1.5,2,1",
        "5000,-1,2,1",
        "9" * 30 + ",1,2,1",
        "5000,1,2,1,9",
        "5000,99999,2,1",
        "1e99,1,2,1",
        "5000,,2,1",
        "\0",
    ],
)
def test_a_line_that_is_no_event_is_named(line):
    text = f"t,x,y,p\n10,1,2,1\n20,3,4,0\n{line}\n99999,5,6,1\n".encode()
    with pytest.raises(NeuroError, match="no event at byte 26|no format recognises"):
        read_events(text)
    found = read_events(text, damaged="prefix", format="text")
    assert found.events["t"].tolist() == [10, 20] and found.dropped_bytes == len(text) - 26


def test_numpy_tables_names_and_units():
    e = some()
    table = np.stack([e["x"], e["y"], e["t"], e["p"]], axis=1).astype(np.int64)
    seconds = np.empty(N, [("timestamp", "f8"), ("polarity", "i1"), ("y", "u1"), ("x", "u2")])
    seconds["timestamp"], seconds["polarity"], seconds["y"], seconds["x"] = (
        e["t"] / 1e6,
        np.where(e["p"], 1, -1),
        e["y"],
        e["x"],
    )
    for array in (table, seconds, e):
        file = io.BytesIO()
        np.save(file, array)
        assert np.array_equal(read_events(file.getvalue()).events, e)
        packed = io.BytesIO()
        np.savez(packed, first=array, second=array[:9])
        assert len(read_events(packed.getvalue(), item="second").events) == 9
        with pytest.raises(NeuroError, match="holds 2 recordings"):
            read_events(packed.getvalue())


def test_numpy_refuses_objects_nan_and_large_claims():
    file = io.BytesIO()
    np.save(file, np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(NeuroError, match="dtype object"):
        read_events(file.getvalue())
    table = np.stack([some()["t"] / 1e6, *(some()[axis] for axis in "xyp")], axis=1)
    table[300, 0] = np.nan
    file = io.BytesIO()
    np.save(file, table)
    found = read_events(file.getvalue(), damaged="prefix")
    assert len(found.events) == 300 and found.dropped_events == N - 300
    data = encode_events(some(), SENSOR, "npy").replace(b"(500,)", b"(2**9,)")
    with pytest.raises(NeuroError, match="cannot be read"):
        read_events(data)
    data = encode_events(some(), SENSOR, "npy").replace(b"(500,), }" + b" " * 10, b"(1099511627776,), }")
    with pytest.raises(NeuroError, match="states 1099511627776 events, 500 are there"):
        read_events(data)
    assert len(read_events(data, damaged="prefix").events) == 500


def test_a_zip_bomb_is_refused():
    file = io.BytesIO()
    np.savez_compressed(
        file,
        x=np.zeros(40 << 20, np.uint8),
        y=np.zeros(40 << 20, np.uint8),
        t=np.zeros(40 << 20, np.uint8),
        p=np.zeros(40 << 20, np.uint8),
    )
    with pytest.raises(NeuroError, match="may unfold to"):
        read_events(file.getvalue())
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", b"123")
    with pytest.raises(NeuroError):
        read_events(other.getvalue())


def test_event_stream_of_an_atis():
    """Steps of up to 62 us in six bits, pauses of 63 us, exposure measurements between."""
    body = b""
    for first, x, y in (
        (5 << 2 | 2, 3, 4),
        (0xFC | 3, 0, 0),
        (1 << 2, 300, 200),
        (7 << 2 | 1, 9, 9),
        (2 << 2 | 2, 1, 2),
    ):
        body += bytes([first]) if first >> 2 == 63 else bytes([first]) + struct.pack("<HH", x, y)
    found = read_events(b"Event Stream" + bytes([2, 0, 0, 2]) + struct.pack("<HH", 304, 240) + body)
    assert found.events.tolist() == [(3, 4, 5, True), (300, 200, 195, False), (1, 2, 204, True)]
    assert found.others == {"exposure measurements": 1} and found.sensor == Sensor(240, 304)


def test_dropped_is_counted_to_the_end_of_the_file():
    e = some()
    e["t"][100] = 0  # a step back
    words = np.empty(N, EVENT)
    words[:] = e
    file = io.BytesIO()
    np.save(file, words)
    found = read_events(file.getvalue(), damaged="prefix")
    assert len(found.events) == 100 and found.dropped_events == 400 and found.dropped_bytes == 400 * EVENT.itemsize
    assert "dropped 5200 bytes, 400 whole events" in str(found)
