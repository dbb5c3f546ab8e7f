"""Folders whose names are labels: recordings of every format we write are found and read, loose and in zips; other files are left alone."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from neuro.datasets.events import EVENT, Sensor, make_events
from neuro.datasets.labelled import SUFFIXES, Labelled, decoded, is_recording, labels_in
from neuro.datasets.opening import FORMATS
from neuro.datasets.reading import WRITERS, read_events, write_events
from neuro.errors import FormatError

SENSOR = Sensor(128, 128)


def some(seed=0, n=40):
    rng = np.random.default_rng(seed)
    return make_events(rng.integers(0, 10, n), rng.integers(0, 12, n), np.sort(rng.integers(0, 900, n)) * 64, rng.random(n) < 0.5)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """One recording of each suffix we write, half of the labels in a zip."""
    folder = tmp_path_factory.mktemp("my data")
    for i, suffix in enumerate(WRITERS):
        (folder / "train" / f"c{i % 3}").mkdir(parents=True, exist_ok=True)
        write_events(folder / "train" / f"c{i % 3}" / f"a{i}{suffix}", some(i), SENSOR)
    with zipfile.ZipFile(folder / "packed.zip", "w") as file:
        for path in sorted((folder / "train" / "c1").iterdir()):
            file.write(path, f"train/c1/zipped_{path.name}")
    return folder


def test_every_format_is_read_loose_and_from_a_zip(everything):
    found = Labelled(everything, ["c0", "c1", "c2"], SENSOR)
    assert len(found) == len(WRITERS) + len(list((everything / "train" / "c1").iterdir()))
    for recording in found:
        number = int("".join(c for c in recording.name.split("/")[-1].split(".")[0] if c.isdigit()))
        assert np.array_equal(recording.events, some(number)) and recording.events.dtype == EVENT
        assert recording.label == number % 3 and recording.sensor == SENSOR


def test_labels_are_the_folders_that_hold_recordings(everything):
    assert labels_in(everything) == {"c0", "c1", "c2"} == labels_in(everything, "TRAIN")
    with pytest.raises(FormatError, match="holds no file that fits"):
        labels_in(everything, "test")


def test_notes_and_tables_beside_recordings_are_no_recordings(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.txt").write_text("how it was recorded\n")
    (tmp_path / "docs" / "labels.csv").write_text("file,label\na,1\n")
    (tmp_path / "docs" / "empty.txt").write_text("")
    with pytest.raises(FormatError, match=r"holds no recordings(?s:.*)README|holds no recordings(?s:.*)labels"):
        labels_in(tmp_path)
    (tmp_path / "wave").mkdir()
    write_events(tmp_path / "wave" / "a.csv", some(), SENSOR)
    assert labels_in(tmp_path) == {"wave"}


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    for name, data in (("x.raw", b"no events at all"), ("y.bin", b"1234567"), ("z.npz", b"PK\x03\x04"), ("e.raw", b"")):
        (tmp_path / "a" / name).write_bytes(data)
        with pytest.raises(FormatError, match=name):
            decoded(tmp_path / "a" / name, name, SENSOR)
        with pytest.raises(FormatError, match=name):
            decoded(data, name, SENSOR)


def test_events_off_the_models_sensor_are_refused_whatever_the_file_states(tmp_path):
    write_events(tmp_path / "a.aedat4", some(), SENSOR)
    with pytest.raises(FormatError, match="outside the sensor of 8x8"):
        decoded(tmp_path / "a.aedat4", "a.aedat4", Sensor(8, 8))


def test_the_suffixes_are_those_of_all_formats_that_are_recognised():
    """A format that is added must be told here too: each of them has a suffix that stands for it."""
    stands_for = {"evt2": ".raw", "evt21": ".evt21", "rosbag": ".bag", "hdf5": ".h5", "text": ".txt", "aedat2": ".aedat", "aedat3": ".aedat3"}
    assert {stands_for.get(name, f".{name}") for name in FORMATS} <= SUFFIXES and all(is_recording(f"a{s}") for s in SUFFIXES)


def test_bin_files_are_those_of_n_mnist_from_bytes_too(tmp_path):
    write_events(tmp_path / "a.bin", some(), SENSOR)
    assert np.array_equal(decoded((tmp_path / "a.bin").read_bytes(), "x/a.BIN", SENSOR), read_events(tmp_path / "a.bin").events)


def test_a_folder_that_may_not_be_read_is_not_called_empty(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("neuro.datasets.archive.os.scandir", refused)
    with pytest.raises(PermissionError, match=tmp_path.name):
        Labelled(tmp_path, ["0"], Sensor(4, 4))
