"""Spikes that go straight into a dense layer: all gradients are as if theirs were formed whole, and whoever looks at spikes sees them whole."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuro
from neuro.kernels import choosing, spike_conv, spike_linear
from neuro.layers import BatchNorm, Conv1d, Conv2d, Linear, MaxPool2d, Sequential, SpikingSelfAttention, fire, fusing
from neuro.layers.stem import ConvNormLIF
from neuro.neurons import LIF, PLIF
from neuro.reset import subtract, to_zero
from neuro.surrogate import ATan, Levels, Rectangle, Triangle


@pytest.fixture(autouse=True)
def by_events():
    with choosing.deterministic("events"):
        yield


@pytest.fixture
def formed(monkeypatch):
    """The share of places of each gradient that was formed at named places alone."""
    return spied(monkeypatch)


def spied(monkeypatch):
    shares = []
    for module in (spike_linear, spike_conv):
        whole = module.input_gradient_at
        monkeypatch.setattr(module, "input_gradient_at", lambda places, *args, whole=whole: shares.append(places.events / places.shape.numel()) or whole(places, *args))
    return shares


def network(C, depth, neuron, norm):
    """Weights are multiples of 1/64."""
    layers = [layer for _ in range(depth) for layer in (Linear(C, C, bias=not norm), *([BatchNorm(C, axis=-1)] if norm else []), neuron())]
    net = Sequential(*layers, Linear(C, 3))
    with torch.no_grad():
        for module in net:
            if isinstance(module, Linear):
                module.weight.copy_((module.weight * 3 * 64).round() / 64)
                if module.bias is not None:
                    module.bias.copy_((module.bias.abs() * 64).round() / 64)
    return net


def gradients(net, x, lengths=None, state=None):
    x = x.clone().requires_grad_()
    state = None if state is None else {k: v.clone().requires_grad_() for k, v in state.items()}
    y, after = neuro.run(net, x, state, lengths=lengths)
    dice = torch.Generator().manual_seed(3)
    total = sum((v * torch.randint(-2, 3, v.shape, generator=dice)).sum() for v in (y, *after.values()))
    return [y.detach(), *torch.autograd.grad(total, [x, *(state or {}).values(), *net.parameters()])]


def with_and_without(net, x, lengths=None, state=None):
    """What `gradients` gives, and the same with spikes that are not private; how many gradients were formed at places alone."""
    with pytest.MonkeyPatch.context() as patch:
        shares = spied(patch)
        found = gradients(copy.deepcopy(net), x, lengths, state)
        patch.setattr(fusing, "is_private", lambda neuron, into: False)
        count = len(shares)
        whole = gradients(copy.deepcopy(net), x, lengths, state)
        assert len(shares) == count
    return found, whole, shares


def assert_close(found, whole):
    """Up to the order of sums."""
    assert torch.equal(found[0], whole[0])
    for a, b in zip(found, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())


KINDS = [(Rectangle(1.0), to_zero), (Rectangle(1.0), replace(subtract, detach=False)), (Levels(3), subtract)]


@settings(max_examples=15, deadline=None)
@given(
    T=st.integers(2, 17), B=st.integers(1, 5), C=st.integers(2, 70), depth=st.integers(1, 2), kind=st.sampled_from(KINDS), padded=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_all_gradients_are_those_of_whole_ones(T, B, C, depth, kind, padded, seed):
    torch.manual_seed(seed)
    (spike, reset), padded, carried = kind, padded and kind is KINDS[0], kind is KINDS[1]  # each combination is a kernel to compile
    net = network(C, depth, lambda: LIF(decay=0.5, spike=spike, reset=reset), norm=False)
    x = torch.randint(0, 2, (T, B, C)).float()
    lengths = torch.randint(1, T + 1, (B,)) if padded else None
    state = {f"{1 + 2 * k}#0": torch.randint(-4, 5, (B, C)) / 4 for k in range(depth)} if carried else None
    found, whole, shares = with_and_without(net, x, lengths, state)
    assert len(shares) == depth
    assert_close(found, whole)


@pytest.mark.parametrize(("neuron", "T"), [
    (lambda: LIF(spike=Rectangle(1.0)), 9), (lambda: LIF(spike=Rectangle(1.0)), 1), (lambda: PLIF(shape=(64,), spike=Triangle(1.0)), 9),
])  # fmt: skip
def test_behind_a_norm(neuron, T):
    """In one kernel with it (9 steps) and, where that is not worth while, called after it."""
    net = network(64, 2, neuron, norm=True)
    x = (torch.rand(T, 80, 64) < 0.3).float()
    found, whole, shares = with_and_without(net, x)
    assert len(shares) == 2 and all(0 < share < 1 for share in shares)
    assert_close(found, whole)


@pytest.mark.parametrize("side", [6, 20])
@pytest.mark.parametrize("norm", [False, True])
def test_between_convolutions(side, norm):
    """Maps of 36 and 400 places, which the norm's kernel sees in two ways; a stride is as good as none; a neuron before pooling, or convolutions with groups, take whole gradients."""

    def block(a, b, *how):
        return Conv2d(a, b, 3, *how, bias=not norm), *([BatchNorm(b)] if norm else []), LIF(spike=Rectangle(1.0))

    net = Sequential(*block(2, 20, 1, 1), *block(20, 24, 1, 1), *block(24, 16, 2, 1), MaxPool2d(2), *block(16, 32, 1, 1), Conv2d(32, 32, 3, groups=2, padding=1))
    with torch.no_grad():
        net[3 if norm else 2].weight.mul_(3.0)
    x = 3 * (torch.rand(5, 8, 2, side, side) < 0.4).float()
    found, whole, shares = with_and_without(net, x)
    assert len(shares) == 2 and all(0 < share < 1 for share in shares)
    assert_close(found, whole)


@pytest.mark.parametrize("norm", [False, True])
def test_between_convolutions_over_one_axis(norm):
    def block(a, b, *how):
        return Conv1d(a, b, 3, *how, bias=not norm), *([BatchNorm(b)] if norm else []), LIF(spike=Rectangle(1.0))

    net = Sequential(*block(2, 20, 1, 1), *block(20, 24, 2, 1), *block(24, 32, 3, 4, 2), Conv1d(32, 32, 5, groups=2))
    with torch.no_grad():
        for conv in net:
            if isinstance(conv, Conv1d):
                conv.weight.mul_(2.0)
    found, whole, shares = with_and_without(net, 3 * (torch.rand(7, 30, 2, 61) < 0.4).float())
    assert len(shares) == 2 and all(0 < share < 1 for share in shares)
    assert_close(found, whole)


@pytest.mark.parametrize("stem", ["unpooled", "cml", "v2"])
def test_stems_of_a_spikformer(stem, formed):
    """Between stages without pooling, and inside those of the second version."""
    how = {"unpooled": {"pools": (False, False, True, True)}, "cml": {"pools": (False, False, True, True), "cml": True}, "v2": {"v2_stem": True}}[stem]
    net = neuro.models.create("spikformer_motions", spike=Rectangle(1.0), depth=1, dim=128, **how).stem
    x = torch.rand(4, 2, 2, 32, 32)
    before = len(formed)
    y = net(x)
    found = torch.autograd.grad(y.square().sum(), list(net.parameters()))
    assert len(formed) - before == {"unpooled": 2, "cml": 2, "v2": 4}[stem]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusing, "is_private", lambda neuron, into: False)
        z = net(x)
        whole = torch.autograd.grad(z.square().sum(), list(net.parameters()))
    assert torch.equal(y, z)
    for a, b in zip(found, whole, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
    count, stage = len(formed), next(m for m in net.modules() if isinstance(m, ConvNormLIF))
    seen = []
    stage.register_forward_hook(lambda module, args, y: seen.append(y))
    assert torch.equal(net(x), y) and len(seen) == 1
    net(x).sum().backward()
    assert len(formed) - count < {"unpooled": 2, "cml": 2, "v2": 5}[stem]


def test_eval_mode_and_a_norm_without_batch(formed):
    net = network(64, 1, lambda: LIF(spike=Rectangle(1.0)), norm=True).eval()
    x = (torch.rand(9, 80, 64) < 0.3).float()
    found, whole, shares = with_and_without(net, x)
    assert len(shares) == 1
    assert_close(found, whole)


def test_a_padded_sample_is_as_alone(formed):
    net = network(24, 2, lambda: LIF(spike=Rectangle(1.0)), norm=False)
    x = (torch.rand(9, 3, 24) < 0.4).float()
    padded = gradients(net, x, torch.tensor([9, 4, 6]))
    x[4:, 1] = 99.0
    assert torch.equal(padded[1], gradients(net, x, torch.tensor([9, 4, 6]))[1]) and not padded[1][4:, 1].any() and len(formed) == 4


def test_attention_and_mlp_of_a_spikformer(formed):
    net = neuro.models.create("spikformer_motions", spike=Rectangle(1.0), depth=2)
    x = torch.rand(4, 2, 2, 32, 32)
    found = torch.autograd.grad(net(x).square().sum(), list(net.parameters()), allow_unused=True)
    assert len(formed) == 4 and 0 < sum(formed) < 4  # two blocks, after the product and inside the MLP
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusing, "is_private", lambda neuron, into: False)
        whole = torch.autograd.grad(net(x).square().sum(), list(net.parameters()), allow_unused=True)
    assert len(formed) == 4
    for a, b in zip(found, whole, strict=True):
        assert a is b is None or (a - b).abs().max() <= 1e-4 * b.abs().max() + 1e-6 * (b.numel() == 0 or b.dim() == 1)


def test_a_surrogate_without_an_end_takes_whole_gradients(formed):
    gradients(network(40, 2, lambda: LIF(spike=ATan(2.0)), norm=True), (torch.rand(4, 10, 40) < 0.3).float())
    assert not formed


class Own(Linear):
    def forward(self, x):
        return super().forward(x)


class OwnNeuron(LIF):
    def forward(self, x):
        return super().forward(x)


def _hooked_neuron(net):
    net[1].register_forward_hook(lambda module, args, y: None)


def _hooked_linear(net):
    net[2].register_forward_pre_hook(lambda module, args: None)


def _backward_hook(net):
    net[2].register_full_backward_hook(lambda module, grad_in, grad_out: None)


def _parametrized(net):
    torch.nn.utils.parametrizations.weight_norm(net[2])


def _own_linear(net):
    net[2] = Own(32, 3)


def _own_neuron(net):
    net[1] = OwnNeuron(spike=Rectangle(1.0))


def _replaced_forward(net):
    net[1].forward = net[1].forward


@pytest.mark.parametrize("look", [_hooked_neuron, _hooked_linear, _backward_hook, _parametrized, _own_linear, _own_neuron, _replaced_forward])
def test_whoever_looks_at_spikes_sees_their_whole_gradient(look, formed):
    net = Sequential(Linear(32, 32), LIF(spike=Rectangle(1.0)), Linear(32, 3))
    x = (torch.rand(5, 4, 32) < 0.5).float()
    gradients(net, x)
    assert len(formed) == 1
    look(net)
    gradients(net, x)
    assert len(formed) == 1


def test_a_hook_on_any_module_sees_the_whole_gradient(formed):
    net = Sequential(Linear(32, 32), LIF(spike=Rectangle(1.0)), Linear(32, 3))
    held = []

    def keep(module, args, y):
        if isinstance(module, LIF):
            y.retain_grad()
            held.append(y)

    handle = torch.nn.modules.module.register_module_forward_hook(keep)
    try:
        net((torch.rand(5, 4, 32) < 0.5).float()).sum().backward()
    finally:
        handle.remove()
    assert not formed and (held[0].grad == net[2].weight.sum(0)).all()


def test_spikes_in_the_hands_of_a_user_have_their_whole_gradient(formed):
    lif, layer = LIF(spike=Rectangle(1.0)), Linear(32, 3)
    y = lif(torch.randn(5, 4, 32).requires_grad_())
    (grad,) = torch.autograd.grad(layer(y).sum(), y)
    assert not formed and (grad == layer.weight.sum(0)).all()


def test_the_choice_of_a_form_counts(formed):
    net, x = network(32, 1, lambda: LIF(spike=Rectangle(1.0)), norm=False), (torch.rand(4, 8, 32) < 0.5).float()
    with choosing.deterministic("dense"):
        gradients(net, x)
    assert not formed
    with choosing.deterministic("lookup"):
        gradients(net, x)
    assert len(formed) == 1


def test_a_frozen_network_before_needs_nothing(formed):
    net = Sequential(LIF(spike=Rectangle(1.0)), Linear(32, 3))
    net((torch.rand(4, 8, 32) < 0.5).float()).sum().backward()
    assert not formed
    with torch.no_grad():
        net(torch.rand(4, 8, 32))
    assert not formed


@pytest.mark.parametrize("into", [None, Linear(16, 3), nn.Flatten(2)])
@pytest.mark.parametrize("norm", [None, BatchNorm(16, axis=-1)])
def test_fire_into(norm, into):
    lif, x = LIF(spike=Rectangle(1.0)), torch.randn(4, 300, 16)
    y = lif(x if norm is None else norm(x))
    assert torch.equal(fire(lif, norm, x, into=into), y if into is None else into(y))


def test_a_tracer_sees_every_module(formed):
    graph = neuro.trace(Sequential(Linear(8, 8), LIF(spike=Rectangle(1.0)), Linear(8, 3)), torch.zeros(2, 1, 8))
    assert [type(node).__name__ for node in graph.nodes].count("Linear") == 2


def test_an_empty_batch_and_one_step(formed):
    net = Sequential(Linear(8, 8), LIF(spike=Rectangle(1.0)), Linear(8, 3))
    assert net(torch.zeros(4, 0, 8)).shape == (4, 0, 3)
    net(torch.ones(1, 1, 8)).sum().backward()
    assert net[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("how", [{"padding": "same"}, {"padding": 1, "padding_mode": "circular"}, {"groups": 2}, {"stride": 2}])
@pytest.mark.parametrize("kind", [Conv1d, Conv2d])
def test_a_convolution_of_any_kind_behind_a_neuron(kind, how):
    """What has no form of its own takes the whole gradient; an empty batch is none of its business."""
    net = Sequential(LIF(spike=Rectangle(1.0)), kind(32, 32, 3, **how))
    size = (32, 9) if kind is Conv1d else (32, 9, 7)
    found, whole, shares = with_and_without(net, 2 * torch.rand(5, 4, *size))
    assert len(shares) == ("stride" in how)
    assert_close(found, whole)
    assert net(torch.zeros(5, 0, *size).requires_grad_()).shape[:3] == (5, 0, 32)


def test_a_layer_that_does_not_fit_is_refused_as_ever():
    with pytest.raises(neuro.errors.ShapeError, match="Linear"):
        Sequential(LIF(spike=Rectangle(1.0)), Linear(9, 3))(torch.zeros(4, 2, 8).requires_grad_())


def test_inside_a_checkpoint(formed):
    torch.manual_seed(1)
    net, x = network(32, 2, lambda: LIF(spike=Rectangle(1.0)), norm=True), (torch.rand(6, 100, 32) < 0.5).float()
    found = []
    for how in (lambda: neuro.run(net, x)[0], lambda: neuro.run(Checkpointed(net), x)[0], lambda: torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)):
        net.zero_grad()
        how().square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters()])
    assert len(formed) == 6
    for a, b, c in zip(*found, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


class Checkpointed(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return neuro.checkpoint(self.net, x)


def test_an_input_changed_meanwhile_is_refused():
    lif, layer = LIF(spike=Rectangle(1.0)), Linear(8, 3)
    x = torch.randn(4, 2, 8).requires_grad_() * 1.0
    y = fire(lif, None, x, into=layer)
    x.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_threads_change_no_bit(formed):
    net, x = network(96, 2, lambda: LIF(spike=Rectangle(1.0)), norm=True), (torch.rand(20, 64, 96) < 0.3).float()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(gradients(copy.deepcopy(net), x))
    torch.set_num_threads(1)
    again = gradients(copy.deepcopy(net), x)
    assert len(formed) == 6
    for a, c in zip(found[0], again, strict=True):
        assert torch.equal(a, c)


def test_attention_alone():
    attention = SpikingSelfAttention(32, 2, lambda threshold: LIF(threshold=threshold, spike=Rectangle(1.0)))
    y = attention((torch.rand(4, 2, 9, 32) < 0.3).float())
    y.sum().backward()
    assert all(p.grad.isfinite().all() for p in attention.parameters() if p.grad is not None)
