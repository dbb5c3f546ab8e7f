"""A leak by shifts, as Xylo has it: v falls by v / 2^dash in each step, in whole numbers, and never stops short of 0.

    v <- v - (v >> dash)          where that is not 0 (of |v|, the sign kept)
    v <- v - sign(v)              where the shift leaves nothing: the tail is a straight line

Source: rockpool, devices/xylo (its simulation XyloSim). A decay of 1 - 2^-dash is met up to that rounding, others are not met at all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neuro.errors import ParameterError, explain


def shifted(v: Any, dash: int) -> np.ndarray:
    """Membranes after one step without input. v: integers of any shape. dash: 0 or more; 0 empties it at once.

    >>> shifted([100, 88, 7, -7, 0], 3).tolist()
    [88, 77, 6, -6, 0]
    """
    v = np.asarray(v)
    if v.dtype.kind not in "iu" or isinstance(dash, bool) or not isinstance(dash, (int, np.integer)) or dash < 0:
        raise ParameterError(explain("shifted: whole numbers are shifted by 0 or more.", f"v {v.dtype}   dash {dash!r}"))
    v = v.astype(np.int64)
    size = np.abs(v)
    return v - np.sign(v) * np.where(size >> dash > 0, size >> dash, np.minimum(size, 1))


def dash_of(decay: float) -> int | None:
    """The shift whose decay 1 - 2^-dash is nearest, by the ratio of time constants: round(log2(1 / (1 - decay))). None: a membrane that does not leak.

    >>> [dash_of(d) for d in (0.0, 0.5, 0.75, 0.9, 1.0)]
    [0, 1, 2, 3, None]
    """
    if not 0 <= decay <= 1:
        raise ParameterError(explain("dash_of: a decay per step lies in 0 .. 1.", f"decay {decay!r}"))
    return None if decay == 1 else max(0, round(-math.log2(1 - decay)))
