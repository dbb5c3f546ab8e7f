"""Gradients of products, of norms with neurons and of pooling that are differentiated again: those of torch's own operations."""

import contextlib
import gc
import weakref

import pytest
import torch
import torch.autograd.functional as AF
import torch.nn.functional as F

import neuro
from neuro.kernels import choosing
from neuro.kernels import spike_linear as spike_linear_module
from neuro.kernels.spike_attention import dense, spike_attention
from neuro.kernels.spike_conv import spike_conv1d, spike_conv2d
from neuro.kernels.spike_linear import spike_linear
from neuro.layers import BatchNorm, Conv2d, Linear, MaxPool2d, Sequential, SpikingSelfAttention
from neuro.neurons import LIF, PLIF
from neuro.surrogate import Levels, Rectangle, Sigmoid, Triangle

DOUBLE = torch.float64
pytestmark = pytest.mark.usefixtures("form")


def conv(*how):
    return lambda x, w, b: spike_conv2d(x, w, b, *how), lambda x, w, b: F.conv2d(x, w, b, *how)


PRODUCTS = {
    "linear": (spike_linear, F.linear, (5, 3, 7), (4, 7), (4,)),
    "conv": (*conv((1, 1), (1, 1)), (3, 4, 6, 6), (20, 4, 3, 3), (20,)),
    "stride and groups": (*conv((2, 1), (1, 2), (1, 2), 2), (3, 4, 9, 9), (32, 2, 3, 3), (32,)),
    "conv1d": (lambda x, w, b: spike_conv1d(x, w, b, 2, 1), lambda x, w, b: F.conv1d(x, w, b, 2, 1), (3, 4, 11), (16, 4, 3), (16,)),
    "attention": (lambda q, k, v: spike_attention(q, k, v, 2, 0.5), lambda q, k, v: dense(q, k, v, 2, 0.5), (2, 1, 9, 4), (2, 1, 9, 4), (2, 1, 9, 4)),
}
EVERY = pytest.mark.parametrize(("ours", "theirs", "shapes"), [(p[0], p[1], p[2:]) for p in PRODUCTS.values()], ids=PRODUCTS)


def first_and_second(product, tensors, needs, fire):
    """Gradients by those leaves that need them, and the gradients of a sum over those."""
    leaves = [t.detach().clone().requires_grad_(need) for t, need in zip(tensors, needs, strict=True)]
    y = product(*fire(leaves))
    wanted = [t for t in leaves if t.requires_grad]
    first = torch.autograd.grad((y * y.detach().cumsum(-1) + y.square()).sum(), wanted, create_graph=True)
    second = torch.autograd.grad(sum((k + 1) * v.square().sum() for k, v in enumerate(first)), wanted, allow_unused=True, materialize_grads=True)
    return y, [*first, *second]


def of(ours):
    """Which inputs of a product are spikes, made by a surrogate from what a leaf holds."""
    spikes = 3 if ours is PRODUCTS["attention"][0] else 1
    return lambda leaves: [Levels(2)(t) if spikes == 1 else Sigmoid()(t) for t in leaves[:spikes]] + leaves[spikes:]


@EVERY
@pytest.mark.parametrize("needs", [(True, True, True), (True, False, False), (False, True, False), (False, True, True), (True, False, True)])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_every_second_derivative_is_torchs(ours, theirs, shapes, needs, dtype):
    torch.manual_seed(0)
    tensors = [torch.randn(shape, dtype=dtype) for shape in shapes]
    y, found = first_and_second(ours, tensors, needs, of(ours))
    z, expected = first_and_second(theirs, tensors, needs, of(ours))
    assert "Spike" in y.grad_fn.name() + str(y.grad_fn.next_functions) and "Spike" not in z.grad_fn.name()
    assert any(v.any() for v in expected[len(expected) // 2 :])
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= (1e-12 if dtype == DOUBLE else 2e-5) * b.abs().max().clamp(min=1)


@EVERY
def test_by_differences(ours, theirs, shapes):
    """Of the first two derivatives by weight and bias; an attention product has only spikes, which cannot move a little."""
    if ours is PRODUCTS["attention"][0]:
        return
    torch.manual_seed(1)
    x = (torch.rand(shapes[0]) < 0.4).to(DOUBLE)
    weights = [torch.randn(shape, dtype=DOUBLE, requires_grad=True) for shape in shapes[1:]]
    assert torch.autograd.gradcheck(lambda w, b: ours(x, w, b).square(), weights, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda w, b: ours(x, w, b).square(), weights, fast_mode=True)


def test_a_third_derivative():
    torch.manual_seed(2)
    u, w, found = torch.randn(4, 3, 6, dtype=DOUBLE), torch.randn(5, 6, dtype=DOUBLE), []
    for product in (spike_linear, F.linear):
        leaves = [t.clone().requires_grad_() for t in (u, w)]
        total = product(Sigmoid()(leaves[0]), leaves[1]).square().sum()
        for _ in range(3):
            total = sum(g.square().sum() for g in torch.autograd.grad(total, leaves, create_graph=True))
        found.append(total.detach())
    assert found[0] != 0
    torch.testing.assert_close(*found, rtol=1e-11, atol=0)


def test_a_constant_gradient_keeps_its_history():
    """Where torch's once_differentiable would drop it without a word."""
    x, w = (torch.rand(4, 3, 7) < 0.5).float().requires_grad_(), torch.randn(5, 7, requires_grad=True)
    by_x, by_w = torch.autograd.grad(spike_linear(x, w).sum(), (x, w), create_graph=True)
    (mixed,) = torch.autograd.grad(by_x.sum(), w, retain_graph=True)
    assert torch.equal(mixed, torch.full_like(w, 12.0))
    (mixed,) = torch.autograd.grad(by_w.sum(), x)
    assert torch.equal(mixed, torch.full_like(x, 5.0))


def test_what_is_made_from_one_another_is_counted_once():
    """PLIF's gain from its decay, and keys from queries: what leads from one to the other is the outer graph's."""
    torch.manual_seed(0)
    x, found = torch.randn(4, 3, 5, dtype=DOUBLE), []
    for by_loop in (False, True):
        neuron, leaf = PLIF(spike=Sigmoid()).double(), x.clone().requires_grad_()
        with neuro.scanning.plain_loop() if by_loop else contextlib.nullcontext():
            first = torch.autograd.grad(neuron(leaf).square().sum(), (leaf, neuron.w), create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(g.square().sum() for g in first), (leaf, neuron.w))])
    u = torch.randn(2, 1, 9, 4, dtype=DOUBLE, requires_grad=True)
    for product in (spike_attention, dense):
        q = Sigmoid()(u)
        k = q.square()
        y = product(q, k, q, 2, 0.5)
        found.append(torch.autograd.grad((y * y.detach().cumsum(-1)).sum(), (u, q, k), create_graph=True))
    for few in (found[:2], found[2:]):
        for a, b in zip(*few, strict=True):
            assert b.any()
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_what_is_kept_of_the_input_is_its_bits():
    """The tensor that remembers where spikes came from holds none of them."""
    u, w, kept = torch.randn(8, 64, 256, requires_grad=True), torch.randn(5, 256, requires_grad=True), []
    x = Sigmoid()(u)
    alive = weakref.ref(x)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.nbytes), t)[1], lambda t: t):
        y = spike_linear(x, w)
    assert sum(kept) == x.numel() // 8 + w.nbytes
    del x
    gc.collect()
    assert alive() is None
    (first,) = torch.autograd.grad(y.square().sum(), w, create_graph=True)
    assert torch.autograd.grad(first.sum(), u)[0].any()


def maps(spike, hooked=False):
    """Products behind neurons, behind norms and pooling; in double, so that no spike is another by rounding."""
    torch.manual_seed(3)
    net = Sequential(
        Conv2d(2, 16, 3, padding=1, bias=False), BatchNorm(16), MaxPool2d(2), LIF(spike=spike), Conv2d(16, 24, 3, padding=1, bias=False), BatchNorm(24), LIF(spike=spike),
        Conv2d(24, 16, 3, 2), LIF(spike=spike), neuro.layers.Tokens(), Linear(16, 12), PLIF(spike=spike), Linear(12, 3),
    )  # fmt: skip
    with torch.no_grad():
        for module in net:
            if isinstance(module, BatchNorm):
                module.weight.uniform_(0.5, 1.5), module.bias.uniform_(0.2, 0.8)
            elif isinstance(module, (Conv2d, Linear)):
                module.weight.mul_(2.0)
    if hooked:
        for module in net:
            module.register_forward_hook(lambda *_: None)
            module.register_full_backward_hook(lambda *_: None)
    return net.double(), torch.randn(3, 2, 2, 16, 16, dtype=DOUBLE)  # no two places of a window are equal


def tokens(spike, hooked=False):
    torch.manual_seed(4)
    net = Sequential(Linear(16, 16, bias=False), BatchNorm(16, axis=-1), LIF(spike=spike), SpikingSelfAttention(16, 2, lambda threshold: LIF(threshold=threshold, spike=spike)), Linear(16, 3))
    if hooked:
        for module in net.modules():
            module.register_full_backward_hook(lambda *_: None)
    return net.double(), (torch.rand(3, 2, 20, 16) < 0.5).double()


def penalised(net, x):
    """All gradients of a loss with a penalty on its own gradients, by input and parameters."""
    leaf = x.clone().requires_grad_()
    first = torch.autograd.grad(net(leaf).square().sum(), [leaf, *net.parameters()], create_graph=True, allow_unused=True)
    net.zero_grad()
    (net(leaf).sum() + sum(g.square().sum() for g in first if g is not None)).backward()
    return [leaf.grad, *[p.grad for p in net.parameters()]]


def assert_close(found, expected, tolerance=1e-10):
    largest = max(float(b.abs().max()) for b in expected)  # a bias before a norm has a gradient of 0, but for rounding
    assert largest > 0 and any(b.any() for b in expected[1:])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("make", [maps, tokens])
def test_a_penalty_on_gradients(make, hooked):
    net, x = make(Triangle(1.0), hooked)
    found = penalised(net, x)
    with choosing.deterministic("dense"), neuro.scanning.plain_loop():
        expected = penalised(net, x)
    assert_close(found, expected)


def test_where_the_gradient_by_spikes_is_gated(monkeypatch):
    """Taken whole where it is to be differentiated again, and at open places otherwise."""
    torch.manual_seed(6)
    formed, at_places = [], spike_linear_module.input_gradient_at
    monkeypatch.setattr(spike_linear_module, "input_gradient_at", lambda *a: formed.append(torch.is_grad_enabled()) or at_places(*a))
    net, x = Sequential(Linear(24, 32), LIF(spike=Rectangle(1.0), decay=0.5), Linear(32, 3)), 4 * (torch.rand(4, 9, 24) < 0.5).float()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p * 64).round() / 64)  # so membranes are exact, whatever the order of sums
    found = penalised(net, x)
    assert formed == [False, False]  # the last backward goes through both forwards
    with choosing.deterministic("dense"), neuro.scanning.plain_loop():
        expected = penalised(net, x)
    assert len(formed) == 2
    assert_close(found, expected, 1e-5)


def adapted(net, x, rate=0.1):
    """Loss after a step of gradient descent whose gradient is differentiated too (Finn et al. 2017, MAML), by the weights before it."""
    weights = dict(net.named_parameters())

    def loss(weights):
        return torch.func.functional_call(net, weights, x).square().mean()

    for _ in range(2):
        steps = torch.autograd.grad(loss(weights), list(weights.values()), create_graph=True)
        weights = {name: w - rate * step for (name, w), step in zip(weights.items(), steps, strict=True)}
    return torch.autograd.grad(loss(weights), list(net.parameters()))


@pytest.mark.parametrize("make", [maps, tokens])
def test_learning_to_learn(make):
    net, x = make(Triangle(1.0))
    found = adapted(net, x)
    with choosing.deterministic("dense"), neuro.scanning.plain_loop():
        expected = adapted(net, x)
    assert_close(found, expected)


@pytest.mark.parametrize("vectorize", [False, True])
def test_curvature(vectorize):
    torch.manual_seed(5)
    first, second, x = Linear(6, 8).double(), Linear(8, 3).double(), (torch.rand(3, 2, 6) < 0.6).double()

    def loss(w, b):
        y = LIF(spike=Sigmoid(), decay=0.5)(torch.func.functional_call(first, {"weight": w, "bias": b}, x))
        return second(y).square().sum()

    given = (4 * first.weight.detach(), first.bias.detach())
    direction = (torch.randn_like(given[0]), torch.randn_like(given[1]))
    found = []
    for dense_form in (False, True):
        with choosing.deterministic("dense" if dense_form else choosing.current()):
            blocks = AF.hessian(loss, given, vectorize=vectorize)
            found.append([*blocks[0], *blocks[1], *AF.hvp(loss, given, direction)[1], *AF.vhp(loss, given, direction)[1]])
    assert found[0][0].any()
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    product = sum((block.flatten(2) if block.dim() == 4 else block) @ v.flatten() for block, v in zip(found[0][:2], direction, strict=True))
    torch.testing.assert_close(product, found[0][4], rtol=1e-9, atol=1e-12)


def test_inside_a_checkpoint():
    net, x = tokens(Triangle(1.0))
    found = []
    for call in (net, lambda x: torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)):
        first = torch.autograd.grad(call(x).square().sum(), list(net.parameters()), create_graph=True, allow_unused=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first if g is not None), net[0].weight)[0])
    assert found[0].any()
    torch.testing.assert_close(*found, rtol=1e-12, atol=0)
