"""Max pooling equals torch's, ties, edges and gradients included."""

import pytest
import torch
import torch.nn.functional as F

import neuro
from neuro.kernels import max_pooling
from neuro.kernels.max_pooling import max_pool2d


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(max_pooling, "_WORTH", 0)


CASES = [
    ((2, 3, 8, 8), (3, 3), (2, 2), (1, 1)), ((1, 1, 5, 7), (2, 2), (2, 2), (0, 0)), ((2, 2, 9, 4), (3, 2), (1, 3), (1, 0)), ((1, 2, 6, 6), (5, 5), (3, 1), (2, 2)),
    ((3, 1, 1, 1), (1, 1), (1, 1), (0, 0)), ((1, 2, 7, 20), (2, 4), (3, 4), (1, 2)), ((2, 1, 33, 31), (3, 3), (2, 2), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("values", ["spikes", "reals", "negative"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torch(case, values, dtype):
    shape, kernel, stride, padding = case
    x = torch.randn(shape, dtype=dtype)
    x = (x > 0.8).to(dtype) if values == "spikes" else x - 9 if values == "negative" else x
    found = []
    for pool in (max_pool2d, F.max_pool2d):
        leaf = x.clone().requires_grad_()
        y = pool(leaf, kernel, stride, padding)
        weights = torch.arange(1, y.numel() + 1, dtype=dtype).view(y.shape)
        found.append((y, torch.autograd.grad((y * weights).sum(), leaf)[0]))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-6, atol=0)
    assert type(y.grad_fn).__name__ == "MaxPool2DWithIndicesBackward0" and "_MaxPool" in type(max_pool2d(leaf, kernel, stride, padding).grad_fn).__name__


def test_a_nan_is_kept():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = torch.nan
    assert torch.equal(max_pool2d(x, (2, 2), (2, 2), (0, 0)).isnan(), F.max_pool2d(x, 2).isnan())


def test_other_layouts_and_twice_differentiated():
    x = torch.randn(4, 6, 5, 3, dtype=torch.float64).permute(3, 2, 0, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: max_pool2d(v, (2, 3), (2, 2), (0, 1)), x)
    assert torch.autograd.gradgradcheck(lambda v: max_pool2d(v, (2, 3), (2, 2), (0, 1)).square(), x)


def test_what_is_kept_for_backward_is_a_byte_per_output():
    kept = []
    x = torch.rand(2, 4, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.nbytes), t)[1], lambda t: t):
        y = neuro.layers.MaxPool2d(3, 2, 1)(x[None])
    assert sum(kept) == y.numel()


@pytest.mark.parametrize("options", [{"dilation": 2}, {"ceil_mode": True}, {"return_indices": True}])
def test_options_that_only_torch_has(options):
    x = torch.randn(2, 1, 3, 11, 11)
    if "return_indices" in options:
        with pytest.raises(neuro.errors.ParameterError, match="return_indices"):
            neuro.layers.MaxPool2d(3, **options)
    else:
        assert torch.equal(neuro.layers.MaxPool2d(3, **options)(x)[0], F.max_pool2d(x[0], 3, **options))


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(RuntimeError):
        max_pool2d(torch.zeros(1, 1, 2, 2), (3, 3), (1, 1), (0, 0))
    with pytest.raises(RuntimeError, match="pad"):
        max_pool2d(torch.zeros(1, 1, 4, 4), (2, 2), (1, 1), (2, 2))
