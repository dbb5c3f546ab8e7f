"""Spikes in HDF5: written as published, read back, refused where they are damaged."""

import pickle

import h5py
import numpy as np
import pytest

from neuro.datasets.events import check_events
from neuro.datasets.ntidigits import NTIDIGITS
from neuro.datasets.shd import SHD, SSC
from neuro.errors import FormatError, UnknownName


def shd(path, labels, times, units, keys=None):
    with h5py.File(path, "w") as file:
        for name, arrays, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            made = file.create_dataset(f"spikes/{name}", (len(arrays),), h5py.vlen_dtype(dtype))
            for k, array in enumerate(arrays):
                made[k] = array
        file["labels"] = np.array(labels, np.uint16)
        file["extra/speaker"] = np.arange(len(labels), dtype=np.uint16)
        if keys is not None:
            file["extra/keys"] = np.array([k.encode() for k in keys])


@pytest.mark.parametrize("kind", [SHD, SSC, NTIDIGITS])
def test_a_twin_has_the_shape_of_the_set_and_depends_on_its_seed_alone(kind):
    a, b, c = kind.simulated(40, 1), kind.simulated(40, 1), kind.simulated(40, 2)
    assert isinstance(a, kind) and len(a) == 40 and a[-1].name == a[39].name
    for k in (0, 39):
        assert np.array_equal(a[k].events, b[k].events) and not np.array_equal(a[k].events, c[k].events)
        check_events(a[k].events, kind.sensor)
        assert a[k].events["p"].all() and a[k].label == k % len(kind.classes)
    middle = [a[k].events["x"].mean() for k in range(len(kind.classes))]
    assert (np.diff(middle) > 0).all()


def test_spikes_come_back_in_microseconds(tmp_path):
    rng = np.random.default_rng(0)
    times = [np.sort(rng.random(n)).astype(np.float16) for n in (5, 0, 200)]
    units = [rng.integers(0, 700, len(t)).astype(np.uint16) for t in times]
    shd(tmp_path / "shd_train.h5", [3, 19, 0], times, units)
    data = SHD(tmp_path, "train")
    assert len(data) == 3 and data.labels == (3, 19, 0) and data.speakers == (0, 1, 2)
    for way in (data, pickle.loads(pickle.dumps(data))):
        for k in range(3):
            assert np.array_equal(way[k].events["t"], np.rint(times[k].astype(np.float64) * 1e6))
            assert np.array_equal(way[k].events["x"], units[k]) and way[k].sensor.width == 700
    with pytest.raises(IndexError):
        data[3]
    with pytest.raises(FileNotFoundError, match="shd_test.h5"):
        SHD(tmp_path, "test")
    with pytest.raises(UnknownName):
        SHD(tmp_path, "valid")
    (tmp_path / "again").mkdir()
    (tmp_path / "again/shd_train.h5").write_bytes(b"")
    with pytest.raises(FormatError, match="several"):
        SHD(tmp_path, "train")


def test_words_are_in_the_order_of_the_file(tmp_path):
    keys = SSC.classes[::-1]
    shd(tmp_path / "ssc_valid.h5", [0], [np.zeros(1)], [np.zeros(1)], keys)
    assert SSC(tmp_path, "valid").classes == keys and len(set(keys)) == 35
    shd(tmp_path / "ssc_valid.h5", [0], [np.zeros(1)], [np.zeros(1)], ("other", *keys[1:]))
    with pytest.raises(FormatError, match="35 words"):
        SSC(tmp_path, "valid")


@pytest.mark.parametrize(
    "labels, times, units, words",
    [
        ([20], [[0.1]], [[1]], "labels are 0 to 19"),
        ([0, 1], [[0.1]], [[1]], "differ in number"),
        ([0], [[0.1, 0.2]], [[1]], "no pair"),
        ([0], [[np.nan]], [[1]], "time outside"),
        ([0], [[-0.5]], [[1]], "time outside"),
        ([0], [[np.inf]], [[1]], "time outside"),
        ([0], [[0.5]], [[700]], "channel outside"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, labels, times, units, words):
    shd(tmp_path / "shd_test.h5", labels, times, units)
    with pytest.raises(FormatError, match=words):
        SHD(tmp_path, "test")[0]


def test_damaged_files_give_an_error_of_ours_and_nothing_else(tmp_path):
    path = tmp_path / "shd_test.h5"
    shd(path, [0, 1], [np.linspace(0, 1, 40)] * 2, [np.arange(40)] * 2)
    good, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    cut = [good[:n] for n in rng.integers(0, len(good), 20)]
    flipped = []
    for _ in range(60):
        bad = bytearray(good)
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        flipped.append(bytes(bad))
    for k, bad in enumerate(cut + flipped):
        (tmp_path / f"{k}").mkdir()
        (tmp_path / f"{k}" / path.name).write_bytes(bad)
        try:
            data = SHD(tmp_path / f"{k}", "test")
            for recording in data:
                check_events(recording.events, data.sensor)
        except FormatError:
            refused += 1
    assert refused >= 15
    huge = tmp_path / "huge"
    huge.mkdir()
    with h5py.File(huge / path.name, "w") as file:
        file.create_dataset("labels", (2**40,), np.uint16, chunks=(1024,))
    with pytest.raises(FormatError, match="no list"):
        SHD(huge, "test")
    with h5py.File(huge / "ssc_test.h5", "w") as file:
        file.create_dataset("extra/keys", (35,), "S100000000", chunks=(1,))
    with pytest.raises(FormatError, match="no list"):
        SSC(huge, "test")


def test_single_digits_of_the_cochlea(tmp_path):
    with h5py.File(tmp_path / "n-tidigits.hdf5", "w") as file:
        names = ["man-ab-a-1", "man-ab-z", "woman-cd-1o", "woman-cd-o"]
        file["train_labels"] = np.array([n.encode() for n in names])
        file["test_labels"] = np.array([b"man-12"])
        for k, name in enumerate(names):
            file[f"train_addresses/{name}"] = np.arange(3 + k) % 64
            file[f"train_timestamps/{name}"] = np.arange(3 + k) / 100
    data = NTIDIGITS(tmp_path, "train")
    assert [data.classes[label] for label in data.labels] == ["1", "z", "o"]
    assert data[2].events["t"].tolist() == [0, 10_000, 20_000, 30_000, 40_000, 50_000] and data[2].events["x"].tolist() == list(range(6))
    with pytest.raises(FormatError, match="one digit") as caught:
        NTIDIGITS(tmp_path, "test")
    del caught  # its traceback holds the file open
    data.file.close()
    with h5py.File(tmp_path / "n-tidigits.hdf5", "a") as file:
        del file["train_addresses/man-ab-z"]
        del file["train_addresses/man-ab-a-1"]
        file.create_dataset("train_addresses/man-ab-a-1", (2**40,), np.uint8, chunks=(1024,))
    with pytest.raises(FormatError, match="recording 1"):
        NTIDIGITS(tmp_path, "train")[1]
    with pytest.raises(FormatError, match="no list of spikes"):
        NTIDIGITS(tmp_path, "train")[0]
