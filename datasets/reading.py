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
from typing import Any, Literal

import numpy as np

from neuro.datasets.events import Sensor, check_events, describe
from neuro.datasets.formats.block import Block, joined
from neuro.datasets.opening import Opened, Source, open_file
from neuro.errors import FormatError, ParameterError, explain
from neuro.files import replacing

WRITERS = {
    ".aedat": "aedat2", ".aedat3": "aedat3", ".aedat4": "aedat4", ".raw": "evt2", ".evt3": "evt3", ".dat": "dat", ".bin": "nmnist", ".bs2": "nmnist",
    ".es": "es", ".h5": "hdf5", ".hdf5": "hdf5", ".npy": "npy", ".npz": "npz", ".csv": "text", ".txt": "text",
}  # fmt: skip
PIECE = 1 << 18  # events or words decoded at a time where pieces are wanted
WHOLE = 1 << 22  # where all events are: fewer pieces to join, while the bytes of a piece that are copied stay few

Damaged = Literal["refuse", "prefix"]


@dataclass(frozen=True, eq=False)
class EventFile:
    """What a file holds. `others` counts what is no event (triggers, frames, invalid events).

    `fault` is what ended the reading where damage was allowed; nothing after it is in `events`. `dropped_bytes` lie
    behind it, and `dropped_events` whole events among them; None where that cannot be told (bytes of compressed
    files, events behind a packet that cannot be read).
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
    dropped_bytes: int | None = 0
    dropped_events: int | None = 0

    def __str__(self) -> str:
        span = f", {self.events['t'][0]} to {self.events['t'][-1]} us" if len(self.events) else ""
        size = f"{self.sensor.width}x{self.sensor.height}{'' if self.sensor_stated else ' (seen, not stated)'}"
        return f"{self.path.name}: {self.format}, {len(self.events)} events{span}, {size}{self.damage()}"

    def damage(self) -> str:
        """The fault and what was dropped, in words; nothing for a file without fault."""
        if not self.fault:
            return ""
        lost, events = ("an unknown number of" if n is None else n for n in (self.dropped_bytes, self.dropped_events))
        return f", damaged: {self.fault}; dropped {lost} bytes, {events} whole events"


@dataclass
class Log:
    """What a reading meets beside events; `reach`: the largest x and y, None where the decoder has not told."""

    others: Counter = field(default_factory=Counter)
    fault: str = ""
    dropped_bytes: int | None = 0
    dropped_events: int | None = 0
    reach: tuple[int, int] | None = (0, 0)


def checked(opened: Opened, sensor: Sensor | None, damaged: Damaged, size: int, log: Log) -> Iterator[np.ndarray]:
    """Blocks of events that keep order of time and the sensor's bounds; faults raise or end the reading."""
    if damaged not in ("refuse", "prefix"):
        raise ParameterError(explain("read_events: damaged must be 'refuse' or 'prefix'.", f"damaged={damaged!r}"))
    a_sensor(sensor)
    last, count = None, 0
    blocks = opened.module.blocks(opened.data, opened.head, size)
    for block in blocks:
        log.others.update(block.others)
        events, fault, keep = block.events, block.fault, len(block.events)
        bad = None if sound(block, sensor, last) else first_fault(events, sensor, last)
        if bad is not None:
            keep, why = bad
            fault = f"event {count + keep} {why}: {describe(events[keep])}"
        if fault and damaged == "refuse":
            cure = "damaged='prefix' (--damaged prefix) gives the events before it."
            if bad is not None and "outside" in fault and sensor is not None:
                cure = "If the sensor is larger, give its size (--width, --height); " + cure
            raise FormatError(
                explain(f"read_events: {opened.path} is damaged.", f"{opened.module.NAME}: {fault}", cure=cure)
            )
        if keep:
            log.reach = farther(log.reach, block.reach if keep == len(events) else None)
            last = int(events["t"][keep - 1])
            count += keep
            yield events[:keep]
        if fault:
            log.fault = fault
            log.dropped_bytes = None if block.place is None else len(opened.data) - block.place(keep)
            log.dropped_events = behind(block, keep, blocks)
            return


def farther(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int] | None:
    """The larger x and the larger y; None where one of them is not known."""
    return None if one is None or other is None else (max(one[0], other[0]), max(one[1], other[1]))


def a_sensor(sensor: Any) -> None:
    """Refuse what is no sensor."""
    if sensor is not None and not isinstance(sensor, Sensor):
        raise ParameterError(
            explain("The sensor is no Sensor.", f"got {sensor!r}", cure="Give Sensor(height=..., width=...).")
        )


def behind(block: Block, keep: int, blocks: Iterator[Block]) -> int | None:
    """Whole events behind event `keep` of a block, the rest of the file included; None where it cannot be told."""
    count = len(block.events) - keep
    if block.fault:
        return None if block.rest is None else count + block.rest
    for later in blocks:
        count += len(later.events)
        if later.fault:
            return None if later.rest is None else count + later.rest
    return count


def sound(block: Block, sensor: Sensor | None, last: int | None) -> bool:
    """Whether the decoder has already seen that the events are in order and on the sensor."""
    if block.reach is None or not len(block.events):
        return False
    width, height = (sensor.width, sensor.height) if sensor else (32767, 32767)
    return block.reach[0] < width and block.reach[1] < height and (last is None or block.events["t"][0] >= last)


def first_fault(events: np.ndarray, sensor: Sensor | None, last: int | None) -> tuple[int, str] | None:
    """Index of the first event that steps back in time or lies off the sensor, and which of the two."""
    if not len(events):
        return None
    from neuro.datasets.formats.order import first_bad  # numba is heavy

    width, height = (sensor.width, sensor.height) if sensor else (32767, 32767)
    x, y, t = events["x"], events["y"], events["t"]
    start = int(t[0]) if last is None else last
    index = first_bad(x, y, t, width, height, start)
    if index < 0:
        return None
    before = int(t[index - 1]) if index else start
    if t[index] < before:
        return index, f"is before the last, at {before} us"
    return index, f"is outside the sensor of {width}x{height}"


def read_events(
    path: Source,
    *,
    sensor: Sensor | None = None,
    damaged: Damaged = "refuse",
    item: int | str | None = None,
    format: str = "",
) -> EventFile:
    """All events of a file, or of its bytes, with its sensor and what its header says.

    `sensor` overrides the size that the file states. `damaged="prefix"` gives the events before the first fault
    (truncation, a step back in time, a coordinate off the sensor), names the fault and counts what was dropped; a head
    that cannot be read is an error in any case. `item` chooses, by name or number, one recording of a file that holds
    several. `format` names the format instead of recognising it.

    Raises:
        FormatError: no known format, or damage.
        FileNotFoundError: no such file.

    >>> import tempfile; from neuro.datasets.events import make_events
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_events(f"{folder}/a.dat", make_events([1, 2], [3, 4], [5, 6], [True, False]), Sensor(8, 8))
    ...     print(read_events(f"{folder}/a.dat"))
    a.dat: DAT, 2 events, 5 to 6 us, 8x8
    """
    opened = open_file(path, format=format, item=item)
    stated = sensor or opened.head.sensor
    log = Log()
    parts = list(checked(opened, stated, damaged, WHOLE, log))
    events = parts[0] if len(parts) == 1 else joined(parts)
    others = {name: number for name, number in log.others.items() if number}
    return EventFile(
        events, stated or seen(events, log.reach), stated is not None, opened.module.NAME, opened.path, opened.head.facts, others,
        log.fault, log.dropped_bytes, log.dropped_events,
    )  # fmt: skip


def seen(events: np.ndarray, reach: tuple[int, int] | None = None) -> Sensor:
    """The smallest sensor that holds the events, whose largest x and y may be known; 1x1 for none."""
    if reach is not None:
        return Sensor(int(reach[1]) + 1, int(reach[0]) + 1)
    return Sensor(int(events["y"].max()) + 1, int(events["x"].max()) + 1) if len(events) else Sensor(1, 1)


def iterate_events(
    path: Source, events: int = PIECE, *, sensor: Sensor | None = None, damaged: Damaged = "refuse",
    item: int | str | None = None, format: str = "",
) -> Iterator[np.ndarray]:  # fmt: skip
    """Arrays of exactly `events` events, the last one shorter, at a memory that does not grow with the file.

    Raises:
        ParameterError: `events` below 1.
        FormatError: as `read_events`, when the fault is reached.
    """
    if events < 1:
        raise ParameterError(explain("iterate_events: at least one event at a time.", f"events={events}"))
    opened = open_file(path, format=format, item=item)
    held, count = [], 0
    for piece in checked(opened, sensor or opened.head.sensor, damaged, min(events, PIECE), Log()):
        held.append(piece)
        count += len(piece)
        if count >= events:
            whole = joined(held)
            full = count // events * events
            for start in range(0, full, events):
                yield joined([whole[start : start + events]])
            held, count = [joined([whole[full:]])], count - full
    if count:
        yield joined(held)


def encode_events(events: np.ndarray, sensor: Sensor, format: str) -> bytes:
    """The bytes of a file of `format`, one of the values of `WRITERS`.

    Raises:
        FormatError: events out of order or off the sensor, or values that the format cannot hold.
    """
    a_sensor(sensor)
    check_events(events, sensor)
    module = importlib.import_module(f"neuro.datasets.formats.{format}")
    low, high = (int(events["t"][0]), int(events["t"][-1])) if len(events) else (0, 0)
    if low < getattr(module, "FIRST_US", 0) or high > module.LAST_US:
        fact = f"events from {low} to {high} us, {module.NAME} holds {getattr(module, 'FIRST_US', 0)} to {module.LAST_US} us"
        raise FormatError(explain("write_events: a time does not fit.", fact, cure="Subtract the first time (--start zero)."))
    side = getattr(module, "SIDE", 32767)
    if max(sensor.width, sensor.height) > side:
        raise FormatError(explain(f"write_events: {module.NAME} holds sensors of at most {side}x{side}.", repr(sensor)))
    return module.encode(events, sensor)


def write_events(path: str | PathLike, events: np.ndarray, sensor: Sensor, *, format: str = "") -> None:
    """Write the format that `format` or the suffix names; `read_events` gives the same events back.

    A file that stands at `path` is replaced once the new one is complete.

    Raises:
        ParameterError: no format of that name or suffix can be written.
        FormatError: events out of order or off the sensor, or values that the format cannot hold.
        WriteError: no space, no permission.
    """
    path = Path(path)
    name = format or WRITERS.get(path.suffix.lower(), "")
    if name not in WRITERS.values():
        known = ", ".join(f"{suffix} {name}" for suffix, name in WRITERS.items())
        raise ParameterError(
            explain(
                "write_events: no format for this file.", f"{path.name}   format={format!r}", cure=f"Known: {known}."
            )
        )
    data = encode_events(events, sensor, name)
    with replacing(path) as file:
        file.write(data)
