"""Products with spikes: equal to torch's own in value and gradient within summation error, exactly so with exact weights."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuro
from neuro.kernels import choosing, spike_conv
from neuro.kernels.spike_conv import spike_conv1d, spike_conv2d
from neuro.kernels.spike_linear import spike_linear

pytestmark = pytest.mark.usefixtures("form")


def spikes(*shape, density=0.2, most=1, dtype=torch.float32):
    return ((torch.rand(shape) < density) * torch.randint(1, most + 1, shape)).to(dtype)


def assert_same(y, z, magnitude):
    """Within 1e-5 of the sum of magnitudes, the error that another order of summation may make in float32; 1e-13 in float64."""
    assert y.shape == z.shape and y.dtype == z.dtype
    bound = 1e-13 if y.dtype == torch.float64 else 1e-5
    assert ((y - z).abs() <= bound * magnitude + 1e-30).all(), float(((y - z).abs() / magnitude).max())


def assert_products_agree(ours, theirs, x, weight, bias):
    """Values and every gradient of two products; magnitudes from the dense product of absolute values."""
    tensors = [t.detach().clone().requires_grad_() for t in (x, weight, *([] if bias is None else [bias]))]
    y, z = ours(*tensors), theirs(*tensors)
    grad = torch.randn(z.shape, dtype=z.dtype)
    absolute = [t.detach().abs().requires_grad_() for t in tensors]
    size = theirs(*absolute)
    assert_same(y, z, size.detach())
    bounds = torch.autograd.grad(size, absolute, grad.abs())
    for a, b, bound in zip(torch.autograd.grad(y, tensors, grad), torch.autograd.grad(z, tensors, grad), bounds, strict=True):
        assert_same(a, b, bound)
    assert "Spike" in ours(*tensors).grad_fn.name() or "Spike" in str(ours(*tensors).grad_fn.next_functions)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 700), inner=st.integers(1, 140), outer=st.integers(1, 200), density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    most=st.integers(1, 4), double=st.booleans(), biased=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_linear(rows, inner, outer, density, most, double, biased, seed):
    torch.manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    bias = torch.randn(outer, dtype=dtype) if biased else None
    x = spikes(rows, inner, density=density, most=most, dtype=dtype)
    assert_products_agree(spike_linear, F.linear, x, torch.randn(outer, inner, dtype=dtype), bias)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 4), c=st.integers(1, 5), o=st.integers(16, 35), groups=st.integers(1, 3), h=st.integers(1, 20), w=st.integers(1, 20),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    most=st.integers(1, 3), double=st.booleans(), biased=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_conv2d(n, c, o, groups, h, w, kernel, stride, padding, dilation, most, double, biased, seed):
    torch.manual_seed(seed)
    for size, k, p, d in zip((h, w), kernel, padding, dilation, strict=True):
        if size + 2 * p < d * (k - 1) + 1:
            return
    dtype = torch.float64 if double else torch.float32
    x, weight = spikes(n, c * groups, h, w, most=most, dtype=dtype), torch.randn(o * groups, c, *kernel, dtype=dtype)
    bias = torch.randn(o * groups, dtype=dtype) if biased else None
    how = (stride, padding, dilation, groups)

    def ours(x, w, b=None):
        return spike_conv2d(x, w, b, *how)

    def theirs(x, w, b=None):
        return F.conv2d(x, w, b, *how)

    assert_products_agree(ours, theirs, x, weight, bias)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 3, 2, 2), (3, 1, 1, 1)])
def test_conv1d(stride, padding, dilation, groups):
    how = (stride, padding, dilation, groups)
    x, weight, bias = spikes(3, 8, 50), torch.randn(32, 8 // groups, 3), torch.randn(32)
    assert_products_agree(lambda x, w, b: spike_conv1d(x, w, b, *how), lambda x, w, b: F.conv1d(x, w, b, *how), x, weight, bias)


@pytest.mark.parametrize("density", [0.02, 1.0])
def test_more_rows_than_are_listed_at_a_time(density):
    x = spikes(2 * 4096 + 5, 9, density=density, most=2)  # 9 inputs: rows begin in the middle of words
    assert_products_agree(spike_linear, F.linear, x, torch.randn(150, 9), torch.randn(150))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("outer", [1, 31, 32, 64, 101])
@pytest.mark.parametrize("inner", [192, 193, 384, 385])  # up to 1536 bytes of a row of the weight 64 are turned at a time, beyond it 32
def test_short_and_long_rows_of_the_weight(inner, outer, double):
    dtype = torch.float64 if double else torch.float32
    x, weight, bias = spikes(37, inner, density=0.1, dtype=dtype), torch.randn(outer, inner, dtype=dtype), torch.randn(outer, dtype=dtype)
    assert_products_agree(spike_linear, F.linear, x, weight, bias)
    with torch.no_grad():
        together = spike_linear(x, weight, bias)
        assert torch.equal(torch.cat([spike_linear(x[a:b], weight, bias) for a, b in ((0, 1), (1, 20), (20, 37))]), together)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_without_gradients(without):
    x, w, k = spikes(50, 30), torch.randn(20, 30, requires_grad=True), torch.randn(16, 30, 1, 1, requires_grad=True)
    y, z = spike_linear(x, w), spike_conv2d(x[..., None, None], k)
    with without():
        found = spike_linear(x, w), spike_conv2d(x[..., None, None], k)
    assert torch.equal(found[0], y) and torch.equal(found[1], z) and not found[0].requires_grad and not found[1].requires_grad


def test_a_gradient_longer_than_a_block():
    x, weight = spikes(40, 8, 40, 40), torch.randn(32, 8, 3, 3)  # 40 images of 200 kB: several blocks of 4 MiB
    assert_products_agree(lambda x, w: spike_conv2d(x, w, padding=(1, 1)), lambda x, w: F.conv2d(x, w, padding=1), x, weight, None)


@pytest.mark.parametrize("product", ["linear", "conv"])
def test_exact_weights_give_exactly_the_dense_result(product):
    x = spikes(9, 24) if product == "linear" else spikes(2, 6, 9, 7)
    weight = (torch.randn(40, 24) if product == "linear" else torch.randn(40, 6, 3, 3)).mul(256).round() / 256
    if product == "linear":
        assert torch.equal(spike_linear(x, weight), F.linear(x, weight))
    else:
        assert torch.equal(spike_conv2d(x, weight), F.conv2d(x, weight))


def gradients(threads):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    w, k = torch.randn(300, 200, requires_grad=True), torch.randn(32, 16, 3, 3, requires_grad=True)
    x, image = spikes(2000, 200), spikes(20, 16, 30, 30)
    y, z = spike_linear(x, w), spike_conv2d(image, k, padding=(1, 1))
    return [y, z, *torch.autograd.grad([y, z], [w, k], [torch.randn_like(y), torch.randn_like(z)])]


def test_the_number_of_threads_changes_no_bit():
    alone = gradients(1)
    for threads in (2, 3, 5):
        assert all(torch.equal(a, b) for a, b in zip(alone, gradients(threads), strict=True))


def test_three_threads_at_once():
    x, w = spikes(500, 300), torch.randn(200, 300)
    expected, found = spike_linear(x, w), [None] * 3

    def work(k):
        with torch.no_grad():
            found[k] = [spike_linear(x, w) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(torch.equal(expected, y) for ys in found for y in ys)


@pytest.mark.parametrize("which", ["x", "weight", "bias", "x weight", "weight bias"])
def test_only_the_gradients_that_are_wanted(which):
    x, w, b = (t.requires_grad_(name in which.split()) for name, t in (("x", spikes(5, 7)), ("weight", torch.randn(4, 7)), ("bias", torch.randn(4))))
    k = torch.randn(16, 7, 1, 1, requires_grad="weight" in which)
    c = torch.randn(16, requires_grad="bias" in which)
    (spike_linear(x, w, b).sum() + spike_conv2d(x.view(5, 7, 1, 1), k, c).sum()).backward()
    for name, found in (("x", x), ("weight", w), ("bias", b), ("weight", k), ("bias", c)):
        assert (found.grad is not None) == (name in which.split())


def kept_bytes(product, x):
    """Bytes that backward keeps of a product, parameters left out."""
    kept = {}

    def see(t):
        if not isinstance(t, nn.Parameter):
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(see, lambda t: t):
        y = product(x)
    assert y.requires_grad
    return sum(kept.values())


def test_inputs_are_kept_as_bits():
    x, layer = spikes(4, 16, 64), neuro.layers.Linear(64, 32)
    assert kept_bytes(layer, x) == x.numel() // 8
    image, conv = spikes(2, 3, 4, 16, 16), neuro.layers.Conv2d(4, 16, 3, padding=1)
    assert kept_bytes(conv, image) == image.numel() // 8
    assert kept_bytes(layer, 2 * x) == 2 * x.numel() // 8
    assert kept_bytes(layer, 0.5 * x) == 4 * x.numel()


@pytest.mark.parametrize("x", [torch.randn(3, 4, 8), torch.full((3, 4, 8), float("nan")), torch.ones(3, 4, 8) * 17, -torch.ones(3, 4, 8)])
def test_what_is_not_spikes_is_torchs_own(x):
    layer = neuro.layers.Linear(8, 20)
    assert torch.equal(torch.nan_to_num(layer(x)), torch.nan_to_num(F.linear(x, layer.weight, layer.bias)))


@pytest.mark.parametrize("shape", [(0, 3, 8), (3, 0, 8), (2, 3, 0, 8)])
def test_empty_inputs(shape):
    layer = neuro.layers.Linear(8, 4)
    y = layer(torch.zeros(shape))
    y.sum().backward()
    assert y.shape == (*shape[:-1], 4) and not layer.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_other_types_are_torchs_own(dtype):
    x, w = spikes(5, 7).to(dtype), torch.randn(4, 7).to(dtype)
    assert torch.equal(spike_linear(x, w), F.linear(x, w))


def network():
    return nn.Sequential(neuro.layers.Linear(12, 24), neuro.neurons.LIF(), neuro.layers.Linear(24, 5))


def test_autocast_takes_torchs_own():
    net, x = network(), spikes(3, 4, 12)
    with torch.autocast("cpu", torch.bfloat16):
        y = net[0](x)
    assert y.dtype == torch.bfloat16


def test_compiles_in_one_graph():
    net, x = network(), spikes(3, 4, 12)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), net(x), atol=1e-5)
    compiled(x).sum().backward()


def test_transforms_of_functions():
    w, x = torch.randn(4, 7), spikes(5, 3, 7)
    assert torch.allclose(torch.func.vmap(spike_linear, (0, None))(x, w), F.linear(x, w), atol=1e-6)
    found = torch.func.jacrev(lambda w: spike_linear(x, w).sum())(w)
    assert torch.allclose(found, x.sum((0, 1)).expand(4, 7))
    _, tangent = torch.func.jvp(lambda w: spike_linear(x, w), (w,), (w,))
    assert torch.allclose(tangent, F.linear(x, w), atol=1e-6)


def test_activity_counts_the_same():
    net, x = network(), spikes(3, 2, 12)
    with choosing.deterministic("dense"):
        expected = neuro.activity(net, x)
    assert repr(neuro.activity(net, x)) == repr(expected)


def test_deepcopy_and_other_padding():
    conv = neuro.layers.Conv2d(3, 16, 3, padding="same", padding_mode="circular")
    plain = nn.Conv2d(3, 16, 3, padding="same", padding_mode="circular")
    plain.load_state_dict(conv.state_dict())
    x = spikes(2, 2, 3, 6, 6)
    assert torch.equal(copy.deepcopy(conv)(x), conv(x)) and torch.equal(conv(x).flatten(0, 1), plain(x.flatten(0, 1)))


def test_any_layout():
    x, w = spikes(6, 9, 8), torch.randn(5, 8)
    for y in (x.transpose(0, 1), x[:, ::2], x[:1].expand(4, -1, -1)):
        assert torch.allclose(spike_linear(y, w), F.linear(y, w), atol=1e-5)
    turned = torch.randn(8, 5).t()
    assert torch.allclose(spike_linear(x, turned), F.linear(x, turned), atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: spike_linear(spikes(5, 8), torch.randn(4, 7)), lambda: spike_linear(spikes(5, 7), torch.randn(4, 7), torch.randn(3)),
        lambda: spike_conv2d(spikes(2, 3, 5, 5), torch.randn(16, 4, 3, 3)), lambda: spike_conv2d(spikes(2, 4, 5, 5), torch.randn(17, 2, 3, 3), groups=2),
        lambda: spike_conv2d(spikes(2, 4, 5, 5), torch.randn(16, 4, 3, 3), torch.randn(9)), lambda: spike_conv2d(spikes(2, 4, 5, 5), torch.randn(16, 4, 6, 3)),
        lambda: spike_conv2d(spikes(2, 4, 5, 5), torch.randn(16, 4, 3, 3), stride=(0, 1)), lambda: spike_conv1d(spikes(2, 4, 5), torch.randn(16, 4, 3), padding=-1),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call):
    with pytest.raises((RuntimeError, ValueError)):
        call()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 20), kernel=st.integers(1, 5), padding=st.integers(0, 6), dilation=st.integers(1, 3))
def test_every_tap_of_every_input_points_into_the_frame(size, kernel, padding, dilation):
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return
    pair = (padding, padding)
    top, left, frame_h, frame_w = spike_conv._frame(
        spike_conv.sizes_of(torch.Size((1, 1, size, size)), torch.Size((16, 1, kernel, kernel)), (1, 1), pair, (dilation, dilation), 1)
    )
    reached = [i + padding - a * dilation + top for i in range(size) for a in range(kernel)]
    assert min(reached) >= 0 and max(reached) < min(frame_h, frame_w) and top == left
