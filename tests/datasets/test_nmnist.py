"""The N-MNIST reader and data set: round trips, damage, and the real recordings."""

import csv
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets import archive
from neuro.datasets.events import check_events, make_events
from neuro.datasets.formats.nmnist import LAST_US, SENSOR, read_nmnist, write_nmnist
from neuro.datasets.nmnist import NMNIST
from neuro.errors import FormatError, UnknownName

TWO = make_events([1, 33], [2, 0], [3, LAST_US], [True, False])


@given(st.lists(st.tuples(st.integers(0, 33), st.integers(0, 33), st.integers(0, LAST_US), st.booleans()), max_size=50))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read_back(rows):
    columns = zip(*sorted(rows, key=lambda r: r[2]), strict=True) if rows else ([], [], [], [])
    events = make_events(*columns)
    data = write_nmnist(events)
    assert len(data) == 5 * len(events) and np.array_equal(read_nmnist(data), events)


def test_the_bytes_are_those_of_the_description():
    assert write_nmnist(TWO) == bytes([1, 2, 0x80, 0, 3, 33, 0, 0x7F, 0xFF, 0xFF])


@pytest.mark.parametrize(
    "data, words",
    [
        (write_nmnist(TWO)[:-1], "9 bytes: 1 events of 5 bytes, and 4 bytes left at byte 5"),
        (bytes([0, 0, 0, 0, 0, 34, 0, 0, 0, 1]), r"event 1 at byte 5: \(x=34, y=0, t=1 us, p=0\)"),
        (bytes([0, 200, 0, 0, 0]), "event 0 at byte 0"),
        (bytes([0, 0, 0, 0, 9, 0, 0, 0, 0, 8]), "the last event, 9 us.\n  event 1 at byte 5"),
    ],
)
def test_damage_is_located(tmp_path, data, words):
    file = tmp_path / "broken.bin"
    file.write_bytes(data)
    with pytest.raises(FormatError, match=words) as error:
        read_nmnist(file)
    assert "broken.bin" in str(error.value)


def test_what_does_not_fit_is_not_written():
    for events in (
        make_events([0], [0], [LAST_US + 1], [0]),
        make_events([0], [0], [-1], [0]),
        make_events([34], [0], [0], [0]),
    ):
        with pytest.raises(FormatError):
            write_nmnist(events)


@pytest.fixture
def folder(tmp_path):
    """Two loose test files and a zip with two training files."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("N-MNIST/Train/5/00002.bin", write_nmnist(TWO))
        opened.writestr("N-MNIST/Train/3/00009.bs2", write_nmnist(TWO[:1]))
        opened.writestr("N-MNIST/readme.txt", "hello")
    for name in ("test/0/1.bin", "test/9/2.bin"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(write_nmnist(TWO))
    return tmp_path


def test_zips_and_folders_read_alike(folder):
    data = NMNIST(folder)
    assert data.names == ("test/0/1.bin", "test/9/2.bin", "train/3/00009.bs2", "train/5/00002.bin")
    assert [r.label for r in data] == list(data.labels) == [0, 9, 3, 5]
    assert np.array_equal(data[-1].events, TWO) and data[3].name == "train/5/00002.bin"
    assert NMNIST(folder, "train").names == data.names[2:]
    assert NMNIST(folder / "test").names == data.names[:2]


def test_it_travels_to_other_processes_after_use(folder):
    data = NMNIST(folder, "train")
    assert len(data[0].events) == 1
    assert np.array_equal(pickle.loads(pickle.dumps(data))[1].events, TWO)


def test_errors_list_what_is_there(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "song.wav").write_bytes(b"")
    with pytest.raises(FormatError, match="found: song.wav"):
        NMNIST(tmp_path / "other")
    with pytest.raises(FormatError, match=r"found: \['test'\]"):
        NMNIST(folder / "test", "train")
    with pytest.raises(FileNotFoundError, match="no folder"):
        NMNIST(folder / "missing")
    with pytest.raises(UnknownName, match="Did you mean train"):
        NMNIST(folder, "tran")


def test_a_name_found_twice_is_refused(folder):
    (folder / "train" / "5").mkdir(parents=True)
    (folder / "train" / "5" / "00002.bin").write_bytes(write_nmnist(TWO))
    with pytest.raises(FormatError, match="Two files have the name train/5/00002.bin"):
        NMNIST(folder)


def test_a_damaged_or_huge_member_is_refused(folder, monkeypatch):
    whole = (folder / "a.zip").read_bytes()
    (folder / "a.zip").write_bytes(whole[:50] + b"zz" + whole[52:])
    with pytest.raises(FormatError):
        NMNIST(folder)[3]
    (folder / "a.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="a.zip is not a readable zip"):
        NMNIST(folder)
    (folder / "a.zip").write_bytes(whole)
    monkeypatch.setattr(archive, "LIMIT", 9)
    with pytest.raises(FormatError, match="declares 10 bytes"):
        NMNIST(folder)[3]


@pytest.mark.parametrize("split, recordings, events", [("train", 850, 3_494_450), ("test", 50, 183_168)])
def test_the_real_recordings_agree_with_their_tables(real_data, split, recordings, events):
    data = NMNIST(real_data / "nmnist", split)
    with open(real_data / "nmnist" / f"nmnist_{split}.csv", newline="") as file:
        table = {row["file"]: row for row in csv.DictReader(file)}
    assert len(data) == len(table) == recordings
    total = 0
    for recording in data:
        check_events(recording.events, SENSOR)
        t, row = recording.events["t"], table[recording.name]
        said = [int(row[column]) for column in ("label", "n_events", "t_first_us", "t_last_us")]
        assert [recording.label, len(t), t[0], t[-1]] == said
        assert t[-1] <= NMNIST.duration_us
        total += len(t)
    assert total == events


def test_hidden_files_are_left_out(folder):
    names = NMNIST(folder).names
    with zipfile.ZipFile(folder / "apple.zip", "w") as file:
        file.writestr("__MACOSX/train/5/._00001.bin", b"junk")
    assert NMNIST(folder).names == names
