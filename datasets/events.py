"""What a recording is: an array of events in the order of time, the size of its sensor, and a label.

An event is (x, y, t, p): column, row (downward), time in microseconds, and polarity (True: ON, brighter). The dtype is
the one that tonic uses, so its transforms and ours take each other's arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro.errors import FormatError, ParameterError, ShapeError, explain

EVENT = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])


@dataclass(frozen=True)
class Sensor:
    """The size of a sensor in pixels: `0 <= x < width`, `0 <= y < height`."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if not (1 <= self.height <= 32767 and 1 <= self.width <= 32767):
            raise ParameterError(
                explain(
                    "Sensor: a side is outside 1 to 32767, the range of a 16-bit coordinate.",
                    f"height={self.height}   width={self.width}",
                )
            )


@dataclass(frozen=True, eq=False)
class Recording:
    """The events of one sample with all that is needed to use them: sensor, label (-1: none) and a stable name."""

    events: np.ndarray
    sensor: Sensor
    label: int = -1
    name: str = ""


def make_events(x, y, t, p) -> np.ndarray:
    """Build an event array from four columns of equal length.

    `p` is boolean, or holds 0 (OFF) and 1 (ON). Coordinates must fit 16 bits and times 64 bits; nothing is wrapped or
    rounded in silence.

    Raises:
        ShapeError: the columns differ in length or are not one-dimensional.
        FormatError: a value does not survive the conversion, or a polarity is neither 0 nor 1.

    >>> make_events([3], [4], [1000], [True])["t"]
    array([1000])
    """
    columns = {name: np.asarray(column) for name, column in zip("xytp", (x, y, t, p), strict=True)}
    if len({c.shape for c in columns.values()}) > 1 or columns["x"].ndim != 1:
        shown = "   ".join(f"{name} {list(c.shape)}" for name, c in columns.items())
        raise ShapeError(explain("make_events: the columns must be one-dimensional and equally long.", shown))
    events = np.empty(len(columns["x"]), EVENT)
    for name, column in columns.items():
        with np.errstate(invalid="ignore"):
            events[name] = column.astype(EVENT[name])
        wrong = np.flatnonzero(events[name] != column)
        if len(wrong):
            cure = "For polarities -1 and 1 pass p > 0." if name == "p" else "Convert or cut the column first."
            first = wrong[0]
            fact = f"{len(wrong)} of {len(column)} values; the first is {name}[{first}] = {column[first]}"
            raise FormatError(explain(f"make_events: {name} does not fit {EVENT[name]}.", fact, cure=cure))
    return events


def check_dtype(events: np.ndarray) -> None:
    """Refuse what is not a one-dimensional array of dtype `EVENT`, with a ShapeError."""
    if not isinstance(events, np.ndarray) or events.dtype != EVENT or events.ndim != 1:
        got = f"{events.dtype} {list(events.shape)}" if isinstance(events, np.ndarray) else type(events).__name__
        raise ShapeError(
            explain(
                "Events must be a one-dimensional array of dtype neuro.datasets.events.EVENT.",
                f"got {got}",
                cure="Build it with make_events(x, y, t, p).",
            )
        )


def check_events(events: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Return `events` unchanged if it keeps the promises of a recording: dtype, order of time, coordinates.

    Raises:
        ShapeError: not a one-dimensional array of dtype `EVENT`.
        FormatError: a coordinate outside the sensor, or a time stamp smaller than the one before it.
    """
    check_dtype(events)
    for axis, size in (("x", sensor.width), ("y", sensor.height)):
        column = events[axis]
        if len(column) and (column.min() < 0 or column.max() >= size):
            first = np.flatnonzero((column < 0) | (column >= size))[0]
            raise FormatError(
                explain(
                    f"Events: {axis} lies outside the sensor.",
                    f"events[{first}] = {describe(events[first])}   sensor height={sensor.height} width={sensor.width}",
                    cure="Give the sensor's true size, or drop the events with inside(events, sensor).",
                )
            )
    backwards = np.flatnonzero(events["t"][1:] < events["t"][:-1])
    if len(backwards):
        first = backwards[0]
        raise FormatError(
            explain(
                "Events: time goes backwards.",
                f"events[{first}] t={events['t'][first]} us   events[{first + 1}] t={events['t'][first + 1]} us",
                cure="Order them with in_order(events).",
            )
        )
    return events


def in_order(events: np.ndarray) -> np.ndarray:
    """The events sorted by time; events of one time stamp keep their order."""
    return events[np.argsort(events["t"], kind="stable")]


def inside(events: np.ndarray, sensor: Sensor) -> np.ndarray:
    """The events whose coordinates lie on the sensor; the others are dropped on purpose."""
    x, y = events["x"], events["y"]
    return events[(x >= 0) & (x < sensor.width) & (y >= 0) & (y < sensor.height)]


def describe(event: np.void) -> str:
    """One event in words, for messages."""
    return f"(x={event['x']}, y={event['y']}, t={event['t']} us, p={int(event['p'])})"
