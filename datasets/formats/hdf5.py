"""HDF5 files of events, in the layouts that data sets use.

    DSEC, RPG, M3ED     a group with arrays x, y, t, p of equal length (or xs, ys, ts, ps); `t_offset` (microseconds) is added
    Prophesee, aertb    an array of records with x, y, t, p; Prophesee's attribute `geometry` (`1280x720`) is the sensor
    MVSEC               an array [N, 4] of x, y, t, p
    MATLAB 7.3          as the first, of shape [1, N] or [N, 1], behind 512 bytes of MATLAB's
    SHD, SSC            `spikes/times` (seconds) and `spikes/units`, a pair of arrays for each sample: x is the unit, y 0, all ON

Names and the unit of time: see `columns.py`. The sensor is taken from the attributes `geometry`, `sensor_resolution` or
`height` and `width` of the file or of the group. A file of several recordings needs `item`: the path of the recording,
or its number; for SHD the number of the sample. Compression by plugins: blosc (DSEC) needs the package hdf5plugin,
Prophesee's ECF their own plugin. Chunks that are missing in the file, and files that unfold to more than 64 times their
size (and 16 MiB), are refused; so are values that are kept in another file. Source: the descriptions of the data sets.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats import columns
from neuro.datasets.formats.block import Block, Head, Mapped, choose, ended, foreign, most_bytes, size_from
from neuro.errors import FormatError, NeuroError

NAME = "HDF5"
MARK = b"\x89HDF\r\n\x1a\n"
SEVERAL = True
FIRST_US, LAST_US = 1 - 2**62, 2**62 - 1
BROKEN = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
    IndexError,
    SystemError,
)
PLUGINS = {
    32001: "blosc: pip install hdf5plugin",
    32026: "blosc2: pip install hdf5plugin",
    0x8ECF: "Prophesee's ECF: their HDF5 plugin",
}


class Found(NamedTuple):
    """One recording in the file: `columns` of arrays by axis, or one `table`, or `sample` of the spikes in `table`."""

    columns: Mapping[str, str]
    table: str = ""
    order: str = ""
    sample: int = -1


def recognise(data: np.ndarray) -> bool:
    """HDF5's mark at the start, or behind MATLAB's own text."""
    return bytes(data[:8]) == MARK or bytes(data[:10]) == b"MATLAB 7.3" and bytes(data[512:520]) == MARK


def opened(data: np.ndarray):
    """The file, over the mapped bytes."""
    import h5py

    try:
        return h5py.File(Mapped(data), "r")
    except BROKEN as error:
        raise foreign("HDF5: the file cannot be opened.", str(error)[:300]) from error


def head(data: np.ndarray, item: int | str | None = None) -> Head:
    """Names, dtypes and attributes as facts. `item` of the head is (recording, seconds, offset, rows)."""
    with opened(data) as file:
        try:
            recordings, several = find(file)
            if several is not None:
                return of_sample(file, several, item, data)
            found = choose(recordings, item, NAME)
            return of_recording(file, found, data)
        except NeuroError:
            raise
        except BROKEN as error:
            raise foreign("HDF5: the file is damaged.", f"{type(error).__name__}: {error}"[:300]) from error


def own(group, key: str):
    """What stands in the file itself under a name, or None: links to other files are not followed."""
    import h5py

    return group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None


def find(file) -> tuple[dict[str, Found], str | None]:
    """The recordings by name, or the group that holds spikes of many samples."""
    import h5py

    found: dict[str, Found] = {}
    groups: list[str] = []

    def look(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Group):
            groups.append(name)
        elif isinstance(thing, h5py.Dataset):
            if thing.dtype.names and len(thing.shape) == 1 and columns.pick(thing.dtype.names):
                found[name] = Found(columns.pick(thing.dtype.names), name)
            elif len(thing.shape) == 2 and thing.shape[1] == 4 and thing.dtype.kind in "iuf":
                found[name] = Found({}, name)

    file.visititems(look)
    for name in ["", *groups]:
        group = file[name] if name else file
        mine = {key: own(group, key) for key in group}
        one = [key for key, thing in mine.items() if isinstance(thing, h5py.Dataset) and is_column(thing.shape)]
        if {"times", "units"} <= set(one) and h5py.check_vlen_dtype(group["units"].dtype):
            return {}, name
        picked = columns.pick(one)
        if picked:
            prefix = f"{name}/" if name else ""
            found[name or "/"] = Found({axis: prefix + key for axis, key in picked.items()})
    return found, None


def is_column(shape: tuple[int, ...] | None) -> bool:
    """Whether an array is one row of numbers; MATLAB's have two sides."""
    return shape is not None and (len(shape) == 1 or len(shape) == 2 and 1 in shape)


def readable(dataset, data: np.ndarray) -> None:
    """Refuse an array that needs a filter that is not here, is not all there, or unfolds to too much."""
    import h5py

    plist = dataset.id.get_create_plist()
    if plist.get_external_count() or plist.get_layout() == h5py.h5d.VIRTUAL:
        raise foreign(f"HDF5: {dataset.name} keeps its values in another file, which is not opened.")
    for k in range(plist.get_nfilters()):
        code = plist.get_filter(k)[0]
        if not h5py.h5z.filter_avail(code):
            need = PLUGINS.get(code, "a filter of this number")
            raise FormatError(
                f"HDF5: {dataset.name} is compressed by a filter that is not installed.\n  filter {code}\n  Needed: {need}"
            )
    logical, most = dataset.size * dataset.dtype.itemsize, most_bytes(data)
    if logical > most:
        raise foreign(
            f"HDF5: {dataset.name} states more than a file of this size may unfold to.",
            f"{logical} bytes, {most} are allowed",
        )
    if dataset.chunks:
        unit = int(np.prod([int(n) for n in dataset.chunks], dtype=object)) * dataset.dtype.itemsize
        need = int(
            np.prod([-(-int(n) // int(c)) for n, c in zip(dataset.shape, dataset.chunks, strict=True)], dtype=object)
        )
        if unit > most or dataset.id.get_num_chunks() < need:
            raise foreign(
                f"HDF5: {dataset.name} is not all there.",
                f"{dataset.id.get_num_chunks()} chunks of {need}, of {unit} bytes each",
            )
    elif dataset.size and dataset.id.get_storage_size() < logical:
        raise foreign(f"HDF5: {dataset.name} is not all there.", f"{dataset.id.get_storage_size()} bytes of {logical}")


def numeric(dataset, names: Mapping[str, str] | None = None) -> None:
    """Refuse columns that are no plain numbers."""
    types = [dataset.dtype[name] for name in names.values()] if names else [dataset.dtype]
    if any(d.kind not in "biuf" or d.itemsize > 8 for d in types):
        raise foreign(f"HDF5: {dataset.name} does not hold numbers.", f"dtype {dataset.dtype}")


def of_recording(file, found: Found, data: np.ndarray) -> Head:
    """The head of one recording."""
    used = [file[found.table]] if found.table else [file[name] for name in found.columns.values()]
    for dataset in used:
        readable(dataset, data)
        numeric(dataset, found.columns if found.table and found.columns else None)
    rows = used[0].shape[0] if found.table else used[0].size
    if any((d.shape[0] if found.table else d.size) != rows for d in used):
        raise foreign(
            "HDF5: the arrays of x, y, t and p must be equally long.",
            "   ".join(f"{d.name} {list(d.shape)}" for d in used),
        )
    if found.table and not found.columns:
        order = columns.guess_order(used[0][: columns.LOOK]) if used[0].shape[0] else columns.ORDERS[0]
        if not order:
            raise foreign(
                "HDF5: no known order of four columns fits the events.", f"{found.table} {list(used[0].shape)}"
            )
        found = found._replace(order=order)
    seconds = columns.in_seconds(part(file, found, 0, columns.LOOK)["t"])
    parent = used[0].parent
    stated = [
        d
        for d in (own(file, "t_offset"), own(parent, "t_offset"))
        if getattr(d, "shape", None) == () and d.dtype.kind in "iu"
    ]
    for dataset in stated:
        readable(dataset, data)
    offset = int(stated[0][()]) if stated else 0
    if abs(offset) >= 2**61:
        raise foreign("HDF5: t_offset cannot be.", f"{offset} us")
    facts = {
        "arrays": ", ".join(f"{d.name} {d.dtype}" for d in used),
        "unit": "seconds" if seconds else "microseconds",
        "t_offset": offset,
        **attributes(file, parent),
    }
    if found.order:
        facts["columns"] = f"{' '.join(found.order)}, guessed"
    return Head(0, sensor_of(facts), facts, (found, seconds, offset, rows))


def attributes(*groups) -> dict[str, Any]:
    """Plain attributes of the groups, from the outermost."""
    found = {}
    for group in groups:
        for key in group.attrs:
            value = group.attrs[key]
            if (
                isinstance(value, (str, bytes, int, float, np.generic))
                or isinstance(value, np.ndarray)
                and value.size <= 8
                and value.dtype.kind in "biuf"
            ):
                found[key] = value
    return found


def sensor_of(facts: Mapping[str, Any]) -> Sensor | None:
    """The size that the attributes state."""
    geometry = facts.get("geometry")
    if isinstance(geometry, bytes):
        geometry = geometry.decode("latin-1")
    if isinstance(geometry, str) and "x" in geometry:
        return size_from(*geometry.split("x", 1))
    pair = facts.get("sensor_resolution")  # RPG: height, width
    if isinstance(pair, np.ndarray) and pair.shape == (2,):
        return size_from(pair[1], pair[0])
    return size_from(facts.get("width"), facts.get("height"))


def of_sample(file, group: str, item: int | str | None, data: np.ndarray) -> Head:
    """The head of one sample of a file of spikes."""
    prefix = f"{group}/" if group else ""
    times, units = file[prefix + "times"], file[prefix + "units"]
    readable(times, data)
    readable(units, data)
    number = min(len(times), len(units))
    if item is None and number != 1:
        raise FormatError(f"HDF5: the file holds {number} recordings of spikes.\n  Choose one: item= (--item) 0 to {number - 1}.")
    index = choose(range_of(number), "0" if item is None else str(item), NAME)
    facts = {"spikes": f"sample {index} of {number}", "unit": "seconds", "y": "0; x is the unit"}
    labels = own(file, "labels")
    if getattr(labels, "shape", None) == (number,) and labels.dtype.kind in "iu":
        readable(labels, data)
        facts["label"] = int(labels[index])
    return Head(0, None, facts, (Found({}, group, sample=index), True, 0, 0))


def range_of(number: int) -> dict[str, int]:
    """Numbers by their names."""
    return {str(k): k for k in range(number)}


def cut(dataset, start: int, stop: int) -> np.ndarray:
    """A part of an array that is one row of numbers."""
    if len(dataset.shape) == 1:
        return dataset[start:stop]
    return dataset[0, start:stop] if dataset.shape[0] == 1 else dataset[start:stop, 0]


def part(file, found: Found, start: int, stop: int) -> dict[str, np.ndarray]:
    """Rows of a recording as columns."""
    if not found.table:
        return {axis: cut(file[name], start, stop) for axis, name in found.columns.items()}
    rows = file[found.table][start:stop]
    if found.order:
        return {axis: rows[:, found.order.index(axis)] for axis in "xytp"}
    return {axis: rows[name] for axis, name in found.columns.items()}


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` events."""
    found, seconds, offset, rows = head.item
    with opened(data) as file:
        if found.sample >= 0:
            yield spikes(file, found, most_bytes(data))
            return
        for start in range(0, rows, size):
            try:
                given = part(file, found, start, min(start + size, rows))
            except BROKEN as error:
                yield ended(f"events from {start} on cannot be read: {error}"[:300], None, None)
                return
            events, fault = columns.convert(given, seconds, offset)
            yield Block(events, {}, fault, None, rows - start - len(events) if fault else 0)
            if fault:
                return


def spikes(file, found: Found, most: int) -> Block:
    """The spikes of one sample as events."""
    prefix = f"{found.table}/" if found.table else ""
    try:
        times, units = (
            np.asarray(file[prefix + "times"][found.sample]),
            np.asarray(file[prefix + "units"][found.sample]),
        )
    except BROKEN as error:
        return ended(f"the sample cannot be read: {error}"[:300], None, None)
    if times.dtype.kind not in "fiu" or units.dtype.kind not in "iu" or times.shape != units.shape or times.ndim != 1:
        return ended(
            f"times {times.dtype} {list(times.shape)} and units {units.dtype} {list(units.shape)} do not belong together",
            None,
            None,
        )
    n = len(times)
    given = {"x": units, "y": np.zeros(n, np.int64), "t": times.astype(np.float64), "p": np.ones(n, bool)}
    events, fault = columns.convert(given, True)
    return Block(events, {}, fault, None, n - len(events) if fault else 0)


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file with arrays events/x, y, t, p and the attributes height and width."""
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        group = file.create_group("events")
        for axis in "xytp":
            column = np.ascontiguousarray(events[axis]).view(np.uint8) if axis == "p" else events[axis]
            more = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if len(column) else {}
            group.create_dataset(axis, data=column, **more)
        file.attrs["height"], file.attrs["width"] = sensor.height, sensor.width
    return memory.getvalue()
