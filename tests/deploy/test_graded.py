"""Values of more than one level where spikes are the rule: pools and attention products of them, and pools of currents."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuro.deploy.calibrate import calibrated
from neuro.deploy.differentiable import run_whole
from neuro.deploy.emitting import Emitter
from neuro.deploy.examples import cell, even, events, neuron
from neuro.deploy.lava import compare, run_lava
from neuro.deploy.network import (
    Add,
    Attention,
    Cell,
    Conv,
    Dense,
    Flatten,
    Input,
    IntegerNetwork,
    MaxPool,
    Readout,
    SumPool,
    Tokens,
    TokenSum,
)
from neuro.deploy.netx import write_netx
from neuro.deploy.qat import QuantizationAware
from neuro.deploy.quantize import quantize
from neuro.deploy.reference import run_reference
from neuro.deploy.rules import CURRENT
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError
from neuro.graph import fold_norms
from neuro.layers import (
    AttentionProduct,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Delay,
    Linear,
    MaxPool2d,
    MeanOverTime,
    MeanOverTokens,
    Sequential,
)
from neuro.layers import (
    Flatten as FlattenLayer,
)
from neuro.layers import (
    Tokens as TokensLayer,
)
from neuro.neurons import IF
from neuro.neurons import LIF as LIFNeuron
from neuro.reset import subtract
from neuro.surrogate import ATan, Levels
from neuro.tracing import trace

STRICT = ATan(2.0, strict=True)


def levels(most=3, threshold=0.4):
    return LIFNeuron(decay=0.5, threshold=threshold, spike=Levels(most, unit=threshold, strict=True), reset=subtract)


def graded_network(rng):
    """Counts, levels, sums and currents of both signs, each pooled; q, k and v of different levels."""
    size, c, bits = (int(rng.integers(6, 9)), int(rng.integers(9, 12))), 2 * int(rng.integers(1, 3)), int(rng.integers(1, 4))
    nodes = [
        Input("x", (2, *size), bits), MaxPool("x.pool", "x", (2, 3), (1, 2), (1, 1)),
        Conv("a", "x.pool", even(rng, (c, 2, 3, 3)), padding=1), MaxPool("a.pool", "a", (3, 2), (2, 1), (1, 0)),
        cell(rng, "a.cell", "a.pool", c), MaxPool("s.pool", "a.cell", 2, 1),
        Conv("b", "s.pool", even(rng, (c, c, 1, 1))), SumPool("b.sum", "b", 2, 1), neuron(rng, "b.lif", "b.sum", c, 200), Tokens("t", "b.lif"),
        *[n for name in "qkv" for n in (Dense(name, "t", even(rng, (c, c))), cell(rng, f"{name}.cell", name, c))],
        Add("k.two", ("k.cell", "t")), Attention("att", "q.cell", "k.two", "v.cell", 2, int(rng.choice([-2, 1, 3]))), Cell("att.cell", "att", 2048, 9, reset="subtract", levels=4),
        TokenSum("sum", "att.cell"), Dense("head", "sum", even(rng, (3, c))), Readout("out", "head", rng.integers(-9, 9, 3)),
    ]  # fmt: skip
    return IntegerNetwork(nodes)


def held(make, rng):
    """The first of random networks whose accumulators the chip holds: levels multiply in an attention product."""
    while True:
        network = make(rng)
        try:
            network.check()
            return network
        except GraphError:
            continue


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_definition_twin_and_torch_agree_on_graded_values(seed):
    rng = np.random.default_rng(seed)
    network = held(graded_network, rng)
    x = events(rng, network, 6, 2, 0.4)
    twin, values = run_twin(network, x, record=True), run_whole(network, torch.tensor(x))
    for b in range(2):
        found = run_reference(network, x[:, b])
        assert found.acc.tolist() == twin.acc[b].tolist()
        for name in twin.spikes:
            np.testing.assert_array_equal(twin.spikes[name][:, b], found.values[name], name)
            np.testing.assert_array_equal(twin.membranes[name][:, b], found.membranes[name], name)
        for name, value in found.values.items():
            np.testing.assert_array_equal(values[name][:, b].numpy(), value, name)
            low, high = network.ranges[name]
            assert low <= value.min() and value.max() <= high, name
        for name, operations in found.operations.items():
            xs, count = [found.values[s] for s in network[name].inputs], twin.counts[name]
            assert (count.operations[b], count.events[b], count.graded[b]) == (operations, sum(np.count_nonzero(v) for v in xs), sum((v > 1).sum() for v in xs)), name


def test_more_than_spikes_flows_through_pools_and_products():
    """So that the property above compares more than zeros and ones."""
    most = dict.fromkeys(("x.pool", "a.pool", "s.pool", "q.cell", "k.two", "v.cell"), 0)
    least, products = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        network = held(graded_network, rng)
        values = run_reference(network, events(rng, network, 6, 1, 0.4)[:, 0]).values
        most = {name: max(n, int(values[name].max())) for name, n in most.items()}
        least, products = min(least, int(values["a.pool"].min())), products + np.count_nonzero(values["att"])
    assert min(most.values()) >= 2 and least < 0 and products > 100, most


def test_padding_is_never_the_largest_and_the_product_is_by_hand():
    pool = IntegerNetwork([Input("x", (1, 3, 3), 4), Conv("a", "x", np.full((1, 1, 1, 1), -2)), MaxPool("p", "a", 3, 2, 1), Flatten("f", "p"), Readout("r", "f", np.zeros(4, int))])
    x = np.arange(1, 10).reshape(1, 1, 1, 3, 3)
    assert run_twin(pool, x).acc.tolist() == [[-2, -4, -8, -10]] and pool.ranges["p"] == (-30, 0)
    nodes = [Input("x", (2, 2), 3), Attention("a", "x", "x", "x", 1, 3), TokenSum("s", "a"), Readout("r", "s", np.zeros(2, int))]
    q = np.array([[1, 4], [0, 2]])
    network = IntegerNetwork(nodes)
    assert (run_twin(network, q[None, None]).acc == 3 * (q @ q.T @ q).sum(0)).all()
    assert network.ranges["a"] == (0, 3 * 2 * 2 * 7**3)


def test_the_bound_of_an_attention_product_is_reached():
    nodes = [Input("x", (4, 6), 2), Attention("a", "x", "x", "x", 2, 5), TokenSum("s", "a"), Readout("r", "s", np.zeros(6, int))]
    network = IntegerNetwork(nodes)
    values = run_reference(network, np.full((1, 4, 6), 3)).values["a"]
    assert (values == network.ranges["a"][1]).all() and values.max() == 5 * 4 * 3 * 27


class Attending(nn.Module):
    """Tokens of counts -> q, k, v -> their product -> answers."""

    def __init__(self, make, width=8, before=nn.Identity):
        super().__init__()
        self.conv, self.norm, self.lif, self.pool, self.tokens = Conv2d(2, width, 3, padding=1), BatchNorm(width), make(), MaxPool2d(2), Sequential(before(), TokensLayer())
        for name in "qkv":
            setattr(self, name, Linear(width, width))
            setattr(self, f"{name}_lif", make())
        self.product, self.after, self.mean, self.head, self.end = AttentionProduct(2, 0.125), IF(threshold=0.5, spike=STRICT), MeanOverTokens(), Linear(width, 3), MeanOverTime()

    def forward(self, x):
        x = self.tokens(self.pool(self.lif(self.norm(self.conv(x)))))
        q, k, v = (getattr(self, f"{n}_lif")(getattr(self, n)(x)) for n in "qkv")
        return self.end(self.head(self.mean(self.after(self.product(q, k, v)))))


def lively(net):
    for m in net.modules():
        if isinstance(m, (Conv2d, Linear)):
            m.weight.data = 1.5 * m.weight.data + 0.3 * m.weight.data.abs().mean()
            if m.bias is not None:
                m.bias.data += 0.2
    return net.eval()


@pytest.mark.parametrize("most", [2, 4])
def test_a_product_of_levels_is_quantised_with_room_for_its_worst_case(most):
    torch.manual_seed(most)
    net, x = lively(Attending(lambda: levels(most))), torch.poisson(torch.full((9, 3, 2, 8, 8), 0.5))
    network, report = quantize(net, x, message_bits=None)
    product, after = network["product"], network["after"]
    assert network.ranges["product"][1] == 16 * 4 * most**3 * product.weight < CURRENT
    assert after.vth == product.weight * 4 and not any("product" in note and "rounded" in note for note in report.notes)
    assert run_twin(network, x.numpy().astype(int), record=True).spikes["q_lif"].max() == most
    assert report.changed < 0.03 and report.answers == 3 and sum(r.spikes for r in report.layers if r.neuron == "after") > 20
    assert quantize(QuantizationAware(net, x, message_bits=None), x)[1].changed == 0


def test_too_many_levels_for_a_product_are_refused_with_what_would_help():
    net, x = Attending(lambda: levels(15, 0.1), 16), torch.ones(2, 1, 2, 16, 16)
    with pytest.raises(GraphError, match=r"AttentionProduct 'product'(.|\n)*15 x 15 x 15(.|\n)*fewer levels"):
        quantize(net, x)


def test_averages_into_a_product_count_in_its_scale():
    """q, k and v read counts that were averaged: 1/4 of each is part of the product's threshold."""

    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.tokens, self.product, self.after, self.mean, self.end = AvgPool2d(2), TokensLayer(), AttentionProduct(1, 1.0), IF(threshold=0.25, spike=STRICT), MeanOverTokens(), MeanOverTime()

        def forward(self, x):
            x = self.tokens(self.pool(x))
            return self.end(self.mean(self.after(self.product(x, x, x))))

    x = torch.randint(0, 2, (6, 2, 2, 4, 4)).float()
    network, report = quantize(Averaged(), x, message_bits=None)
    assert network["after"].vth == network["product"].weight * 16 and report.changed == 0 < sum(r.spikes for r in report.layers) and report.score_error < 1e-6


POOLED = {
    "largest current": (lambda: [Conv2d(2, 6, 3, padding=1), BatchNorm(6), MaxPool2d(2), LIFNeuron(spike=STRICT)], 4),
    "largest current, padded": (lambda: [Conv2d(2, 6, 3), MaxPool2d(3, 2, 1), LIFNeuron(spike=STRICT, reset=subtract)], 3),
    "mean current": (lambda: [Conv2d(2, 6, 3, padding=1), BatchNorm(6), AvgPool2d(2), LIFNeuron(spike=STRICT)], 4),
    "mean of the largest": (lambda: [Conv2d(2, 6, 3, padding=1), MaxPool2d(2, 1), AvgPool2d((3, 2), 2), levels()], 3),
    "largest level": (lambda: [Conv2d(2, 6, 3, padding=1), levels(), MaxPool2d(2)], 4),
    "largest count": (lambda: [MaxPool2d(2), Conv2d(2, 6, 3, padding=1), levels()], 4),
}


def pooling(name):
    make, side = POOLED[name]
    layers = make()
    with torch.no_grad():
        size = Sequential(*layers)(torch.zeros(1, 1, 2, 8, 8))[0, 0].numel()
    return lively(Sequential(*layers, FlattenLayer(), Linear(size, 5), LIFNeuron(threshold=0.3, spike=STRICT), Linear(5, 3), MeanOverTime()))


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize("per_channel", [False, True])
def test_pools_keep_close_to_the_float_network_and_train_as_they_run(name, per_channel):
    torch.manual_seed(7)
    net, x = pooling(name), torch.poisson(torch.full((12, 3, 2, 8, 8), 0.7))
    network, report = quantize(net, x, message_bits=None, per_channel=per_channel)
    assert report.changed < 0.02 and min(r.spikes for r in report.layers if r.neuron) > 10, report
    assert network.check() == []
    aware = QuantizationAware(net, x, message_bits=None, weight_bits=5, per_channel=per_channel)
    assert quantize(aware, x)[1].changed == 0
    aware(x).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in aware.parameters())


def test_pools_of_currents_on_the_grid_are_exact():
    torch.manual_seed(0)
    for pool, biased in ((MaxPool2d(3, 2, 1), True), (AvgPool2d(2), True), (AvgPool2d(2, 2, 1), False)):
        net = Sequential(Conv2d(2, 4, 3, bias=biased), pool, IF(threshold=0.75, spike=STRICT), FlattenLayer(), MeanOverTime())
        net[0].weight.data = torch.randint(-32, 33, net[0].weight.shape) / 16
        net[0].weight.data[0, 0, 0, 0] = 127 / 16
        if biased:
            net[0].bias.data = torch.randint(-8, 9, (4,)) / 32
        report = quantize(net, torch.poisson(torch.full((9, 3, 2, 8, 8), 0.3)), message_bits=None)[1]
        assert report.changed == 0 and report.layers[0].spikes > 100, (pool, report)


def test_calibration_leaves_layers_alone_whose_largest_current_counts():
    torch.manual_seed(1)
    x = torch.poisson(torch.full((9, 3, 2, 8, 8), 0.7))
    for name, moves in (("largest current, padded", False), ("mean current", True)):
        graph = fold_norms(trace(pooling(name), x))
        changed = calibrated(graph, Emitter(graph, 3), x)
        assert torch.equal(changed["0"].bias, graph["0"].bias) != moves
        assert not torch.equal(changed["5" if "padded" not in name else "4"].bias, graph["5" if "padded" not in name else "4"].bias)


def test_a_pool_of_levels_is_no_convolution_of_netx(tmp_path):
    nodes = [Input("x", (1, 4, 4)), Conv("a", "x", np.full((1, 1, 1, 1), 8)), Cell("s", "a", 0, 3, reset="subtract", levels=3), MaxPool("p", "s", 2, 2), Flatten("f", "p"), Readout("r", "f", np.zeros(4, int))]
    with pytest.raises(GraphError, match=r"MaxPool 'p'(.|\n)*\(0, 3\)"):
        write_netx(IntegerNetwork(nodes), tmp_path / "n.net", expand=True)


class Late(nn.Module):
    """Levels, their largest, delays of a branch and of the whole, a product of levels, and neurons that Lava has."""

    def __init__(self):
        super().__init__()
        self.first = Sequential(Conv2d(2, 4, 3, padding=1), levels(), MaxPool2d(2), Delay(3))
        self.second, self.branch = Sequential(Conv2d(4, 4, 3, padding=1), MaxPool2d(3, 1, 1), LIFNeuron(spike=STRICT)), Delay(2)
        self.rest = Attending(lambda: levels(2), 4)
        self.rest.conv, self.rest.norm, self.rest.lif, self.rest.pool = nn.Identity(), nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x):
        x = self.first(x)
        return self.rest(self.second(x) + self.branch(x))


@pytest.mark.parametrize("seed", [0, 1])
def test_lava_runs_quantised_levels_and_delays(lava, seed):
    """Recordings of 60 steps back to back: every spike, level and membrane of Lava is the twin's."""
    torch.manual_seed(seed)
    net, x = lively(Late()), torch.poisson(torch.full((60, 2, 2, 6, 6), 0.5))
    network, report = quantize(net, x, message_bits=None, per_channel=bool(seed))
    counts = x.numpy().astype(np.int32)
    twin = run_twin(network, counts, record=True)
    assert twin.spikes["first.1"].max() == 3 and twin.spikes["rest.q_lif"].max() == 2 and min(s.mean() for s in twin.spikes.values()) > 0.01
    agreement = compare(twin, run_lava(network, counts, unroll=2 if seed else 256), network.readout.name)
    assert agreement.exact and agreement.layers[-1].membranes == 6, str(agreement)
    assert report.changed < 0.05


def test_lava_pools_and_multiplies_graded_values(lava):
    for seed in range(99):
        rng = np.random.default_rng(seed)
        network = held(graded_network, rng)
        x = events(rng, network, 8, 2, 0.4)
        twin = run_twin(network, x, record=True)
        if twin.spikes["att.cell"].max() > 1 and twin.spikes["b.lif"].any():
            break
    agreement = compare(twin, run_lava(network, x), "out")
    assert agreement.exact and twin.spikes["att.cell"].max() > 1, str(agreement)
    wrong = IntegerNetwork([replace(n, weight=n.weight + 1) if isinstance(n, Attention) else n for n in network.nodes])
    assert not compare(run_twin(wrong, x, record=True), run_lava(network, x), "out").exact
