"""The loop that reads lines of numbers; what the columns are stands in `text.py`."""

from __future__ import annotations

import numba
import numpy as np

LARGE = 10**17  # a mantissa beyond it takes no further digit
SPACE, COMMA, NEWLINE, RETURN, TAB = 32, 44, 10, 13, 9


@numba.njit(cache=True, nogil=True)
def number(data, at, end, shift):
    """The decimal number in data[at:end] times 10^shift, rounded half up: (value, its fraction is zero, it is a number).

    `True` and `False`, as Python writes them, are 1 and 0.
    """
    if at < end and (data[at] | 32 == 116 or data[at] | 32 == 102) and end - at >= 4:
        return np.int64(data[at] | 32 == 116), True, True
    sign, value, digits, point, scale = 1, np.int64(0), 0, False, shift
    if at < end and (data[at] == 45 or data[at] == 43):
        sign = -1 if data[at] == 45 else 1
        at += 1
    while at < end:
        c = data[at]
        if 48 <= c <= 57:
            digits += 1
            if value < LARGE:
                value = value * 10 + (c - 48)
                scale -= point
            elif not point:
                return np.int64(0), False, False
        elif c == 46 and not point:
            point = True
        else:
            break
        at += 1
    if at < end and data[at] | 32 == 101:  # an exponent
        at += 1
        power, power_sign, many = 0, 1, 0
        if at < end and (data[at] == 45 or data[at] == 43):
            power_sign = -1 if data[at] == 45 else 1
            at += 1
        while at < end and 48 <= data[at] <= 57 and many < 4:
            power = power * 10 + (data[at] - 48)
            many += 1
            at += 1
        scale += power_sign * power
        digits = digits if many else 0
    if at < end or digits == 0:
        return np.int64(0), False, False
    exact = True
    while scale > 0 and value:
        if value > LARGE:
            return np.int64(0), False, False
        value *= 10
        scale -= 1
    left = np.int64(0)
    while scale < 0 and value:  # the last digit that goes rounds
        left = value % 10
        exact = exact and left == 0
        value //= 10
        scale += 1
    if scale == 0 and left >= 5:
        value += 1
    return sign * value, exact, True


@numba.njit(cache=True, nogil=True)
def decode(data, separator, columns, places, shift, last, x, y, t, p, state):
    """Number of events in the lines of `data`; `state`: [0] bytes used, [1] 1 if the line behind them is no event.

    `places` (int64 [4]) are the columns of x, y, t, p among `columns`; 10^shift units of time are a microsecond;
    `last`: the end of `data` is that of the file, so that its last line needs no newline.
    """
    n, at = 0, 0
    fields = np.zeros((columns, 2), np.int64)
    state[1] = 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] != NEWLINE:
            end += 1
        if end == len(data) and not last:
            break
        count, i = 0, at
        while i < end:
            while i < end and (data[i] == SPACE or data[i] == TAB or data[i] == RETURN):
                i += 1
            if i >= end and count == 0:
                break
            start = i
            while (
                i < end and data[i] != separator and not (separator == SPACE and (data[i] == TAB or data[i] == RETURN))
            ):
                i += 1
            stop = i
            while stop > start and (data[stop - 1] == SPACE or data[stop - 1] == TAB or data[stop - 1] == RETURN):
                stop -= 1
            if separator == SPACE and start == stop:
                break
            if count < columns:
                fields[count, 0], fields[count, 1] = start, stop
            count += 1
            i += 1
        if count:
            good = count == columns
            if good:
                a, whole_a, is_a = number(data, fields[places[0], 0], fields[places[0], 1], 0)
                b, whole_b, is_b = number(data, fields[places[1], 0], fields[places[1], 1], 0)
                c, _, is_c = number(data, fields[places[2], 0], fields[places[2], 1], shift)
                d, whole_d, is_d = number(data, fields[places[3], 0], fields[places[3], 1], 0)
                good = is_a and is_b and is_c and is_d and whole_a and whole_b and whole_d
                good = good and 0 <= a < 32767 and 0 <= b < 32767 and -1 <= d <= 1
            if not good:
                state[1] = 1
                break
            x[n], y[n], t[n], p[n] = a, b, c, d == 1
            n += 1
        at = end + 1
    state[0] = min(at, len(data))
    return n
