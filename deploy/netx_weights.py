"""What lava-dl makes of a dense matrix before Lava multiplies by it, and where it is not what the file says.

lava-dl shifts a matrix up until it fills eight bits and has the sum shifted down again (`optimize_weight_bits`); Lava's
Dense then decides on the signs anew, clips, and drops the lowest bits. Four kinds of matrices do not survive that.
Source: lava-dl 0.6.0 `netx/utils.py`, lava-nc 0.10.0 `utils/weightutils.py`, `proc/dense/models.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Held(NamedTuple):
    """The matrix by which Lava multiplies, and the bits by which it then shifts the sum down again."""

    weight: np.ndarray
    shift: int


def held_by_lava_dl(weight: np.ndarray, columns: int | None = None) -> Held | None:
    """The matrix [O, I] after lava-dl and Lava; None where lava-dl fails.

    columns: of a layer with feedback, those of its input. lava-dl scales input and feedback together; each is a Dense of its own.

    >>> held_by_lava_dl(np.array([[3, -2]]))
    Held(weight=array([[ 192, -128]]), shift=6)
    """
    weight = np.asarray(weight, np.int64)
    low, high = int(weight.min()), int(weight.max())
    if low == high == 0:
        return None                                     # it divides by the largest weight
    mixed = not (high < 0 or low >= 0)
    if mixed:
        weight = np.clip(weight, -256, 254) if high > 254 or (low < -256 and high > 0) else weight
        low, high = int(weight.min()), int(weight.max())
        room = min(127 / high if high else math.inf, 128 / -low)
    else:
        room = 255 / high if low >= 0 else 256 / -low
    shift = math.floor(math.log2(room)) + mixed
    if shift < 0:
        return None                                     # it shifts by a negative count, which has no meaning
    zeros = next((n for n in range(8, 0, -1) if not (weight % 2**n).any()), 0)
    bits = 8 - shift - (zeros - mixed)
    shifted = weight << shift
    parts = [shifted] if columns is None else [shifted[:, :columns], shifted[:, columns:]]
    drops = [8 - bits + (int(part.min()) < 0 < int(part.max())) for part in parts]
    if min(drops) < 0:
        return None                                     # it drops a negative count of bits
    return Held(np.hstack([_dense(part, drop) for part, drop in zip(parts, drops, strict=True)]), shift)


def _dense(weight: np.ndarray, drop: int) -> np.ndarray:
    """Lava's Dense: signs from the matrix itself, clipped to eight bits, the lowest of them dropped."""
    if weight.min() >= 0:
        return np.clip(weight, 0, 255) >> drop << drop
    if weight.max() <= 0:
        return -(np.clip(-weight, 0, 255) >> drop << drop)
    return np.clip(weight, -256, 255) >> drop << drop


def problem(weight: np.ndarray, reach: int, columns: int | None = None) -> str:
    """Why lava-dl would run another matrix than this one; empty if it runs exactly this one.

    Args:
        weight: int [O, I].
        reach: the largest absolute sum that it can give, from the input's range.
        columns: see `held_by_lava_dl`.

    >>> problem(np.array([[0, -64], [3, -5]]), 100), problem(np.array([[0, -64]]), 64)
    ('', 'lava-dl would multiply by -32 where the matrix has -64')
    """
    held = held_by_lava_dl(weight, columns)
    if held is None:
        return "lava-dl fails on a matrix without weights" if not weight.any() else f"lava-dl has no form for weights {weight.min()}..{weight.max()}"
    wrong = np.argwhere(held.weight != np.asarray(weight, np.int64) << held.shift)
    if len(wrong):
        o, i = wrong[0]
        return f"lava-dl would multiply by {held.weight[o, i] / 2**held.shift:g} where the matrix has {weight[o, i]}"
    if reach << held.shift >= 2**31:
        return f"lava-dl shifts the sum up by {held.shift} bits, and {reach} then passes 32 bits"
    return ""
