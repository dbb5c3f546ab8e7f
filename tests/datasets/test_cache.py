"""The cache: what comes out is what went in, or an error; one file, whole, for all processes."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from neuro.datasets import cache
from neuro.datasets.augment import RandomDrop
from neuro.datasets.cache import CachedFrames, Store, cache_files, cache_frames, cache_recordings
from neuro.datasets.events import Recording, Sensor
from neuro.datasets.formats.nmnist import write_nmnist
from neuro.datasets.loading import EventFrames, collate
from neuro.datasets.motions import make_motions
from neuro.datasets.nmnist import NMNIST
from neuro.datasets.transforms import Frames
from neuro.errors import FormatError, ParameterError


@dataclass(frozen=True)
class Binary:
    """Whether a cell saw an event."""

    def __call__(self, events, sensor):
        return (Frames(bins=3)(events, sensor) > 0).astype(np.int64)


def files(folder):
    return sorted(Path(folder).iterdir())


def test_files_are_cached_until_one_of_them_changes(tmp_path):
    made = NMNIST.simulated(4)
    for k, recording in enumerate(made):
        path = tmp_path / "data/train" / str(recording.label) / f"{k}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nmnist(recording.events, path)
    data, kept = NMNIST(tmp_path / "data", "train"), cache_files(NMNIST(tmp_path / "data", "train"), tmp_path / "kept")
    assert kept.names == data.names and kept.labels == data.labels and len(files(tmp_path / "kept")) == 1
    assert all(np.array_equal(a.events, b.events) and a.name == b.name for a, b in zip(kept, data, strict=True))
    written = files(tmp_path / "kept")[0].stat().st_mtime_ns
    cache_files(data, tmp_path / "kept")
    assert files(tmp_path / "kept")[0].stat().st_mtime_ns == written
    path = tmp_path / "data" / data.names[0]
    changed = data[0].events
    changed["p"] ^= True  # as many bytes as before
    write_nmnist(changed, path)
    again = cache_files(NMNIST(tmp_path / "data", "train"), tmp_path / "kept")
    assert len(files(tmp_path / "kept")) == 2 and (again[0].events["p"] != kept[0].events["p"]).all()
    with pytest.raises(ParameterError, match="reads no files"):
        cache_files(made, tmp_path)


def test_the_folder_of_caches_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path / "a"))
    assert cache.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("NEURO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "neuro"


def test_recordings_come_back_as_they_were(tmp_path):
    made = make_motions(4)
    kept = cache_recordings(made, tmp_path, "motions 4")
    assert len(kept) == 4 and len(files(tmp_path)) == 1
    for i in range(4):
        ours, theirs = kept[i], made[i]
        assert np.array_equal(ours.events, theirs.events) and ours.events.dtype == theirs.events.dtype
        assert (ours.sensor, ours.label, ours.name) == (theirs.sensor, theirs.label, theirs.name)
    kept[0].events["t"] += 1
    assert np.array_equal(kept[0].events, made[0].events), "the file is not the caller's memory"
    with pytest.raises(IndexError):
        kept[4]


@pytest.mark.parametrize("frames", [Frames(bins=4), Frames(bins=4, dtype=np.uint8), Binary()], ids=repr)
def test_frames_come_back_as_they_were_and_small(tmp_path, frames):
    data = EventFrames(make_motions(4), frames)
    kept = cache_frames(data, tmp_path, "motions 4")
    for i in range(4):
        assert torch.equal(kept[i].x, data[i].x) and kept[i].label == data[i].label and torch.equal(kept[0, i].x, data[i].x)
    cells = 4 * data[0].x.numel()
    assert files(tmp_path)[0].stat().st_size < (cells / 8 if isinstance(frames, Binary) else cells) + 1500


def test_workers_read_the_same(tmp_path):
    data = EventFrames(make_motions(4), Frames(bins=4))
    loader = DataLoader(cache_frames(data, tmp_path, "m"), batch_size=4, num_workers=1, collate_fn=collate)
    assert torch.equal(next(iter(loader)).x, collate([data[i] for i in range(4)]).x)


ARRAYS = st.builds(
    lambda kind, shape, high, seed: (np.random.default_rng(seed).integers(-high if kind in "<i4<f4" else 0, high + 1, shape)
                                     / (2 if kind == "<f4" and seed % 2 else 1)).astype(kind),
    st.sampled_from(["u1", "<i4", "<u2", "<i8", "<f4", "?"]), st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple),
    st.sampled_from([1, 200, 40_000]), st.integers(0, 99),
)  # fmt: skip


@given(st.lists(ARRAYS, max_size=4))
@settings(deadline=None, max_examples=60)
def test_any_array_comes_back_as_it_was(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("cache") / "x.cache"
    cache.build(path, ((a, Recording(a, Sensor(1, 1), i, str(i))) for i, a in enumerate(arrays)))
    store = Store(path)
    assert len(store.index) == len(arrays)
    for i, a in enumerate(arrays):
        back = store.array(i)
        assert back.dtype == a.dtype and back.shape == a.shape and np.array_equal(back, a) and back.flags.writeable


def test_a_negative_zero_and_numbers_that_are_none_come_back(tmp_path):
    odd = np.array([-0.0, 0.0, 1.0]), np.array([np.nan, 1.0]), np.array([np.inf, 0.0])
    cache.build(tmp_path / "x.cache", ((a, Recording(a, Sensor(1, 1))) for a in odd))
    assert all(Store(tmp_path / "x.cache").array(i).tobytes() == a.tobytes() for i, a in enumerate(odd))


def test_another_identity_transform_or_size_is_another_file(tmp_path):
    made = make_motions(4)
    for identity, frames in (("a", Frames(bins=2)), ("b", Frames(bins=2)), ("a", Frames(bins=3))):
        cache_frames(EventFrames(made, frames), tmp_path, identity)
    cache_frames(EventFrames(make_motions(2), Frames(bins=2)), tmp_path, "a")
    cache_recordings(made, tmp_path, "a")
    assert len(files(tmp_path)) == 5
    cache_frames(EventFrames(made, Frames(bins=3)), tmp_path, "a")
    assert len(files(tmp_path)) == 5


def test_a_second_use_reads_the_file_and_not_the_data(tmp_path):
    made = make_motions(3)
    first = cache_frames(EventFrames(made, Frames(bins=2)), tmp_path, "m")

    class Forbidden:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            raise AssertionError("the data were read again")

    again = cache_frames(EventFrames(Forbidden(), Frames(bins=2)), tmp_path, "m")
    assert torch.equal(again[2].x, first[2].x) and torch.equal(pickle.loads(pickle.dumps(again))[1].x, first[1].x)


def test_no_damage_goes_unseen(tmp_path):
    data = EventFrames(make_motions(2), Frames(bins=1))
    cache_frames(data, tmp_path, "m")
    path = files(tmp_path)[0]
    whole, expected = path.read_bytes(), [data[i].x for i in range(2)]
    rng = np.random.default_rng(0)
    places = {*range(16), *range(len(whole) - 300, len(whole)), *rng.integers(0, len(whole), 100).tolist()}
    for place in sorted(places):
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(spoiled)
        with pytest.raises(FormatError, match="cannot be used"):
            kept = CachedFrames(path)
            assert all(torch.equal(kept[i].x, expected[i]) for i in range(2))
    for length in {0, 5, len(whole) - 1, *rng.integers(0, len(whole), 30).tolist()}:
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match="cannot be used"):
            CachedFrames(path)


def test_a_build_that_fails_leaves_nothing_and_many_builds_leave_one(tmp_path):
    def failing():
        yield np.zeros(3), Recording(np.zeros(3), Sensor(1, 1))
        raise RuntimeError("the data end here")

    with pytest.raises(RuntimeError, match="end here"):
        cache.build(tmp_path / "x.cache", failing())
    assert not files(tmp_path)
    data = EventFrames(make_motions(2), Frames(bins=2))
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: cache_frames(data, tmp_path, "m"), range(8)))
    assert len(files(tmp_path)) == 1 and all(torch.equal(k[1].x, data[1].x) for k in kept)


def test_what_cannot_be_kept_is_refused(tmp_path):
    made = make_motions(2)
    with pytest.raises(ParameterError, match="augmented"):
        cache_frames(EventFrames(made, Frames(bins=2), RandomDrop(0.1)), tmp_path, "m")
    with pytest.raises(ParameterError, match="place in memory"):
        cache_frames(EventFrames(made, lambda events, sensor: None), tmp_path, "m")
    with pytest.raises(ParameterError, match="cannot keep"):
        cache.build(tmp_path / "x", [(np.zeros((1,) * 6), Recording(made[0].events, Sensor(1, 1)))])
    assert not files(tmp_path)
