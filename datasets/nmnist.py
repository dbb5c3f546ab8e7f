"""N-MNIST: 70 000 recordings of handwritten digits on a monitor, before an event camera that makes three saccades."""

from __future__ import annotations

import os
from collections.abc import Sequence

from neuro.datasets.archive import Archive
from neuro.datasets.events import Recording, Sensor
from neuro.datasets.formats.nmnist import read_nmnist
from neuro.errors import FormatError, explain, unknown

SPLITS = ("test", "train")
EXPECTED = "SPLIT/LABEL/SAMPLE.bin, loose or in zips, where SPLIT is train or test and LABEL is 0 to 9"


class NMNIST(Sequence):
    """The recordings of a folder, read one at a time when asked for; any part of the set will do.

    folder: holds `train/LABEL/SAMPLE.bin` and `test/LABEL/SAMPLE.bin` (or `.bs2`, or `Train`, `Test`) as loose files, in
        zips, or both, at any depth; it may also be the `train` folder itself. Nothing is downloaded or extracted.
    split: "train", "test", or None for both.
    names: the address of each recording, such as `train/5/00001.bin`; sorted, the same on every machine.
    labels: of each recording, known without reading it.

    Raises:
        FormatError: nothing fits (with what was found), or on access a damaged file.
        UnknownName: no such split.
    """

    sensor = Sensor(34, 34)
    classes = tuple("0123456789")
    duration_us = 340_000  # the longest of the 900 recordings checked ends at 336 040 us
    recordings = {"train": 60_000, "test": 10_000}  # of the whole set
    licence = "CC BY-SA 4.0"
    source = (
        "G. Orchard, A. Jayawant, G. Cohen, N. Thakor, Converting Static Image Datasets to Spiking Neuromorphic "
        "Datasets Using Saccades, Frontiers in Neuroscience 9:437, 2015"
    )

    def __init__(self, folder: str | os.PathLike, split: str | None = None) -> None:
        if split is not None and split not in SPLITS:
            raise unknown("N-MNIST split", str(split), SPLITS)
        self.archive = Archive(folder, address, EXPECTED)
        self.names = tuple(n for n in self.archive.names if split in (None, n.split("/")[0]))
        self.labels = tuple(int(n.split("/")[1]) for n in self.names)
        if not self.names:
            there = sorted({n.split("/")[0] for n in self.archive.names})
            raise FormatError(explain(f"NMNIST: {folder} holds no recordings of split {split!r}.", f"found: {there}"))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Recording:
        name = self.names[index]
        if self.archive is None:
            return Recording(self.twin[range(len(self))[index]].events, self.sensor, self.labels[index], name)
        events = read_nmnist(self.archive.read(name), sensor=self.sensor, name=name)
        return Recording(events, self.sensor, self.labels[index], name)

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """`count` recordings of simulated digits, three saccades each; recording i depends on (seed, i), every fifth tests."""
        from neuro.datasets.mnist import MNIST
        from neuro.datasets.saccades import AS_NMNIST, SaccadeRecordings

        digits = MNIST.simulated(count, seed)
        new = cls.__new__(cls)
        new.archive, new.labels = None, digits.labels
        new.twin = SaccadeRecordings(digits.x, digits.labels, seed, path=AS_NMNIST)
        new.names = tuple(f"{SPLITS[i % 5 != 4]}/{label}/{i}.bin" for i, label in enumerate(new.labels))
        return new


def address(parts: tuple[str, ...]) -> str | None:
    """`train/5/00001.bin` for a path that ends so, in any case of letters of the split; None for another path."""
    if len(parts) < 3:
        return None
    split, label, file = parts[-3].lower(), parts[-2], parts[-1]
    fits = split in SPLITS and label in NMNIST.classes and file.lower().endswith((".bin", ".bs2"))
    return f"{split}/{label}/{file}" if fits else None
