"""Published sets of event files: a tree as published, written from a twin and read back; splits by name."""

import zipfile

import numpy as np
import pytest

from neuro.datasets.asldvs import ASLDVS
from neuro.datasets.cifar10dvs import CIFAR10DVS
from neuro.datasets.downloads import DownloadError
from neuro.datasets.dvslip import DVSLip
from neuro.datasets.events import check_events
from neuro.datasets.ncaltech101 import OVERFLOW_US, OVERFLOW_Y, NCaltech101
from neuro.datasets.ncars import NCars
from neuro.datasets.nmnist import NMNIST
from neuro.datasets.reading import encode_events
from neuro.errors import FormatError, ParameterError

SETS = (CIFAR10DVS, NCaltech101, ASLDVS, NCars, DVSLip)


@pytest.mark.parametrize("kind", [*SETS, NMNIST])
def test_a_twin_has_the_shape_of_the_set_and_depends_on_its_seed_alone(kind):
    a, b, c = kind.simulated(23, 1), kind.simulated(23, 1), kind.simulated(23, 2)
    assert isinstance(a, kind) and len(a) == 23 == len(set(a.names)) and len(set(kind.classes)) == len(kind.classes)
    for k in (0, 22):
        assert np.array_equal(a[k].events, b[k].events) and not np.array_equal(a[k].events, c[k].events)
        check_events(a[k].events, kind.sensor)
        assert a[k].label == a.labels[k] and 0 <= a[k].label < len(kind.classes) and a[k].events["t"][-1] <= kind.duration_us


def nmnist_words(events):
    words = np.empty((len(events), 5), np.uint8)
    words[:, 0], words[:, 1], words[:, 2] = events["x"], events["y"], events["p"] * 128 | events["t"] >> 16
    words[:, 3], words[:, 4] = events["t"] >> 8 & 255, events["t"] & 255
    return words


def encoded(kind, events):
    """The bytes of a file as the set has it."""
    if kind is NCaltech101:
        return nmnist_words(events).tobytes()
    if kind is not ASLDVS:
        return encode_events(events, kind.sensor, {CIFAR10DVS: "aedat4", NCars: "dat", DVSLip: "npy"}[kind])
    import io

    from scipy.io import savemat

    file = io.BytesIO()
    columns = {"ts": events["t"], "x": events["x"], "y": 179 - events["y"], "pol": events["p"].astype(np.uint8)}
    savemat(file, {name: column[:, None] for name, column in columns.items()})
    return file.getvalue()


FIRST, LAST = {CIFAR10DVS: "", NCaltech101: "Caltech101/", ASLDVS: "Yin1/", NCars: "n-cars_", DVSLip: "DVS-Lip/"}, {
    NCaltech101: "image_{}.bin", ASLDVS: "{}.mat", NCars: "obj_{}_td.dat", DVSLip: "{}.npy",
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", SETS)
def test_a_tree_as_published_is_read(kind, zipped, tmp_path):
    twin = kind.simulated(6, 5)
    files = {}
    for k in range(6):
        inner, name = twin.names[k].rsplit("/", 1)
        files[f"{FIRST[kind]}{inner}/{LAST[kind].format(k) if kind in LAST else name}"] = encoded(kind, twin[k].events)
    files[f"{FIRST[kind]}notes.txt"] = b"no recording"
    if zipped:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    data = kind(tmp_path)
    assert len(data) == 6
    for recording in data:
        same = [k for k in range(6) if twin.labels[k] == recording.label]
        assert any(np.array_equal(recording.events, twin[k].events) for k in same) and recording.sensor == kind.sensor
    if kind.parts:
        assert len(kind(tmp_path, kind.parts[0])) == 5 and len(kind(tmp_path, kind.parts[-1])) == 1
    if not zipped:
        broken = next(name for name in sorted(files) if not name.endswith("txt"))
        (tmp_path / broken).write_bytes(files[broken][:-3])
        with pytest.raises(FormatError, match=broken.rsplit("/", 1)[1]):
            [recording.events for recording in data]


def test_times_of_ncaltech_overflow_at_marks():
    events = NCaltech101.simulated(1)[0].events
    words = nmnist_words(events)
    mark = np.array([[0, OVERFLOW_Y, 0, 0, 0]], np.uint8)
    got = NCaltech101.decode(np.concatenate([words[:700], mark, words[700:1500], mark, words[1500:]]).tobytes(), "a")
    assert len(got) == len(events) and np.array_equal(got["t"], events["t"] + OVERFLOW_US * np.repeat([0, 1, 2], [700, 800, 500]))


def test_both_splits_of_cifar10dvs_have_a_name():
    data = CIFAR10DVS.simulated(200)
    first, drawn, other = data.first_900(), data.drawn(0), data.drawn(1)
    assert len(first.test) == 20 and all(data.numbers()[i] >= 900 for i in first.test) and max(data.numbers()[i] for i in first.train) < 900
    assert len({s.facts()["sha256"] for s in (first, drawn, other)}) == 3 and np.bincount([data.labels[i] for i in drawn.test]).tolist() == [2] * 10
    with pytest.raises(ParameterError, match="from 900 on"):
        CIFAR10DVS.simulated(20).first_900()


def test_a_set_behind_a_form_says_what_to_put_where(tmp_path):
    for kind in (NCars, DVSLip):
        with pytest.raises(DownloadError) as caught:
            kind.download(tmp_path)
        assert str(tmp_path / kind.remotes[0].file) in str(caught.value)
