"""NumPy `.npy`: one array of events, structured (fields x, y, t, p in any order) or [N, 4]; nothing is unpickled.

Names of fields and the unit of time: see `columns.py`. Rows of [N, 4] are t x y p, x y p t or x y t p, the one that
fits most of the first, and the facts say "guessed". The sensor is not stated. Source: NumPy, "NEP 1, a simple file format for NumPy arrays".
"""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from typing import IO

import numpy as np

from neuro.datasets.events import EVENT, Sensor
from neuro.datasets.formats import columns
from neuro.datasets.formats.block import Block, Head, Mapped, ended, foreign, joined, steps

NAME = "NumPy"
MARK = b"\x93NUMPY"
LONGEST_HEADER = 10_000  # bytes; arrays of events have short ones
FIRST_US, LAST_US = 1 - 2**62, 2**62 - 1


def recognise(data: np.ndarray) -> bool:
    """NumPy's mark."""
    return bytes(data[:6]) == MARK


def header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype of the array that begins here.

    Raises:
        FormatError: no header, or an array of objects, dates or text.
    """
    try:
        mark = file.read(8)
        size = int.from_bytes(file.read({1: 2, 2: 4}[mark[6]]), "little")
        if mark[:6] != MARK or size > LONGEST_HEADER:
            raise ValueError(f"mark {mark!r}   {size} bytes")
        stated = ast.literal_eval(file.read(size).decode("latin-1").strip())
        shape, fortran, dtype = (
            stated["shape"],
            bool(stated["fortran_order"]),
            np.lib.format.descr_to_dtype(stated["descr"]),
        )
    except (ValueError, SyntaxError, TypeError, LookupError, AttributeError, RecursionError, MemoryError) as error:
        raise foreign("NumPy: the header cannot be read.", f"{type(error).__name__}: {error}"[:200]) from error
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise foreign("NumPy: the header states a shape that cannot be.", f"shape {shape}"[:200])
    plain = [dtype] if dtype.names is None else [dtype[name] for name in dtype.names]
    if any(d.kind not in "biuf" or d.shape or d.itemsize > 8 for d in plain):
        raise foreign("NumPy: an array of events holds numbers of at most 8 bytes.", f"dtype {dtype}   shape {shape}")
    return shape, fortran, dtype


def layout(shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> bool:
    """Whether this is a structured array of events or a table of four columns, rows one after the other."""
    if dtype.names is not None:
        return len(shape) == 1 and columns.pick(dtype.names) is not None
    return len(shape) == 2 and shape[1] == 4 and (not fortran or shape[0] <= 1)


def row_type(dtype: np.dtype, order: str) -> np.dtype:
    """The dtype of one row, with fields; those of a table are named by `order`."""
    return dtype if dtype.names is not None else np.dtype([(axis, dtype) for axis in order])


def head(data: np.ndarray) -> Head:
    """The dtype and shape as facts; `item` is (dtype of a row, names of the fields, seconds, rows stated)."""
    file = Mapped(data)
    shape, fortran, dtype = header(file)
    if not layout(shape, fortran, dtype):
        raise foreign(
            "NumPy: an array of events is structured (x, y, t, p) or of shape [N, 4].",
            f"dtype {dtype}   shape {shape}   Fortran order {fortran}",
        )
    start, width = file.tell(), dtype.itemsize * (4 if dtype.names is None else 1)
    there = (len(data) - start) // width
    look = data[start : start + min(there, columns.LOOK) * width]
    order = ""
    if dtype.names is None:
        order = columns.guess_order(look.view(dtype).reshape(-1, 4)) if there else columns.ORDERS[0]
        if not order:
            raise foreign("NumPy: no known order of four columns fits the events.", f"shape {shape}")
    row = row_type(dtype, order)
    names = columns.pick(row.names)
    seconds = columns.in_seconds(look.view(row)[names["t"]])
    facts = {"dtype": str(dtype), "shape": shape, "unit": "seconds" if seconds else "microseconds"}
    if order:
        facts["columns"] = f"{' '.join(order)}, guessed"
    return Head(start, None, facts, (row, names, seconds, shape[0]))


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` rows."""
    row, names, seconds, stated = head.item
    there = min(stated, (len(data) - head.start) // row.itemsize)
    rows = data[head.start : head.start + there * row.itemsize].view(row)
    for start in range(0, there, size):
        part = rows[start : start + size]
        if row == EVENT and not (part["p"].view(np.uint8) > 1).any():  # ours, as `encode` writes them
            yield Block(joined([part]), place=steps(head.start + start * row.itemsize, row.itemsize))
            continue
        events, fault = columns.convert({axis: part[name] for axis, name in names.items()}, seconds)
        yield Block(
            events,
            {},
            fault,
            steps(head.start + start * row.itemsize, row.itemsize),
            there - start - len(events) if fault else 0,
        )
        if fault:
            return
    if there < stated:
        yield ended(f"the header states {stated} events, {there} are there", head.start + there * row.itemsize)


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a structured array; the sensor has no place in it."""
    file = io.BytesIO()
    np.save(file, events, allow_pickle=False)
    return file.getvalue()
