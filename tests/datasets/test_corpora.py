"""Known texts: the right file for each part, one vocabulary for all, and errors that name the file."""

import hashlib
import zipfile

import numpy as np
import pytest

from neuro.datasets import Enwik8, PennTreebank, TextFile, WikiText2
from neuro.datasets.downloads import Remote
from neuro.errors import FormatError, NeuroError, UnknownName

WORDS = {"train": "the cat saw\nthe dog\n", "valid": "a cat\n", "test": "the dog saw a bird\n"}


@pytest.fixture
def ptb(tmp_path):
    for part, text in WORDS.items():
        (tmp_path / f"ptb.{part}.txt").write_text(text)
    return tmp_path


def test_lines_end_where_those_of_a_file_do(tmp_path):
    """As the published counts were taken; `str.splitlines` ends lines at eight further marks."""
    text = "a\x0bb\x1cc\x85d\u2028e\nf\r\n\ng"
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode())
    with path.open(encoding="utf-8") as file:
        counted = [word for line in file for word in [*line.split(), "<eos>"]]
    data = TextFile(path, "word", steps=1)
    assert [data.vocabulary.symbols[k] for k in data.numbers] == counted == [*"abcde", "<eos>", "f", "<eos>", "<eos>", "g", "<eos>"]


def test_parts_share_the_vocabulary_of_the_training_part(ptb):
    train, test = PennTreebank(ptb, "train", steps=3), PennTreebank(ptb, "test", steps=3)
    assert train.vocabulary == test.vocabulary and "bird" not in test.vocabulary.symbols
    assert test.vocabulary.decode(test.numbers) == "the dog saw <unk> <unk>\n"
    assert len(train.numbers) == 7 and train.split["file"] == "ptb.train.txt"  # five words and two line ends
    given = PennTreebank(ptb, "valid", steps=1, vocabulary=train.vocabulary)
    assert given.vocabulary.decode(given.numbers) == "<unk> cat\n"
    assert PennTreebank(ptb, "train", "character", steps=4).vocabulary.symbols[0] == "\n"


def test_enwik8_is_cut_by_byte_wherever_the_cut_falls(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, 2000, np.uint8)  # not UTF-8: a cut may fall into a character
    (tmp_path / "enwik8").mkdir()
    (tmp_path / "enwik8" / "enwik8").write_bytes(data.tobytes())
    parts = [Enwik8(tmp_path, split, steps=10) for split in ("train", "valid", "test")]
    assert [len(p.numbers) for p in parts] == [1800, 100, 100]
    assert np.array_equal(np.concatenate([p.numbers for p in parts]), data)


def test_a_zip_that_a_person_put_there_is_checked_and_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as file:
        for part, text in WORDS.items():
            file.writestr(f"deep/wiki.{part}.tokens", text)

    class Right(WikiText2):
        remotes = (Remote("corpus.zip", None, md5=hashlib.md5((tmp_path / "corpus.zip").read_bytes()).hexdigest()),)

    class Wrong(WikiText2):
        remotes = (Remote("corpus.zip", None, md5="0" * 32),)

    assert Right.download(tmp_path) == Right.download(tmp_path) == [tmp_path / "corpus.zip"]
    assert len(Right(tmp_path, "train", steps=2).numbers) == 7
    with pytest.raises(NeuroError, match=r"corpus\.zip"):
        Wrong.download(tmp_path)


def test_what_is_missing_is_named(ptb):
    (ptb / "ptb.train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"ptb\.train\.txt(.|\n)*PennTreebank\.download"):
        PennTreebank(ptb, "valid", steps=1)
    with pytest.raises(UnknownName, match="valid"):
        PennTreebank(ptb, "vaild")
    (ptb / "again").mkdir()
    (ptb / "again" / "ptb.test.txt").write_text("x")
    with pytest.raises(FormatError, match="several"):
        PennTreebank(ptb, "test")
    with pytest.raises(NeuroError, match=r"wikitext-2-v1\.zip"):
        WikiText2.download(ptb)


@pytest.mark.parametrize("kind", [WikiText2, PennTreebank, Enwik8], ids=lambda k: k.__name__)
def test_every_text_states_its_facts(kind):
    assert set(kind.files) == set(kind.symbols) == {"train", "valid", "test"} and kind.source and kind.remotes
    assert all(r.md5 or r.sha256 for r in kind.remotes) or kind is Enwik8  # whose checksum is not known to us


def test_the_validation_part_of_wikitext_2_has_the_stated_count(real_data, tmp_path):
    text = (real_data / "text" / "wikitext2_valid.txt").read_text(encoding="utf-8")
    (tmp_path / "wiki.train.tokens").write_text(text, encoding="utf-8")
    (tmp_path / "wiki.valid.tokens").write_text(text, encoding="utf-8")
    assert len(WikiText2(tmp_path, "valid").numbers) == WikiText2.symbols["valid"]
