"""Encoders."""

import pytest
import torch

from neuro import encode
from neuro.errors import ParameterError, ShapeError


def test_direct_is_a_view_of_equal_steps():
    x = torch.randn(2, 3, 4)
    y = encode.direct(x, 5)
    assert y.shape == (5, 2, 3, 4) and all(torch.equal(step, x) for step in y)
    assert y.data_ptr() == x.data_ptr() and y.stride(0) == 0


def test_rate_has_its_rate_and_repeats_with_its_generator():
    x = torch.tensor([[0.0, 0.25, 0.75, 1.0]])
    y = encode.rate(x, 4000, generator=torch.Generator().manual_seed(3))
    assert set(y.unique().tolist()) == {0, 1}
    torch.testing.assert_close(y.mean(0), x, rtol=0, atol=0.03)
    assert torch.equal(y, encode.rate(x, 4000, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(y, encode.rate(x, 4000, generator=torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_latency_is_its_formula(steps):
    x = torch.rand(50, 7)
    y = encode.latency(x, steps, threshold=0.1)
    when = ((steps - 1) * (1 - x)).round()
    expected = (torch.arange(steps)[:, None, None] == when) & (x >= 0.1)
    assert torch.equal(y, expected.float())
    assert torch.equal(encode.latency(x[3:4], steps, threshold=0.1), y[:, 3:4])  # whatever else is in the batch


@pytest.mark.parametrize("off", [False, True])
def test_delta_is_its_formula(off):
    x = torch.randn(9, 2, 5)
    y, rise = encode.delta(x, 0.4, off_spikes=off), torch.diff(x, dim=0, prepend=torch.zeros(1, 2, 5))
    assert torch.equal(y, (rise >= 0.4).float() - (rise <= -0.4).float() * off)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    x = torch.rand(2, 3).to(dtype)
    assert encode.rate(x, 3).dtype == encode.latency(x, 3).dtype == encode.delta(x[None], 0.1).dtype == dtype


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (lambda: encode.direct(torch.zeros(1), 0), ParameterError, "steps=0"),
        (lambda: encode.rate(torch.zeros(1), 2.5), ParameterError, "steps=2.5"),
        (lambda: encode.rate(torch.tensor([-0.5, 2.0]), 2), ShapeError, "from -0.5 to 2"),
        (lambda: encode.rate(torch.tensor([torch.nan]), 2), ShapeError, "0 .. 1"),
        (lambda: encode.latency(torch.tensor([3, 5]), 2), ShapeError, "int64(.|\n)*255"),
        (lambda: encode.latency(torch.zeros(1, 1), 2, threshold=0.0), ParameterError, "threshold=0.0"),
        (lambda: encode.delta(torch.zeros(3), 0.1), ShapeError, "axis 0"),
        (lambda: encode.delta(torch.zeros(3, 1), -1), ParameterError, "threshold=-1"),
    ],
)
def test_misuse_is_said(act, error, said):
    with pytest.raises(error, match=said):
        act()
