"""Maximum over windows, written out as a serial Numba kernel over image planes for one kind of window.

A row of the input is taken apart into `s_w` phases, columns s_w apart side by side, so that each tap of the windows of a row of outputs is
a run of neighbouring numbers; the taps are written out one by one, because a loop over them would keep the columns from becoming vector instructions.
"""

from __future__ import annotations

from neuro.kernels.cpu_block import HEADER, KEPT, READ, WORK, WRITTEN
from neuro.kernels.writing import MARK, Text

WIDE = 4096  # columns of an input with its padding, at most
_ROWS, (_FIRST, _NAMED, _FOUND), (_INTO, _NAMES) = WORK, [1 << k for k in KEPT[:3]], [1 << k for k in WRITTEN[:2]]  # groups of memory
_LANES = 16  # a row of outputs is filled up to vectors of as many

Pair = tuple[int, int]


def forward_source(dtype: str, kernel: Pair, stride: Pair, padding: Pair) -> str:
    """Source of `forward(x, signs, y, taps, low, high)` over planes.

    y [P, H_out, W_out] = largest of each window of x [P, H, W], taps: which of its k_h * k_w places was the first to hold it. signs, of
    planes that repeat them in order: 1 for the largest, -1 for the smallest, 0 for what is largest of x * 0, which is the first place, or the last of
    those that are not finite.
    """
    (k_h, k_w), (s_h, s_w), (p_h, p_w) = kernel, stride, padding
    reach = WIDE // s_w + 48 + k_w  # from one phase to the next
    text = Text()
    text(MARK)
    with text.block("def forward(x, signs, y, taps, low, high):"):
        for line in ("H = x.shape[1]", "W = x.shape[2]", "H_out = y.shape[1]", "W_out = y.shape[2]", "LOWEST = F(-INFINITE)"):
            text(line)
        text(f"filled = (W_out + {_LANES - 1}) // {_LANES} * {_LANES}")
        text(f"rows = scratch({k_h * s_w * reach})")
        text(f"found = scratch({WIDE + _LANES})")
        text(f"first = scratch({WIDE + _LANES}, Whole(0))")
        text(f"named = scratch({WIDE + _LANES}, Whole(0))")
        with text.block(f"for i in range({k_h * s_w * reach}):"):
            text(f"poke(rows, i, LOWEST, {_ROWS})")
        with text.block("for c in range(filled):"):
            text(f"poke(first, c, Whole(0), {_FIRST})")
        with text.block("for p in range(low, high):"):
            text("sign = signs[p % len(signs)]")
            with text.block("for h in range(H_out):"):
                text(f"top = h * {s_h} - {p_h}")
                text("begin = max(0, -top)")
                text("into = row(y, p, h, 0)")
                text("names = row(taps, p, h, 0)")
                if p_w or p_h:
                    with text.block("for c in range(W_out):"):
                        text(f"poke(first, c, begin * {k_w} + max(0, {p_w} - c * {s_w}), {_FIRST})")
                _take_rows(text, k_h, k_w, s_w, padding, reach)
                with text.block("for c in range(filled):"):
                    text("best = LOWEST")
                    text(f"name = peek(first, c, {_FIRST})")
                    for i in range(k_h):
                        for j in range(k_w):
                            text(f"value = peek(rows, c + {(i * s_w + j % s_w) * reach + j // s_w}, {_ROWS})")
                            text("more = (value > best) | (value != value)")
                            text("best = where(more, value, best)")
                            text(f"name = where(more, Whole({i * k_w + j}), name)")
                    text(f"poke(found, c, best, {_FOUND})")
                    text(f"poke(named, c, name, {_NAMED})")
                with text.block("for c in range(W_out):"):
                    text(f"poke(into, c, peek(found, c, {_FOUND}) * sign, {_INTO})")
                    text(f"poke(names, c, peek(named, c, {_NAMED}), {_NAMES})")
                with text.block("if sign == ZERO:"), text.block("for c in range(W_out):"):
                    text(f"place = peek(named, c, {_NAMED})")
                    text(f"taken = row(x, p, top + place // {k_w}, c * {s_w} - {p_w} + place % {k_w})")
                    text(f"poke(into, c, peek(taken, 0, {READ}), {_INTO})")
    return HEADER.format(dtype=dtype) + "\n".join(text.lines) + "\n"


def _take_rows(text: Text, k_h: int, k_w: int, s_w: int, p: tuple[int, int], reach: int) -> None:
    """The k_h rows of the input from `top` on, times sign, into their phases; what can lie outside is asked about, and lowest."""
    p_h, p_w = p
    head = -p_w % s_w  # columns before the first group of s_w
    group = (p_w + head) // s_w
    text(f"groups = max(0, W - {head}) // {s_w}")
    for i in range(k_h):
        bases = [(i * s_w + q) * reach for q in range(s_w)]
        outside = i < p_h or i >= k_h - p_h
        with text.block(f"if (top + {i} >= 0) & (top + {i} < H):" if outside else "if True:"):
            text(f"given_{i} = row(x, p, top + {i}, 0)")
            with text.block("for m in range(groups):"):
                for q in range(s_w):
                    text(f"poke(rows, m + {bases[q] + group}, peek(given_{i}, {s_w} * m + {head + q}, {READ}) * sign, {_ROWS})")
            for w in range(head):
                with text.block(f"if W > {w}:"):
                    text(f"poke(rows, {bases[(w + p_w) % s_w] + (w + p_w) // s_w}, peek(given_{i}, {w}, {READ}) * sign, {_ROWS})")
            for q in range(s_w - 1):  # behind the groups
                with text.block(f"if W > groups * {s_w} + {head + q}:"):
                    text(f"poke(rows, {bases[q] + group} + groups, peek(given_{i}, groups * {s_w} + {head + q}, {READ}) * sign, {_ROWS})")
        if outside:
            with text.block("else:"), text.block(f"for m in range(W_out + {k_w}):"):
                for base in bases:
                    text(f"poke(rows, m + {base}, LOWEST, {_ROWS})")
