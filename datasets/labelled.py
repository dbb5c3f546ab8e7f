"""Recordings in folders that are their labels: .../LABEL/SAMPLE in any format of events, loose or in zips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from neuro.datasets.archive import Archive
from neuro.datasets.events import Recording, Sensor
from neuro.datasets.opening import BY_SUFFIX, recognised
from neuro.datasets.reading import WRITERS, read_events
from neuro.errors import FormatError, explain

SUFFIXES = frozenset({*WRITERS, *BY_SUFFIX, ".aedat2", ".evt2", ".evt21", ".bag", ".mat", ".tsv"})  # whose content then decides
UNMARKED = frozenset({".txt", ".csv", ".tsv"})  # may as well be notes: taken where their lines are events
LAYOUT = "LABEL/SAMPLE.bin or of another format of events, loose or in zips"


def is_recording(name: str) -> bool:
    """Whether a file of this name is taken for a recording.

    >>> [is_recording(name) for name in ("00012.bin", "hand.RAW", "walk.aedat4", "labels.json")]
    [True, True, True, False]
    """
    return Path(name).suffix.lower() in SUFFIXES


def decoded(source: Path | bytes, name: str, sensor: Sensor | None) -> np.ndarray:
    """The events of a file, or of its bytes, whose name tells the format where the content does not.

    Raises:
        FormatError: no format of ours, damage, or events off the sensor; with the name.
    """
    try:
        format = "" if isinstance(source, Path) or not source else recognised(np.frombuffer(source, np.uint8), Path(name)).__name__.rpartition(".")[2]
        file = read_events(source, sensor=sensor, format=format, damaged="prefix")
    except FormatError as error:
        raise FormatError(explain(f"{name} cannot be read.", *str(error).split("\n  "))) from error
    if file.fault:
        cure = "The recording is of another sensor than the one asked for." if "outside the sensor" in file.fault else "Get the file again, or leave it out."
        raise FormatError(explain(f"{name} is damaged.", f"{file.format}: {file.fault}", cure=cure))
    return file.events


def found(folder: str | PathLike, split: str | None, is_label: Callable[[str], bool], expected: str) -> tuple[Archive, list[str]]:
    """The recordings under a folder whose label fits: `.../LABEL/SAMPLE`. split: only those whose folder above LABEL has this name."""

    def address(parts: tuple[str, ...]) -> str | None:
        fits = len(parts) >= 2 and is_label(parts[-2]) and is_recording(parts[-1])
        kept = split is None or (len(parts) >= 3 and parts[-3].lower() == split.lower())
        return "/".join(parts) if fits and kept else None

    archive = Archive(folder, address, expected)
    names = [name for name in archive.names if Path(name).suffix.lower() not in UNMARKED or _is_text_of_events(archive, name)]
    if not names:
        raise FormatError(explain(f"{folder} holds no recordings.", f"found: text that is no events, such as {archive.names[0]}", cure=f"Expected: {expected}."))
    return archive, names


def _is_text_of_events(archive: Archive, name: str) -> bool:
    from neuro.datasets.formats import text

    data = np.frombuffer(archive.read(name), np.uint8)
    return bool(len(data)) and text.recognise(data)


def labels_in(folder: str | PathLike, split: str | None = None) -> set[str]:
    """The LABELs of a folder: every folder that holds a recording. Raises as `Labelled`."""
    _, names = found(folder, split, lambda label: True, f"{split or '...'}/{LAYOUT}")
    return {name.split("/")[-2] for name in names}


class Labelled(Sequence):
    """The recordings of a folder that holds .../LABEL/SAMPLE, loose or in zips, at any depth, in any format that `read_events` knows.

    Args:
        folder: searched with all its subfolders and zips.
        classes: the names that LABEL may have.
        sensor: of all recordings.
        split: keep only those whose folder above LABEL has this name, in any case of letters.

    Raises:
        FileNotFoundError: no such folder. FormatError: nothing fits, or on access a damaged file.
    """

    def __init__(self, folder: str | PathLike, classes: Sequence[str], sensor: Sensor, split: str | None = None):
        self.classes, self.sensor = list(classes), sensor
        expected = f"{split or '...'}/{LAYOUT}, where LABEL is one of {', '.join(self.classes)}"
        self.archive, self.names = found(folder, split, lambda label: label in self.classes, expected)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Recording:
        name = self.names[index]
        path, member = self.archive.places[name]
        events = decoded(path if member is None else self.archive.read(name), name, self.sensor)
        return Recording(events, self.sensor, self.classes.index(name.split("/")[-2]), name)
