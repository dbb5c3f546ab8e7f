"""Spikes of channels in HDF5: what SHD, SSC and N-TIDIGITS share. x is the channel, y is 0, all events are ON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuro.datasets.downloads import Remote, download
from neuro.datasets.events import Recording, Sensor, in_order, make_events
from neuro.datasets.formats.hdf5 import BROKEN
from neuro.datasets.recordings import spot
from neuro.datasets.unpacking import unpack
from neuro.errors import FormatError, ParameterError, explain, nothing_there, unknown

MOST_SPIKES = 10**7  # of one recording
MOST_SAMPLES = 10**7
LATEST_S = 3600.0
LONGEST_NAME = 256  # bytes


class SpikeFile(Sequence):
    """Recordings of one HDF5 file, read one at a time when asked for; the file is opened once per process.

    A set states its facts, the file of each part, and how labels and spikes lie in the file.

    Raises:
        FileNotFoundError: no such file. FormatError: damage, on opening or on access. UnknownName: no such split.
    """

    sensor: Sensor
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    duration_us = 1_000_000  # of a twin, and typical
    remotes: tuple[Remote, ...] = ()
    licence: str | None = None
    source: str

    def __init__(self, folder: str | os.PathLike, split: str) -> None:
        if split not in self.parts:
            raise unknown(f"{type(self).__name__} split", str(split), self.parts)
        self.path, self.split, self.seed = self.place(Path(folder), self.file_of(split)), split, None
        self.file, self.process = None, 0
        try:
            self.read_index()
        except FormatError:
            raise
        except BROKEN as error:
            raise self.damaged("its index", error) from error

    @classmethod
    def file_of(cls, split: str) -> str:
        """The file's name."""
        raise NotImplementedError

    def read_index(self) -> None:
        """Set `names` and `labels`."""
        raise NotImplementedError

    def columns(self, index: int) -> tuple:
        """The HDF5 arrays of times in seconds and channels of one recording."""
        raise NotImplementedError

    @classmethod
    def place(cls, folder: Path, name: str) -> Path:
        """Where the file lies below the folder."""
        cure = f"Put {name} there" + (f", or call {cls.__name__}.download({str(folder)!r})." if cls.remotes else ".")
        if not folder.is_dir():
            raise FileNotFoundError(nothing_there("folder", folder, cure))
        found = sorted(folder.rglob(name))
        if not found:
            raise FileNotFoundError(explain(f"{cls.__name__}: there is no {name} in {folder}.", cure=cure))
        if len(found) > 1:
            raise FormatError(explain(f"{folder} holds several {name}.", *map(str, found), cure="Leave one of them."))
        return found[0]

    def opened(self):
        """The open file of this process."""
        if self.file is None or self.process != os.getpid():
            import h5py

            try:
                self.file, self.process = h5py.File(self.path, "r"), os.getpid()
            except BROKEN as error:
                raise self.damaged("the file", error) from error
        return self.file

    def small(self, name: str, count: int | None = None) -> np.ndarray:
        """An array of the index, refused before it is read if it is larger than any index."""
        array = self.opened()[name]
        wrong = array.ndim != 1 or not 1 <= len(array) <= MOST_SAMPLES or array.dtype.itemsize > LONGEST_NAME
        if wrong or (count is not None and len(array) != count):
            raise FormatError(explain(f"{self.path}: {name} is no list of the samples.", f"{array.dtype} {list(array.shape)}"))
        return array[()]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Recording:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: no recording {index} among {len(self)}")
        index %= len(self)
        return Recording(self.events(index), self.sensor, self.labels[index], self.names[index])

    def events(self, index: int) -> np.ndarray:
        """The events of one recording, in order of time; spikes of one microsecond stay as they are stored."""
        if self.seed is not None:
            return spot(self.sensor, self.labels[index], len(self.classes), self.duration_us, [self.seed, index], on_only=True)
        try:
            times, channels = (np.asarray(c) for c in self.columns(index))
        except BROKEN as error:
            raise self.damaged(f"recording {index}", error) from error
        sound = times.ndim == channels.ndim == 1 and len(times) == len(channels) <= MOST_SPIKES
        if not sound or times.dtype.kind != "f" or channels.dtype.kind not in "iu":
            fact = f"times {times.dtype} {list(times.shape)}   channels {channels.dtype} {list(channels.shape)}"
            raise FormatError(explain(f"{self.path}: recording {index} is no pair of times and channels.", fact))
        if len(times) and not (np.isfinite(times).all() and 0 <= times.min() and times.max() <= LATEST_S):
            raise FormatError(explain(f"{self.path}: recording {index} has a time outside 0 to {LATEST_S} s.", f"{times.min()} to {times.max()}"))
        if len(channels) and not (0 <= channels.min() and channels.max() < self.sensor.width):
            fact = f"{channels.min()} to {channels.max()}"
            raise FormatError(explain(f"{self.path}: recording {index} has a channel outside 0 to {self.sensor.width - 1}.", fact))
        t = np.rint(times.astype(np.float64) * 1e6).astype(np.int64)
        return in_order(make_events(channels, np.zeros(len(t), int), t, np.ones(len(t), bool)))

    def damaged(self, what: str, error: Exception) -> FormatError:
        """The error for a file that HDF5 cannot read."""
        return FormatError(explain(f"{self.path}: {what} cannot be read.", f"{type(error).__name__}: {error}"[:300], cure="Get the file again."))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "file": None}  # open files stay in their process

    @classmethod
    def download(cls, folder: str | os.PathLike) -> list[Path]:
        """Get the files of all parts, and unpack those that are zips."""
        paths = download(cls.remotes, folder)
        for path in paths:
            if path.suffix == ".zip" and not (target := path.with_name(path.name.split(".")[0])).exists():
                unpack(path, target)
        return paths

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """`count` recordings of a band that drifts from its label's channels, on as many channels; (seed, i) decides."""
        if count < 1 or seed < 0:
            raise ParameterError(explain(f"{cls.__name__}.simulated: count from 1, seed from 0.", f"count={count}   seed={seed}"))
        new = cls.__new__(cls)
        new.path, new.file, new.split, new.seed = None, None, "simulated", seed
        new.labels = tuple(i % len(cls.classes) for i in range(count))
        new.names = tuple(f"simulated/{seed}/{i}" for i in range(count))
        new.speakers = tuple(i % 12 for i in range(count))
        return new
