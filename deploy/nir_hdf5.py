"""An HDF5 file of groups and arrays as nested dicts, its sizes asked before anything is read, so that no file takes more than it should.

HDF5 takes memory for what a file claims: arrays never written, chunks larger than their array, streams that unfold a thousandfold,
texts of 4 GB, groups in circles. Each is looked at first, in the file's own bytes where the library would not say.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from neuro.deploy.nir_texts import MOST_LETTERS, MOST_TEXTS, Texts
from neuro.errors import FormatError, NeuroError, explain, nothing_there

MOST_BYTES = 1 << 30  # of all arrays of one file
MOST_ITEMS = 40_000  # groups and arrays
MOST_DEPTH = 32  # of groups in groups
MOST_CHUNKS = 1 << 16  # of one array
GZIP, SHUFFLE, CHECKSUM, LZF = 1, 2, 3, 32000
MOST_OF_LZF = 90  # bytes that one byte may unfold to


def tree(path: Path, root: str) -> dict[str, Any]:
    """The group `root` of a file: groups as dicts, data sets as what h5py gives.

    Raises:
        FormatError: not HDF5, damaged, no such group, links, data outside the file, numbers or filters of a kind that is not read,
            more than the limits above.
    """
    import h5py

    if not path.is_file():
        raise FormatError(nothing_there("file", path))
    try:
        with path.open("rb") as raw, h5py.File(path, "r") as file:
            if root in file and not isinstance(file.get(root, getlink=True), h5py.HardLink):
                raise FormatError(explain(f"{path}: /{root} is a link.", cure="A NIR file holds its own data."))
            if not isinstance(file.get(root), h5py.Group):
                raise FormatError(explain(f"{path} is not a NIR file.", f"it holds {list(file)[:6]}, not a group {root!r}"))
            return _Walk(path, file, raw).group(file[root], 0)
    except NeuroError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:  # all that h5py raises on what is damaged
        raise FormatError(explain(f"{path} cannot be read as HDF5.", str(error).splitlines()[0] if str(error) else type(error).__name__)) from error


class _Walk:
    """Goes through a file once, and keeps count of what was read."""

    def __init__(self, path: Path, file: Any, raw: Any):
        self.path, self.raw, self.bytes, self.items = path, raw, MOST_BYTES, MOST_ITEMS
        self.size = path.stat().st_size
        if file.userblock_size:
            raise self.refuse("it begins with a block that is not HDF5.", f"{file.userblock_size} bytes", cure="Write it without a user block.")
        self.texts = Texts(raw, str(path), *file.id.get_create_plist().get_sizes())

    def refuse(self, *facts: str, cure: str = "") -> FormatError:
        return FormatError(explain(f"{self.path}: {facts[0]}", *facts[1:], cure=cure))

    def take(self, what: str, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            raise self.refuse("its arrays are too large.", f"{what} would take {size} bytes   limit {MOST_BYTES} in all")

    def group(self, group: Any, depth: int) -> dict[str, Any]:
        import h5py

        if depth > MOST_DEPTH:
            raise self.refuse("its groups are nested without end.")
        found: dict[str, Any] = {}
        for name in group:
            where = f"{group.name}/{name}"
            self.items -= 1
            if self.items < 0:
                raise self.refuse("it holds too many groups and arrays: the graph is too large.", f"limit {MOST_ITEMS}")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise self.refuse(f"{where} is a link.", cure="A NIR file holds its own data.")
            item = group[name]
            if not isinstance(item, (h5py.Group, h5py.Dataset)):
                raise self.refuse(f"{where} is neither a group nor an array.")
            found[name] = self.group(item, depth + 1) if isinstance(item, h5py.Group) else self.array(item, where)
        return found

    def array(self, data: Any, where: str) -> Any:
        import h5py

        if data.external or data.is_virtual:
            raise self.refuse(f"{where} lies outside the file.", cure="A NIR file holds its own data.")
        if data.shape is None:
            raise self.refuse(f"{where} is empty.")
        if data.dtype.kind == "O" and h5py.check_string_dtype(data.dtype) is not None:
            return self.text(data, where)
        if data.dtype.kind not in "biufS" or data.dtype.itemsize > (8 if data.dtype.kind != "S" else MOST_LETTERS):
            raise self.refuse(f"{where} holds neither numbers nor text.", f"{data.dtype}")
        self.take(where, data.size * data.dtype.itemsize)
        if data.chunks is not None:
            self.chunks(data, where)
        return data[()]

    def text(self, data: Any, where: str) -> Any:
        """One text as bytes, several as an array of them."""
        import h5py

        layout, offset = data.id.get_create_plist().get_layout(), data.id.get_offset()
        if data.size > MOST_TEXTS:
            raise self.refuse("the graph is too large.", f"{where} holds {data.size} texts   limit {MOST_TEXTS}")
        if layout != h5py.h5d.CONTIGUOUS or offset is None:
            raise self.refuse(f"{where} is text that is not stored plainly.", cure="Write texts plainly, as the package nir does.")
        found = self.texts.read(offset, data.size, where)
        self.take(where, sum(map(len, found)))
        return found[0] if data.shape == () else np.array([*found, None], dtype=object)[:-1].reshape(data.shape)

    def chunks(self, data: Any, where: str) -> None:
        """Every chunk lies in the file and unfolds to no more than a chunk."""
        plist = data.id.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        unit = data.dtype.itemsize
        for n in data.chunks:
            unit *= n
        self.take(f"a chunk of {where}", unit)
        packed = [i for i, code in enumerate(filters) if code in (GZIP, LZF)]
        known = all(code in (GZIP, SHUFFLE, CHECKSUM, LZF) for code in filters)
        if not known or len(packed) > 1 or packed and any(code != CHECKSUM for code in filters[packed[0] + 1 :]):
            raise self.refuse(f"{where} is stored by a filter that is not read.", f"filters {filters}", cure="Write it with gzip, or plainly.")
        if data.id.get_num_chunks() > MOST_CHUNKS:
            raise self.refuse(f"{where} is cut into too many chunks.", f"limit {MOST_CHUNKS}")
        stored: list[Any] = []
        data.id.chunk_iter(stored.append)
        for chunk in stored:
            start = chunk.byte_offset
            if start + chunk.size > self.size:
                raise self.refuse(f"a chunk of {where} lies behind the end of the file.")
            if not packed or chunk.filter_mask >> packed[0] & 1:
                continue
            if filters[packed[0]] == LZF and chunk.size * MOST_OF_LZF > MOST_BYTES or filters[packed[0]] == GZIP and self.unfolds(start, chunk.size, unit):
                raise self.refuse(f"a chunk of {where} unfolds to more than a chunk: it is too large.", f"{unit} bytes are a chunk")

    def unfolds(self, start: int, size: int, most: int) -> bool:
        """Whether a gzip stream holds more than `most` bytes; a checksum behind it is not looked at. One that is damaged is left to HDF5."""
        if size * 1032 + 64 <= most:
            return False
        self.raw.seek(start)
        try:
            return len(zlib.decompressobj().decompress(self.raw.read(size), most + 1)) > most
        except zlib.error:
            return False
