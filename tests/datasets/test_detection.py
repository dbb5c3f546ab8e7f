"""Recordings with boxes: pairs of files read back, windows that lose nothing, and tables that are refused."""

import numpy as np
import pytest

from neuro.datasets.detection import BOX, Gen1, OneMegapixel, read_boxes
from neuro.datasets.reading import write_events
from neuro.errors import FormatError, ParameterError, UnknownName

PUBLISHED = np.dtype([("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1"), ("confidence", "<f4"), ("track_id", "<u4")])


def published(boxes):
    rows = np.zeros(len(boxes), PUBLISHED)
    for ours, theirs in zip(BOX.names, ("ts", "x", "y", "w", "h", "class_id", "track_id"), strict=True):
        rows[theirs] = boxes[ours]
    return rows


@pytest.mark.parametrize("kind", [Gen1, OneMegapixel])
def test_pairs_of_files_come_back(kind, tmp_path):
    twin = kind.simulated(3, 1)
    for k, part in enumerate(("train", "train", "test")):
        (tmp_path / part).mkdir(exist_ok=True)
        write_events(tmp_path / part / f"{k}_td.dat", twin[k].recording.events, kind.sensor)
        np.save(tmp_path / part / f"{k}_bbox.npy", published(twin[k].boxes))
    data = kind(tmp_path)
    assert len(data) == 3 and len(kind(tmp_path, "test")) == 1
    for k, name in enumerate(("train/0_td.dat", "train/1_td.dat", "test/2_td.dat")):
        scene = data[data.names.index(name)]
        assert np.array_equal(scene.recording.events, twin[k].recording.events) and np.array_equal(scene.boxes, twin[k].boxes)
        assert scene.recording.sensor == kind.sensor
    with pytest.raises(FormatError, match="split 'val'"):
        kind(tmp_path, "val")
    with pytest.raises(UnknownName):
        kind(tmp_path, "dev")
    with pytest.raises(FileNotFoundError):
        kind(tmp_path / "none")
    (tmp_path / "test/2_td.dat").unlink()
    with pytest.raises(FormatError, match="0 recordings"):
        kind(tmp_path)


@pytest.mark.parametrize("window", [999_999, 7_000_000, 10**9, None])
def test_windows_lose_nothing(window, tmp_path):
    twin = Gen1.simulated(1, 2)
    write_events(tmp_path / "a_td.dat", twin[0].recording.events, Gen1.sensor)
    np.save(tmp_path / "a_bbox.npy", published(twin[0].boxes))
    whole = twin[0]
    window = window or int(whole.recording.events["t"][500])  # a window that ends where an event is
    for data in (twin, Gen1(tmp_path)):
        scenes = list(data.scenes(0, window))
        for k, scene in enumerate(scenes):
            for t in (scene.recording.events["t"], scene.boxes["t"]):
                assert ((t >= k * window) & (t < (k + 1) * window)).all()
        assert np.array_equal(np.concatenate([s.recording.events for s in scenes]), whole.recording.events)
        seen = whole.boxes[whole.boxes["t"] < len(scenes) * window]
        assert np.array_equal(np.concatenate([s.boxes for s in scenes]), seen) and len(scenes) == whole.recording.events["t"][-1] // window + 1
    with pytest.raises(ParameterError):
        next(twin.scenes(0, 0))


def test_boxes_that_are_judged():
    boxes = np.zeros(4, BOX)
    boxes["t"], boxes["w"], boxes["h"] = [0, 10**6, 10**6, 10**6], [50, 50, 50, 20], [50, 50, 5, 15]
    assert Gen1.simulated(1).large(boxes).tolist() == boxes[1:2].tolist()


def test_tables_that_are_no_boxes_are_refused(tmp_path):
    rows = published(Gen1.simulated(1).boxes(0))
    path = tmp_path / "bbox.npy"
    bad = [rows.copy() for _ in range(2)]
    bad[0]["class_id"], bad[1]["w"][3] = 2, np.nan
    for wrong in (*bad, np.zeros((3, 4)), rows[["x", "y"]]):
        np.save(path, wrong)
        with pytest.raises(FormatError, match="bbox.npy"):
            read_boxes(path, 2)
    np.save(path, rows)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="another length"):
        read_boxes(path, 2)
    path.write_bytes(b"")
    with pytest.raises(FormatError):
        read_boxes(path, 2)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(FormatError):
        read_boxes(path, 2)
    np.save(path, rows[::-1])
    assert np.array_equal(read_boxes(path, 2), Gen1.simulated(1).boxes(0))
    np.save(path, rows[:0])
    assert len(read_boxes(path, 2)) == 0
