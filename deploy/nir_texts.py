"""Texts of variable length in an HDF5 file, read from its bytes: on a damaged heap the library takes 4 GB, or goes round for ever.

A text is stored as a descriptor: length (4 bytes), address of a collection, index in it (4 bytes). A collection is "GCOL", a version,
its size, then objects: index (2 bytes), count of references (2), nothing (4), size, and the data filled up to 8 bytes. All are little
endian. Source: HDF5 File Format Specification 3.0, sections III.E "Global Heap" and IV.A.2.d, class 9.
"""

from __future__ import annotations

from typing import BinaryIO

from neuro.errors import FormatError, explain

MOST_LETTERS = 4_096  # of one text
MOST_TEXTS = 16_000  # of one array
MOST_OBJECTS = 1 << 18  # looked at in all


class Texts:
    """The texts of one open file."""

    def __init__(self, raw: BinaryIO, path: str, address: int, length: int):
        """`address` and `length` are the bytes that addresses and sizes take in this file."""
        self.raw, self.path, self.address, self.length = raw, path, address, length
        self.left, self.size = MOST_OBJECTS, raw.seek(0, 2)
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def refuse(self, where: str, what: str) -> FormatError:
        return FormatError(explain(f"{self.path}: {where} {what}", cure="The file is damaged; write it anew."))

    def read(self, offset: int, count: int, where: str) -> list[bytes]:
        """`count` texts whose descriptors begin at `offset`.

        Raises:
            FormatError: cut off, longer than `MOST_LETTERS`, not where they should be.
        """
        step = 4 + self.address + 4
        held = self._bytes(offset, count * step, where)
        return [self._text(held[i : i + step], where) for i in range(0, len(held), step)]

    def _text(self, descriptor: bytes, where: str) -> bytes:
        length, at, index = _number(descriptor[:4]), _number(descriptor[4:-4]), _number(descriptor[-4:])
        if length == 0:
            return b""
        if length > MOST_LETTERS:
            raise self.refuse(where, f"holds a text that is too large: {length} letters, limit {MOST_LETTERS}.")
        if at not in self.heaps:
            self.heaps[at] = self._objects(at, where)
        start, size = self.heaps[at].get(index, (0, 0))
        if size != length:
            raise self.refuse(where, "holds a text that is not where it should be.")
        return self._bytes(start, length, where)

    def _objects(self, at: int, where: str) -> dict[int, tuple[int, int]]:
        """Offset and size of the data of every object of the collection at this address, by index."""
        head = self._bytes(at, 8 + self.length, where)
        if head[:5] != b"GCOL\1":
            raise self.refuse(where, "holds a text that is not where it should be.")
        found: dict[int, tuple[int, int]] = {}
        here, end = at + len(head), at + _number(head[8:])
        while here + 8 + self.length <= end:
            self.left -= 1
            if self.left < 0:
                raise self.refuse(where, "holds too many texts: the graph is too large.")
            entry = self._bytes(here, 8 + self.length, where)
            index, size = _number(entry[:2]), _number(entry[8:])
            if index == 0:  # what is left over
                break
            here += len(entry)
            found[index] = (here, size)
            here += -(-size // 8) * 8
        return found

    def _bytes(self, offset: int, count: int, where: str) -> bytes:
        if offset + count > self.size:
            raise self.refuse(where, "is cut off.")
        self.raw.seek(offset)
        return self.raw.read(count)


def _number(held: bytes) -> int:
    return int.from_bytes(held, "little")
