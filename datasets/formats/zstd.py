"""Zstandard frames, unfolded into no more memory than the caller allows, by whichever decoder this Python has.

Python 3.14 brings `compression.zstd`; before it one of the packages backports.zstd, pyzstd and zstandard is needed. Frames
that refer back by more than 128 MiB are refused by all of them. Checksums are verified where a frame has one. Source: RFC
8878.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from neuro.datasets.formats.block import foreign
from neuro.errors import FormatError, explain

DECODERS = ("compression.zstd", "backports.zstd", "pyzstd", "zstandard")
PIECE = 256  # bytes given to a decoder that knows no bound: at most 64 blocks of 128 KiB come of them


def unfold(data: np.ndarray, most: int) -> np.ndarray:
    """The bytes that a frame holds.

    Raises:
        FormatError: no decoder, no frame, damage, or more than `most` bytes.
    """
    module = decoder()
    how: Callable[..., tuple[bytes, bool]] = by_pieces if module.__name__ == "zstandard" else at_once
    try:
        out, whole = how(module, data.tobytes(), max(most, 0) + 1)
    except (module.ZstdError, ValueError, EOFError, MemoryError) as error:
        raise foreign("Zstandard: a frame is damaged.", str(error)[:300]) from error
    if len(out) > most:
        raise foreign("Zstandard: a frame holds more than is allowed.", f"{most} bytes")
    if not whole:
        raise foreign("Zstandard: a frame has no end.", f"{len(data)} bytes")
    return np.frombuffer(out, np.uint8)


def decoder() -> ModuleType:
    """The first decoder that is installed.

    Raises:
        FormatError: none is.
    """
    for name in DECODERS:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    act = "The file is compressed with Zstandard, and this Python has no decoder for it."
    raise FormatError(explain(act, f"looked for: {', '.join(DECODERS)}", cure="pip install zstandard"))


def at_once(module: Any, data: bytes, most: int) -> tuple[bytes, bool]:
    """At most `most` bytes, and whether the frame ends with them; by the decoders that take a bound."""
    tool = module.ZstdDecompressor()
    return tool.decompress(data, most), tool.eof


def by_pieces(module: Any, data: bytes, most: int) -> tuple[bytes, bool]:
    """The same by the package zstandard, whose output has no bound: a little of the input at a time."""
    tool, parts, count = module.ZstdDecompressor().decompressobj(), [], 0
    for at in range(0, len(data), PIECE):
        parts.append(tool.decompress(data[at : at + PIECE]))
        count += len(parts[-1])
        if tool.eof or count >= most:
            break
    return b"".join(parts), tool.eof
