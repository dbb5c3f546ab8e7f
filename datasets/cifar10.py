"""CIFAR-10: 60 000 colour pictures of 32 x 32 as static input; the binary version, or JPEGs of it in an npz.

The published Python version is pickled and is not read: unpickling runs what the file says.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuro.datasets.downloads import Remote, download
from neuro.datasets.examples import Examples
from neuro.datasets.npz import read_arrays
from neuro.datasets.unpacking import unpack
from neuro.errors import FormatError, explain, nothing_there, unknown

SHAPE = (3, 32, 32)
ROW = 1 + 3 * 32 * 32  # bytes of a picture: label, then red, green and blue, each row by row
FILES = {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)}
JPEG_LIMIT = 1 << 20  # bytes of one picture


class CIFAR10(Examples):
    """Pictures x [3, 32, 32] uint8 (red, green, blue) of one split: the binary version.

    folder: holds `data_batch_1.bin` to `data_batch_5.bin` (test: `test_batch.bin`), or `cifar-10-batches-bin` with them, at
        any depth that `download` makes. Training files that are missing are an error; a shorter file is a part of the set.

    Raises:
        FileNotFoundError: a file is missing. FormatError: a length that is no multiple of 3073, or a label above 9.
        UnknownName: no such split.
    """

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    shape = SHAPE
    sizes = {"train": 50_000, "test": 10_000}
    remotes = (
        Remote("cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", md5="c32a1d4ab5d03f1284b67883e8d87530"),
    )
    licence = None  # none is stated; free for research with citation
    source = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

    def __init__(self, folder: str | os.PathLike, split: str) -> None:
        known(type(self).__name__, split)
        parts = [read_binary(place(Path(folder), name)) for name in FILES[split]]
        labels, x = (np.concatenate(column) for column in zip(*parts, strict=True))
        super().__init__(x, labels, [f"{split}/{i}" for i in range(len(labels))])

    @classmethod
    def download(cls, folder: str | os.PathLike) -> list[Path]:
        """Get the binary version and unpack it into `folder/cifar-10-binary`."""
        (path,) = download(cls.remotes, folder)
        target = path.with_name("cifar-10-binary")
        if not target.exists():
            unpack(path, target, limit=2**30)
        return [path]

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """Bars whose row and colour tell the label, in noise."""
        rng = np.random.default_rng(seed)
        labels, x = rng.integers(0, 10, count), rng.integers(0, 64, (count, *SHAPE), np.uint8)
        for picture, label in zip(x, labels, strict=True):
            picture[label % 3, 3 * label : 3 * label + 3, 4:28] = 255
        return cls.made(x, labels, [f"simulated/{seed}/{i}" for i in range(count)])


class CIFAR10JPEG(CIFAR10):
    """The same pictures from JPEG files in an npz, decoded by Pillow when asked for; losses of JPEG stay in them.

    path: an npz with `data` (uint8, the files one after another), `offset` [N + 1] and `label` [N].
    split: only names the pictures; the file is one split.

    Accuracies are not those of the published pictures to the digit.

    Raises:
        FileNotFoundError: no such file. FormatError: arrays that do not fit; on access, no JPEG of 32 x 32.
    """

    remotes = ()

    def __init__(self, path: str | os.PathLike, split: str) -> None:
        known(type(self).__name__, split)
        data, offset, label = read_arrays(Path(path), ("data", "offset", "label"))
        whole = data.dtype == np.uint8 and data.ndim == offset.ndim == label.ndim == 1 and len(offset) == len(label) + 1
        whole = whole and offset.dtype.kind in "iu" and label.dtype.kind in "iu"
        if not whole or offset[0] < 0 or offset[-1] > len(data) or (offset[1:] < offset[:-1]).any():
            fact = f"data {data.dtype} {data.shape}   offset {offset.shape}   label {label.shape}"
            raise FormatError(explain(f"{path}: not JPEGs with their offsets and labels.", fact))
        Examples.__init__(self, Pictures(data, offset.astype(np.int64)), label, [f"{split}/{i}" for i in range(len(label))])

    @classmethod
    def download(cls, folder: str | os.PathLike) -> list[Path]:
        """There is no published file of this kind."""
        raise FileNotFoundError(explain("CIFAR10JPEG: no address is known to us.", cure="Use CIFAR10, the binary version."))


class Pictures(Sequence):
    """JPEGs in one array of bytes, as [3, 32, 32] uint8."""

    def __init__(self, data: np.ndarray, offset: np.ndarray) -> None:
        self.data, self.offset = data, offset

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return decode_jpeg(self.data[self.offset[index] : self.offset[index + 1]].tobytes(), f"picture {index}")


def decode_jpeg(data: bytes, name: str) -> np.ndarray:
    """[3, 32, 32] uint8 of the bytes of a JPEG. The size is looked at before anything is decoded."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(explain("CIFAR10JPEG: Pillow decodes the pictures.", cure="pip install pillow")) from error

    if len(data) > JPEG_LIMIT:
        raise FormatError(explain(f"{name} is no JPEG of 32 x 32.", f"{len(data)} bytes"))
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            if picture.size != SHAPE[1:]:
                raise FormatError(explain(f"{name} is no JPEG of 32 x 32.", f"its size is {picture.size}"))
            return np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
    except (OSError, SyntaxError, EOFError, IndexError) as error:
        raise FormatError(explain(f"{name} is no JPEG of 32 x 32, or is cut off.", f"{type(error).__name__}: {error}")) from error


def read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and pictures [N, 3, 32, 32] of one file of the binary version."""
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % ROW:
        raise FormatError(explain(f"{path} is no file of CIFAR-10's binary version.", f"{len(data)} bytes are no multiple of {ROW}"))
    rows = data.reshape(-1, ROW)
    if rows[:, 0].max() > 9:
        raise FormatError(explain(f"{path} has a label above 9.", f"row {int(rows[:, 0].argmax())}: {rows[:, 0].max()}"))
    return rows[:, 0], rows[:, 1:].reshape(-1, *SHAPE)


def place(folder: Path, name: str) -> Path:
    """Where a file lies below the folder."""
    if not folder.is_dir():
        raise FileNotFoundError(nothing_there("folder", folder, f"It must hold {name}."))
    found = sorted(folder.rglob(name))
    if not found:
        raise FileNotFoundError(explain(f"{folder} holds no {name}.", cure=f"Put it there, or call CIFAR10.download({str(folder)!r})."))
    if len(found) > 1:
        raise FormatError(explain(f"{folder} holds several {name}.", *map(str, found), cure="Leave one of them."))
    return found[0]


def known(kind: str, split: str) -> None:
    """Refuse another split than the two."""
    if split not in FILES:
        raise unknown(f"{kind} split", str(split), FILES)
