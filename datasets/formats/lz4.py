"""LZ4: frames and blocks, unfolded into no more memory than the caller allows.

    frame    uint32 0x184D2204; flags; size of blocks; checksum of these; blocks; uint32 0; checksum if flagged
    block    uint32 size (bit 31: stored as it is), then sequences: token (literals 4 bits, match - 4 4 bits; 15: more bytes
             follow), literals, uint16 distance, further length of the match

Checksums are stepped over and not verified: a damaged block may give wrong bytes. A match may reach back into the blocks
before, as writers of linked blocks expect.
Source: "LZ4 Frame Format" 1.6 and "LZ4 Block Format", Y. Collet.
"""

from __future__ import annotations

import numpy as np

from neuro.datasets.formats.block import foreign

MAGIC = 0x184D2204
LARGEST = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}  # bytes of a block


def unfold(data: np.ndarray, most: int) -> np.ndarray:
    """The bytes that a frame holds.

    Raises:
        FormatError: no frame, damage, or more than `most` bytes.
    """
    from neuro.datasets.formats.lz4_loop import block  # numba is heavy

    blocks, largest = parts(data)
    room = sum(size if stored else min(largest, 255 * size + 64) for _, size, stored in blocks)
    out, at = np.empty(min(room, max(most, 0)), np.uint8), 0
    for start, size, stored in blocks:
        piece = data[start : start + size]
        if stored:
            if at + size > len(out):
                raise foreign("LZ4: a frame holds more than is allowed.", f"{most} bytes")
            out[at : at + size] = piece
            at += size
            continue
        end = block(np.ascontiguousarray(piece), out[: min(len(out), at + largest)], at)
        if end < 0:
            why = (
                "it ends within a sequence",
                "a match reaches before the start",
                f"it holds more than {min(largest, most - at)} bytes",
            )[-end - 1]
            raise foreign("LZ4: a block cannot be unfolded.", f"block at byte {start}: {why}")
        at = end
    return out[:at]


def parts(data: np.ndarray) -> tuple[list[tuple[int, int, bool]], int]:
    """Start, size and whether it is stored, of each block of a frame; and the largest size of an unfolded block."""
    raw = bytes(data[:20])
    if len(raw) < 7 or int.from_bytes(raw[:4], "little") != MAGIC:
        raise foreign("LZ4: no frame begins here.", f"it begins with {raw[:4]!r}")
    flags, size = raw[4], raw[5] >> 4 & 7
    if flags >> 6 != 1 or size not in LARGEST or flags & 1:
        raise foreign(
            "LZ4: a frame of another version, or with a dictionary.", f"flags {flags:#04x}   size of blocks {size}"
        )
    at, found = 7 + (8 if flags & 8 else 0), []
    while True:
        word = bytes(data[at : at + 4])
        if len(word) < 4:
            raise foreign("LZ4: the frame has no end.", f"{len(data)} bytes")
        length = int.from_bytes(word, "little")
        if length == 0:
            return found, LARGEST[size]
        stored, length = length >> 31 == 1, length & 0x7FFFFFFF
        if length > LARGEST[size] or at + 4 + length > len(data):
            raise foreign("LZ4: a block is larger than its frame.", f"{length} bytes at byte {at} of {len(data)}")
        found.append((at + 4, length, stored))
        at += 4 + length + (4 if flags & 16 else 0)
