"""Text for language models, by byte, character or word: windows of symbols and the ones that follow them."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuro.errors import FormatError, ParameterError, explain, nothing_there, unknown

UNITS = ("byte", "character", "word")
UNKNOWN, END = "<unk>", "<eos>"


class Passage(NamedTuple):
    """Symbols x [T] int64 and the ones that follow each of them, y [T]."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """Symbols by number. by: "byte", "character" or "word"."""

    by: str
    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.by not in UNITS:
            raise unknown("unit of text", self.by, UNITS)
        if len(set(self.symbols)) < len(self.symbols) or not self.symbols:
            raise ParameterError(explain("Vocabulary: symbols must differ, and be at least one.", f"{len(self.symbols)} symbols"))

    def __len__(self) -> int:
        return len(self.symbols)

    @classmethod
    def of(cls, text: str, by: str, at_least: int = 1) -> Vocabulary:
        """The symbols of a text: all bytes; characters in their order; words by frequency, then in their order.

        at_least: how often a word must occur; rarer ones become `<unk>`, which every vocabulary of words holds.

        >>> Vocabulary.of("to be or not to be", "word").symbols
        ('<unk>', 'be', 'to', '<eos>', 'not', 'or')
        """
        if by == "byte":
            return cls(by, tuple(map(chr, range(256))))
        if by == "word":
            counts = Counter(parts(text, by))
            counts.pop(UNKNOWN, None)
            words = sorted((w for w, n in counts.items() if n >= at_least), key=lambda w: (-counts[w], w))
            return cls(by, (UNKNOWN, *words))
        return cls(by, tuple(sorted(set(text))))

    def encode(self, text: str) -> np.ndarray:
        """Numbers [N] of the symbols of a text, in the smallest unsigned type that holds the vocabulary's.

        Raises:
            ParameterError: a character that the vocabulary does not hold; there is no number for it.
        """
        if self.by == "byte":
            return np.frombuffer(text.encode(), np.uint8).copy()
        number = {symbol: k for k, symbol in enumerate(self.symbols)}
        try:
            rest = number[UNKNOWN] if self.by == "word" else None
            found = (number.get(s, rest) for s in parts(text, self.by)) if rest is not None else (number[s] for s in text)
            return np.fromiter(found, np.min_scalar_type(len(self) - 1))
        except KeyError as error:
            cure = "Make the vocabulary from all texts that it is to serve."
            raise ParameterError(explain("Vocabulary: a character has no number.", f"{error.args[0]!r}", cure=cure)) from error

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of numbers; words are joined by spaces, `<eos>` by line ends."""
        if self.by == "byte":
            return bytes(int(n) for n in numbers).decode("utf-8", "replace")
        if self.by == "word":
            return " ".join(self.symbols[n] for n in numbers).replace(f" {END}", "\n").replace("\n ", "\n")
        return "".join(self.symbols[n] for n in numbers)


def parts(text: str, by: str) -> list[str]:
    """Characters; or words between white space, each line ended by `<eos>`, as WikiText-2 and PTB are counted."""
    if by != "word":
        return list(text)
    lines = io.StringIO(text, newline=None)  # as a file is read; str.splitlines would end lines at other marks too, such as U+2028
    return [word for line in lines for word in (*line.split(), END)]


class TextFile(Sequence):
    """Passages of `steps` symbols of a file in UTF-8 (by byte: any file), one behind the other; each target is the next symbol.

    vocabulary: None makes it from this file; for validation and test files give the one of the training file.
    share: (from, to) as shares of the symbols, for files without a split of their own: enwik8's is (0, 0.9), (0.9, 0.95)
        and (0.95, 1) by byte. A last passage that is not whole is left out.

    Raises:
        FileNotFoundError: no such file. FormatError: not UTF-8. ParameterError: no whole passage, or a bad share.
    """

    def __init__(
        self, path: str | os.PathLike, by: str = "character", steps: int = 128, vocabulary: Vocabulary | None = None,
        share: tuple[float, float] = (0.0, 1.0),
    ) -> None:  # fmt: skip
        path = Path(path)
        if by not in UNITS:
            raise unknown("unit of text", str(by), UNITS)
        if not path.is_file():
            raise FileNotFoundError(nothing_there("file", path, "Put a text file in UTF-8 there."))
        data = path.read_bytes()
        if not data:
            raise FormatError(explain(f"{path} is empty."))
        try:
            text = None if by == "byte" else data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(explain(f"{path} is not UTF-8.", str(error), cure='Take it by="byte".')) from error
        self.vocabulary = vocabulary or Vocabulary.of(text or "", by)
        if self.vocabulary.by != by:
            raise ParameterError(explain("TextFile: the vocabulary is of another unit.", f"by={by!r}   vocabulary.by={self.vocabulary.by!r}"))
        self.fill(np.frombuffer(data, np.uint8) if text is None else self.vocabulary.encode(text), steps, share, path.name)

    def fill(self, numbers: np.ndarray, steps: int, share: tuple[float, float], name: str) -> None:
        """Hold a share of the symbols, in passages."""
        if not 0 <= share[0] < share[1] <= 1 or steps < 1:
            raise ParameterError(explain("TextFile: 0 <= from < to <= 1, steps from 1.", f"share={share}   steps={steps}"))
        start, stop = (round(s * len(numbers)) for s in share)
        self.numbers, self.steps, self.name = numbers[start:stop], steps, name
        self.split = {"file": name, "share": list(share), "symbols": len(self.numbers)}
        if len(self) < 1:
            raise ParameterError(explain(f"TextFile: {name} has no whole passage.", f"{len(self.numbers)} symbols, steps={steps}"))

    def __len__(self) -> int:
        return (len(self.numbers) - 1) // self.steps

    def __getitem__(self, index: int) -> Passage:
        if not -len(self) <= index < len(self):
            raise IndexError(f"TextFile: no passage {index} among {len(self)}")
        start = index % len(self) * self.steps
        both = self.numbers[start : start + self.steps + 1].astype(np.int64)
        return Passage(both[:-1].copy(), both[1:].copy())

    @classmethod
    def simulated(cls, count: int, seed: int = 0, by: str = "character", steps: int = 128):
        """`count` passages of made-up words in which each letter depends on the one before it."""
        if count < 1 or seed < 0:
            raise ParameterError(explain("TextFile.simulated: count from 1, seed from 0.", f"count={count}   seed={seed}"))
        rng, letters = np.random.default_rng(seed), "abcdefghijklmnop qrst uv\n"
        text, need = [], count * steps + 1
        while len(text) < need * (1 if by != "word" else 24):
            k = rng.integers(0, len(letters)) if not text or rng.random() < 0.2 else (letters.index(text[-1]) * 7 + 3) % len(letters)
            text.append(letters[k])
        new = cls.__new__(cls)
        new.vocabulary = Vocabulary.of("".join(text), by)
        new.fill(new.vocabulary.encode("".join(text))[:need], steps, (0.0, 1.0), f"simulated/{seed}")
        return new
