"""The container of MATLAB's files of version 5 to 7: variables by name, as arrays that are views of the file where it is not packed.

    128 bytes   text, uint16 version 0x0100, `IM` (little-endian) or `MI`
    element     uint32 type, uint32 size, bytes, filled up to 8; or uint16 size, uint16 type (swapped where big-endian) and 4 bytes
    matrix (14) elements: flags (class, complex), int32 sides, name, then values by column, or of a structure the names of
                its fields and a matrix each; type 15: an element packed by zlib

Kept are real numbers and structures of them with one element; all else is stepped over. Values may be stored in a smaller
type than the matrix has; they stay in it. Source: "MAT-File Format", The MathWorks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neuro.datasets.formats.block import foreign

START = 128
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, PACKED = 14, 15
STRUCTURE, NUMBERS = 2, range(6, 16)  # classes
DEEPEST = 4  # structures within structures
SIDES = range(8, 129, 4)  # bytes of the sides of a matrix, at most 32 of them
LONGEST = 63  # characters of a name


class Element(NamedTuple):
    """One element: its type, its bytes, and how many bytes it takes with its tag and filling."""

    type: int
    data: np.ndarray
    taken: int


def recognise(data: np.ndarray) -> bool:
    """The version and the mark of the byte order, behind a text."""
    return bytes(data[124:128]) in (b"\x00\x01IM", b"\x01\x00MI") and bytes(data[:4]).isascii()


def element(data: np.ndarray, at: int, order: str) -> Element:
    """The element at a byte.

    Raises:
        FormatError: it is not all there.
    """
    tag = bytes(data[at : at + 8])
    if len(tag) < 8:
        raise foreign("MATLAB: the file ends within an element.", f"{len(tag)} bytes at byte {at}")
    first, size = np.frombuffer(tag, f"{order}u4").tolist()
    if first >> 16:
        kind, size, start, taken = first & 0xFFFF, first >> 16, at + 4, 8
        if size > 4:
            raise foreign("MATLAB: a small element of more than 4 bytes.", f"{size} bytes at byte {at}")
    else:
        kind, start = first, at + 8
        taken = 8 + size + (0 if kind == PACKED else -size % 8)
    if start + size > len(data):
        raise foreign(
            "MATLAB: an element reaches behind the end.", f"{size} bytes at byte {at}, {len(data) - start} are left"
        )
    return Element(kind, data[start : start + size], taken)


def elements(data: np.ndarray, order: str, at: int = 0) -> Iterator[Element]:
    """The elements from a byte on."""
    while at < len(data):
        one = element(data, at, order)
        yield one
        at += one.taken


def variables(data: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """Arrays by name, those of structures as `NAME.FIELD`; packed ones may take `most` bytes together.

    Raises:
        FormatError: damage, or more than is allowed.
    """
    order = "<" if bytes(data[126:128]) == b"IM" else ">"
    found: dict[str, np.ndarray] = {}
    for one in elements(data, order, START):
        if one.type == PACKED:
            inner = unpacked(one.data, most)
            most -= len(inner)
            one = element(inner, 0, order)
        if one.type == MATRIX:
            found.update(matrix(one.data, order))
    return found


def unpacked(data: np.ndarray, most: int) -> np.ndarray:
    """The bytes that zlib packed."""
    tool = zlib.decompressobj()
    try:
        out = tool.decompress(data, max(most, 0) + 1)
    except zlib.error as error:
        raise foreign("MATLAB: a packed variable is damaged.", str(error)) from error
    if len(out) > most:
        raise foreign("MATLAB: the file unfolds to more than is allowed for its size.", f"{most} bytes are left")
    if not tool.eof:
        raise foreign("MATLAB: a packed variable has no end.", f"{len(data)} bytes")
    return np.frombuffer(out, np.uint8)


def matrix(data: np.ndarray, order: str, prefix: str = "", depth: int = 0) -> dict[str, np.ndarray]:
    """A variable by its name; of a structure, its fields by theirs; nothing where it is of another kind."""
    parts = elements(data, order)
    flags, sides, name = (next(parts, None) for _ in range(3))
    if flags is None or sides is None or name is None or len(flags.data) < 8 or len(sides.data) not in SIDES:
        return {}  # such as an empty field
    word = int(np.frombuffer(flags.data[:4].tobytes(), f"{order}u4")[0])
    kind, shape = word & 255, np.frombuffer(sides.data.tobytes(), f"{order}i4").tolist()
    title = prefix or bytes(name.data[:LONGEST]).decode("latin-1")
    if kind == STRUCTURE and shape == [1, 1] and depth < DEEPEST:
        return structure(parts, order, title, depth)
    real = next(parts, None) if kind in NUMBERS and not word & 0x800 else None
    if real is None or real.type not in TYPES or min(shape, default=-1) < 0:
        return {}
    values = real.data[: len(real.data) // int(TYPES[real.type][1]) * int(TYPES[real.type][1])]
    values = values.view(f"{order}{TYPES[real.type]}")
    stated = 1
    for side in shape:
        stated *= side
    if stated != len(values):
        raise foreign(f"MATLAB: {title} has not as many values as it states.", f"{shape} stated, {len(values)} values")
    return {title: values.reshape(shape[::-1]).T}


def structure(parts: Iterator[Element], order: str, title: str, depth: int) -> dict[str, np.ndarray]:
    """The fields of a structure as variables."""
    width, names = next(parts, None), next(parts, None)
    if width is None or names is None or len(width.data) < 4:
        return {}
    each = int(np.frombuffer(width.data[:4].tobytes(), f"{order}i4")[0])
    if not 1 <= each <= LONGEST + 1:
        raise foreign(f"MATLAB: the names of the fields of {title} cannot be.", f"{each} characters each")
    text, found = bytes(names.data), {}
    for k in range(0, len(text), each):
        field = next(parts, None)
        if field is None:
            break
        if field.type == MATRIX:
            key = text[k : k + each].split(b"\0")[0].decode("latin-1")
            found.update(matrix(field.data, order, f"{title}.{key}", depth + 1))
    return found
