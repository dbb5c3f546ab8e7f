"""The loop that unfolds an LZ4 block; it writes nowhere but into the room that it is given."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def block(data, out, at):
    """Unfold `data` into `out` from index `at` on; a match may reach back to out[0].

    The index behind the last byte written, or -1: the block ends within a sequence, -2: a match reaches before the start,
    -3: `out` is too small.
    """
    i, n = 0, len(data)
    while i < n:
        token = data[i]
        i += 1
        length = numba.int64(token >> 4)
        if length == 15:
            while True:
                if i >= n:
                    return -1
                more = data[i]
                i += 1
                length += more
                if more != 255:
                    break
        if i + length > n:
            return -1
        if at + length > len(out):
            return -3
        for k in range(length):
            out[at + k] = data[i + k]
        i += length
        at += length
        if i == n:  # the last sequence has no match
            return at
        if i + 2 > n:
            return -1
        distance = numba.int64(data[i]) | numba.int64(data[i + 1]) << 8
        i += 2
        length = numba.int64(token & 15)
        if length == 15:
            while True:
                if i >= n:
                    return -1
                more = data[i]
                i += 1
                length += more
                if more != 255:
                    break
        length += 4
        if distance == 0 or distance > at:
            return -2
        if at + length > len(out):
            return -3
        for k in range(length):  # byte by byte: the match may overlap what it makes
            out[at + k] = out[at + k - distance]
        at += length
    return -1
