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
    ((3, 1, 1, 1), (1, 1), (1, 1), (0, 0)), ((2, 3, 4, 5), (3, 3), (2, 2), (1, 1)), ((1, 2, 7, 20), (2, 4), (3, 4), (1, 2)), ((2, 1, 33, 31), (3, 3), (2, 2), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("values", ["spikes", "reals", "negative"])
def test_equals_torch(case, values):
    assert_equals_torch(case, values, torch.float32)


@pytest.mark.parametrize("values", ["spikes", "reals", "negative"])
def test_equals_torch_in_double(values):
    assert_equals_torch(CASES[0], values, torch.float64)


def assert_equals_torch(case, values, dtype):
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


def test_windows_that_hold_nothing_but_the_lowest_number_name_their_first_place():
    x = torch.full((1, 2, 5, 6), -torch.inf)
    x[0, 1, 2, 3] = 1
    found = []
    for pool in (max_pool2d, F.max_pool2d):
        leaf = x.clone().requires_grad_()
        y = pool(leaf, (3, 3), (2, 2), (1, 1))
        found += [y, torch.autograd.grad(y, leaf, torch.arange(1.0, y.numel() + 1).view(y.shape))[0]]
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])


def test_signs_take_the_largest_the_smallest_or_the_first():
    dtype = torch.float32
    windows = max_pooling.Windows((3, 2), (1, 3), (1, 0))
    x = torch.randn(2, 3, 9, 37, dtype=dtype)
    y, taps = max_pooling.forward(x, windows, torch.tensor([1.0, -1.0, 0.0], dtype=dtype))
    largest, smallest = F.max_pool2d(x, *windows), -F.max_pool2d(-x, *windows)
    assert torch.equal(y[:, 0], largest[:, 0]) and torch.equal(y[:, 1], smallest[:, 1])
    first = x[:, 2][:, [0, *range(8)]][:, :, range(0, 36, 3)]
    assert torch.equal(y[:, 2], first)
    g, slope, offset = torch.randn_like(y), torch.randn(3, dtype=dtype), torch.randn(3, dtype=dtype)
    plain = max_pooling.backward(g, taps, windows, x.shape)
    both = max_pooling.backward(g, taps, windows, x.shape, (x, slope, offset))
    torch.testing.assert_close(both, plain + slope.view(-1, 1, 1) * x + offset.view(-1, 1, 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(plain.sum((-2, -1)), g.sum((-2, -1)), rtol=1e-4, atol=1e-5)  # nothing is lost


def test_every_number_of_threads_and_dirty_memory_give_the_same(monkeypatch):
    def dirty(shape, dtype):
        return torch.full(shape, 77 if dtype == torch.uint8 else torch.nan, dtype=dtype)

    monkeypatch.setattr(max_pooling, "fresh", dirty)
    x, found, threads = torch.randn(8, 16, 32, 31), [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            leaf = x.clone().requires_grad_()
            y = max_pool2d(leaf, (3, 3), (2, 2), (1, 1))
            found.append((y, torch.autograd.grad(y, leaf, y.detach())[0]))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert torch.equal(found[0][0], F.max_pool2d(x, 3, 2, 1))


@pytest.mark.parametrize(("shape", "kernel"), [((1, 1, 3, 5000), (2, 2)), ((1, 1, 20, 20), (9, 9))], ids=["wide rows", "large windows"])
def test_what_has_no_kernel_is_torchs(shape, kernel):
    x = torch.randn(shape, requires_grad=True)
    y = max_pool2d(x, kernel, kernel, (0, 0))
    assert torch.equal(y, F.max_pool2d(x, kernel)) and "_MaxPool" not in type(y.grad_fn).__name__
