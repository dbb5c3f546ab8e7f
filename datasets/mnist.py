"""MNIST: 70 000 pictures of handwritten digits, as static input; IDX files, plain or gzipped."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

from neuro.datasets.examples import Examples
from neuro.errors import FormatError, explain, nothing_there, unknown

PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """An IDX file of bytes: two zeros, 8, the number of axes, then big-endian sizes [u32], then values [u8].

    Raises:
        FormatError: another type of value, a damaged gzip, or a length that does not fit the sizes.
    """
    path = Path(path)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise FormatError(explain(f"{path} cannot be read.", str(error), cure="Get the file again.")) from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise FormatError(explain(f"{path} is not an IDX file of bytes.", f"begins with {data[:4].hex()}"))
    shape = tuple(np.frombuffer(data, ">u4", data[3], 4).tolist())
    start, count = 4 + 4 * data[3], int(np.prod(shape, dtype=object))
    if len(data) - start != count:
        raise FormatError(explain(f"{path} has another length than it declares.", f"{len(data) - start} of {count} bytes"))
    return np.frombuffer(data, np.uint8, count, start).reshape(shape)


def write_idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file that holds a uint8 array."""
    if array.dtype != np.uint8:
        raise FormatError(explain("write_idx: only bytes are written.", f"got {array.dtype}"))
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


class MNIST(Examples):
    """Pictures x [28, 28] uint8 (0 background, 255 ink) of one split. Nothing is downloaded.

    folder: holds one `train*images-idx3-ubyte` and one `train*labels-idx1-ubyte` (test: `t10k*`), each with or without
        `.gz`. A file of a part of the set, such as `t10k-even-images-idx3-ubyte.gz`, will do.

    Raises:
        FileNotFoundError: no such file (with the name that was looked for).
        FormatError: several files of one kind, a damaged one, or numbers that differ.
        UnknownName: no such split.
    """

    classes = tuple("0123456789")
    shape = (28, 28)
    sizes = {"train": 60_000, "test": 10_000}
    md5 = {"train": "6bbc9ace898e44ae57da46a324031adb", "test": "9fb629c4189551a2d022fa330f9573f3"}  # images, not gzipped
    licence = "CC BY-SA 3.0, as commonly stated"
    source = "Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits"

    def __init__(self, folder: str | os.PathLike, split: str) -> None:
        if split not in PREFIX:
            raise unknown(f"{type(self).__name__} split", str(split), PREFIX)
        images = read_idx(find(Path(folder), f"{PREFIX[split]}*images-idx3-ubyte"))
        labels = read_idx(find(Path(folder), f"{PREFIX[split]}*labels-idx1-ubyte"))
        if images.shape[1:] != self.shape or labels.shape != images.shape[:1]:
            raise FormatError(explain(f"{folder}: the files do not fit.", f"images {images.shape}   labels {labels.shape}"))
        super().__init__(images, labels, [f"{split}/{i}" for i in range(len(labels))])

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """Bars whose row tells the label, in noise: of the same shape and type, and easy to tell apart."""
        rng = np.random.default_rng(seed)
        labels, x = rng.integers(0, 10, count), rng.integers(0, 64, (count, *cls.shape), np.uint8)
        for picture, label in zip(x, labels, strict=True):
            picture[2 * label + 4 : 2 * label + 6, 4:24] = 255
        return cls.made(x, labels, [f"simulated/{seed}/{i}" for i in range(count)])


class FashionMNIST(MNIST):
    """Pictures of clothes in the files and shapes of MNIST."""

    classes = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    md5 = {"train": None, "test": None}  # not known to us
    licence = "MIT"
    source = "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017"


def find(folder: Path, pattern: str) -> Path:
    """The one file of a pattern, plain or gzipped."""
    if not folder.is_dir():
        raise FileNotFoundError(nothing_there("folder", folder, f"It must hold {pattern} or {pattern}.gz."))
    found = sorted({*folder.glob(pattern), *folder.glob(pattern + ".gz")})
    if not found:
        raise FileNotFoundError(explain(f"{folder} holds no {pattern}.", cure=f"Put {pattern} or {pattern}.gz there."))
    if len(found) > 1:
        raise FormatError(explain(f"{folder} holds several {pattern}.", *map(str, found), cure="Leave one of them."))
    return found[0]
