"""Labelled files of events: what all such data sets share, so that each of them is a page of facts.

A data set derives from `EventFiles`, states its facts, and says in `address` which path is which recording.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuro.datasets.archive import Archive
from neuro.datasets.downloads import Remote, download
from neuro.datasets.events import EVENT, Recording, Sensor
from neuro.datasets.reading import read_events
from neuro.datasets.unpacking import unpack
from neuro.errors import FormatError, ParameterError, explain, unknown

TWIN_EVENTS = 2000  # of a simulated recording


class EventFiles(Sequence):
    """The recordings of a folder, loose or in zips, read one at a time when asked for; any part of a set will do.

    split: one of `parts`, or None for all. Sets without an official split have no parts; theirs are in `splits`.
    names: `PART/.../CLASS/FILE`, sorted, the same on every machine. labels: known without reading.
    `__init__` does not download; `download` does. nested: what is downloaded is a zip that holds zips.

    Raises:
        FileNotFoundError: no such folder. FormatError: nothing fits, or on access a damaged file.
        UnknownName: no such split.
    """

    sensor: Sensor
    classes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    duration_us: int
    expected: str
    remotes: tuple[Remote, ...] = ()
    licence: str | None = None
    source: str
    nested = False

    def __init__(self, folder: str | os.PathLike, split: str | None = None) -> None:
        kind = type(self).__name__
        if split is not None and split not in self.parts:
            raise unknown(f"{kind} split", str(split), self.parts)
        self.archive: Archive | None = Archive(folder, self.address, self.expected)
        names = [n for n in self.archive.names if split in (None, n.split("/")[0])]
        if not names:
            there = sorted({n.split("/")[0] for n in self.archive.names})
            raise FormatError(explain(f"{kind}: {folder} holds no recordings of split {split!r}.", f"found: {there}"))
        self.keep(names)

    def keep(self, names: Sequence[str]) -> None:
        """Fill this object with recordings of these names."""
        self.names, self.seed = tuple(names), None
        self.labels = tuple(self.label_of(name) for name in self.names)

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """The name of the recording at a path, or None for what is no recording."""
        raise NotImplementedError

    @classmethod
    def label_of(cls, name: str) -> int:
        """The label that a name tells: its folder's place among the classes."""
        return cls.classes.index(name.split("/")[-2])

    @classmethod
    def decode(cls, data: bytes, name: str) -> np.ndarray:
        """The events in the bytes of one file."""
        return read_events(data, sensor=cls.sensor).events

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Recording:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: no recording {index} among {len(self)}")
        return Recording(self.events(index % len(self)), self.sensor, self.labels[index], self.names[index])

    def events(self, index: int) -> np.ndarray:
        """The events of one recording."""
        if self.archive is None:
            return spot(self.sensor, self.labels[index], len(self.classes), self.duration_us, [self.seed, index])
        return self.read(self.names[index])

    def read(self, name: str) -> np.ndarray:
        """The events of one file of the archive."""
        try:
            return self.decode(self.archive.read(name), name)
        except FormatError as error:
            raise FormatError(explain(f"{type(self).__name__}: {name} cannot be read.", *str(error).split("\n  "))) from error

    @classmethod
    def download(cls, folder: str | os.PathLike) -> list[Path]:
        """Get the files of the set (see `neuro.datasets.downloads.download`) and unpack tars and zips of zips; other zips are read as they are."""
        if not cls.remotes:
            raise ParameterError(explain(f"{cls.__name__}: no address is known to us.", cure=f"Expected in the folder: {cls.expected}."))
        paths = download(cls.remotes, folder)
        for path in paths:
            target = path.with_name(path.name.split(".")[0])
            if (cls.nested or path.name.endswith((".tar", ".tar.gz"))) and not target.exists():
                unpack(path, target)
        return paths

    @classmethod
    def twin_name(cls, index: int, label: int) -> str:
        """The name of a simulated recording; every fifth is of the last part."""
        part = f"{cls.parts[-1] if index % 5 == 4 else cls.parts[0]}/" if cls.parts else ""
        return f"{part}{cls.classes[label]}/{index}"

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """`count` recordings of a spot whose place tells the label, on the same sensor; recording i depends on (seed, i)."""
        if count < 1 or seed < 0:
            raise ParameterError(explain(f"{cls.__name__}.simulated: count from 1, seed from 0.", f"count={count}   seed={seed}"))
        new = cls.__new__(cls)
        new.archive, new.seed = None, seed
        new.labels = tuple(i % len(cls.classes) for i in range(count))
        new.names = tuple(cls.twin_name(i, label) for i, label in enumerate(new.labels))
        return new


def spot(sensor: Sensor, label: int, classes: int, duration_us: int, seed, on_only: bool = False) -> np.ndarray:
    """Events of a spot that drifts to the right from its label's place in a grid, among a tenth of noise."""
    rng = np.random.default_rng(seed)
    columns = classes if sensor.height == 1 else int(np.ceil(np.sqrt(classes)))
    rows = 1 if sensor.height == 1 else -(-classes // columns)
    centre = np.array([(label % columns + 0.3) / columns * sensor.width, (label // columns + 0.5) / rows * sensor.height])
    t = np.sort(rng.integers(0, duration_us, TWIN_EVENTS))
    drift = t / duration_us * 0.4 * sensor.width / columns
    x = centre[0] + drift + rng.normal(0, 0.1, TWIN_EVENTS) * sensor.width / columns
    y = centre[1] + rng.normal(0, 0.1, TWIN_EVENTS) * sensor.height / rows
    noise = rng.random(TWIN_EVENTS) < 0.1
    x = np.where(noise, rng.uniform(0, sensor.width, TWIN_EVENTS), x)
    y = np.where(noise, rng.uniform(0, sensor.height, TWIN_EVENTS), y)
    events = np.empty(TWIN_EVENTS, EVENT)
    events["x"], events["y"] = np.clip(x, 0, sensor.width - 1), np.clip(y, 0, sensor.height - 1)
    events["t"], events["p"] = t, np.ones(TWIN_EVENTS, bool) if on_only else rng.random(TWIN_EVENTS) < 0.5
    return events


def windows(t: np.ndarray, window_us: int, stride_us: int) -> list[tuple[int, int]]:
    """First and last + 1 event of every whole window [a, a + window_us), a = t[0], t[0] + stride_us, ...

    t: times in order, in microseconds. A window that reaches past the last event is left out.

    >>> windows(np.array([0, 10, 20, 30, 40]), 20, 20)
    [(0, 2), (2, 4)]
    """
    if window_us < 1 or stride_us < 1:
        raise ParameterError(explain("windows: window and stride are from 1 us.", f"window_us={window_us}   stride_us={stride_us}"))
    if not len(t):
        return []
    starts = np.arange(int(t[0]), int(t[-1]) - window_us + 1, stride_us)
    return list(zip(np.searchsorted(t, starts).tolist(), np.searchsorted(t, starts + window_us).tolist(), strict=True))
