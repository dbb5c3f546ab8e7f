"""Bits: what is packed is read back, whatever its size, values, type and layout, and takes the memory that it should."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.kernels.bits import PLANES, pack

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 9000), most=st.sampled_from([1, 2, PLANES, PLANES + 1, 200]), dtype=st.sampled_from(FLOATS), seed=st.integers(0, 99))
def test_whole_numbers_round_trip(size, most, dtype, seed):
    x = torch.randint(0, most + 1, (size,), generator=torch.Generator().manual_seed(seed)).to(dtype)
    kept = pack(x)
    back = kept.unpack()
    assert back.dtype == dtype and back.shape == x.shape and torch.equal(back, x)
    if x.numel() and int(x.max()) == most:
        words = (size + 63) // 64
        assert kept.data.nbytes == (8 * words * most if most <= PLANES else size)
        assert kept.events == (int(x.long().sum()) if most <= PLANES else -1)


@pytest.mark.parametrize("x", [
    torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0.0, -1.0]), torch.tensor([float("nan"), 1.0]), torch.tensor([float("inf")]), torch.tensor([256.0]),
    torch.tensor([1, 0]), torch.tensor([True, False]), torch.tensor([1 + 0j]),
])  # fmt: skip
def test_other_values_and_types_stay_as_they_are(x):
    kept = pack(x)
    assert not kept.is_planes and kept.data.data_ptr() == x.data_ptr()
    assert torch.equal(torch.nan_to_num(kept.unpack()), torch.nan_to_num(x))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2), (1, 1), ()])
def test_empty_and_tiny(shape):
    x = torch.ones(shape)
    assert pack(x).unpack().shape == x.shape and torch.equal(pack(x).unpack(), x)


def test_any_layout():
    x = (torch.rand(7, 9, 11) < 0.3).float()
    for y in (x.transpose(0, 2), x[::2, 1:], x[:1].expand(5, -1, -1), x.flip(0)):
        assert torch.equal(pack(y).unpack(), y)


def test_negative_zero_is_zero():
    kept = pack(torch.tensor([-0.0, 1.0]))
    assert kept.is_planes and kept.unpack().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_words_on_several_threads(threads):
    torch.set_num_threads(threads)
    x = (torch.rand(1_000_003) < 0.1).float()
    kept = pack(x)
    assert kept.events == int(x.sum()) and torch.equal(kept.unpack(), x)
