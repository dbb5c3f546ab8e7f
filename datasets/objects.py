"""Objects on a turntable before a DVS128 on two days: streams of 15 to 36 s, cut into windows."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from neuro.datasets.events import Sensor
from neuro.datasets.recordings import EventFiles, windows
from neuro.datasets.splits import Split, by_group
from neuro.errors import FormatError, explain


class DVSObjects(EventFiles):
    """Windows of `PART/CLASS__NAME.aedat` (AEDAT 2), part train or valid; the streams (13 bytes an event) stay in memory.

    window_us, stride_us: of the half-open windows from each stream's first event; a last one that is cut off is left out.
    days: of each window, from `recordings.json` in the folder ("file" and "recorded_on"); "" where it does not say.
    streams: number of the stream of each window. Windows of one stream must not be divided between training and test.

    Raises:
        FormatError: as `EventFiles`, or no whole window.
    """

    sensor = Sensor(128, 128)
    classes = ("box", "mug", "cube", "box_cutter", "mechanical_pencil", "scissors", "mouse")
    parts = ("train", "valid")
    duration_us = 100_000
    expected = "PART/CLASS__NAME.aedat, loose or in zips, where PART is train or valid and CLASS is box, mug, ..."
    licence = None  # none is stated
    source = "Biomedical Engineering Laboratory, Federal University of Uberlandia: github.com/eduardoborgesgouveia/DVS128_BioLab"

    def __init__(self, folder: str | os.PathLike, split: str | None = None, window_us: int = 100_000, stride_us: int | None = None) -> None:
        super().__init__(folder, split)
        stride = window_us if stride_us is None else stride_us
        stated = stated_days(Path(folder))
        stream_names, self.held, rows = self.names, [], []
        for k in range(len(stream_names)):
            events = super().events(k)
            events.flags.writeable = False
            self.held.append(events)
            cuts = windows(events["t"], window_us, stride)
            rows += [(k, a, b, int(events["t"][0]) + i * stride) for i, (a, b) in enumerate(cuts)]
        if not rows:
            raise FormatError(explain(f"DVSObjects: {folder} holds no whole window.", f"window_us={window_us}"))
        self.rows, self.streams = rows, tuple(row[0] for row in rows)
        self.stream_names = stream_names
        self.days = tuple(stated.get(stream_names[k], "") for k in self.streams)
        self.names = tuple(f"{stream_names[k]}/{a}" for k, a, *_ in rows)
        self.labels = tuple(self.label_of(stream_names[k]) for k in self.streams)
        self.duration_us = window_us

    @classmethod
    def address(cls, path: tuple[str, ...]) -> str | None:
        """`train/box__Caixa.aedat` for a path that ends so."""
        if len(path) < 2 or path[-2] not in cls.parts or not path[-1].endswith(".aedat"):
            return None
        return "/".join(path[-2:]) if path[-1].split("__")[0] in cls.classes else None

    @classmethod
    def label_of(cls, name: str) -> int:
        """The class before the two underscores."""
        return cls.classes.index(name.split("/")[1].split("__")[0])

    @classmethod
    def twin_name(cls, index: int, label: int) -> str:
        """As the files are called."""
        return f"{cls.parts[index % 5 == 4]}/{cls.classes[label]}__{index}.aedat/0"

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """As `EventFiles.simulated`; each window is a stream of its own, on one of two days."""
        new = super().simulated(count, seed)
        new.streams, new.stream_names = tuple(range(count)), new.names
        new.days = tuple("day 2" if name.startswith("valid") else "day 1" for name in new.names)
        return new

    def events(self, index: int):
        """The events of one window; times from its start, 0 to window_us."""
        if self.archive is None:
            return super().events(index)
        stream, start, stop, from_us = self.rows[index]
        events = self.held[stream][start:stop].copy()
        events["t"] -= from_us
        return events

    def across_days(self) -> Split:
        """Train on the part `train`, test on the part `valid`: other streams, mostly of another day."""
        return by_group("valid streams", [name.split("/")[0] for name in self.names], ["valid"])

    def unseen_streams(self, held_out: Sequence[str]) -> Split:
        """Test on the windows of these streams (of `stream_names`), train on all others."""
        return by_group("unseen streams", [self.stream_names[k] for k in self.streams], held_out)


def stated_days(folder: Path) -> dict[str, str]:
    """The day of each file as `recordings.json` states it; nothing without that file."""
    path = folder / "recordings.json"
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {str(row["file"]): str(row["recorded_on"]) for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(explain(f"{path} is no list of files with days.", f"{type(error).__name__}: {error}")) from error
