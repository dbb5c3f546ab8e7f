"""Prophesee's Gen1 and 1 Megapixel automotive sets: long recordings with boxes around what moves on the road."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuro.datasets.downloads import Remote
from neuro.datasets.events import Recording, Sensor
from neuro.datasets.formats.npy import header
from neuro.datasets.reading import iterate_events, read_events
from neuro.datasets.recordings import spot
from neuro.errors import FormatError, ParameterError, explain, nothing_there, unknown

BOX = np.dtype([("t", "<i8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("label", "<i2"), ("track", "<i8")])
NAMES = {"t": ("t", "ts"), "x": ("x",), "y": ("y",), "w": ("w",), "h": ("h",), "label": ("class_id",), "track": ("track_id",)}
EVENTS = ("_td.dat", "_td.h5", ".raw")
PIECE = 1 << 20


class Scene(NamedTuple):
    """A recording (label -1) and its boxes, an array of `BOX`: upper left corner and size in pixels."""

    recording: Recording
    boxes: np.ndarray


class Detection(Sequence):
    """Pairs `NAME_td.dat` (or `_td.h5`, `.raw`) and `NAME_bbox.npy` below `PART` folders, part train, val or test.

    An item reads a whole recording, of 60 s and up to gigabytes: `scenes(index, window_us)` gives it piece by piece.
    Boxes may reach past the sensor, as they are published. Papers leave small boxes and those of the first 0.5 s out:
    see `large`.

    Raises:
        FileNotFoundError: no such folder. FormatError: no pair, or on access damage. UnknownName: no such split.
    """

    sensor: Sensor
    classes: tuple[str, ...]
    parts = ("train", "val", "test")
    remotes: tuple[Remote, ...] = ()  # behind a form of the publisher
    licence: str | None = None  # terms of the publisher
    source: str
    duration_us = 60_000_000
    smallest: tuple[float, float]  # (diagonal, side) of a box that is judged, in pixels

    def __init__(self, folder: str | os.PathLike, split: str | None = None) -> None:
        kind, folder = type(self).__name__, Path(folder)
        if split is not None and split not in self.parts:
            raise unknown(f"{kind} split", str(split), self.parts)
        if not folder.is_dir():
            raise FileNotFoundError(nothing_there("folder", folder, "Expected: PART/NAME_td.dat with PART/NAME_bbox.npy."))
        self.pairs = []
        for boxes in sorted(folder.rglob("*_bbox.npy")):
            if split is not None and boxes.parent.name != split:
                continue
            stem = boxes.name.removesuffix("_bbox.npy")
            events = [p for end in EVENTS if (p := boxes.with_name(stem + end)).is_file()]
            if len(events) != 1:
                raise FormatError(explain(f"{kind}: {boxes} has {len(events)} recordings.", cure=f"Put one of {', '.join(stem + e for e in EVENTS)} beside it."))
            self.pairs.append((events[0], boxes))
        if not self.pairs:
            raise FormatError(explain(f"{kind}: {folder} holds no NAME_bbox.npy of split {split!r}.", cure="Expected: PART/NAME_td.dat with PART/NAME_bbox.npy."))
        self.names, self.seed = tuple(str(e.relative_to(folder)) for e, _ in self.pairs), None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Scene:
        index = self.checked(index)
        if self.seed is not None:
            events = spot(self.sensor, index % len(self.classes), len(self.classes), self.duration_us, [self.seed, index])
        else:
            events = read_events(self.pairs[index][0], sensor=self.sensor).events
        return Scene(Recording(events, self.sensor, name=self.names[index]), self.boxes(index))

    def checked(self, index: int) -> int:
        """An index from 0."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: no recording {index} among {len(self)}")
        return index % len(self)

    def boxes(self, index: int) -> np.ndarray:
        """The boxes of one recording, in order of time."""
        index = self.checked(index)
        if self.seed is None:
            return read_boxes(self.pairs[index][1], len(self.classes))
        rng, found = np.random.default_rng([self.seed, index, 1]), np.zeros(20, BOX)
        found["t"], found["label"], found["track"] = np.arange(1, 21) * (self.duration_us // 21), index % len(self.classes), 0
        for side, corner, most in (("w", "x", self.sensor.width), ("h", "y", self.sensor.height)):
            found[side] = rng.uniform(0.05, 0.3, 20) * most
            found[corner] = rng.uniform(0, 1, 20) * (most - found[side])
        return found

    def scenes(self, index: int, window_us: int) -> Iterator[Scene]:
        """The recording as half-open windows [k, k + 1) * window_us of its clock, with the boxes in each.

        Memory does not grow with the file. Windows are given from 0 to the last event, also empty ones.
        """
        if window_us < 1:
            raise ParameterError(explain("scenes: windows are from 1 us.", f"window_us={window_us}"))
        index = self.checked(index)
        boxes, held, start = self.boxes(index), [], 0
        for piece in self.pieces(index):
            while len(piece):
                end = int(np.searchsorted(piece["t"], start + window_us))
                held.append(piece[:end])
                piece = piece[end:]
                if len(piece):
                    yield self.scene(index, held, boxes, start, window_us)
                    held, start = [], start + window_us
        if held:
            yield self.scene(index, held, boxes, start, window_us)

    def pieces(self, index: int) -> Iterator[np.ndarray]:
        """The events of a recording in arrays of bounded size."""
        if self.seed is not None:
            yield self[index].recording.events
        else:
            yield from iterate_events(self.pairs[index][0], PIECE, sensor=self.sensor)

    def scene(self, index: int, held: list[np.ndarray], boxes: np.ndarray, start: int, window_us: int) -> Scene:
        """One window."""
        first, last = np.searchsorted(boxes["t"], [start, start + window_us])
        return Scene(Recording(np.concatenate(held), self.sensor, name=f"{self.names[index]}/{start}"), boxes[first:last])

    def large(self, boxes: np.ndarray) -> np.ndarray:
        """The boxes that the publisher's evaluation judges: after 0.5 s, with a large enough diagonal and sides."""
        diagonal, side = self.smallest
        kept = (boxes["t"] >= 500_000) & (np.hypot(boxes["w"], boxes["h"]) >= diagonal) & (boxes["w"] >= side) & (boxes["h"] >= side)
        return boxes[kept]

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """`count` recordings of a drifting spot, with 20 random boxes each."""
        if count < 1 or seed < 0:
            raise ParameterError(explain(f"{cls.__name__}.simulated: count from 1, seed from 0.", f"count={count}   seed={seed}"))
        new = cls.__new__(cls)
        new.pairs, new.seed, new.names = [], seed, tuple(f"simulated/{seed}/{i}" for i in range(count))
        return new


class Gen1(Detection):
    """Gen1 automotive detection: 39 hours before a GEN1 sensor."""

    sensor = Sensor(240, 304)
    classes = ("car", "pedestrian")
    smallest = (30.0, 10.0)
    source = "P. de Tournemire, D. Nitti, E. Perot, D. Migliore, A. Sironi, A Large Scale Event-based Detection Dataset for Automotive, arXiv:2001.08499, 2020"


class OneMegapixel(Detection):
    """1 Megapixel automotive detection: 14 hours at 1280 x 720. Papers judge the first three classes."""

    sensor = Sensor(720, 1280)
    classes = ("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light")
    smallest = (60.0, 20.0)
    source = "E. Perot, P. de Tournemire, D. Nitti, J. Masci, A. Sironi, Learning to Detect Objects with a 1 Megapixel Event Camera, NeurIPS 2020"


def read_boxes(path: Path, classes: int) -> np.ndarray:
    """Boxes of a structured npy file with t (or ts), x, y, w, h, class_id and perhaps track_id; nothing is unpickled."""
    with path.open("rb") as file:
        shape, _, dtype = header(file)
        names = {axis: next((n for n in known if n in (dtype.names or ())), None) for axis, known in NAMES.items()}
        if len(shape) != 1 or any(name is None for axis, name in names.items() if axis != "track"):
            raise FormatError(explain(f"{path} is no table of boxes.", f"{dtype} {list(shape)}"[:300]))
        if path.stat().st_size - file.tell() != shape[0] * dtype.itemsize:
            raise FormatError(explain(f"{path} has another length than it states.", f"{path.stat().st_size - file.tell()} bytes for {shape[0]} boxes"))
        rows = np.fromfile(file, dtype)
    boxes = np.zeros(len(rows), BOX)
    for axis, name in names.items():
        if name is not None:
            boxes[axis] = rows[name]
    label = np.asarray(rows[names["label"]], np.int64)
    finite = all(np.isfinite(boxes[axis]).all() for axis in "xywh")
    if not finite or (len(label) and not (0 <= label.min() and label.max() < classes)):
        fact = f"classes {np.unique(label)[:20].tolist()} of 0 to {classes - 1}   finite: {finite}"
        raise FormatError(explain(f"{path}: a box has no class or no place.", fact))
    return boxes[np.argsort(boxes["t"], kind="stable")]
