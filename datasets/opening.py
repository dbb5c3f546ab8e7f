"""Which format a file of events has: by its content; N-MNIST, which has no mark, by its suffix."""

from __future__ import annotations

import importlib
import mmap
import os
import stat
from collections.abc import Iterator
from functools import cache
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from neuro.datasets.formats.block import Head
from neuro.datasets.formats.prophesee import version
from neuro.errors import FormatError, ParameterError, explain, unknown

FORMATS = (
    "aedat2", "aedat3", "aedat4", "evt2", "evt21", "evt3", "dat", "es", "hdf5", "npy", "npz", "rosbag", "mat", "text"
)  # fmt: skip  # in this order; text has no mark
ENCODINGS = {"2.0": "evt2", "2.1": "evt21", "3.0": "evt3", "": "dat"}  # that a header of lines of "% " names, "": none
SMALL = 1 << 20  # bytes; a smaller file is read, which is quicker than to map it
PACKED = {b"PK": "a ZIP archive", b"\x1f\x8b": "packed by gzip", b"BZh": "packed by bzip2", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive"}
BY_SUFFIX = {".bin": "nmnist", ".bs2": "nmnist"}

Source = str | PathLike | bytes | bytearray | memoryview


class Opened(NamedTuple):
    """A file whose format is known."""

    module: ModuleType
    data: np.ndarray
    head: Head
    path: Path


@cache
def module_of(name: str) -> ModuleType:
    """The module of a format by its name."""
    known = (*FORMATS, *BY_SUFFIX.values())
    if name not in known:
        raise unknown("format", name, known)
    return importlib.import_module(f"neuro.datasets.formats.{name}")


def open_file(source: Source, *, format: str = "", item: int | str | None = None) -> Opened:
    """Map the file and read its head. `format` names the format instead of looking for it.

    Raises:
        FormatError: an empty file, no format recognises it, or its head is damaged.
        ParameterError: `item` for a file that holds one recording.
    """
    data, path = mapped(source)
    module = module_of(format) if format else recognised(data, path)
    if getattr(module, "SEVERAL", False):
        return Opened(module, data, module.head(data, item), path)
    if item is not None:
        raise ParameterError(
            explain(f"read_events: {path} holds one recording.", f"item={item!r}   format {module.NAME}")
        )
    return Opened(module, data, module.head(data), path)


def mapped(source: Source) -> tuple[np.ndarray, Path]:
    """The bytes as an array of uint8, mapped from a file or taken from memory, and a name for messages."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, path = np.frombuffer(source, np.uint8), Path("(memory)")
    else:
        path = Path(source)
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may have no end
            kind = "a folder" if path.is_dir() else "no regular file"
            raise FormatError(explain(f"read_events: {path} is {kind}.", cure="Give one file with a recording."))
        with open(path, "rb", buffering=0) as file:
            whole = file.readall() if os.fstat(file.fileno()).st_size < SMALL else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = np.frombuffer(whole, np.uint8)
    if not len(data):
        raise FormatError(explain(f"read_events: {path} is empty.", "0 bytes"))
    data.flags.writeable = False  # also so that the compiled loops see one type of array
    return data, path


def recognised(data: np.ndarray, path: Path) -> ModuleType:
    """The first format that recognises the bytes."""
    name = BY_SUFFIX.get(path.suffix.lower(), "")
    # any bytes at all may be N-MNIST, so where the suffix says so only long marks come first
    known = candidates(data) if not name else (format for format in candidates(data) if format != "text")
    for format in known:
        if module_of(format).recognise(data):
            return module_of(format)
    if name:
        return module_of(name)
    start = bytes(data[:16])
    packed = next((kind for mark, kind in PACKED.items() if start.startswith(mark)), "")
    if packed:
        cure = "Unpack it, and read the files in it; the classes of data sets read zips as they are."
        raise FormatError(explain(f"read_events: {path} is {packed}, not a recording.", cure=cure))
    cure = f"Formats read here: {', '.join(FORMATS)}, and N-MNIST by the suffix .bin or .bs2."
    raise FormatError(explain(f"read_events: no format recognises {path}.", f"it begins with {start!r}", cure=cure))


def candidates(data: np.ndarray) -> Iterator[str]:
    """Formats to be tried. The lines of "% ", which four formats have, are read once."""
    if bytes(data[:2]) == b"% ":
        yield ENCODINGS.get(version(data), "dat")
        yield "text"
    else:
        yield from (name for name in FORMATS if name not in ENCODINGS.values())
