"""Events that come as four columns of numbers: which column is which, the unit of time, and the way to events.

Shared by text, NumPy and HDF5. Whole numbers of a time column are microseconds; where the first 4096 have fractions
they are seconds, rounded to the nearest microsecond. Polarity is 0 or -1 for OFF, 1 for ON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from neuro.datasets.events import EVENT
from neuro.datasets.formats.block import NO_EVENTS

NAMES = {
    "x": ("x", "xs", "x_pos", "px"),
    "y": ("y", "ys", "y_pos", "py"),
    "t": ("t", "ts", "time", "timestamp", "timestamps", "times", "t_us", "timestamp_us"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on"),
}
ORDERS = ("txyp", "xypt", "xytp")  # of files that name no columns: RPG's text; Metavision's; MVSEC and tonic
LOOK = 4096  # events that a guess rests on
FAR = float(2**62)


def pick(names: Iterable[str]) -> dict[str, str] | None:
    """The name of each of x, y, t, p among the names of a table, or None if one is missing.

    >>> pick(["ts", "x", "y", "pol", "frame"])
    {'x': 'x', 'y': 'y', 't': 'ts', 'p': 'pol'}
    """
    plain = {name.strip().strip('"').lower(): name for name in names}
    found = {axis: next((plain[n] for n in known if n in plain), None) for axis, known in NAMES.items()}
    return found if None not in found.values() else None


def guess_order(table: np.ndarray) -> str:
    """The one of `ORDERS` that makes most of the first rows of a table of four columns events in order; "" for none.

    >>> guess_order(np.array([[9, 3, 1, 0], [8, 3, 2, 1]]))
    'xytp'
    """
    head = np.asarray(table[:LOOK], np.float64)
    best, most = "", 0
    for order in ORDERS:
        x, y, t, p = (head[:, order.index(axis)] for axis in "xytp")
        good = (x == np.floor(x)) & (y == np.floor(y)) & (x >= 0) & (y >= 0) & np.isin(p, (-1, 0, 1)) & np.isfinite(t)
        good[1:] &= t[1:] >= t[:-1]
        rows = len(good) if good.all() else int(np.argmin(good))
        if rows > most:
            best, most = order, rows
    return best


def in_seconds(t: np.ndarray) -> bool:
    """Whether the first times have fractions."""
    if t.dtype.kind != "f":
        return False
    head = np.asarray(t[:LOOK], np.float64)
    return bool((np.isfinite(head) & (head != np.floor(head))).any())


def convert(columns: Mapping[str, np.ndarray], seconds: bool, offset: int = 0) -> tuple[np.ndarray, str]:
    """Events, and what is wrong with the first that is left out with all after it ("" where none is).

    `offset` is added to the times, in microseconds.
    """
    n = min(len(column) for column in columns.values())
    if not n:
        return NO_EVENTS, ""
    good, events = np.ones(n, bool), np.empty(n, EVENT)
    for axis in "xy":
        column = columns[axis][:n]
        good &= fits(column, 32767)
        events[axis] = np.where(good, column, 0)
    t, p = columns["t"][:n], columns["p"][:n]
    with np.errstate(invalid="ignore", over="ignore"):
        if t.dtype.kind == "f":
            t = np.rint(t.astype(np.float64) * (1e6 if seconds else 1.0))
            good &= np.abs(t) < FAR
        elif t.dtype.kind == "u":
            good &= t < 2**62
        else:
            good &= (t < 2**62) & (t > -(2**62))
        events["t"] = np.where(good, t, 0)
        events["t"] += offset
        good &= (p == 0) | (p == 1) | (p == -1)
    events["p"] = p == 1
    if good.all():
        return events, ""
    bad = int(np.argmin(good))
    shown = ", ".join(f"{axis}={columns[axis][bad]}" for axis in "xytp")
    return events[:bad], f"an event that cannot be: {shown}"


def fits(column: np.ndarray, most: int) -> np.ndarray:
    """Where a column holds whole numbers from 0 to below `most`."""
    with np.errstate(invalid="ignore"):
        good = (column >= 0) & (column < most)
        return good & (column == np.floor(column)) if column.dtype.kind == "f" else good
