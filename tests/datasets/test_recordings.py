"""Sets of labelled event files: written as they are published and read back; twins; damage; real streams."""

import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from neuro.datasets.events import Sensor, check_events
from neuro.datasets.gesture import DVSGesture, DVSGestureStreams
from neuro.datasets.loading import EventFrames, collate
from neuro.datasets.objects import DVSObjects
from neuro.datasets.reading import encode_events
from neuro.datasets.recordings import spot, windows
from neuro.datasets.transforms import Frames
from neuro.errors import FormatError, ParameterError, UnknownName

DATA = Path(os.environ.get("NEURO_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="NEURO_DATA names no folder")
SETS = (DVSObjects, DVSGesture, DVSGestureStreams)


@pytest.mark.parametrize("kind", SETS)
def test_a_twin_has_the_shape_of_the_set_and_depends_on_its_seed_alone(kind):
    a, b, c = kind.simulated(12, 1), kind.simulated(12, 1), kind.simulated(12, 2)
    assert isinstance(a, kind) and len(a) == 12 == len(a.labels) == len(set(a.names))
    for k in (0, 11):
        assert np.array_equal(a[k].events, b[k].events) and not np.array_equal(a[k].events, c[k].events)
        check_events(a[k].events, kind.sensor)
        assert a[k].label == a.labels[k] < len(kind.classes) and a[k].events["t"][-1] < kind.duration_us
    assert a[-1].name == a[11].name
    with pytest.raises(IndexError):
        a[12]
    with pytest.raises(ParameterError):
        kind.simulated(0)
    loader = DataLoader(EventFrames(pickle.loads(pickle.dumps(a)), Frames(bins=3)), batch_size=4, collate_fn=collate)
    assert list(next(iter(loader)).x.shape) == [3, 4, 2, kind.sensor.height, kind.sensor.width]


def test_twins_can_be_told_apart():
    kind = DVSGesture
    counts = [np.histogram2d(e["y"], e["x"], 12, [[0, 128], [0, 128]])[0].ravel() for e in (kind.simulated(33).events(k) for k in range(33))]
    near = [int(np.argmin([np.abs(counts[k] - counts[j]).sum() for j in range(11)])) for k in range(11, 33)]
    assert near == [k % 11 for k in range(22)]


def test_windows_are_half_open_and_whole():
    t = np.sort(np.random.default_rng(0).integers(50, 1050, 300))
    for window, stride in ((100, 100), (100, 30), (250, 400), (2000, 1)):
        cuts = windows(t, window, stride)
        for k, (a, b) in enumerate(cuts):
            start = t[0] + k * stride
            assert ((t[a:b] >= start) & (t[a:b] < start + window)).all() and b - a == ((t >= start) & (t < start + window)).sum()
        assert len(cuts) == max(0, (t[-1] - t[0] - window) // stride + 1)
    assert windows(t[:0], 1, 1) == []
    with pytest.raises(ParameterError):
        windows(t, 0, 1)


def objects(folder):
    """Two streams of 250 ms, as AEDAT 2."""
    events = np.concatenate([spot(Sensor(128, 128), 0, 7, 250_000, 0)])
    events["t"] += 3_000_000_000  # above 2^31
    text = b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
    address = events["y"].astype(">u4") << 8 | events["x"].astype(">u4") << 1 | ~events["p"]
    body = np.stack([address, events["t"].astype(">u4")], 1).astype(">u4").tobytes()
    for name in ("train/mug__a.aedat", "valid/cube__b.aedat"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text + body)
    (folder / "recordings.json").write_text(json.dumps([{"file": "train/mug__a.aedat", "recorded_on": "2018-10-29"}]))
    return events


def test_streams_of_objects_are_cut_into_windows(tmp_path):
    events = objects(tmp_path)
    data = DVSObjects(tmp_path)
    assert len(data) == 4 and data.labels == (1, 1, 2, 2) and data.days == ("2018-10-29",) * 2 + ("",) * 2
    first = events[events["t"] < events["t"][0] + 100_000]
    assert np.array_equal(data[0].events[["x", "y", "p"]], first[["x", "y", "p"]])
    assert np.array_equal(data[0].events["t"], first["t"] - events["t"][0])
    data[0].events["x"] = 0
    assert np.array_equal(data[0].events["x"], first["x"])
    split = data.across_days()
    assert split.train == (0, 1) and split.test == (2, 3)
    assert len(DVSObjects(tmp_path, "valid")) == 2 and len(DVSObjects(tmp_path, stride_us=50_000)) > 4
    with pytest.raises(FormatError, match="no whole window"):
        DVSObjects(tmp_path, window_us=10**9)
    with pytest.raises(ParameterError, match="stride_us=0"):
        DVSObjects(tmp_path, stride_us=0)
    with pytest.raises(UnknownName):
        DVSObjects(tmp_path, "test")
    (tmp_path / "valid/cube__b.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + bytes(7))
    with pytest.raises(FormatError, match="cube__b"):
        DVSObjects(tmp_path)
    (tmp_path / "recordings.json").write_text('{"a": 1}')
    with pytest.raises(FormatError, match="no list of files"):
        DVSObjects(tmp_path)


@real
def test_real_objects_across_days():
    data = DVSObjects(DATA / "dvs128_objects")
    stated = {row["file"]: row for row in json.loads((DATA / "dvs128_objects/recordings.json").read_text())}
    assert [len(events) for events in data.held] == [stated[name]["events"]["count"] for name in data.stream_names]
    assert set(data.days) == {"2018-10-06", "2018-10-29"}
    split = data.across_days()
    assert {data.streams[i] for i in split.train}.isdisjoint(data.streams[i] for i in split.test)
    for k in (0, 1500, len(data) - 1):
        check_events(data[k].events, data.sensor)
        assert 0 <= data[k].events["t"][0] and data[k].events["t"][-1] < 100_000


def test_gestures_as_arrays_are_split_by_people(tmp_path):
    events = spot(Sensor(128, 128), 3, 11, 500_000, 0)
    table = np.stack([events["x"], events["y"], events["p"], events["t"] // 1000], 1).astype(np.float64)
    for place in ("ibmGestureTrain/user02_led", "ibmGestureTest/user24_natural"):
        (tmp_path / place).mkdir(parents=True)
        np.save(tmp_path / place / "10.npy", table)
    data = DVSGesture(tmp_path)
    assert data.names == ("test/user24_natural/10.npy", "train/user02_led/10.npy") and data.people == (24, 2) and data.labels == (10, 10)
    assert np.array_equal(data[0].events["t"], events["t"] // 1000 * 1000)
    assert np.array_equal(data[0].events[["x", "y", "p"]], events[["x", "y", "p"]])
    assert len(DVSGesture(tmp_path, "test")) == 1
    for bad in (table[:, :3], table * np.nan, table[::-1], table + [200, 0, 0, 0], table + [0, 0, 2, 0], table * [1, 1, 1, 1e300]):
        np.save(tmp_path / "ibmGestureTest/user24_natural/10.npy", bad)
        with pytest.raises(FormatError, match="user24_natural/10.npy"):
            data[0]
    whole = io.BytesIO()
    np.save(whole, table)
    (tmp_path / "ibmGestureTest/user24_natural/10.npy").write_bytes(whole.getvalue()[:-8])
    with pytest.raises(FormatError, match="another length"):
        data[0]


def test_gestures_are_cut_from_streams_where_the_labels_say(tmp_path):
    events = spot(Sensor(128, 128), 0, 11, 900_000, 0)
    (tmp_path / "user23_led.aedat").write_bytes(encode_events(events, Sensor(128, 128), "aedat3"))
    (tmp_path / "user24_led.aedat").write_bytes(encode_events(events, Sensor(128, 128), "aedat3"))
    (tmp_path / "user23_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n1,0,400000\n11,400000,800000\n")
    (tmp_path / "user24_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n2,100000,200000\n")
    data = DVSGestureStreams(tmp_path)
    assert len(data) == 3 and sorted(zip(data.labels, data.people, strict=True)) == [(0, 23), (1, 24), (10, 23)]
    assert len(DVSGestureStreams(tmp_path, "train")) == 2
    index = data.labels.index(10)
    cut = events[(events["t"] >= 400_000) & (events["t"] < 800_000)]
    assert np.array_equal(data[index].events["x"], cut["x"]) and np.array_equal(data[index].events["t"], cut["t"] - 400_000)
    assert np.array_equal(data[index].events, data[index].events)
    (tmp_path / "user24_led.aedat").write_bytes(b"#!AER-DAT3.1\r\n" + bytes(9))
    with pytest.raises(FormatError, match="user24_led.aedat"):
        DVSGestureStreams(tmp_path, "test")[0]
    (tmp_path / "user24_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n12,1,2\n")
    with pytest.raises(FormatError, match="12,1,2"):
        DVSGestureStreams(tmp_path)
    (tmp_path / "user24_led_labels.csv").unlink()
    with pytest.raises(FormatError, match="user24_led_labels.csv"):
        DVSGestureStreams(tmp_path)


def test_a_folder_that_holds_nothing_says_what_is_expected(tmp_path):
    for kind in SETS:
        with pytest.raises(FormatError, match="Expected"):
            kind(tmp_path)
        with pytest.raises(FileNotFoundError):
            kind(tmp_path / "none")
