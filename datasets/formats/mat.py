"""MATLAB files of events, of version 5 to 7 (`mat5.py`); those of version 7.3 are HDF5 (`hdf5.py`).

    x, y, t, p      vectors of equal length, alone (ASL-DVS) or as fields of a structure (`TD.x`, `TD.ts`, ...)
    [N, 4]          a table of x, y, t, p
    spiketrain      [taxels + 1, N] of -1, 0, 1, the last row the time in seconds (ST-MNIST, 10 x 10 taxels); taxel k is at
                    x = k mod side, y = k div side

Names and the unit of time: see `columns.py`. Coordinates are given as stored: many programs in MATLAB count from 1, and the
facts say what the smallest are. A file of several recordings needs `item`. A variable is in memory as a whole; files that
unfold to more than 64 times their size (and 16 MiB) are refused. Source: the data sets' own descriptions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats import columns, mat5
from neuro.datasets.formats.block import Block, Head, choose, foreign, most_bytes, size_from

NAME = "MATLAB"
SEVERAL = True
TRAIN = "spiketrain"
recognise = mat5.recognise


def head(data: np.ndarray, item: int | str | None = None) -> Head:
    """Variables as facts. `item` of the head is (columns by axis, whether times are seconds)."""
    held = mat5.variables(data, most_bytes(data))
    found = recordings(held, most_bytes(data))
    if not found and item is None:
        shown = ", ".join(f"{name} {list(v.shape)}" for name, v in held.items())[:300] or "none"
        raise foreign("MATLAB: no events are in this file in a layout that is known.", f"variables of numbers: {shown}")
    given, facts, sensor = choose(found, item, NAME)
    if len({len(column) for column in given.values()}) != 1:
        shown = "   ".join(f"{axis} [{len(column)}]" for axis, column in given.items())
        raise foreign("MATLAB: x, y, t and p must be equally long.", shown)
    seconds = columns.in_seconds(given["t"])
    facts = {**facts, "unit": "seconds" if seconds else "microseconds"}
    if len(given["x"]) and sensor is None:
        facts["coordinates"] = f"as stored; the smallest are x {given['x'].min()}, y {given['y'].min()}"
    return Head(0, sensor or size(held), facts, (given, seconds))


def recordings(held: dict[str, np.ndarray], most: int) -> dict[str, tuple[dict[str, np.ndarray], dict[str, Any], Sensor | None]]:
    """Columns, facts and, where the layout tells it, the sensor of each recording."""
    found = {}
    for group in dict.fromkeys(name.rpartition(".")[0] for name in held):
        mine = {name.rpartition(".")[2]: v for name, v in held.items() if name.rpartition(".")[0] == group}
        picked = columns.pick(name for name, v in mine.items() if v.size == max(v.shape, default=0))
        if picked is not None:
            facts = {"variables": ", ".join(f"{key} {mine[key].dtype}" for key in picked.values())}
            found[group or "/"] = ({axis: mine[key].ravel() for axis, key in picked.items()}, facts, None)
    for name, table in held.items():
        if name.rpartition(".")[2] == TRAIN and table.ndim == 2 and len(table) > 1:
            found[name] = train(table, name, most)
        elif table.ndim == 2 and table.shape[1] == 4 and len(table) and (order := columns.guess_order(table)):
            facts = {"variable": f"{name} {table.dtype}", "columns": f"{' '.join(order)}, guessed"}
            found[name] = ({axis: table[:, k] for k, axis in enumerate(order)}, facts, None)
    return found


def train(table: np.ndarray, name: str, most: int) -> tuple[dict[str, np.ndarray], dict[str, Any], Sensor | None]:
    """The columns of a spike train whose rows are taxels."""
    taxels = len(table) - 1
    side = math.isqrt(taxels)
    side = side if side * side == taxels else taxels
    if 16 * np.count_nonzero(table[:-1]) > most:
        raise foreign("MATLAB: a spike train holds more events than a file of this size may.", f"{list(table.shape)}")
    column, taxel = np.nonzero(table[:-1].T)  # in the order of time
    given = {"x": taxel % side, "y": taxel // side, "t": table[-1, column], "p": table[taxel, column]}
    return given, {"variable": f"{name} {list(table.shape)}", "taxels": taxels}, size_from(side, taxels // side)


def size(held: dict[str, np.ndarray]) -> Sensor | None:
    """The sensor, where variables `width` and `height` of one number state it."""
    one = {name.lower(): v.flat[0] for name, v in held.items() if v.size == 1}
    try:
        return size_from(one.get("width"), one.get("height"))
    except OverflowError:  # infinite
        return None


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` events."""
    given, seconds = head.item
    count = len(given["t"])
    for start in range(0, count, size):
        part = {axis: column[start : start + size] for axis, column in given.items()}
        events, fault = columns.convert(part, seconds)
        yield Block(events, {}, fault, None, count - start - len(events) if fault else 0)
        if fault:
            return
