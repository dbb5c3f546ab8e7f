"""Texts that go to LLVM without Numba's inference of types: what they compute, and what is refused."""

import threading

import numba
import numpy as np
import pytest

from neuro.kernels import cache, words
from neuro.kernels.cpu_block import HEADER, Block, Layout
from neuro.kernels.expression import Node
from neuro.kernels.writing import MARK


def compiled(body, arguments, dtype="float32"):
    lines = "\n    ".join(body.strip().split("\n"))
    return cache.function(HEADER.format(dtype=dtype) + f"{MARK}\ndef forward({arguments}):\n    {lines}\n", "forward")


LOOPS = """
work = scratch(64)
for i in range(8):
    poke(work, i, x[i], 1)
for t in range(7, -1, -2):
    out = row(y, t, 1)
    if (t > 2) & (t != 5):
        for i in range(min(t, 3), max(t, 4)):
            poke(out, i, peek(work, i, 1) * x[t] + F(t), 1024)
    else:
        poke(out, 0, F(-t), 1024)
for k in range(n, 0):
    poke(row(y, 0, 0), 0, ONE, 1024)
poke(row(y, 0, 0), n, F(y.shape[0] * 10 + len(x)), 1024)
"""


def test_loops_branches_and_memory():
    x, y = np.arange(8, dtype=np.float32) / 4, np.zeros((8, 9), np.float32)
    expected = y.copy()
    for t in (7, 5, 3, 1):
        if t in (7, 3):
            for i in range(3, max(t, 4)):
                expected[t, 1 + i] = x[i] * x[t] + t
        else:
            expected[t, 1] = -t
    expected[0, 5] = 88
    compiled(LOOPS, "x, y, n")(x, y, 5)
    assert np.array_equal(y, expected)


def test_a_loop_may_have_no_rounds():
    y = np.zeros(1, np.float32)
    kernel = compiled("for i in range(low, high):\n    poke(row(y, 0), 0, ONE, 1024)\nfor i in range(high, low, -1):\n    poke(row(y, 0), 0, ONE, 1024)", "y, low, high")
    for low in (3, -2):
        kernel(y, low, low)
    assert y[0] == 0
    kernel(y, 0, 1)
    assert y[0] == 1


WORDS = ["exp", "tanh", "log1p", "atan", "floor"]


def over(word):
    @numba.njit(error_model="numpy")
    def apply(x, y):
        for i in range(x.size):
            y[i] = word(x[i])

    return apply


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_words_are_numbas(dtype):
    """Bit for bit, also those that are written out in place of a call."""
    x = np.concatenate([np.random.default_rng(1).normal(size=500) * 20, [0.0, -0.0, np.inf, -np.inf, np.nan, 88.72283, 88.8, -87.4, 1e-30]]).astype(dtype)
    y, expected = (np.zeros((len(WORDS), len(x)), dtype) for _ in range(2))
    lines = [f"    poke(row(y, {k}, 0), i, {word}(x[i]), 1024)" for k, word in enumerate(WORDS)]
    compiled("\n".join(["for i in range(len(x)):", *lines]), "x, y", dtype)(x, y)
    for word, found in zip(WORDS, expected, strict=True):
        over(getattr(words, word))(x, found)
    np.testing.assert_array_equal(y, expected)


def test_halves_are_numbas():
    bits = np.arange(1 << 16, dtype=np.uint16)
    x = np.random.default_rng(2).normal(size=1 << 16).astype(np.float32)
    wide, narrow = np.zeros(1 << 16, np.float32), np.zeros(1 << 16, np.uint16)
    compiled("for i in range(len(x)):\n    poke(row(y, 0), i, widen(bits[i]), 1024)\n    poke(row(z, 0), i, narrow(x[i]), 2048)", "bits, x, y, z")(bits, x, wide, narrow)
    expected, halves = np.zeros_like(wide), np.zeros_like(narrow)
    over(words.widen)(bits, expected)
    over(words.narrow)(x, halves)
    assert np.array_equal(wide.view(np.uint32), expected.view(np.uint32)) and np.array_equal(narrow, halves)


@pytest.mark.parametrize("value", [-2.0, 0.5, float("inf"), float("-inf"), float("nan"), 1e300])
def test_a_constant_is_one_operand(value):
    """-2.0 ** 2.0 is -4 in Python; a step that means (-2.0) ** 2.0 gets 4."""
    nodes = [Node("constant", (), value, "plain"), Node("constant", (), 2.0, "plain"), Node("pow", (0, 1), None, "plain")]
    y = np.zeros(1)
    compiled(f"poke(row(y, 0), 0, {Block(nodes, Layout(False, (), False)).number(2)}, 1024)", "y", "float64")(y)
    np.testing.assert_array_equal(y[0], value * value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("a = 1\nfor i in range(3):\n    a = a + i", "a is bound outside"), ("while n:\n    n = n - 1", "no translation of `while"),
        ("poke(row(x, 0), 0, [n], 1024)", r"no translation of `\[n\]"), ("a, b = n, n", "no translation of `a, b"),
        ("if n > 1:\n    n = 1", "n is bound outside"),
    ],
)  # fmt: skip
def test_what_the_language_lacks_is_named(body, says):
    """A name that a loop binds anew would keep its first value in LLVM's single assignments."""
    with pytest.raises(Exception, match=says):
        compiled(body, "x, n")(np.zeros(3, np.float32), 3)


def test_arrays_lie_in_one_piece():
    with pytest.raises(Exception, match="contiguous"):
        compiled("poke(row(x, 0, 0), 0, ONE, 1024)", "x")(np.zeros((4, 4), np.float32)[:, ::2])


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_items_that_threads_share_are_done_once_each(chunk):
    kernel = compiled("for item in shared(counter, items, chunk):\n    poke(row(y, 0), item, y[item] + ONE, 1024)\n    poke(row(first, 0), item, low, 2048)", "y, first, counter, items, chunk")
    y, first, counter = np.zeros(5000, np.float32), np.zeros(5000, np.int64), np.zeros(1, np.int64)
    threads = [threading.Thread(target=lambda: kernel(y, first, counter, 4999, chunk)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert np.array_equal(y, [1.0] * 4999 + [0.0]), "each once, and none beyond the last"
    assert np.array_equal(first[:-1], np.arange(4999) // chunk * chunk)
    kernel(y, first, counter, 4999, chunk)
    assert y.sum() == 4999, "a call that finds nothing left"
