"""Gradients of many vectors at once: each is what it would be alone."""

import pytest
import torch
import torch.autograd.functional as AF
from torch import nn

import neuro
from neuro.kernels import choosing
from neuro.kernels.max_pooling import max_pool2d
from neuro.layers import AttentionProduct, BatchNorm, Conv2d, Linear, MaxPool2d, Sequential
from neuro.neurons import LIF, PLIF
from neuro.surrogate import Rectangle, Sigmoid


@pytest.fixture(autouse=True)
def by_events():
    with choosing.deterministic("events"):
        yield


def spikes(*shape):
    return (torch.rand(shape) < 0.3).float()


def attended(q, k):
    return AttentionProduct(2)(q, k, k)


CALLS = {
    "scan from zero": (LIF(), lambda: [torch.randn(4, 3, 20)]),
    "scan": (PLIF(), lambda: [torch.randn(4, 3, 20)]),
    "linear": (Linear(20, 7), lambda: [spikes(4, 3, 20)]),
    "conv": (Conv2d(2, 16, 3), lambda: [spikes(4, 3, 2, 8, 8)]),
    "attention": (attended, lambda: [spikes(2, 1, 9, 4), spikes(2, 1, 9, 4)]),
    "pooling": (lambda x: max_pool2d(x, (2, 2), (2, 2), (0, 0)), lambda: [torch.randn(2, 8, 64, 64)]),
    "norm and neuron": (Sequential(BatchNorm(8), LIF()), lambda: [torch.randn(4, 4, 8, 16, 16)]),
    "norm, pooling and neuron": (Sequential(BatchNorm(8), MaxPool2d(2), LIF()), lambda: [torch.randn(4, 4, 8, 16, 16)]),
    "gated": (Sequential(Linear(20, 20), LIF(spike=Rectangle(1.0)), Linear(20, 3)), lambda: [3 * spikes(4, 3, 20)]),
}
EVERY = pytest.mark.parametrize("name", CALLS)


def called(name):
    """Output, all that has a gradient, and three vectors."""
    torch.manual_seed(0)
    call, make = CALLS[name]
    inputs = [x.requires_grad_() for x in make()]
    y = call(*inputs)
    return y, [*inputs, *(call.parameters() if isinstance(call, nn.Module) else ())], torch.randn(3, *y.shape)


def alone(y, wanted, vectors):
    each = [torch.autograd.grad(y, wanted, v, retain_graph=True) for v in vectors]
    return [torch.stack(column) for column in zip(*each, strict=True)]


@EVERY
def test_each_is_what_it_is_alone(name):
    y, wanted, vectors = called(name)
    expected = alone(y, wanted, vectors)
    found = torch.autograd.grad(y, wanted, vectors, is_grads_batched=True, retain_graph=True)
    by_vmap = torch.func.vmap(lambda v: torch.autograd.grad(y, wanted, v, retain_graph=True))(vectors)
    nested = torch.func.vmap(torch.func.vmap(lambda v: torch.autograd.grad(y, wanted, v, retain_graph=True)))(vectors[None])
    assert all(e.any() for e in expected)
    for a, b, c, e in zip(found, by_vmap, nested, expected, strict=True):
        for each in (a, b, c[0]):
            torch.testing.assert_close(each, e, rtol=1e-6, atol=1e-6 * float(e.abs().max()))


def test_vectors_on_another_axis_and_a_vector_for_all():
    x, neuron = torch.randn(4, 3, 5).requires_grad_(), PLIF(spike=Sigmoid())
    y, after = neuro.run(neuron, x)
    (end,) = after.values()
    vectors, fixed = torch.randn(4, 6, 3, 5), torch.randn(3, 5)

    def gradient(v):
        return torch.autograd.grad((y, end), (x, neuron.w), (v, fixed), retain_graph=True)

    found = torch.func.vmap(gradient, in_dims=1, out_dims=(1, 0))(vectors)
    expected = [gradient(v) for v in vectors.unbind(1)]
    assert torch.equal(found[0], torch.stack([e[0] for e in expected], 1)) and torch.equal(found[1], torch.stack([e[1] for e in expected]))


def test_no_vectors():
    y, wanted, vectors = called("linear")
    found = torch.func.vmap(lambda v: torch.autograd.grad(y, wanted, v, retain_graph=True))(vectors[:0])
    assert [f.shape for f in found] == [(0, *w.shape) for w in wanted]


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_a_jacobian(vectorize, strategy):
    if strategy == "forward-mode" and not vectorize:
        return  # torch has it for both or neither
    torch.manual_seed(1)
    first, second, x = Linear(5, 6), Linear(6, 3), 2 * spikes(3, 2, 5)

    def answer(w, tau):
        y = LIF(spike=Sigmoid(), decay=0.5)(torch.func.functional_call(first, {"weight": w}, x) * tau)
        return second(y).mean(0)

    given = (first.weight.detach(), torch.tensor(2.0))
    found = AF.jacobian(answer, given, vectorize=vectorize, strategy=strategy)
    with choosing.deterministic("dense"), neuro.scanning.plain_loop():
        expected = AF.jacobian(answer, given)
    for a, b in zip(found, expected, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_gradients_of_many_vectors_that_are_differentiated_again():
    found = []
    for name in ("linear", "scan from zero", "scan", "gated"):
        for batched in (False, True):
            y, wanted, vectors = called(name)
            if batched:
                (first,) = torch.autograd.grad(y, wanted[:1], vectors.requires_grad_(), is_grads_batched=True, create_graph=True)
            else:
                vectors.requires_grad_()
                first = torch.stack([torch.autograd.grad(y, wanted[:1], v, create_graph=True)[0] for v in vectors])
            found.append(torch.autograd.grad(first.square().sum(), vectors)[0])
        torch.testing.assert_close(found[-1], found[-2], rtol=1e-5, atol=1e-6)
        assert found[-1].any()


def test_inside_a_checkpoint():
    """Which gives each tensor once."""
    x, net = (3 * spikes(4, 3, 20)).requires_grad_(), CALLS["gated"][0]
    y = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)
    vectors = torch.randn(3, *y.shape)
    found = torch.autograd.grad(y, [x, *net.parameters()], vectors, is_grads_batched=True)
    for a, b in zip(found, alone(net(x), [x, *net.parameters()], vectors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@EVERY
def test_a_transform_of_what_was_run_outside_of_it(name):
    y, wanted, vectors = called(name)
    with pytest.raises(neuro.errors.NeuroError, match="inside of the same transform"):
        torch.func.grad(lambda v: torch.autograd.grad(y, wanted, v, retain_graph=True)[0].sum())(vectors[0])
