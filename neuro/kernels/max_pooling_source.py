"""Maximum over windows, written out as a serial Numba kernel over image planes for one kind of window.

A row of the input is taken apart into `s_w` phases, columns s_w apart side by side, so that each tap of the windows of a row of outputs is
a run of neighbouring numbers; the taps are written out one by one, because a loop over them would keep the columns from becoming vector instructions.
"""

from __future__ import annotations

from neuro.kernels.cpu_block import HEADER
from neuro.kernels.writing import Text

WIDE = 4096  # columns of an input with its padding, at most
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
    with text.block("def forward(x, signs, y, taps, low, high):"):
        text("H, W, H_out, W_out = x.shape[1], x.shape[2], y.shape[1], y.shape[2]")
        text(f"filled = (W_out + {_LANES - 1}) // {_LANES} * {_LANES}")
        text("LOWEST = F(-np.inf)")
        text(f"rows = np.full({k_h * s_w * reach}, LOWEST, F)")
        text("first, named, found = np.zeros(filled, np.int32), np.empty(filled, np.int32), np.empty(filled, F)")
        with text.block("for p in range(low, high):"):
            text("sign = signs[p % len(signs)]")
            with text.block("for row in range(H_out):"):
                text(f"top = row * {s_h} - {p_h}")
                text("begin = max(0, -top)")
                text("into, names = y[p, row], taps[p, row]")
                if p_w or p_h:
                    with text.block("for c in range(W_out):"):
                        text(f"first[c] = begin * {k_w} + max(0, {p_w} - c * {s_w})")
                _take_rows(text, k_h, k_w, s_w, padding, reach)
                with text.block("for c in range(filled):"):
                    text("best, name = LOWEST, first[c]")
                    for i in range(k_h):
                        for j in range(k_w):
                            text(f"value = rows[c + {(i * s_w + j % s_w) * reach + j // s_w}]")
                            text("more = (value > best) | (value != value)")
                            text("best = value if more else best")
                            text(f"name = np.int32({i * k_w + j}) if more else name")
                    text("found[c] = best")
                    text("named[c] = name")
                with text.block("for c in range(W_out):"):
                    text("into[c] = found[c] * sign")
                    text("names[c] = named[c]")
                with text.block("if sign == ZERO:"), text.block("for c in range(W_out):"):
                    text(f"into[c] = x[p, top + named[c] // {k_w}, c * {s_w} - {p_w} + named[c] % {k_w}]")
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
        with text.block(f"if 0 <= top + {i} < H:" if outside else "if True:"):
            text(f"given = x[p, top + {i}]")
            text(f"whole = given[{head}:]")
            for q, base in enumerate(bases):
                text(f"r{q} = rows[{base + group} : {base + group} + groups]")
            with text.block("for m in range(groups):"):
                for q in range(s_w):
                    text(f"r{q}[m] = whole[{s_w} * m + {q}] * sign")
            for w in range(head):
                with text.block(f"if W > {w}:"):
                    text(f"rows[{bases[(w + p_w) % s_w] + (w + p_w) // s_w}] = given[{w}] * sign")
            for q in range(s_w - 1):  # behind the groups
                with text.block(f"if W > groups * {s_w} + {head + q}:"):
                    text(f"rows[{bases[q] + group} + groups] = given[groups * {s_w} + {head + q}] * sign")
        if outside:
            with text.block("else:"), text.block(f"for m in range(W_out + {k_w}):"):
                for base in bases:
                    text(f"rows[m + {base}] = LOWEST")
