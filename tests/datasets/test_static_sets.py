"""Data sets without events: files written and read back, damage, splits, and the real files."""

import gzip
import io
import json
import os
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from neuro.datasets.braille import Braille
from neuro.datasets.examples import EncodedExamples, Examples
from neuro.datasets.fsdd import FSDD, read_wave
from neuro.datasets.loading import collate
from neuro.datasets.mnist import MNIST, read_idx, write_idx
from neuro.datasets.qubo import read_maxcut, read_qubo, simulated, write_qubo
from neuro.datasets.sampling import EpochBatches
from neuro.datasets.splits import Split, by_draw, by_group
from neuro.datasets.wisdm import RUN, WISDMWatch
from neuro.errors import FormatError, ParameterError, ShapeError, UnknownName

DATA = Path(os.environ.get("NEURO_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="NEURO_DATA names no folder")
SETS = (MNIST, FSDD, Braille, WISDMWatch)


@pytest.mark.parametrize("kind", SETS)
def test_a_simulated_set_depends_on_its_seed_alone(kind):
    a, b, c = kind.simulated(12, 1), kind.simulated(12, 1), kind.simulated(12, 2)
    assert isinstance(a, kind) and len(a) == 12 and a.labels == b.labels
    assert all(np.array_equal(p.x, q.x) for p, q in zip(a, b, strict=True))
    assert any(not np.array_equal(p.x, q.x) for p, q in zip(a, c, strict=True))
    assert all(0 <= item.label < len(kind.classes) for item in a)


def test_encoded_examples_become_batches_with_time_first():
    def steps(x, rng):
        return (rng.random((5, 1, *x.shape)) * 255 < x).astype(np.float32)

    data = EncodedExamples(MNIST.simulated(10), steps, seed=3)
    batch = next(iter(DataLoader(data, batch_sampler=EpochBatches(10, 4), collate_fn=collate)))
    assert list(batch.x.shape) == [5, 4, 1, 28, 28] and batch.lengths.tolist() == [5] * 4
    assert (data[0, 1].x == data[0, 1].x).all() and (data[0, 1].x != data[1, 1].x).any()
    with pytest.raises(IndexError):
        data[10]


def test_examples_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="differ in number"):
        Examples(np.zeros((2, 1)), [0], ["a"], ("x",))
    with pytest.raises(ParameterError, match="no class"):
        Examples(np.zeros((1, 1)), [1], ["a"], ("x",))


def test_splits_are_disjoint_complete_and_recorded():
    split = by_draw("fifth", [0] * 10 + [1] * 20, 0.2, seed=1)
    assert sorted(split.train + split.test) == list(range(30)) and sum(i < 10 for i in split.test) == 2
    assert split.facts() == by_draw("fifth", [0] * 10 + [1] * 20, 0.2, seed=1).facts()
    assert split.facts()["sha256"] != by_draw("fifth", [0] * 10 + [1] * 20, 0.2, seed=2).facts()["sha256"]
    assert by_group("b", list("abab"), "b").test == (1, 3)
    with pytest.raises(ParameterError, match="no sample"):
        by_group("c", list("ab"), "c")
    with pytest.raises(ParameterError, match="share"):
        Split("twice", "", (0, 1), (1,))


def test_idx_is_read_back_and_damage_refused(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    images, labels = tmp_path / "t10k-images-idx3-ubyte.gz", tmp_path / "t10k-labels-idx1-ubyte"
    images.write_bytes(gzip.compress(write_idx(pictures)))
    labels.write_bytes(write_idx(np.array([7, 0, 9], np.uint8)))
    data = MNIST(tmp_path, "test")
    assert np.array_equal(data.x, pictures) and data.labels == (7, 0, 9)
    for damaged in (write_idx(pictures)[:-1], b"", b"\0\0\x0d\x01\0\0\0\1\0"):
        images.write_bytes(gzip.compress(damaged))
        with pytest.raises(FormatError):
            read_idx(images)
    with pytest.raises(FileNotFoundError, match="train"):
        MNIST(tmp_path, "train")
    with pytest.raises(UnknownName):
        MNIST(tmp_path, "tset")


def wav(samples, rate=8000):
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return data.getvalue()


def test_spoken_digits_are_split_by_index_and_read_from_zips(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("3_theo_4.wav", "5_lucas_5.wav"):
            file.writestr(name, wav([-32768, 0, 16384]))
    train, test = FSDD(tmp_path, "train"), FSDD(tmp_path, "test")
    assert train.labels == (5,) and train.speakers == ("lucas",) and test.labels == (3,)
    assert test[0].x.tolist() == [-1.0, 0.0, 0.5]
    with pytest.raises(FormatError, match="8000"):
        read_wave(wav([1], rate=16000))
    with pytest.raises(FormatError):
        read_wave(wav([1, 2, 3])[:-2])


def test_windows_stay_inside_a_run(tmp_path):
    acc = np.repeat(np.arange(2 * RUN, dtype=np.float32)[:, None], 3, 1)
    who, what = np.repeat([1600, 1601], RUN), np.repeat([2, 5], RUN)
    np.savez(tmp_path / "w.npz", acc=acc, subject=who, activity=what)
    data = WISDMWatch(tmp_path / "w.npz", steps=1000, stride=700)
    assert [int(item.x[0, 0]) for item in data] == [0, 700, 1400, RUN, RUN + 700, RUN + 1400]
    assert data.labels == (2,) * 3 + (5,) * 3 and data.subjects == (1600,) * 3 + (1601,) * 3
    with pytest.raises(ParameterError, match="steps=2401"):
        WISDMWatch(tmp_path / "w.npz", steps=2401)
    np.savez(tmp_path / "m.npz", acc=acc, subject=np.roll(who, 1), activity=what)
    with pytest.raises(FormatError, match="two subjects"):
        WISDMWatch(tmp_path / "m.npz")


def test_pickled_arrays_are_never_loaded(tmp_path):
    np.savez(tmp_path / "p.npz", spikes=np.array([{}], object), label=np.zeros(1))
    with pytest.raises(FormatError):
        Braille(tmp_path / "p.npz")
    whole = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "lone.npy", np.zeros(3))
    for name in ("cut.npz", "lone.npy"):
        with pytest.raises(FormatError):
            Braille(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="spikes"):
        Braille(tmp_path / "none.npz")


def states(n):
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1


def test_problems_are_read_back_and_a_cut_is_weighed(tmp_path):
    problem, file = simulated(9, seed=4), tmp_path / "p.sparse"
    file.write_text(write_qubo(problem))
    assert np.array_equal(read_qubo(file).Q, problem.Q)
    file.write_text("3 3\n1 2 1\n2 3 2\n1 3 4\n")
    assert read_maxcut(file).energy(states(3)).tolist() == [0, -5, -3, -6, -6, -3, -5, 0]
    for damaged in ("2 1\n1 3 1\n", "2 2\n1 2 1\n", "2 2\n1 2 1\n2 1 1\n", "", "2 1\n1 2\n"):
        file.write_text(damaged)
        with pytest.raises(FormatError):
            read_qubo(file)


@real
def test_real_pictures():
    data = MNIST(DATA / "mnist", "test")
    assert len(data) == 5000 and data[0].label == 7 and set(data.labels) == set(range(10))


@real
def test_real_digits_tell_speakers_and_splits():
    train, test = FSDD(DATA / "fsdd", "train"), FSDD(DATA / "fsdd", "test")
    assert (len(train), len(test), len(set(train.speakers))) == (2700, 120, 6)
    assert sum(len(item.x) for item in test) / FSDD.rate_hz == pytest.approx(52, abs=1)


@real
def test_real_tactile_spikes_and_windows():
    data = Braille(DATA / "braille_tactile/braille7_shared.npz")
    assert len(data) == 927 and np.asarray(data.x).mean() == pytest.approx(0.226, abs=1e-3)
    watch = WISDMWatch(DATA / "wisdm_watch/wisdm_watch_accel_1600_1639.npz")
    assert len(watch) == 588_000 // 100 and len(set(watch.subjects)) == 40
    split = by_group("unseen subjects", watch.subjects, range(1632, 1640))
    assert not {watch.subjects[i] for i in split.train} & {watch.subjects[i] for i in split.test}


@real
def test_every_real_problem_is_read_and_the_smallest_solved():
    listed = [row for row in json.loads((DATA / "qubo/index.json").read_text()) if row["n"] <= 250]
    read = {"gka": read_qubo, "be": read_qubo, "beasley": read_qubo, "maxcut_rudy": read_maxcut}
    problems = [(row, read[row["file"].split("/")[0]](DATA / "qubo" / row["file"])) for row in listed
                if row["file"].split("/")[0] in read]  # fmt: skip
    assert len(problems) > 50 and all(len(problem.Q) == row["n"] for row, problem in problems)
    row, problem = min(problems, key=lambda pair: pair[0]["n"])
    assert row["n"] == 20 and min(problem.energy(part).min() for part in np.array_split(states(20), 16)) == row["best_known"]
