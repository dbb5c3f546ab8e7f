"""snnTorch networks as native modules: the same spikes, for every neuron and rule of reset; what has no equal is named."""

import pytest
import snntorch
import torch
from torch import nn
from torch.nn import functional

import neuro
from neuro.errors import GraphError
from neuro.interop import from_snntorch
from neuro.scanning import plain_loop


@pytest.fixture(autouse=True)
def _loop():
    """The definition of every neuron; kernels are tested elsewhere."""
    with plain_loop():
        yield


def theirs(net, x):
    for m in net.modules():
        if hasattr(m, "reset_mem"):
            m.reset_mem()
    with torch.no_grad():
        return torch.stack([y[0] if isinstance(y := net(x_t), tuple) else y for x_t in x])


def dyadic(net, by=2.0):
    """Weights that are multiples of 1/64, so that sums are exact in any order."""
    for p in net.parameters():
        p.data = (p.data * by * 64).round() / 64
    return net


def row(*neurons):
    torch.manual_seed(0)
    return dyadic(nn.Sequential(nn.Linear(6, 12), neurons[0], nn.Linear(12, 8), neurons[-1] if len(neurons) > 1 else snntorch.Leaky(0.5, init_hidden=True)), 6.0)


NEURONS = {
    "leaky": lambda **how: snntorch.Leaky(0.75, init_hidden=True, **how),
    "leaky of many betas": lambda **how: snntorch.Leaky(torch.linspace(-0.1, 1.1, 12), threshold=torch.linspace(0.5, 2, 12), init_hidden=True, **how),
    "synaptic": lambda **how: snntorch.Synaptic(0.5, 0.75, threshold=1.25, init_hidden=True, **how),
    "rleaky": lambda **how: snntorch.RLeaky(0.5, linear_features=12, init_hidden=True, **how),
    "rleaky one to one": lambda **how: snntorch.RLeaky(0.5, V=torch.linspace(-1, 1, 12), all_to_all=False, init_hidden=True, **how),
    "rsynaptic": lambda **how: snntorch.RSynaptic(0.5, 0.5, linear_features=12, init_hidden=True, **how),
}


@pytest.mark.parametrize("rule", ["subtract", "zero", "none"])
@pytest.mark.parametrize(("kind", "delay"), [(k, d) for k in sorted(NEURONS) for d in (True, False) if (k, d) != ("rsynaptic", False)])  # snnTorch 1.0.0 cannot run that one itself
def test_equal_spikes(kind, rule, delay):
    net = row(NEURONS[kind](reset_mechanism=rule, reset_delay=delay))
    x = (torch.rand(40, 4, 6, generator=torch.Generator().manual_seed(1)) * 64).round() / 32
    ours = from_snntorch(net, x[:5])
    with torch.no_grad():
        got = ours(x)
        a, state = neuro.run(ours, x[:9])
        b, _ = neuro.run(ours, x[9:], state)
        hidden = ours[:2](x)
    assert 0.02 < hidden.mean() < 0.98 and 0 < got.mean() < 1
    assert torch.equal(got, theirs(net, x))
    assert torch.equal(torch.cat([a, b]), got)


@pytest.mark.parametrize("rule", ["zero", "none"])
def test_alpha(rule):
    net = row(snntorch.Alpha(0.75, 0.5, init_hidden=True, reset_mechanism=rule))
    x = (torch.rand(40, 4, 6, generator=torch.Generator().manual_seed(1)) * 64).round() / 32
    ours = from_snntorch(net, x)
    assert ours(x).any() and torch.equal(ours(x).detach(), theirs(net, x))


class Residual(nn.Module):
    """A forward of its own: convolution, a sum of two branches, flatten by a layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.lif = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), snntorch.Leaky(0.5, init_hidden=True)
        self.body = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, groups=2), snntorch.Leaky(0.5, init_hidden=True))
        self.flat, self.head, self.last = nn.Flatten(), nn.Linear(32, 4), snntorch.Leaky(0.5, init_hidden=True, output=True)

    def forward(self, x):
        y = self.lif(self.norm(self.conv(x)))
        return self.last(self.head(self.flat(self.body(y) + y)))


def test_a_forward_of_its_own():
    torch.manual_seed(0)
    net = dyadic(Residual().eval(), 4.0)
    x = (torch.rand(20, 3, 2, 4, 4) < 0.5).float()
    ours = from_snntorch(net, x)
    assert ours(x).any() and torch.equal(ours(x).detach(), theirs(net, x))
    graph = neuro.trace(ours, x)
    assert {"lif", "head", "body.1", "last"} <= {n.name for n in graph}


FLAT = {
    "flatten": lambda y: torch.flatten(y, 1), "method": lambda y: y.flatten(start_dim=1), "view": lambda y: y.view(y.size(0), -1), "shape": lambda y: y.reshape(y.shape[0], -1),
    "constant": lambda y: y.view(3, -1), "sizes": lambda y: torch.reshape(y, (y.size()[0], -1)),
    "named": lambda y: torch.reshape(y, shape=(3, -1)),
}  # fmt: skip


class Calls(nn.Module):
    """A forward as snnTorch's tutorials write it: pools and reshapes are calls."""

    def __init__(self, flat, pool):
        super().__init__()
        self.conv, self.lif, self.head, self.last = nn.Conv2d(2, 2, 3), snntorch.Leaky(0.5, init_hidden=True), nn.Linear(18, 4), snntorch.Leaky(0.5, init_hidden=True)
        self.flat, self.pool, self.view = flat, pool, "an attribute of that name"

    def forward(self, x):
        return self.last(self.head(self.flat(self.lif(self.pool(self.conv(x))))))


@pytest.mark.parametrize("pool", [lambda y: functional.max_pool2d(y, 2), lambda y: functional.avg_pool2d(y, kernel_size=2, stride=2), lambda y: functional.relu(functional.max_pool2d(y, 2, 2, 0))])
@pytest.mark.parametrize("flat", FLAT.values(), ids=FLAT)
def test_calls_that_are_layers(flat, pool):
    torch.manual_seed(0)
    net = dyadic(Calls(flat, pool).eval(), 8.0)
    x = (torch.rand(12, 3, 2, 8, 8) < 0.5).float()
    ours = from_snntorch(net, x)
    assert 0 < ours(x).mean() < 1 and torch.equal(ours(x).detach(), theirs(net, x))
    assert torch.equal(ours(x[:, :2]), ours(x)[:, :2])  # of any batch
    if "relu" not in pool.__code__.co_names:
        assert [n.kind for n in neuro.trace(net, x)][3:5] == ["Neuron", "Flatten"]


@pytest.mark.parametrize("flat", [lambda y: y.view(-1, 18), lambda y: y.flatten(), lambda y: y.flatten(2), lambda y: y.mul(0.5).flatten(1), lambda y: y.flatten(1) * y.size(0)])
def test_calls_that_are_none_are_named(flat):
    with pytest.raises(GraphError, match="the forward uses '(view|flatten|mul|size)'"):
        from_snntorch(Calls(flat, lambda y: functional.max_pool2d(y, 2)), torch.rand(4, 3, 2, 8, 8))


def test_the_converted_network_is_its_own():
    net = row(snntorch.Leaky(0.75, init_hidden=True))
    x = torch.ones(5, 2, 6)
    ours = from_snntorch(net, x)
    before = ours(x).clone()
    net[0].weight.data.zero_()
    assert torch.equal(ours(x), before)
    ours(x.requires_grad_()).sum().backward()
    assert ours[0].weight.grad is not None and net[0].weight.grad is None


def test_it_can_go_to_nir():
    from neuro.deploy import nir as exchange

    net = row(snntorch.Leaky(0.75, init_hidden=True), snntorch.Synaptic(0.5, 0.5, init_hidden=True))
    x = (torch.rand(40, 4, 6, generator=torch.Generator().manual_seed(1)) * 64).round() / 32
    ours = from_snntorch(net, x)
    assert torch.equal(exchange.load(exchange.export(ours, x, dt=1e-3))(x).detach(), theirs(net, x))


def shared():
    one = snntorch.Leaky(0.5, init_hidden=True)
    return nn.Sequential(nn.Linear(6, 6), one, nn.Linear(6, 6), one)


class Loops(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 4), snntorch.Leaky(0.5)

    def forward(self, x):
        return self.lif(self.fc(x), self.lif.reset_mem())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: row(snntorch.Leaky(0.5, init_hidden=True, inhibition=True)), "'1' uses inhibition"),
        (lambda: row(snntorch.Leaky(0.5, init_hidden=True, graded_spikes_factor=2.0)), "'1' uses graded"),
        (lambda: row(snntorch.Lapicque(0.5, init_hidden=True)), "'1' is a Lapicque"),
        (lambda: nn.Sequential(nn.Linear(6, 4), nn.LSTM(4, 4)), "'1' is a LSTM"),
        (lambda: row(snntorch.Alpha(0.75, 0.5, init_hidden=True, reset_mechanism="subtract")), "'1' is an Alpha"),
        (lambda: row(snntorch.RLeaky(0.5, V=1.0, all_to_all=False, init_hidden=True)), "feedback of '1'"),
        (shared, "one neuron"), (Loops, "init_hidden"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_named(make, said):
    with pytest.raises(GraphError, match=said):
        from_snntorch(make(), torch.rand(4, 2, 6))


def test_a_patched_layer_is_found_out():
    net = row(snntorch.Leaky(0.75, init_hidden=True))
    net[0].forward = lambda x: 3 + nn.functional.linear(x, net[0].weight, net[0].bias)
    with pytest.raises(GraphError, match="gives something else"):
        from_snntorch(net, torch.rand(10, 2, 6))
