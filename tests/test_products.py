"""The rules by which products are counted: readers of a convolution's input, values by kind, and few passes over what is counted."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import neuro
from neuro.products import found, reads

AXIS = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3))  # size taps stride padding dilation


@settings(max_examples=60, deadline=None)
@given(axes=st.lists(AXIS, min_size=1, max_size=2), transposed=st.booleans())
def test_reads_are_those_of_every_tap_in_turn(axes, transposed):
    sizes, taps, stride, padding, dilation = zip(*axes, strict=True)
    if transposed:
        outputs = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes]
    else:
        outputs = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]
    if min(outputs) < 1:
        return
    expected = torch.zeros(sizes, dtype=torch.float64)
    over = sizes if transposed else tuple(outputs)
    for place in itertools.product(*map(range, over)):
        for tap in itertools.product(*map(range, taps)):
            at = tuple(o * s - p + t * d for o, t, s, p, d in zip(place, tap, stride, padding, dilation, strict=True))
            if all(0 <= a < n for a, n in zip(at, outputs if transposed else sizes, strict=True)):
                expected[place if transposed else at] += 1
    assert torch.equal(reads(sizes, taps, stride, padding, dilation, transposed, (0,) * len(axes)), expected)


ODD = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 1e-30, float("inf"), float("-inf"), float("nan")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.uint8, torch.int64, torch.bool])
@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.sampled_from(ODD), min_size=1, max_size=6))
def test_values_by_kind_are_those_of_each_by_itself(dtype, values):
    if not dtype.is_floating_point:
        values = [abs(v) if dtype in (torch.uint8, torch.bool) else v for v in values if v == v and abs(v) != float("inf")]
    x = torch.tensor([values], dtype=torch.float64).to(dtype)
    each = [float(v) for v in x[0].double()]
    sums, count, negative = found(x, (1,))
    whole = [v for v in each if v and v == v and (abs(v) == float("inf") or v == round(v))]
    assert sums[:, 0].tolist() == [sum(v != 0 for v in each), sum(abs(v) == 1 for v in each), len(whole)]
    assert (count, negative) == (len(each), sum(v < 0 for v in each))


@pytest.mark.parametrize("value", [3, 16, 64, 128, 255])
def test_whole_numbers_whose_square_wraps_are_not_taken_for_ones(value):
    sums, _, _ = found(torch.full((1, 4), value, dtype=torch.uint8), (1,))
    assert sums[:, 0].tolist() == [4, 0, 4]


class Passes(TorchDispatchMode):
    """Elements that operators other than the convolution read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten.convolution.default and not func.is_view:
            self.elements += sum(t.numel() for t in tree_leaves((args, out)) if isinstance(t, torch.Tensor))
        return out


def test_counting_spikes_passes_over_them_a_few_times():
    """Time on two cores goes with the passes over the input; one copies the sample, and each operator reads and may write."""
    net, x = nn.Conv2d(64, 64, 3, padding=1, bias=False), (torch.rand(2, 64, 32, 32) < 0.3).float()
    with Passes() as counted:
        neuro.activity(net, x, batch_axis=0)
    assert counted.elements / x.numel() < 10
