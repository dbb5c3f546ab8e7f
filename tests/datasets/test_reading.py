"""Every event format: read(write(x)) is x, damage is an error or a prefix, real files agree with independent counts."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets import iterate_events, make_events, read_events, write_events
from neuro.datasets.events import Sensor
from neuro.datasets.reading import WRITERS, encode_events
from neuro.errors import FormatError, NeuroError

SENSOR = Sensor(128, 128)  # one that every writable format can state or hold
FORMATS = sorted(set(WRITERS.values()))
PACKED = ("hdf5", "npz")  # an open of these costs a millisecond: not at every byte here, but in fuzz.py
UNMARKED = {"nmnist": "nmnist"}  # recognised by its suffix, which memory lacks


def some(count: int, last: int, seed: int = 0) -> np.ndarray:
    """Events anywhere on the sensor at times up to `last`."""
    make = np.random.default_rng(seed)
    t = np.sort(make.integers(0, last, count, endpoint=True))
    return make_events(make.integers(0, 128, count), make.integers(0, 128, count), t, make.integers(0, 2, count) > 0)


def written(folder: Path, name: str, events: np.ndarray) -> Path:
    path = folder / (f"{name}.bin" if name == "nmnist" else name)
    write_events(path, events, SENSOR, format=name)
    return path


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 60), last=st.integers(0, 2**23 - 1), seed=st.integers(0, 99))
def test_reads_what_was_written(name, count, last, seed):
    events = some(count, last, seed)
    data = encode_events(events, SENSOR, name)
    found = read_events(data, format=UNMARKED.get(name, ""))
    assert np.array_equal(found.events, events) and found.events.dtype == events.dtype
    assert found.sensor == SENSOR or not found.sensor_stated or name == "nmnist"
    assert np.array_equal(np.concatenate(list(iterate_events(data, 7, format=UNMARKED.get(name, "")))), events)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_is_recognised_by_its_content(tmp_path, suffix):
    events = some(300, 2**20)
    write_events(tmp_path / f"a{suffix}", events, SENSOR)
    other = tmp_path / ("b.bin" if WRITERS[suffix] == "nmnist" else "b.unknown")
    other.write_bytes((tmp_path / f"a{suffix}").read_bytes())
    assert np.array_equal(read_events(other).events, events)


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "nmnist"])
def test_no_events_can_be_written_and_read(name):
    empty = some(0, 1)
    assert len(read_events(encode_events(empty, SENSOR, name)).events) == 0


@pytest.mark.parametrize("name", ["aedat2", "dat", "evt2", "evt3", "aedat3", "aedat4", "hdf5", "npy", "npz", "text"])
def test_d56_times_above_31_bits_are_kept(name):
    events = make_events([1, 2, 3], [4, 5, 6], [2**31 - 1, 2**31 + 5, 2**32 - 1], [True, False, True])
    assert read_events(encode_events(events, SENSOR, name)).events["t"].tolist() == events["t"].tolist()


@pytest.mark.parametrize("name", ["aedat2", "dat", "evt2", "evt3", "aedat3", "aedat4"])
def test_a_long_pause_is_no_overflow(name):
    events = make_events([1, 2], [4, 5], [0, 2**32 - 1], [True, False])
    assert read_events(encode_events(events, SENSOR, name)).events["t"].tolist() == [0, 2**32 - 1]


@pytest.mark.parametrize("name", ["aedat2", "dat"])
def test_an_overflow_of_32_bits_is_carried_on(name):
    events = make_events([1] * 4, [2] * 4, [2**32 - 2, 2**32 - 1, 2**32 - 1, 2**32 - 1], [True] * 4)
    raw = bytearray(encode_events(events, SENSOR, name))
    at = len(raw) - (12 if name == "aedat2" else 16)  # the time of the third or of the last event but one
    raw[at : at + 4] = (2).to_bytes(4, "big" if name == "aedat2" else "little")
    raw[at + 8 : at + 12] = (3).to_bytes(4, "big" if name == "aedat2" else "little")
    for chunk in (1, 10):
        times = np.concatenate(list(iterate_events(raw, chunk)))["t"]
        assert times.tolist() == [2**32 - 2, 2**32 - 1, 2**32 + 2, 2**32 + 3]


@pytest.mark.parametrize("name", FORMATS)
def test_truncation_anywhere_is_an_error_or_a_prefix(name):
    events = some(40, 2**20)
    whole = encode_events(events, SENSOR, name)
    given = 0
    for length in range(0, len(whole), 37 if name in PACKED else 1):
        try:
            found = read_events(whole[:length], damaged="prefix", sensor=SENSOR, format=UNMARKED.get(name, ""))
        except NeuroError:
            continue
        n, given = len(found.events), given + 1
        assert np.array_equal(found.events, events[:n])
        assert not found.dropped_events  # what is cut away was never there
        if found.fault and found.dropped_bytes is not None:
            assert 0 <= found.dropped_bytes < 40 and found.dropped_bytes <= length
    assert given > 10 or name in PACKED


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=30, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=12))
def test_flipped_bytes_never_crash(name, flips):
    raw = bytearray(encode_events(some(50, 2**20), SENSOR, name))
    for place, change in flips:
        raw[int(place * len(raw))] ^= change
    try:
        found = read_events(raw, damaged="prefix", format=UNMARKED.get(name, ""))
    except NeuroError:
        return
    t = found.events["t"]
    assert (np.diff(t) >= 0).all() and len(found.events) <= len(raw)
    assert not len(t) or (
        found.events["x"].max() < found.sensor.width and found.events["y"].max() < found.sensor.height
    )
    assert bool(found.fault) or (found.dropped_bytes == 0 and found.dropped_events == 0)


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "nmnist"])
def test_what_is_dropped_is_counted(name):
    """Events 30 to 49 lie off a sensor that is made smaller than the file's."""
    x = np.r_[np.arange(30), np.full(20, 100)]
    events = make_events(x, np.zeros(50), np.arange(50) * 1000, [True] * 50)
    data = encode_events(events, SENSOR, name)
    for piece in (7, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("neuro.datasets.reading.WHOLE", piece)
            found = read_events(data, sensor=Sensor(128, 64), damaged="prefix")
        assert len(found.events) == 30 and "event 30 is outside the sensor" in found.fault
        assert found.dropped_events == 20
        width = {"aedat2": 8, "aedat3": 8, "dat": 8, "npy": 13}.get(name)
        if width:
            assert found.dropped_bytes == 20 * width
        if found.dropped_bytes is None:
            assert name in PACKED
        else:  # the bytes that are kept give the events that are kept
            kept = read_events(data[: len(data) - found.dropped_bytes], sensor=SENSOR, damaged="prefix")
            assert np.array_equal(kept.events, events[:30])


@pytest.mark.parametrize("name", ["dat", "evt2", "es", "npy", "aedat4", "hdf5", "npz", "text"])
def test_pieces_take_little_memory(tmp_path, name):
    """Peak of what Python and NumPy allocate; all events would be 3.9 MB, and a file below 1 MiB is read whole."""
    count = 300_000
    path = written(tmp_path, name, some(count, 2**20))
    assert sum(len(piece) for piece in iterate_events(path, 10_000)) == count
    tracemalloc.start()
    try:
        assert sum(len(piece) for piece in iterate_events(path, 10_000)) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5e6


def test_what_is_no_file_of_events_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "words").write_text("It was a dark and stormy night; the rain fell in torrents\n" * 9)
    (tmp_path / "zeros").write_bytes(bytes(3000))
    for path in [tmp_path, "/dev/zero", *tmp_path.iterdir()]:
        with pytest.raises(NeuroError):
            read_events(path)
    with pytest.raises(FileNotFoundError):
        read_events(tmp_path / "nothing.dat")
    with pytest.raises(NeuroError, match="is a folder"):
        read_events(tmp_path)
    with pytest.raises(NeuroError, match="a ZIP archive, not a recording.\n  Unpack it"):
        read_events(b"PK\x03\x04" + bytes(500))
    with pytest.raises(NeuroError, match="not known"):
        read_events(tmp_path / "zeros", format="dta")


def test_x_of_a_vector_that_goes_on_and_on_is_off_every_sensor():
    """Vectors of EVT 3 move x on without end; it neither wraps into the sensor nor is left out."""
    words = [0x8000, 0x6001, 0x0001, 0x3000] + [0x4000] * 5461 + [0x4001]  # 12 pixels each: x = 65532, of 16 bits -4
    data = b"% evt 3.0\n% end\n" + np.array(words, "<u2").tobytes()
    with pytest.raises(NeuroError, match="outside the sensor"):
        read_events(data)
    assert len(read_events(data + np.array([0x4001] * 3, "<u2").tobytes(), damaged="prefix").events) == 0


@pytest.mark.parametrize("name", ["dat", "evt2", "evt3", "nmnist", "aedat2"])
def test_what_the_decoder_saw_is_what_the_check_finds(name, monkeypatch):
    """Faults found while decoding are those of a pass over the decoded events."""
    make = np.random.default_rng(5)
    for fault in range(40):
        data = bytearray(encode_events(some(60, 2**20 if name != "nmnist" else 2**15, fault), SENSOR, name))
        data[int(make.integers(len(data) // 2, len(data)))] ^= 1 << int(make.integers(0, 8))
        for sensor in (None, SENSOR, Sensor(40, 40)):
            how = {"format": UNMARKED.get(name, ""), "sensor": sensor, "damaged": "prefix"}
            quick = read_events(bytes(data), **how)
            with monkeypatch.context() as patched:
                patched.setattr("neuro.datasets.reading.sound", lambda *_: False)
                slow = read_events(bytes(data), **how)
            assert np.array_equal(quick.events, slow.events) and (quick.fault, quick.sensor) == (slow.fault, slow.sensor)


def test_one_recording_has_no_items():
    with pytest.raises(NeuroError, match="holds one recording"):
        read_events(encode_events(some(3, 9), SENSOR, "dat"), item=0)


def test_a_step_back_in_time_and_an_event_off_the_sensor_are_named(tmp_path):
    path = written(tmp_path, "dat", make_events([1, 2, 3], [1, 2, 3], [10, 20, 30], [True] * 3))
    raw = bytearray(path.read_bytes())
    raw[-8:-4] = (15).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(NeuroError, match="event 2 is before the last, at 20 us"):
        read_events(path)
    assert len(read_events(path, damaged="prefix").events) == 2
    with pytest.raises(NeuroError, match="event 1 is outside the sensor of 2x2"):
        read_events(path, sensor=Sensor(2, 2))


def test_a_packet_that_states_2_to_the_31_events_is_damage(tmp_path):
    path = written(tmp_path, "aedat3", some(20, 1000))
    raw = bytearray(path.read_bytes())
    at = raw.index(b"#!END-HEADER\r\n") + 14 + 20
    raw[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(NeuroError, match="states 2147483647 events, 20 are there"):
        read_events(path)
    assert len(read_events(path, damaged="prefix").events) == 20


def samples() -> list:
    """Sample files with their independent values, where the data is."""
    root = Path(os.environ.get("NEURO_DATA", "nowhere")) / "event_formats"
    wanted = (".aedat", ".aedat4", ".raw", ".dat", ".bin", ".es", ".csv", ".txt", ".npy", ".npz", ".h5")
    no_events = ("header_only.aedat", "color.es", "generic.es", "nmnist_aertb.h5")
    files = [f for f in sorted(root.rglob("*")) if f.suffix in wanted and f.name not in no_events]
    return files or [pytest.param(None, marks=pytest.mark.skip("NEURO_DATA holds no event_formats"))]


@pytest.mark.parametrize("path", samples(), ids=lambda path: path.name if path else "none")
def test_real_files_agree_with_independent_values(path):
    stated = json.loads(path.with_name(path.name + ".json").read_text())["events"]
    sensor = Sensor(1025, 1280) if path.name == "prophesee_tc001.raw" else None  # rows above its header's size
    events = read_events(path, sensor=sensor).events
    assert len(events) == stated["count"]
    for column, dtype in zip("txyp", ("<i8", "<u2", "<u2", "u1"), strict=True):
        assert hashlib.sha256(events[column].astype(dtype).tobytes()).hexdigest() == stated["sha256_of_arrays"][column]
    assert np.array_equal(np.concatenate(list(iterate_events(path, 1000, sensor=sensor))), events)


@pytest.mark.parametrize("name", ["dat", "evt2", "evt3", "nmnist"])
def test_a_step_back_between_two_pieces_is_found(name):
    first, second = (make_events([1] * 7, [2] * 7, np.arange(7) + start, [True] * 7) for start in (5000, 0))
    one, two = (encode_events(events, SENSOR, name) for events in (first, second))
    body = two[len(encode_events(second[:0], SENSOR, name)) :]
    with pytest.raises(FormatError, match="event 7 is before the last"):
        list(iterate_events(one + body, 7, format=UNMARKED.get(name, "")))
