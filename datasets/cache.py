"""Recordings or frames kept ready on the disk: one file, read through the memory map, checked by checksums.

The name of the file is a hash of what is in it: the data set, the transform, and the versions of this format and of
neuro. So another transform never meets an old file. The file is written under another name and renamed when complete, so
any number of processes may build or read it at once, and no reader sees half of it.

Layout: MAGIC; the samples' bytes, one after another; the index (a row of `ROW` for each sample); the names as JSON; a
tail (`TAIL`) with the places of both and their checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO

import numpy as np
import torch

from neuro.datasets.events import EVENT, Recording, Sensor
from neuro.datasets.loading import EventFrames, Sample
from neuro.errors import FormatError, ParameterError, explain
from neuro.files import replacing

VERSION = 1
MAGIC = b"neuro cache 1\n"
RAW, BITS, BYTES = 0, 1, 2  # as it is; values 0 and 1 as bits; integers 0 to 255 as bytes
DIMS = 5
ROW = np.dtype([
    ("offset", "<i8"), ("bytes", "<i8"), ("crc", "<u4"), ("label", "<i8"), ("coding", "u1"), ("ndim", "u1"),
    ("shape", "<i8", (DIMS,)), ("dtype", "S8"), ("height", "<i4"), ("width", "<i4"),
])  # fmt: skip
TAIL = np.dtype([("index", "<i8"), ("samples", "<i8"), ("names", "<i8"), ("names_bytes", "<i8"), ("crc", "<u4")])


class CachedRecordings(Sequence):
    """Recordings of a cache file, read when asked for; takes the place of the data set that it was made from."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.store.names)

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(self.store.index["label"].tolist())

    def __len__(self) -> int:
        return len(self.store.index)

    def __getitem__(self, i: int) -> Recording:
        if not -len(self) <= i < len(self):
            raise IndexError(f"CachedRecordings: no recording {i} among {len(self)}")
        row = self.store.index[i]
        sensor = Sensor(int(row["height"]), int(row["width"]))
        return Recording(self.store.array(i), sensor, int(row["label"]), self.store.names[i])


class CachedFrames(torch.utils.data.Dataset):
    """Frames of a cache file as samples, for `collate`; a key is an index or (epoch, index), as for `EventFrames`."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)

    def __len__(self) -> int:
        return len(self.store.index)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        x, label = self.counted(key)
        return Sample(torch.from_numpy(x.astype(np.float32, copy=False)), label)

    def counted(self, key: int | tuple[int, int]) -> tuple[np.ndarray, int]:
        """Frames in the type that they were made in, and the label."""
        i = key[1] if isinstance(key, tuple) else key
        if not 0 <= i < len(self):
            raise IndexError(f"CachedFrames: no sample {i} among {len(self)}")
        return self.store.array(i), int(self.store.index[i]["label"])


def cache_recordings(recordings: Sequence[Recording], folder: str | Path, identity: str) -> CachedRecordings:
    """The recordings, from the cache file in `folder`, which is made first where it is missing.

    identity: names the data: data set, version and split, for example "nmnist train 2015-11-13". Two different data
        sets under one identity are not told apart, except by their number of recordings.

    Raises:
        FormatError: the file is damaged; it is not made anew in silence.
        WriteError: the file cannot be written.
    """
    path = Path(folder) / f"{key_of(identity, len(recordings), 'events')}.cache"
    if not path.exists():
        build(path, ((r.events, r) for r in recordings))
    return CachedRecordings(path)


def cache_files(recordings: Sequence[Recording], folder: str | Path | None = None) -> CachedRecordings:
    """A data set that reads files, such as `NMNIST`, from the cache; another after a file was replaced or written to.

    folder: by default `cache_folder()`. 13 bytes an event are kept.

    Raises:
        ParameterError: the data set has no files.
        FormatError, WriteError: as for `cache_recordings`.
    """
    kind, archive = type(recordings), getattr(recordings, "archive", None)
    if archive is None or not set(recordings.names) <= set(archive.places):  # windows of a file have names of their own
        raise ParameterError(explain(f"cache_files: {kind.__name__} reads no files, or parts of them.", cure="Use cache_recordings with a name of your own."))
    identity = f"{kind.__module__}.{kind.__qualname__} {archive.stamp(recordings.names)}"
    return cache_recordings(recordings, cache_folder() if folder is None else folder, identity)


def cache_folder() -> Path:
    """Where caches lie: the folder that NEURO_CACHE names, or `neuro` in the user's folder of caches."""
    if named := os.environ.get("NEURO_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuro"


def cache_frames(data: EventFrames, folder: str | Path, identity: str) -> CachedFrames:
    """The frames of `data`, from the cache file in `folder`, which is made first where it is missing.

    identity: as for `cache_recordings`. The transform is known by its repr. Values are kept as bits or bytes where they
    fit and come back as they were.

    Raises:
        ParameterError: `data` augments: each epoch would get the same draws. Cache the recordings instead.
        FormatError, WriteError: as for `cache_recordings`.
    """
    if data.augment is not None:
        cure = "Cache the recordings, and augment what comes out."
        raise ParameterError(explain("cache_frames: augmented frames are not kept.", repr(data.augment), cure=cure))
    path = Path(folder) / f"{key_of(identity, len(data), transform_of(data.frames))}.cache"
    if not path.exists():
        build(path, ((data.frames(r.events, r.sensor), r) for r in items(data.recordings)))
    return CachedFrames(path)


def key_of(identity: str, samples: int, transform: str) -> str:
    """The name of a cache file: 32 hex digits."""
    versions = [VERSION, version("neuro-snn")]  # a later neuro may mean something else by the same transform
    content = {"versions": versions, "identity": identity, "samples": samples, "transform": transform}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def transform_of(frames: Callable) -> str:
    """The repr of a transform, which must say all that it depends on."""
    shown = repr(frames)
    if " at 0x" in shown:
        cure = "Use a frozen dataclass, as those of neuro.datasets are, so that its repr names its choices."
        act = "cache_frames: the transform is known only by its place in memory."
        raise ParameterError(explain(act, shown, cure=cure))
    return shown


def items(recordings: Sequence[Recording]) -> Iterable[Recording]:
    """The recordings by index, as sequences that do not end in IndexError need."""
    return (recordings[i] for i in range(len(recordings)))


def build(path: Path, samples: Iterable[tuple[np.ndarray, Recording]]) -> None:
    """Write a cache file; nothing is at `path` before it is complete."""
    rows, names = [], []
    with replacing(path) as file:
        file.write(MAGIC)
        for array, recording in samples:
            rows.append(put(file, array, recording))
            names.append(recording.name)
        index, text = np.array(rows, ROW).tobytes(), json.dumps(names).encode()
        place = file.tell()
        tail = (place, len(rows), place + len(index), len(text), zlib.crc32(index + text))
        file.write(index + text + np.array(tail, TAIL).tobytes())


def put(file: IO[bytes], array: np.ndarray, recording: Recording) -> tuple:
    """Write one array at the end of the file; its row of the index."""
    if array.ndim > DIMS or (array.dtype != EVENT and array.dtype.kind not in "buif"):
        raise ParameterError(explain(f"cache: cannot keep an array {array.dtype} {list(array.shape)}."))
    coding, data = coded(array)
    data = data.tobytes()
    offset = file.tell()
    file.write(data)
    shape = (*array.shape, *[0] * (DIMS - array.ndim))
    kind = b"events" if array.dtype == EVENT else array.dtype.str.encode()
    label, sensor = recording.label, recording.sensor
    return offset, len(data), zlib.crc32(data), label, coding, array.ndim, shape, kind, sensor.height, sensor.width


def coded(array: np.ndarray) -> tuple[int, np.ndarray]:
    """The smallest coding that loses nothing, and the array in it."""
    if array.dtype == EVENT or not array.size or array.min() < 0 or array.max() > 255:
        return RAW, array
    if array.dtype.kind == "f" and np.signbit(array).any():  # a negative zero
        return RAW, array
    if array.max() <= 1 and (array.dtype.kind != "f" or ((array == 0) | (array == 1)).all()):
        return BITS, np.packbits(array.astype(bool).reshape(-1))
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        return RAW, array
    return BYTES, array.astype(np.uint8)


class Store:
    """An open cache file. Each sample's checksum is compared when this process first reads it.

    Raises:
        FormatError: not a cache file, cut off, or changed since it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.open()

    def open(self) -> None:
        """Map the file and read its index."""
        size = self.path.stat().st_size
        if size < len(MAGIC) + TAIL.itemsize:
            self.refuse(f"{size} bytes are too few")
        self.map = np.memmap(self.path, np.uint8, "r")
        tail = self.map[-TAIL.itemsize :].tobytes()
        tail = np.frombuffer(tail, TAIL)[0]
        index, names = int(tail["index"]), int(tail["names"])
        end = size - TAIL.itemsize
        sound = bytes(self.map[: len(MAGIC)]) == MAGIC and 0 <= index <= names <= end
        lengths = int(tail["samples"]) * ROW.itemsize, int(tail["names_bytes"])
        sound = sound and (names - index, end - names) == lengths
        if not sound or zlib.crc32(self.map[index:end]) != int(tail["crc"]):
            self.refuse("its index is damaged")
        self.index = np.frombuffer(self.map[index:names].tobytes(), ROW)
        self.names = json.loads(bytes(self.map[names:end]))
        self.good = np.zeros(len(self.index), bool)

    def array(self, i: int) -> np.ndarray:
        """One sample's array, as it was given; a copy that may be written to."""
        row = self.index[i]
        data = self.map[int(row["offset"]) : int(row["offset"] + row["bytes"])]
        if not self.good[i]:
            if len(data) != row["bytes"] or zlib.crc32(data) != int(row["crc"]):
                self.refuse(f"sample {i} is damaged")
            self.good[i] = True
        shape = tuple(row["shape"][: row["ndim"]].tolist())
        dtype = EVENT if row["dtype"] == b"events" else np.dtype(row["dtype"].decode())
        if row["coding"] == RAW:
            return np.frombuffer(data.tobytes(), dtype).reshape(shape).copy()
        if row["coding"] == BITS:
            count = int(np.prod(shape))
            return np.unpackbits(data, count=count).reshape(shape).astype(dtype)
        return data.reshape(shape).astype(dtype)

    def refuse(self, why: str) -> None:
        """Say that the file cannot be used."""
        act = f"The cache file cannot be used: {why}."
        raise FormatError(explain(act, str(self.path), cure="Delete it; it is made anew from the data."))

    def __getstate__(self) -> dict:
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        self.path = state["path"]
        self.open()
