"""Every event format: read(write(x)) is x, damage is an error or a prefix, real files agree with independent counts."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets import iterate_events, make_events, read_events, write_events
from neuro.datasets.events import Sensor
from neuro.datasets.reading import WRITERS
from neuro.errors import NeuroError

SENSOR = Sensor(128, 128)  # one that every writable format can state or hold
FORMATS = sorted(set(WRITERS.values()))


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
@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 60), last=st.integers(0, 2**23 - 1), seed=st.integers(0, 99))
def test_reads_what_was_written(tmp_path_factory, name, count, last, seed):
    events = some(count, last, seed)
    path = written(tmp_path_factory.getbasetemp(), name, events)
    found = read_events(path)
    assert np.array_equal(found.events, events)
    assert found.sensor == SENSOR or not found.sensor_stated or name == "nmnist"
    assert np.array_equal(np.concatenate(list(iterate_events(path, 7))), events)


@pytest.mark.parametrize("name", ["aedat2", "dat", "evt2", "evt3", "aedat3"])
def test_times_above_31_bits_are_kept(tmp_path, name):
    events = make_events([1, 2, 3], [4, 5, 6], [2**31 - 1, 2**31 + 5, 2**32 - 1], [True, False, True])
    assert read_events(written(tmp_path, name, events)).events["t"].tolist() == events["t"].tolist()


@pytest.mark.parametrize("name", ["aedat2", "dat"])
def test_an_overflow_of_32_bits_is_carried_on(tmp_path, name):
    events = make_events([1] * 4, [2] * 4, [2**32 - 2, 2**32 - 1, 2**32 - 1, 2**32 - 1], [True] * 4)
    path = written(tmp_path, name, events)
    raw = bytearray(path.read_bytes())
    at = len(raw) - (12 if name == "aedat2" else 16)  # the time of the third or of the last event but one
    raw[at : at + 4] = (2).to_bytes(4, "big" if name == "aedat2" else "little")
    raw[at + 8 : at + 12] = (3).to_bytes(4, "big" if name == "aedat2" else "little")
    path.write_bytes(raw)
    for chunk in (1, 10):
        times = np.concatenate(list(iterate_events(path, chunk)))["t"]
        assert times.tolist() == [2**32 - 2, 2**32 - 1, 2**32 + 2, 2**32 + 3]


@pytest.mark.parametrize("name", FORMATS)
def test_truncation_anywhere_is_an_error_or_a_prefix(tmp_path, name):
    events = some(200, 2**20)
    whole = written(tmp_path, name, events).read_bytes()
    path = tmp_path / "cut.bin" if name == "nmnist" else tmp_path / "cut"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            found = read_events(path, damaged="prefix", sensor=SENSOR)
        except NeuroError:
            continue
        assert np.array_equal(found.events, events[: len(found.events)])
        if not found.fault:
            assert len(read_events(path, sensor=SENSOR).events) == len(found.events)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=12))
def test_flipped_bytes_never_crash(tmp_path_factory, name, flips):
    raw = bytearray(written(tmp_path_factory.getbasetemp(), name, some(50, 2**20)).read_bytes())
    for place, change in flips:
        raw[int(place * len(raw))] ^= change
    path = tmp_path_factory.getbasetemp() / ("flipped.bin" if name == "nmnist" else "flipped")
    path.write_bytes(raw)
    try:
        found = read_events(path, damaged="prefix")
    except NeuroError:
        return
    t = found.events["t"]
    assert (np.diff(t) >= 0).all() and len(found.events) <= len(raw)
    assert not len(t) or (found.events["x"].max() < found.sensor.width and found.events["y"].max() < found.sensor.height)


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
    wanted = (".aedat", ".raw", ".dat", ".bin")
    files = [f for f in sorted(root.rglob("*")) if f.suffix in wanted and f.name != "header_only.aedat"]
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
