"""Event files: recognised by content, read whole or piece by piece, and written.

`read_events(path)` gives an `EventFile`; `iterate_events(path)` gives arrays of events at bounded memory;
`write_events(path, events, sensor)` writes the format that the suffix names. Each format is described in its module under
`neuro.datasets.formats`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np

from neuro.datasets.events import Sensor, check_events, describe
from neuro.datasets.formats.block import NO_EVENTS, Head
from neuro.errors import FormatError, ParameterError, explain

FORMATS = ("aedat2", "aedat3", "evt2", "evt21", "evt3", "dat")
WRITERS = {".aedat": "aedat2", ".aedat3": "aedat3", ".raw": "evt2", ".evt3": "evt3", ".dat": "dat", ".bin": "nmnist", ".bs2": "nmnist"}
PIECE = 1 << 18  # events or words decoded at a time

Damaged = Literal["refuse", "prefix"]


@dataclass(frozen=True, eq=False)
class EventFile:
    """What a file holds. `others` counts what is no event (triggers, frames, invalid events).

    `fault` is what ended the reading where damage was allowed; nothing after it is in `events`.
    `sensor_stated` is False where the file does not give its size and the sensor is just large enough for the events.
    """

    events: np.ndarray = field(repr=False)
    sensor: Sensor
    sensor_stated: bool
    format: str
    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    others: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""

    def __str__(self) -> str:
        span = f", {self.events['t'][0]} to {self.events['t'][-1]} us" if len(self.events) else ""
        size = f"{self.sensor.width}x{self.sensor.height}{'' if self.sensor_stated else ' (seen, not stated)'}"
        return f"{self.path.name}: {self.format}, {len(self.events)} events{span}, {size}{', damaged: ' + self.fault if self.fault else ''}"


class Opened(NamedTuple):
    """A file whose format is known."""

    module: ModuleType
    data: np.ndarray
    head: Head
    path: Path


def open_file(path: str | PathLike) -> Opened:
    """Map the file and find the format that recognises it; N-MNIST, which has no mark, by suffix and length.

    Raises:
        FormatError: an empty file, no format recognises it, or its head is damaged.
    """
    path = Path(path)
    if not path.stat().st_size:
        raise FormatError(explain(f"read_events: {path} is empty.", "0 bytes"))
    data = np.memmap(path, np.uint8, "r").view(np.ndarray)
    for name in FORMATS:
        module = importlib.import_module(f"neuro.datasets.formats.{name}")
        if module.recognise(data):
            return Opened(module, data, module.head(data), path)
    if path.suffix.lower() in (".bin", ".bs2"):
        module = importlib.import_module("neuro.datasets.formats.nmnist")
        return Opened(module, data, module.head(data), path)
    start = bytes(data[:16])
    cure = f"Formats read here: {', '.join(FORMATS)}, and N-MNIST by the suffix .bin or .bs2."
    raise FormatError(explain(f"read_events: no format recognises {path}.", f"it begins with {start!r}", cure=cure))


def checked(opened: Opened, sensor: Sensor | None, damaged: Damaged, size: int, log: dict) -> Iterator[np.ndarray]:
    """Blocks of events that keep order of time and the sensor's bounds; faults raise or end the reading.

    Counts go into `log`: others (Counter), fault, facts that the caller reports.
    """
    if damaged not in ("refuse", "prefix"):
        raise ParameterError(explain("read_events: damaged must be 'refuse' or 'prefix'.", f"damaged={damaged!r}"))
    last, count = None, 0
    for events, others, fault in opened.module.blocks(opened.data, opened.head, size):
        log["others"].update(others)
        bad = first_fault(events, sensor, last)
        if bad is not None:
            index, why = bad
            fault = f"event {count + index} {why}: {describe(events[index])}"
            events = events[:index]
        if fault and damaged == "refuse":
            cure = "damaged='prefix' gives the events before it."
            raise FormatError(explain(f"read_events: {opened.path} is damaged.", f"{opened.module.NAME}: {fault}", cure=cure))
        if len(events):
            last = int(events["t"][-1])
            count += len(events)
            yield events
        if fault:
            log["fault"] = fault
            return


def first_fault(events: np.ndarray, sensor: Sensor | None, last: int | None) -> tuple[int, str] | None:
    """Index of the first event that steps back in time or lies off the sensor, and which of the two."""
    if not len(events):
        return None
    x, y, t = events["x"], events["y"], events["t"]
    found = []
    if last is not None and t[0] < last:
        found.append((0, f"is before the last, at {last} us"))
    late = np.flatnonzero(t[1:] < t[:-1])
    if len(late):
        found.append((int(late[0]) + 1, f"is before the last, at {t[late[0]]} us"))
    width, height = (sensor.width, sensor.height) if sensor else (32767, 32767)
    if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
        outside = np.flatnonzero((x < 0) | (y < 0) | (x >= width) | (y >= height))
        found.append((int(outside[0]), f"is outside the sensor of {width}x{height}"))
    return min(found, default=None)


def read_events(path: str | PathLike, *, sensor: Sensor | None = None, damaged: Damaged = "refuse") -> EventFile:
    """All events of a file, with its sensor and what its header says.

    `sensor` overrides the size that the file states. `damaged="prefix"` gives the events before the first fault
    (truncation, a step back in time, a coordinate off the sensor) and names the fault; a head that cannot be read is an
    error in any case.

    Raises:
        FormatError: no known format, or damage.

    >>> import tempfile; from neuro.datasets.events import make_events
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_events(f"{folder}/a.dat", make_events([1, 2], [3, 4], [5, 6], [True, False]), Sensor(8, 8))
    ...     print(read_events(f"{folder}/a.dat"))
    a.dat: DAT, 2 events, 5 to 6 us, 8x8
    """
    opened = open_file(path)
    stated = sensor or opened.head.sensor
    log: dict = {"others": Counter(), "fault": ""}
    parts = list(checked(opened, stated, damaged, PIECE, log))
    events = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else NO_EVENTS.copy()
    size = stated or seen(events)
    others = {name: number for name, number in log["others"].items() if number}
    return EventFile(events, size, stated is not None, opened.module.NAME, opened.path, opened.head.facts, others, log["fault"])


def seen(events: np.ndarray) -> Sensor:
    """The smallest sensor that holds the events; 1x1 for none."""
    return Sensor(int(events["y"].max()) + 1, int(events["x"].max()) + 1) if len(events) else Sensor(1, 1)


def iterate_events(
    path: str | PathLike, events: int = PIECE, *, sensor: Sensor | None = None, damaged: Damaged = "refuse"
) -> Iterator[np.ndarray]:
    """Arrays of exactly `events` events, the last one shorter, at a memory that does not grow with the file.

    Raises:
        ParameterError: `events` below 1.
        FormatError: as `read_events`, when the fault is reached.
    """
    if events < 1:
        raise ParameterError(explain("iterate_events: at least one event at a time.", f"events={events}"))
    opened = open_file(path)
    held, count = [], 0
    pieces = checked(opened, sensor or opened.head.sensor, damaged, min(events, PIECE), {"others": Counter(), "fault": ""})
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= events:
            joined = np.concatenate(held)
            full = count // events * events
            for start in range(0, full, events):
                yield joined[start : start + events].copy()
            held, count = [joined[full:].copy()], count - full
    if count:
        yield np.concatenate(held)


def write_events(path: str | PathLike, events: np.ndarray, sensor: Sensor, *, format: str = "") -> None:
    """Write the format that `format` or the suffix names; `read_events` gives the same events back.

    Raises:
        ParameterError: no format of that name or suffix can be written.
        FormatError: events out of order or off the sensor, or values that the format cannot hold.
    """
    path = Path(path)
    name = format or WRITERS.get(path.suffix.lower(), "")
    if name not in WRITERS.values():
        known = ", ".join(f"{suffix} {name}" for suffix, name in WRITERS.items())
        raise ParameterError(explain("write_events: no format for this file.", f"{path.name}   format={format!r}", cure=f"Known: {known}."))
    check_events(events, sensor)
    module = importlib.import_module(f"neuro.datasets.formats.{name}")
    low, high = (int(events["t"][0]), int(events["t"][-1])) if len(events) else (0, 0)
    if low < 0 or high > module.LAST_US:
        fact = f"events from {low} to {high} us, {module.NAME} holds 0 to {module.LAST_US} us"
        raise FormatError(explain("write_events: a time does not fit.", fact, cure="Subtract the first time."))
    path.write_bytes(module.encode(events, sensor))
