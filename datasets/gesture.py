"""DVS128 Gesture: 11 gestures by 29 people under 3 lights; the recordings as published, or cut into samples."""

from __future__ import annotations

import io
import os
import re
from collections import OrderedDict

import numpy as np

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Sensor, check_events, make_events
from neuro.datasets.formats.npy import header
from neuro.datasets.recordings import EventFiles
from neuro.errors import FormatError, explain

FOLDER = re.compile(r"user(\d+)_(.+)")
FILE = re.compile(r"user(\d+)_(\w+)\.aedat")
TRAINED = range(1, 24)  # people 1 to 23 train, 24 to 29 test: trials_to_train.txt and trials_to_test.txt
CLASSES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip
SOURCE = "A. Amir et al., A Low Power, Fully Event-Based Gesture Recognition System, CVPR 2017"


class DVSGesture(EventFiles):
    """The samples of the release as arrays: `ibmGestureTrain/userNN_LIGHT/LABEL.npy`, [N, 4] of x, y, p, t in milliseconds.

    1077 train and 264 test recordings, by people: 1 to 23 train, 24 to 29 test. Another number of samples (1176 and
    288) comes from the recordings as published, `DVSGestureStreams`: scores of the two are not comparable.
    people: of each recording. Papers with 10 classes leave the last one out.
    """

    sensor = Sensor(128, 128)
    classes = CLASSES
    parts = ("train", "test")
    recordings = {"train": 1077, "test": 264}
    duration_us = 6_000_000  # typical; recordings are of any length
    expected = "ibmGestureTrain/userNN_LIGHT/LABEL.npy and ibmGestureTest/..., LABEL 0 to 10, loose or in zips"
    remotes = (
        Remote("ibmGestureTrain.tar.gz", "https://figshare.com/ndownloader/files/38022171", md5="3a8f0d4120a166bac7591f77409cb105"),
        Remote("ibmGestureTest.tar.gz", "https://figshare.com/ndownloader/files/38020584", md5="56070e45dadaa85fff82e0fbfbc06de5"),
    )
    licence = "CC BY 4.0, as stated for the original"
    source = SOURCE

    def keep(self, names) -> None:
        """Names, labels, and the people in the names."""
        super().keep(names)
        self.people = tuple(int(FOLDER.fullmatch(name.split("/")[1])[1]) for name in self.names)

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`train/user01_fluorescent/0.npy` for a path that ends in that folder of the release."""
        part = {"ibmGestureTrain": "train", "ibmGestureTest": "test"}.get(path[-3]) if len(path) > 2 else None
        fits = part and FOLDER.fullmatch(path[-2]) and re.fullmatch(r"([0-9]|10)\.npy", path[-1])
        return f"{part}/{path[-2]}/{path[-1]}" if fits else None

    @classmethod
    def label_of(cls, name: str) -> int:
        """The number that is the file's name."""
        return int(name.split("/")[-1][: -len(".npy")])

    @classmethod
    def twin_name(cls, index: int, label: int) -> str:
        """As the release calls them; every fifth is of a person of the test part."""
        return f"test/user24_led{index}/{label}.npy" if index % 5 == 4 else f"train/user01_led{index}/{label}.npy"

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """As `EventFiles.simulated`."""
        new = super().simulated(count, seed)
        new.people = tuple(int(FOLDER.fullmatch(name.split("/")[1])[1]) for name in new.names)
        return new

    @classmethod
    def decode(cls, data: bytes, name: str) -> np.ndarray:
        """Columns x, y, p, t; times become microseconds."""
        file = io.BytesIO(data)
        shape, fortran, dtype = header(file)
        if len(shape) != 2 or shape[1] != 4 or (fortran and shape[0] > 1) or dtype.names is not None:
            raise FormatError(explain("The array must be [N, 4].", f"{dtype} {list(shape)}"))
        if len(data) - file.tell() != shape[0] * 4 * dtype.itemsize:
            raise FormatError(explain("The array has another length than stated.", f"{len(data) - file.tell()} bytes for {list(shape)}"))
        x, y, p, t = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape).T
        if len(t) and (not np.isfinite(t).all() or np.abs(t).max() > 2**40):
            raise FormatError(explain("A time cannot be.", f"largest {np.abs(t).max()} ms"))
        return check_events(make_events(x, y, np.rint(t.astype(np.float64) * 1000), p), cls.sensor)


class DVSGestureStreams(EventFiles):
    """The recordings as published, `userNN_LIGHT.aedat` (AEDAT 3.1) with `userNN_LIGHT_labels.csv`, cut where the labels say.

    A row of the labels is `class,startTime_usec,endTime_usec`, classes from 1; a sample is [start, end). With the
    official people this gives 1176 train and 288 test samples. The last four streams stay in memory.
    """

    sensor = Sensor(128, 128)
    classes = CLASSES
    parts = ("train", "test")
    recordings = {"train": 1176, "test": 288}
    duration_us = 6_000_000
    expected = "userNN_LIGHT.aedat with userNN_LIGHT_labels.csv, loose or in zips"
    remotes = (Remote("DvsGesture.tar.gz", None),)
    licence = "CC BY 4.0, as commonly stated"
    source = SOURCE

    def __init__(self, folder: str | os.PathLike, split: str | None = None) -> None:
        super().__init__(folder, split)
        self.streams, self.recent = self.names, OrderedDict()
        streams = [name for name in self.streams if name.endswith(".aedat")]
        self.rows = [(name, *row) for name in streams for row in self.cuts(name)]
        self.names = tuple(f"{name}/{k}" for name in streams for k in range(sum(row[0] == name for row in self.rows)))
        self.labels = tuple(row[1] for row in self.rows)
        self.people = tuple(int(FILE.fullmatch(row[0].split("/")[1])[1]) for row in self.rows)
        if not self.rows:
            raise FormatError(explain(f"DVSGestureStreams: {folder} holds labels of no stream.", cure=f"Expected: {self.expected}."))

    def keep(self, names) -> None:
        """Streams and tables of labels; samples are made from them."""
        self.names, self.seed, self.labels = tuple(names), None, ()

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`train/userNN_LIGHT.aedat`, the part by the person, or the same for a table of labels."""
        found = FILE.fullmatch(path[-1].replace("_labels.csv", ".aedat"))
        return f"{'train' if int(found[1]) in TRAINED else 'test'}/{path[-1]}" if found else None

    def cuts(self, name: str) -> list[tuple[int, int, int]]:
        """(label, start, end) of each sample of a stream."""
        table = name.replace(".aedat", "_labels.csv")
        if table not in self.streams:
            raise FormatError(explain(f"DVSGestureStreams: {name} has no table of labels.", cure=f"Put {table.split('/')[1]} beside it."))
        lines = self.archive.read(table).decode("utf-8", "replace").split()
        rows = [re.fullmatch(r"(\d{1,2}),(\d{1,15}),(\d{1,15})", line) for line in lines[1:]]
        if not all(r and 1 <= int(r[1]) <= len(CLASSES) and int(r[2]) < int(r[3]) for r in rows):
            bad = next(line for line, r in zip(lines[1:], rows, strict=True) if not (r and 1 <= int(r[1]) <= 11 and int(r[2]) < int(r[3])))
            raise FormatError(explain(f"DVSGestureStreams: {table} has a row that is no sample.", repr(bad)))
        return [(int(r[1]) - 1, int(r[2]), int(r[3])) for r in rows]

    def events(self, index: int) -> np.ndarray:
        """The events of one sample; times from its start."""
        if self.archive is None:
            return super().events(index)
        name, _, start, end = self.rows[index]
        if name not in self.recent:
            self.recent[name] = self.read(name)
            if len(self.recent) > 4:
                self.recent.popitem(last=False)
        events = self.recent[name]
        first, last = np.searchsorted(events["t"], [start, end])
        cut = events[first:last].copy()
        cut["t"] -= start
        return cut

    @classmethod
    def twin_name(cls, index: int, label: int) -> str:
        """As the streams are called."""
        return f"test/user24_led.aedat/{index}" if index % 5 == 4 else f"train/user01_led.aedat/{index}"

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """As `EventFiles.simulated`."""
        new = super().simulated(count, seed)
        new.people = tuple(24 if name.startswith("test") else 1 for name in new.names)
        return new
