"""The functions that CPU kernels are written with, against double precision."""

import numba
import numpy as np
import pytest
import torch

from neuro.kernels import words


def over(function, dtype=np.float32):
    @numba.njit(error_model="numpy")
    def apply(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    def call(x):
        y = np.empty_like(x)
        apply(x, y)
        return y

    return call


@numba.njit
def exp(x):
    return words.exp(x)


@numba.njit
def tanh(x):
    return words.tanh(x)


@numba.njit
def there_and_back(bits):
    return words.narrow(words.widen(bits))


@numba.njit
def narrow(x):
    return words.narrow(x)


def units(got, exact):
    """Error in units in the last place of float32."""
    return np.abs(got.astype(np.float64) - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize(("function", "exact", "reach"), [(exp, np.exp, 87.3), (tanh, np.tanh, 20.0)], ids=["exp", "tanh"])
def test_within_two_units_of_the_last_place(function, exact, reach):
    x = np.concatenate([np.linspace(-reach, reach, 200_001), np.random.default_rng(0).normal(size=100_000)]).astype(np.float32)
    assert units(over(function)(x), exact(x.astype(np.float64))).max() <= 2


def test_edges():
    x = np.array([-np.inf, -200, -0.0, 0.0, 88.72283, 88.8, 200, np.inf, np.nan, -87.33655, -87.33654], np.float32)
    y = over(exp)(x)
    assert y[:4].tolist() == [0, 0, 1, 1] and np.isfinite(y[4]) and np.isinf(y[5:8]).all() and np.isnan(y[8]) and y[9] == 0 and 1.1e-38 < y[10] < 1.2e-38
    assert over(tanh)(x)[[0, 1, 2, 3, 6, 7]].tolist() == [-1, -1, 0, 0, 1, 1] and np.isnan(over(tanh)(x)[8])


def test_double_precision_is_the_librarys():
    x = np.linspace(-5, 5, 101)
    assert np.allclose(over(exp)(x), np.exp(x), rtol=1e-15) and np.allclose(over(tanh)(x), np.tanh(x), rtol=1e-15)


def test_every_bfloat16_survives():
    bits = np.arange(1 << 16, dtype=np.uint16)
    back = np.array([there_and_back(b) for b in bits], np.uint16)
    nan = np.isnan(torch.from_numpy(bits).view(torch.bfloat16).float().numpy())
    assert (back[~nan] == bits[~nan]).all()
    assert np.isnan(torch.from_numpy(back[nan]).view(torch.bfloat16).float().numpy()).all()


def test_narrowing_rounds_as_torch_does():
    x = torch.cat([torch.randn(20_000), torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -0.0, torch.inf])])
    got = torch.from_numpy(np.array([narrow(v) for v in x.numpy()], np.uint16)).view(torch.bfloat16)
    assert torch.equal(got, x.bfloat16())
