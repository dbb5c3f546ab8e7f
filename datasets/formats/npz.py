"""NumPy `.npz`: a ZIP of arrays x, y, t, p, or of structured arrays and tables as in `.npy`; nothing is unpickled.

Names of arrays and the unit of time: see `columns.py`. Arrays `height` and `width` give the sensor. A file of several
structured arrays or tables holds several recordings: `item` names one. Members are stored or deflated; a file that
unfolds to more than 64 times its size (and 16 MiB) is refused.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats import columns, npy
from neuro.datasets.formats.block import Block, Head, Mapped, choose, ended, foreign, most_bytes, size_from
from neuro.errors import FormatError

NAME = "NumPy zip"
FIRST_US, LAST_US = npy.FIRST_US, npy.LAST_US
SEVERAL = True
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    OSError,
    ValueError,
    OverflowError,
)


def recognise(data: np.ndarray) -> bool:
    """A ZIP whose first member is an array."""
    start = bytes(data[:400])
    return (
        start[:4] == b"PK\x03\x04"
        and len(start) >= 30
        and start[30 : 30 + int.from_bytes(start[26:28], "little")].endswith(b".npy")
    )


def opened(data: np.ndarray) -> zipfile.ZipFile:
    """The archive."""
    try:
        return zipfile.ZipFile(Mapped(data))
    except BROKEN as error:
        raise foreign("NumPy zip: the archive cannot be read.", str(error)) from error


def member(archive: zipfile.ZipFile, name: str, most: int):
    """A member, open behind its header, with shape and dtype; refused where it states too much."""
    try:
        info = archive.getinfo(name + ".npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise foreign("NumPy zip: members are stored or deflated.", f"{name}: compression {info.compress_type}")
        file = archive.open(info)
        shape, fortran, dtype = npy.header(file)
    except FormatError:
        raise
    except BROKEN as error:
        raise foreign(f"NumPy zip: the array {name} cannot be read.", str(error)) from error
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size > most:
        raise foreign(
            f"NumPy zip: the array {name} states more than a file of this size may unfold to.",
            f"{size} bytes, {most} are allowed",
        )
    return file, shape, fortran, dtype


def scalar(archive: zipfile.ZipFile, name: str, names: list[str]) -> int | None:
    """A whole number that is kept as an array, or None."""
    if name not in names:
        return None
    file, shape, _, dtype = member(archive, name, 64)
    values = np.frombuffer(read(file, dtype.itemsize), dtype)
    return int(values[0]) if len(values) == 1 and dtype.kind in "iu" else None


def head(data: np.ndarray, item: int | str | None = None) -> Head:
    """Names and dtypes as facts. `item` of the head is (names of members, their dtypes, seconds, events stated)."""
    with opened(data) as archive:
        names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
        sensor = size_from(scalar(archive, "width", names), scalar(archive, "height", names))
        picked = columns.pick(names)
        if picked is not None and item is None:
            return of_columns(archive, picked, sensor, most_bytes(data))
        found = {}
        for name in names:
            _, shape, fortran, dtype = member(archive, name, most_bytes(data))
            if npy.layout(shape, fortran, dtype):
                found[name] = (name, shape, dtype)
        if not found and item is None:
            shown = ", ".join(names)[:300] or "none"
            raise foreign("NumPy zip: no events are in this file in a layout that is known.", f"arrays: {shown}")
        name, shape, dtype = choose(found, item, NAME)
        return of_table(archive, name, sensor, most_bytes(data))


def of_columns(archive: zipfile.ZipFile, picked: dict[str, str], sensor: Sensor | None, most: int) -> Head:
    """The head of a file of four arrays."""
    shapes, types = {}, {}
    for axis, name in picked.items():
        file, shapes[name], _, types[name] = member(archive, name, most)
        if axis == "t":
            seconds = columns.in_seconds(some(file, types[name]))
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 or types[name].names for name, shape in shapes.items()):
        raise foreign(
            "NumPy zip: the arrays of x, y, t and p must be equally long.",
            "   ".join(f"{n} {list(s)}" for n, s in shapes.items()),
        )
    facts = {
        "arrays": ", ".join(f"{name} {types[name]}" for name in picked.values()),
        "unit": "seconds" if seconds else "microseconds",
    }
    return Head(0, sensor, facts, (picked, types, seconds, next(iter(shapes.values()))[0], ""))


def of_table(archive: zipfile.ZipFile, name: str, sensor: Sensor | None, most: int) -> Head:
    """The head of one structured array or table."""
    file, shape, _, dtype = member(archive, name, most)
    order = ""
    if dtype.names is None:
        look = some(file, np.dtype((dtype, 4)))
        order = columns.guess_order(look) if len(look) else columns.ORDERS[0]
        if not order:
            raise foreign("NumPy zip: no known order of four columns fits the events.", f"{name} {list(shape)}")
        row = npy.row_type(dtype, order)
        file = member(archive, name, most)[0]
    else:
        row = dtype
    picked = columns.pick(row.names)
    seconds = columns.in_seconds(some(file, row)[picked["t"]])
    facts = {"array": name, "dtype": str(dtype), "unit": "seconds" if seconds else "microseconds"}
    if order:
        facts["columns"] = f"{' '.join(order)}, guessed"
    return Head(0, sensor, facts, (picked, {name: row}, seconds, shape[0], name))


def read(file, size: int) -> bytes:
    """At most `size` bytes of a member; damage is an error of the format."""
    try:
        return file.read(size)
    except BROKEN as error:
        raise foreign("NumPy zip: a member is damaged.", str(error)) from error


def some(file, dtype: np.dtype) -> np.ndarray:
    """The first rows of a member."""
    data = read(file, columns.LOOK * dtype.itemsize)
    return np.frombuffer(
        data[: len(data) // dtype.itemsize * dtype.itemsize], dtype.base if dtype.subdtype else dtype
    ).reshape(-1, *dtype.shape)


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` events, read from all members side by side."""
    picked, types, seconds, stated, table = head.item
    with opened(data) as archive:
        files = {name: member(archive, name, most_bytes(data))[0] for name in types}
        count = 0
        while count < stated:
            want, parts, fault = min(size, stated - count), {}, ""
            for name, dtype in types.items():
                try:
                    piece = files[name].read(want * dtype.itemsize)
                except BROKEN as error:
                    yield ended(f"the array {name} cannot be read behind event {count}: {error}", None, None)
                    return
                parts[name] = np.frombuffer(piece[: len(piece) // dtype.itemsize * dtype.itemsize], dtype)
            given = {axis: parts[table][name] if table else parts[name] for axis, name in picked.items()}
            events, fault = columns.convert(given, seconds)
            there = min(len(part) for part in parts.values())
            if not fault and there < want:
                fault = f"the header states {stated} events, {count + there} are there"
            yield Block(events, {}, fault, None, None if fault else 0)
            if fault:
                return
            count += there


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a compressed file of arrays x, y, t, p, height and width."""
    file = io.BytesIO()
    arrays = {axis: events[axis] for axis in "xytp"}
    np.savez_compressed(file, **arrays, height=np.int64(sensor.height), width=np.int64(sensor.width))
    return file.getvalue()
