"""CIFAR-10, text, pixels in sequence and UCI-HAR: written as published and read back, damage, and the real files."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.datasets.cifar10 import CIFAR10, CIFAR10JPEG
from neuro.datasets.mnist import MNIST, write_idx
from neuro.datasets.sequential import SequentialMNIST
from neuro.datasets.text import TextFile, Vocabulary
from neuro.datasets.ucihar import SIGNALS, UCIHAR
from neuro.errors import FormatError, ParameterError, UnknownName

DATA = Path(os.environ.get("NEURO_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="NEURO_DATA names no folder")


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR10JPEG, SequentialMNIST, UCIHAR])
def test_a_twin_depends_on_its_seed_alone(kind):
    a, b, c = kind.simulated(12, 1), kind.simulated(12, 1), kind.simulated(12, 2)
    assert isinstance(a, kind) and len(a) == 12 and a.labels == b.labels
    assert all(np.array_equal(p.x, q.x) for p, q in zip(a, b, strict=True)) and not np.array_equal(a[0].x, c[0].x)


def test_the_binary_version_comes_back(tmp_path):
    made = CIFAR10.simulated(12, 3)
    rows = np.concatenate([np.array(made.labels, np.uint8)[:, None], np.asarray(made.x).reshape(12, -1)], 1)
    inner = tmp_path / "cifar-10-batches-bin"
    inner.mkdir()
    for k in range(5):
        (inner / f"data_batch_{k + 1}.bin").write_bytes(rows[2 * k : 2 * k + 2].tobytes())
    with pytest.raises(FileNotFoundError, match="test_batch.bin"):
        CIFAR10(tmp_path, "test")
    (inner / "test_batch.bin").write_bytes(rows[10:].tobytes())
    train, test = CIFAR10(tmp_path, "train"), CIFAR10(tmp_path, "test")
    assert train.labels + test.labels == made.labels and len(train) == 10
    assert np.array_equal(np.concatenate([train.x, test.x]), made.x) and train[0].x.shape == (3, 32, 32)
    for bad in (rows.tobytes()[:-1], b"", b"\x0a" + bytes(3072)):
        (inner / "test_batch.bin").write_bytes(bad)
        with pytest.raises(FormatError, match="test_batch.bin"):
            CIFAR10(tmp_path, "test")
    with pytest.raises(UnknownName):
        CIFAR10(tmp_path, "valid")
    with pytest.raises(FileNotFoundError, match="no folder"):
        CIFAR10(tmp_path / "none", "test")


def jpegs(path, files, labels, **changes):
    offset = np.cumsum([0, *map(len, files)])
    arrays = {"data": np.frombuffer(b"".join(files), np.uint8), "offset": offset, "label": np.array(labels, np.uint8)}
    np.savez(path, **(arrays | changes))


def test_jpegs_come_as_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image")

    def jpeg(array, kind="JPEG"):
        file = io.BytesIO()
        image.fromarray(array).save(file, kind, quality=95)
        return file.getvalue()

    red = np.zeros((32, 32, 3), np.uint8)
    red[:16, :, 0] = 200
    files = [jpeg(red), jpeg(np.zeros((64, 32, 3), np.uint8)), jpeg(red, "PNG"), jpeg(red)[:300], b""]
    jpegs(tmp_path / "a.npz", files, range(5))
    data = CIFAR10JPEG(tmp_path / "a.npz", "test")
    x = data[0].x.astype(int)
    assert x.shape == (3, 32, 32) and abs(x[0, 2, 5] - 200) < 12 and x[1:, 2, 5].max() < 12 and x[:, 30].max() < 12
    for k in range(1, 5):
        with pytest.raises(FormatError, match=f"picture {k}"):
            data[k]
    for changes in ({"offset": np.array([0, 5])}, {"offset": np.array([0, 9, 5, 6, 7, 8])}, {"offset": np.arange(6) * 10**9}, {"offset": np.zeros((6, 1), int)}):
        jpegs(tmp_path / "a.npz", files, range(5), **changes)
        with pytest.raises(FormatError, match="offsets"):
            CIFAR10JPEG(tmp_path / "a.npz", "test")
    jpegs(tmp_path / "a.npz", files, [0, 1, 2, 3, 10])
    with pytest.raises(ParameterError, match="no class"):
        CIFAR10JPEG(tmp_path / "a.npz", "test")


@real
def test_real_jpegs():
    data = CIFAR10JPEG(DATA / "cifar10_jpeg/cifar10_test_even_jpeg.npz", "test")
    assert np.bincount(data.labels).tolist() == [500] * 10
    means = {label: np.mean([data[i].x.mean((1, 2)) for i in np.flatnonzero(np.array(data.labels) == label)[:60]], 0) for label in (0, 6, 8)}
    assert all(means[k][2] > means[k][0] for k in (0, 8)) and means[6][0] > means[6][2]  # sky and sea are blue, frogs are not


@given(st.text(min_size=1, max_size=60), st.sampled_from(["byte", "character"]))
@settings(max_examples=60, deadline=None)
def test_text_comes_back_from_its_numbers(text, by):
    text = text.encode("utf-8", "ignore").decode()
    if text:
        vocabulary = Vocabulary.of(text, by)
        assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize("by", ["byte", "character", "word"])
def test_passages_follow_each_other_and_targets_come_next(by, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat saw a dog\nthe dog saw the unusual cat\n" * 9, encoding="utf-8")
    data = TextFile(path, by, steps=10)
    joined = np.concatenate([p.x for p in data])
    assert np.array_equal(joined, data.numbers[: len(joined)]) and len(data) == (len(data.numbers) - 1) // 10
    assert all(np.array_equal(p.x[1:], p.y[:-1]) for p in data) and data[0].y[-1] == data[1].x[0]
    assert data.numbers.max() < len(data.vocabulary) and data[0].x.dtype == data[0].y.dtype == np.int64
    first, rest = TextFile(path, by, 5, data.vocabulary, (0, 0.5)), TextFile(path, by, 5, data.vocabulary, (0.5, 1))
    assert np.array_equal(np.concatenate([first.numbers, rest.numbers]), data.numbers) and rest.split["share"] == [0.5, 1]
    twin, same = TextFile.simulated(6, 1, by, steps=20), TextFile.simulated(6, 1, by, steps=20)
    assert len(twin) == 6 and np.array_equal(twin.numbers, same.numbers)


def test_words_that_are_rare_or_new_are_unknown_and_characters_are_refused(tmp_path):
    vocabulary = Vocabulary.of("a a b\na", "word", at_least=2)
    assert vocabulary.symbols == ("<unk>", "a", "<eos>")
    assert vocabulary.encode("a z\n").tolist() == [1, 0, 2] and vocabulary.decode([1, 0, 2]) == "a <unk>\n"
    with pytest.raises(ParameterError, match="'z'"):
        Vocabulary.of("ab", "character").encode("az")
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_text("abc")
    for name, error, how in (
        ("bad", FormatError, {}), ("empty", FormatError, {}), ("none", FileNotFoundError, {}), ("short", ParameterError, {}),
        ("short", UnknownName, {"by": "letter"}), ("short", ParameterError, {"steps": 0}), ("short", ParameterError, {"steps": 1, "share": (1, 0)}),
        ("short", ParameterError, {"vocabulary": vocabulary, "steps": 1}),
    ):  # fmt: skip
        with pytest.raises(error):
            TextFile(tmp_path / name, **how)


@real
def test_real_text_has_the_stated_counts():
    valid = TextFile(DATA / "text/wikitext2_valid.txt", "word")
    words = sum(valid.numbers != valid.vocabulary.symbols.index("<eos>"))
    assert words == 213_886
    test = TextFile(DATA / "text/wikitext2_test_first_half.txt", "word", vocabulary=valid.vocabulary)
    assert sum(test.numbers != valid.vocabulary.symbols.index("<eos>")) == 121_223
    shakespeare = TextFile(DATA / "text/tinyshakespeare_first95.txt", share=(0, 0.9))
    assert len(shakespeare.vocabulary) <= 65 and len(shakespeare.numbers) == round(0.9 * 1_059_544)
    assert len(TextFile(DATA / "text/tinyshakespeare_first95.txt", "byte").numbers) == 1_059_544


def test_pixels_in_sequence_are_the_picture(tmp_path):
    made = MNIST.simulated(5, 2)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(write_idx(np.asarray(made.x)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(write_idx(np.array(made.labels, np.uint8)))
    rows, mixed = SequentialMNIST(tmp_path, "train"), SequentialMNIST(tmp_path, "train", permutation=7)
    assert rows[1].x.shape == (784, 1) and np.array_equal(rows[1].x.reshape(28, 28), made.x[1])
    back = np.empty_like(mixed[1].x)
    back[mixed.order] = mixed[1].x
    assert np.array_equal(back, rows[1].x) and not np.array_equal(mixed[1].x, rows[1].x)
    assert np.array_equal(mixed.order, SequentialMNIST.simulated(1, permutation=7).order) and "(7)" in mixed.split_facts()["order"]
    with pytest.raises(ParameterError):
        SequentialMNIST.simulated(1, permutation=-1)


def test_the_tables_of_har_come_back(tmp_path):
    made, base = UCIHAR.simulated(6, 1), tmp_path / "UCI HAR Dataset" / "test"
    (base / "Inertial Signals").mkdir(parents=True)
    for k, name in enumerate(SIGNALS):
        np.savetxt(base / "Inertial Signals" / f"{name}_test.txt", np.asarray(made.x)[..., k], fmt="%.9e")
    np.savetxt(base / "y_test.txt", np.array(made.labels) + 1, fmt="%d")
    np.savetxt(base / "subject_test.txt", made.subjects, fmt="%d")
    data = UCIHAR(tmp_path, "test")
    assert data.labels == made.labels and data.subjects == made.subjects and np.array_equal(data.x, made.x)
    (base / "y_test.txt").write_text("1 2 3 4 5 7")
    with pytest.raises(FormatError, match="1 to 6"):
        UCIHAR(tmp_path, "test")
    (base / "Inertial Signals/total_acc_z_test.txt").write_text("1 nan")
    with pytest.raises(FormatError, match="total_acc_z"):
        UCIHAR(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="train"):
        UCIHAR(tmp_path, "train")
