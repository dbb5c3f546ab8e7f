"""Networks on chips: counts and placement against brute force, the rules of each chip by hand, changes that change nothing."""

import functools
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import neuro
from neuro import graph as g
from neuro.deploy.chips import CHIPS, Fact
from neuro.deploy.mapping import assess, firing_rates, map_network
from neuro.deploy.mapping_checks import CANNOT, CHANGE, FITS, RETRAIN, VERDICTS
from neuro.deploy.mapping_counts import Wiring, counted, demand
from neuro.deploy.mapping_layers import Product, layers_of
from neuro.deploy.mapping_rewrites import full, on_grid, rewritten, to_grid
from neuro.deploy.placement import capacity, matching
from neuro.errors import GraphError, ParameterError, UnknownName
from neuro.graph import fold_norms
from neuro.layers import (
    AttentionProduct,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    MeanOverTime,
    MeanOverTokens,
    Sequential,
    Tokens,
)
from neuro.neurons import ALIF, CUBALIF, IF, LIF, Recurrent
from neuro.reset import Subtract, ToZero, none, subtract

SOFT = functools.partial(IF, reset=subtract)


def graph_of(*layers, shape, steps=2):
    torch.manual_seed(0)
    return neuro.trace(Sequential(*layers), torch.zeros(steps, 1, *shape))


def conv(i, o, k=3, s=1, p=1, **how):
    return Conv2d(i, o, k, stride=s, padding=p, bias=False, **how)


def dense(i, o, **how):
    return Linear(i, o, bias=how.pop("bias", False))


def rules(graph, chip, verdict=CANNOT, **told):
    """The rules that are broken with this verdict."""
    return {f.rule for f in assess(graph, chip, **told).findings if f.verdict == verdict}


# ---------------------------------------------------------------- counts


def matrix_of(product, weight):
    """[neurons, inputs]: how many weights join each pair, by running torch's own operator on unit vectors."""
    units = torch.eye(int(np.prod(product.in_map))).view(-1, *product.in_map)
    y = F.conv2d(units, torch.ones_like(weight), None, product.stride, product.padding, product.dilation, product.groups)
    return y.flatten(1).T.round().long().numpy()


@st.composite
def products(draw):
    groups = draw(st.sampled_from([1, 1, 2]))
    i, o = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    size, kernel = (draw(st.integers(3, 6)), draw(st.integers(3, 6))), (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride, padding, dilation = draw(st.integers(1, 2)), draw(st.integers(0, 1)), draw(st.integers(1, 2) if max(kernel) < 3 else st.just(1))
    weight = torch.ones(o, i // groups, *kernel)
    out = F.conv2d(torch.zeros(1, i, *size), weight, None, stride, padding, dilation, groups).shape[1:]
    pair = lambda n: (n, n)  # noqa: E731
    return Product("p", "conv", ("a",), (i, *size), tuple(out), kernel, pair(stride), pair(padding), pair(dilation), groups, weight)


@settings(max_examples=40, deadline=None)
@given(products(), st.data())
def test_connections_weights_and_inputs_of_any_range_equal_brute_force(product, data):
    matrix = matrix_of(product, product.weight)
    n = matrix.shape[0]
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    wiring, part = Wiring(product), matrix[start:stop]
    positions = product.out_map[1] * product.out_map[2]
    channels = {k // positions for k in range(start, stop)}
    assert wiring.connections(start, stop) == part.sum()
    assert wiring.inputs(start, stop) == np.count_nonzero(part.any(0))
    assert wiring.weights(start, stop) == len(channels) * product.weight[0].numel()


def test_words_of_dynapcnn_by_hand():
    """c_in 16, f 32, 3x3 at 64x64: 16 * 2^(4+5) kernel words, 32 * 2^12 neuron words; 34x34 with f 8 takes 8 * 2^12, not 9248."""
    for (i, o, size), expected in {(16, 32, 64): (8192, 131072), (2, 8, 34): (2 * 2 ** (4 + 3), 32768), (16, 16, 64): (16 * 2**8, 65536)}.items():
        layer = layers_of(graph_of(conv(i, o), SOFT(), shape=(i, size, size))).layers[0]
        takes = demand(CHIPS["speck"], counted(layer, 8), 0, layer.neurons)
        assert (takes["kernel_words"], takes["neuron_words"]) == expected
    with pytest.raises(GraphError, match=r"neuron words: the layer takes 131,072 of a core's 65,536"):
        map_network(graph_of(conv(16, 32), SOFT(), shape=(16, 64, 64)), "speck")
    placed = map_network(graph_of(conv(16, 16), SOFT(), shape=(16, 64, 64)), "speck").placement
    assert placed.parts[0].core in (0, 1, 2)


# ---------------------------------------------------------------- placement


@st.composite
def networks(draw):
    """Small networks of convolutions, pools, residual sums and dense layers, reset to zero."""
    channels, size = draw(st.integers(1, 3)), draw(st.integers(4, 7))
    shape, layers, at = (channels, size, size), [], (channels, size)
    for _ in range(draw(st.integers(1, 3))):
        c, s = at
        o = draw(st.integers(1, 5))
        kernel = draw(st.sampled_from([1, 3]))
        layers += [conv(c, o, kernel, p=kernel // 2), LIF()]
        at = (o, s)
        if draw(st.booleans()) and s >= 4:
            layers.append(MaxPool2d(2))
            at = (o, s // 2)
    layers += [Flatten(), dense(at[0] * at[1] ** 2, draw(st.integers(1, 30))), LIF()]
    return graph_of(*layers, shape=shape)


def limited(neurons, axons, bits, cores=200, share=True):
    """Loihi 1 with other limits."""
    core = {"neurons": Fact(neurons, "test"), "in_axons": Fact(axons, "test"), "synapse_bits": Fact(bits, "test")}
    return replace(CHIPS["loihi1"], core=core, cores=Fact(cores, "test"), shares_cores=Fact(share, "test"))


def assert_placed(mapped):
    """Independent of the mapper: connections as matrices from torch's operators on the changed graph, summed part by part, core by core."""
    graph, chip = mapped.graph, mapped.chip
    neurons = [n for n in graph if isinstance(n, g.Neuron)]
    assert list(mapped.layers) == [n.name for n in neurons]
    used = {}
    for node in neurons:
        source = graph[node.inputs[0]]
        shape = graph.shapes[source.inputs[0]]
        units = torch.eye(int(np.prod(shape))).view(1, -1, *shape)
        M = replace(source, weight=torch.ones_like(source.weight), bias=None).compute(units)[0].flatten(1).T.round().long().numpy()
        parts = [p for p in mapped.placement.parts if p.layer == node.name]
        assert sorted(k for p in parts for k in range(p.start, p.stop)) == list(range(len(M)))
        for p in parts:
            rows = M[p.start : p.stop]
            takes = {"neurons": len(rows), "in_axons": int(np.count_nonzero(rows.any(0))), "synapse_bits": 8 * int(rows.sum())}
            assert dict(p.takes) == takes and p.start < p.stop
            for r, n in takes.items():
                used[p.core, r] = used.get((p.core, r), 0) + n
    for (core, r), n in used.items():
        assert 0 <= core < chip.cores.value and n <= chip.core[r].value


@settings(max_examples=25, deadline=None)
@given(networks(), st.integers(1, 60), st.integers(30, 300), st.integers(500, 20_000), st.booleans())
def test_every_neuron_is_placed_once_and_no_core_passes_a_limit(graph, neurons, axons, bits, share):
    chip = limited(neurons, axons, bits, share=share)
    try:
        mapped = map_network(graph, chip)
    except GraphError as error:
        assert "limit" in str(error) and any(n.name in str(error) for n in graph)
        return
    assert_placed(mapped)


@settings(max_examples=25, deadline=None)
@given(networks(), st.integers(1, 60), st.integers(30, 300), st.integers(500, 20_000), st.sampled_from(["neurons", "in_axons", "synapse_bits", "cores"]), st.booleans())
def test_larger_limits_never_need_more_cores(graph, neurons, axons, bits, which, share):
    small = limited(neurons, axons, bits, share=share)
    large = replace(small, cores=Fact(400, "test")) if which == "cores" else replace(small, core={**small.core, which: Fact(small.core[which].value + 7, "test")})
    try:
        cores = len(map_network(graph, small).placement.cores)
    except GraphError:
        return
    assert len(map_network(graph, large).placement.cores) <= cores
    worst = [VERDICTS.index(assess(graph, c).verdict()) for c in (small, large)]
    assert worst[1] <= worst[0]


def test_closed_forms():
    """1024 neurons to a core of Loihi 1; 4096 inputs of 8 bits leave room for 32 neurons; layers share a core until it is full."""
    mapped = map_network(graph_of(dense(3, 2000), LIF(), dense(2000, 10), LIF(), shape=(3,)), "loihi1")
    assert [(p.layer, p.core, p.start, p.stop) for p in mapped.placement.parts] == [("1", 0, 0, 1024), ("1", 1, 1024, 2000), ("3", 1, 0, 10)]
    assert mapped.placement.used(1) == {"neurons": 986, "in_axons": 2003, "synapse_bits": 8 * (976 * 3 + 20_000)}
    parts = map_network(graph_of(dense(4096, 100), LIF(), shape=(4096,)), "loihi1").placement.parts
    assert [p.neurons for p in parts] == [32, 32, 32, 4]
    alone = map_network(graph_of(dense(3, 20), LIF(), dense(20, 10), LIF(), shape=(3,)), "spinnaker2").placement
    assert [p.core for p in alone.parts] == [0, 1]


def test_what_cannot_fit_names_layer_limit_and_number():
    with pytest.raises(GraphError, match=r"1: cannot. in axons: neuron \d+ alone takes 4,097 of a core's 4,096; limit 4,096 \[documented: nengo-loihi"):
        map_network(graph_of(dense(4097, 4), LIF(), shape=(4097,)), "loihi1")
    with pytest.raises(GraphError, match=r"needs 4 cores of .*which has 3(.|\n)*layer '1' takes most: 4 cores(.|\n)*limit: 3"):
        map_network(graph_of(dense(3, 31), LIF(), shape=(3,)), limited(10, 100, 10_000, cores=3))
    nine = [m for _ in range(10) for m in (conv(2, 2), SOFT())]
    with pytest.raises(GraphError, match=r"the 10 layers do not find a core each(.|\n)*9 cores"):
        map_network(graph_of(*nine, shape=(2, 8, 8)), "speck")
    with pytest.raises(GraphError, match=r"1,001 hidden neurons, .*1,000(.|\n)*layer '1' has most: 1,001"):
        map_network(graph_of(dense(16, 1001), LIF(reset=subtract), dense(1001, 8), LIF(reset=subtract), shape=(16,)), "xylo")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), unique=True, max_size=5), min_size=1, max_size=5))
def test_matching_finds_a_core_each_or_there_is_none(options):
    found = matching(options, 5)
    exists = any(all(c in o for c, o in zip(cores, options, strict=True)) for cores in itertools.permutations(range(5), len(options)))
    assert (found is not None) == exists
    if found is not None:
        assert len(set(found)) == len(found) and all(c in o for c, o in zip(found, options, strict=True))


# ---------------------------------------------------------------- rules of the chips


def test_akida_shapes_by_hand():
    """Fact for fact from the hardware constraints of Akida 1.0."""
    def image(o, k, s=1):
        return graph_of(conv(3, o, k, s, k // 2), LIF(), shape=(3, 33, 33))

    told = {"steps": 1}
    assert "filters" in rules(image(64, 7), "akida", **told) and not rules(image(32, 7), "akida", **told)
    inner = lambda k, s: graph_of(conv(3, 8), LIF(), conv(8, 8, k, s, k // 2), LIF(), shape=(3, 33, 33))  # noqa: E731
    assert "stride" in rules(inner(5, 2), "akida", **told) and not rules(inner(3, 2), "akida", **told)
    assert "kernel" in rules(graph_of(conv(3, 8), LIF(), conv(8, 8, 4, 1, 2), LIF(), shape=(3, 33, 33)), "akida", **told)
    assert not rules(graph_of(dense(57334, 1), LIF(), shape=(57334,)), "akida", **told)
    assert rules(graph_of(dense(57335, 1), LIF(), shape=(57335,)), "akida", **told) == {"inputs"}
    pooled = [conv(3, 8), LIF(), MaxPool2d(2)]
    assert rules(graph_of(*pooled, Flatten(), dense(8 * 16, 4), LIF(), shape=(3, 8, 8)), "akida", **told) == {"pooling"}
    assert not rules(graph_of(*pooled, conv(8, 4), LIF(), shape=(3, 8, 8)), "akida", **told)


def test_akida_is_one_pass_and_holds_eighty_processors():
    graph = graph_of(dense(16, 8), LIF(), shape=(16,))
    assert assess(graph, "akida", steps=1).verdict() == CHANGE and assess(graph, "akida", steps=4).verdict() == RETRAIN
    assert "time steps" in rules(graph, "akida", RETRAIN)
    deep = [m for _ in range(81) for m in (dense(2, 2), LIF())]
    assert len(map_network(graph_of(*deep[:160], shape=(2,)), "akida", steps=1).placement.cores) == 80
    with pytest.raises(GraphError, match=r"needs 81 cores of BrainChip Akida AKD1000, which has 80"):
        map_network(graph_of(*deep, shape=(2,)), "akida", steps=1)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.f, self.h = conv(2, 4), conv(4, 4), LIF(), LIF()

    def forward(self, x):
        x = self.f(self.a(x))
        return self.h(self.b(x)) + x


def test_residual_sums():
    graph = neuro.trace(Sequential(Residual(), conv(4, 4), LIF()), torch.zeros(2, 1, 2, 6, 6))
    assert "residual" in rules(graph, "akida") and "residual" in rules(graph, "speck")
    last = layers_of(graph).layers[-1]
    assert last.waits == 1 and last.products[0].sources == ("0.h", "0.f")
    mapped = map_network(graph, "loihi1")
    once = layers_of(graph_of(conv(4, 4), LIF(), shape=(4, 6, 6))).layers[0]
    assert mapped.layers[last.name].connections(0, last.neurons) == 2 * counted(once, 8).connections(0, once.neurons)
    assert "delays" in rules(graph, replace(CHIPS["loihi1"], delays=Fact(0, "test")))


class Branches(nn.Module):
    """Two branches of one depth, until a pool becomes a layer of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.f, self.h, self.pool = conv(2, 4), conv(2, 4, s=2), LIF(), LIF(), MaxPool2d(2)

    def forward(self, x):
        return self.pool(self.f(self.a(x))) + self.h(self.b(x))


def test_a_change_that_breaks_another_rule_is_refused():
    graph = neuro.trace(Sequential(Branches(), conv(4, 4), LIF()), torch.zeros(2, 1, 2, 6, 6))
    prompt = replace(CHIPS["loihi1"], delays=Fact(0, "test"))
    assert assess(graph, prompt).verdict() == CHANGE and map_network(graph, "loihi1").placement.parts
    with pytest.raises(GraphError, match="delays: its inputs differ by 1 steps; limit 0"):
        map_network(graph, prompt)


@pytest.mark.parametrize(
    ("layers", "shape", "chip", "rule", "verdict"),
    [
        ([dense(4, 4), ALIF()], (4,), "loihi2", "adaptive", CANNOT), ([dense(4, 4), ALIF()], (4,), "spinnaker2", "adaptive", None),
        ([dense(4, 4), CUBALIF()], (4,), "speck", "current", RETRAIN), ([dense(4, 4), CUBALIF()], (4,), "loihi1", "current", None),
        ([dense(4, 4), LIF(reset=subtract)], (4,), "loihi2", "reset", RETRAIN), ([dense(4, 4), LIF(reset=none)], (4,), "spinnaker2", "reset", RETRAIN),
        ([dense(4, 4), LIF()], (4,), "speck", "leak", RETRAIN), ([dense(4, 4), SOFT()], (4,), "speck", "leak", None),
        ([dense(4, 4), dense(4, 4), LIF()], (4,), "loihi2", "relay", CANNOT), ([dense(4, 4, bias=True), LIF()], (4,), "speck", "bias", RETRAIN),
        ([dense(4, 4), Recurrent(LIF(), 4)], (4,), "akida", "recurrent", CANNOT), ([dense(4, 4), Recurrent(LIF(), 4)], (4,), "loihi1", "recurrent", None),
        ([conv(2, 2, p=2, dilation=2), LIF()], (2, 8, 8), "speck", "dilation", CANNOT),
        ([conv(4, 4, groups=4), LIF()], (4, 8, 8), "akida", "groups", CANNOT), ([conv(4, 4, groups=4), SOFT()], (4, 8, 8), "speck", "groups", CHANGE),
        ([conv(2, 2), LIF(), MaxPool2d(2), conv(2, 2), LIF()], (2, 8, 8), "loihi2", "max_pool", CHANGE),
        ([MaxPool2d(2), conv(2, 2), LIF()], (2, 8, 8), "loihi2", "max_pool", CANNOT), ([conv(2, 2), LIF(), AvgPool2d(2), conv(2, 2), LIF()], (2, 8, 8), "loihi2", "avg_pool", CANNOT),
        ([conv(2, 2), SOFT(), AvgPool2d(2), SOFT()], (2, 8, 8), "speck", "avg_pool", CANNOT), ([conv(2, 2, 3, 3, 0), SOFT()], (2, 9, 9), "speck", "stride", CANNOT),
        ([conv(2, 2), SOFT(), AvgPool2d(3), conv(2, 2), SOFT()], (2, 9, 9), "speck", "pooling", CANNOT), ([conv(2, 2), SOFT()], (2, 65, 65), "speck", "output size", CANNOT),
        ([dense(17, 4), LIF(reset=subtract)], (17,), "xylo", "inputs", CANNOT), ([dense(4, 9), LIF(reset=subtract)], (4,), "xylo", "outputs", CANNOT),
        ([conv(2, 2), LIF()], (2, 8, 8), "xylo", "layers", CANNOT),
    ],
)  # fmt: skip
def test_a_rule_of_a_chip(layers, shape, chip, rule, verdict):
    found = {f.rule: f for f in assess(graph_of(*layers, shape=shape), chip).findings}
    assert (found[rule].verdict if rule in found else None) == verdict
    if verdict in (CHANGE, RETRAIN):
        assert found[rule].change
    if rule in found:
        assert found[rule].limit.source in str(found[rule])


def test_a_reset_one_step_late_is_taken_where_its_spikes_are_those_of_one_at_once():
    """As `quantize` takes it: a hard one anywhere, a subtraction where nothing leaks in between."""
    for neuron, chip, fits in ((LIF(reset=ToZero(delayed=True)), "loihi1", True), (IF(reset=Subtract(delayed=True)), "speck", True),
                               (LIF(reset=Subtract(delayed=True)), "spinnaker2", False), (LIF(reset=subtract), "loihi1", False)):  # fmt: skip
        assert ("reset" not in rules(graph_of(dense(4, 4), neuron, shape=(4,)), chip, RETRAIN)) == fits


def test_a_max_pool_of_the_input_becomes_neurons_where_the_input_is_told_to_be_one_bit():
    graph = graph_of(MaxPool2d(2), conv(2, 2), LIF(), shape=(2, 8, 8))
    verdicts = {bits: {f.rule: f.verdict for f in assess(graph, "loihi2", input_bits=bits).findings}["max_pool"] for bits in (None, 1, 8)}
    assert verdicts == {None: CANNOT, 1: CHANGE, 8: CANNOT}
    mapped = map_network(graph, "loihi2", input_bits=1)
    pool = next(n for n in graph if isinstance(n, g.MaxPool2d))
    assert isinstance(mapped.graph[pool.name], g.Neuron)
    x = (torch.rand(6, 2, 2, 8, 8) < 0.2).float()
    assert torch.equal(mapped.graph.values(x)[pool.name], graph.values(x)[pool.name])


def test_weights_of_whole_numbers_are_called_so_and_a_module_is_refused():
    layer = dense(4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(-8.0, 8.0).view(4, 4))
    found = {f.rule: f for f in assess(graph_of(layer, SOFT(), shape=(4,)), "akida", weight_bits=4, steps=1).findings}
    assert "weight bits" not in found
    with torch.no_grad():
        layer.weight[0, 0] = -9.0
    found = {f.rule: f for f in assess(graph_of(layer, SOFT(), shape=(4,)), "akida", weight_bits=4, steps=1).findings}
    assert "whole numbers of 5 bits" in str(found["weight bits"])
    for act in (assess, map_network):
        with pytest.raises(ParameterError, match="neuro.trace"):
            act(Sequential(layer, SOFT()), "akida")


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.a, self.b, self.c, self.out, self.product = (*(dense(4, 4) for _ in range(3)), *(LIF() for _ in range(4)), AttentionProduct(2, 0.5))

    def forward(self, x):
        return self.out(self.product(self.a(self.q(x)), self.b(self.k(x)), self.c(self.v(x))))


def test_attention_fits_software_only_and_tokens_are_positions():
    graph = neuro.trace(Sequential(Tokens(), Attention(), MeanOverTokens(), dense(4, 3), MeanOverTime()), torch.zeros(2, 1, 4, 3, 3))
    verdicts = {name: "attention" in rules(graph, name) for name in CHIPS}
    assert verdicts == {name: name != "spinnaker2" for name in CHIPS}
    readout = layers_of(graph).layers[-1]
    assert readout.role == "readout" and readout.map == (3, 1, 1)
    assert counted(readout, 8).connections(0, 3) == 9 * 4 * 3 and counted(readout, 8).inputs(0, 3) == 36  # tokens, channels, classes
    assert map_network(graph, "spinnaker2").placement.parts


def test_a_convolution_over_one_axis():
    neuron = graph_of(dense(2, 2), LIF(), shape=(2,))["1"]
    graph = g.Graph([g.Input("x", (), (4, 9)), g.Conv1d("c", ("x",), torch.ones(6, 4, 3), None, 2, 1), replace(neuron, name="n", inputs=("c",))])
    assert "conv1d" in rules(graph, "akida") and not rules(graph, "loihi1")
    layer = layers_of(graph).layers[0]
    assert layer.map == (6, 5, 1) and counted(layer, 8).connections(0, 30) == 6 * 4 * (2 + 3 + 3 + 3 + 2) and counted(layer, 8).inputs(0, 1) == 4 * 2


def test_bits_of_input_and_weights():
    graph = graph_of(conv(3, 4), LIF(), conv(4, 4), LIF(), shape=(3, 8, 8))
    assert "input bits" in rules(graph, "loihi1", RETRAIN, input_bits=2) and "input bits" not in rules(graph, "loihi1", RETRAIN, input_bits=1)
    assert "input bits" in rules(graph, "akida", RETRAIN, input_bits=9) and "input bits" not in rules(graph, "akida", RETRAIN, input_bits=8)
    events = graph_of(conv(2, 4), LIF(), shape=(2, 8, 8))  # two channels: a plain convolution reads the input, in 4 bits
    assert "input bits" in rules(events, "akida", RETRAIN, input_bits=5) and "input bits" not in rules(events, "akida", RETRAIN, input_bits=4)
    assert assess(graph, "loihi1").unchecked and not assess(graph, "loihi1", input_bits=1).unchecked
    assert [c.weight_bits for c in map_network(graph, "akida", steps=1).layers.values()] == [8, 4]
    assert [c.weight_bits for c in map_network(graph, "loihi1", weight_bits=4).layers.values()] == [4, 4]
    with pytest.raises(ParameterError, match="no weights of 4 bits or fewer"):
        map_network(graph, "speck", weight_bits=4)


def test_a_dense_layer_after_a_map_is_a_convolution_as_wide_as_the_map():
    """On DYNAP-CNN 8x6x6 flattened is a 6x6 kernel on 8 channels, 8 * 2^(6+4) words, not 288 channels; 4096 inputs of 64x8x8 pass."""
    def net(c, n):
        return graph_of(conv(2, c), SOFT(), Flatten(), dense(c * n * n, 10), SOFT(), shape=(2, n, n))

    last = layers_of(net(8, 6)).layers[-1]
    assert (last.products[0].in_map, last.products[0].kernel) == ((8, 6, 6), (6, 6))
    what = counted(last, 8)
    assert demand(CHIPS["speck"], what, 0, 10)["kernel_words"] == 8 * 2 ** (6 + 4)
    assert (what.connections(0, 10), what.weights(0, 10), what.inputs(0, 10), what.inputs(3, 4)) == (2880, 2880, 288, 288)
    assert not rules(net(64, 8), "speck") and "kernel" in rules(net(1, 17), "speck")


def test_akida_takes_eight_bit_weights_only_where_it_reads_an_image():
    for layers, shape, bits in (((conv(3, 2), LIF()), (3, 8, 8), 8), ((conv(2, 2), LIF()), (2, 8, 8), 4), ((dense(3, 2), LIF()), (3,), 4)):
        mapped = map_network(graph_of(*layers, shape=shape), "akida", steps=1)
        assert [what.weight_bits for what in mapped.layers.values()] == [bits]
        assert on_grid(next(n for n in mapped.graph if hasattr(n, "weight")).weight, bits)


# ---------------------------------------------------------------- changes


def spikes(*shape, t=6, b=3):
    return torch.poisson(torch.full((t, b, *shape), 0.7), generator=torch.Generator().manual_seed(1))


def only(chip, **yes):
    """A chip that takes 16-bit weights, so that nothing is rounded to speak of."""
    return replace(CHIPS[chip], weight_bits=Fact((16,), "test"), **yes)


def test_pools_as_neurons_give_the_same_spikes():
    graph = graph_of(conv(2, 4), LIF(), MaxPool2d(3, 2, padding=1), conv(4, 3), LIF(threshold=0.2), MaxPool2d(2), Flatten(), dense(12, 5), MeanOverTime(), shape=(2, 8, 8))
    rounded, _ = rewritten(graph, CHIPS["spinnaker2"], lambda name: 8)
    changed, lines = rewritten(graph, CHIPS["loihi1"], lambda name: 8)
    x = 3 * spikes(2, 8, 8)
    assert not any(isinstance(n, g.MaxPool2d) for n in changed) and sum("fire where any" in line for line in lines) == 2
    assert torch.equal(changed.run(x), rounded.run(x)) and changed.values(x)["4"].sum() > 0
    assert sum(isinstance(n, g.MaxPool2d) for n in graph) == 2  # the graph that was given is left alone


def test_sums_for_means_and_full_kernels_compute_the_same():
    eager = functools.partial(SOFT, threshold=0.25)
    graph = graph_of(conv(2, 4, groups=2), BatchNorm(4), eager(), AvgPool2d(2), conv(4, 4, groups=4), eager(), AvgPool2d(2), Flatten(), dense(16, 5), eager(), MeanOverTime(), shape=(2, 8, 8))
    changed, lines = rewritten(graph, only("speck"), lambda name: 24)
    x = spikes(2, 8, 8)
    assert {n.kind for n in changed} >= {"SumPool2d"} and not any(isinstance(n, (g.AvgPool2d, g.BatchNorm)) or getattr(n, "groups", 1) > 1 for n in changed)
    torch.testing.assert_close(changed.values(x)["4"], fold_norms(graph).values(x)["4"], rtol=1e-5, atol=1e-5)
    assert graph.run(x).sum() > 0 and torch.equal(changed.run(x), graph.run(x))
    assert any("norms folded" in line for line in lines)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_rounding_to_a_grid_is_near_and_done_once(bits, seed):
    w = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
    once = to_grid(w, bits)
    step = w.abs().max() / (2 ** (bits - 1) - 1)
    assert (once - w).abs().max() <= step / 2 * (1 + 1e-5) and on_grid(once, bits)
    assert len((once / step).round().unique()) <= 2**bits - 1
    assert torch.equal(to_grid(torch.zeros(2, 2), bits), torch.zeros(2, 2))


def test_groups_as_one():
    x, w = torch.randn(2, 6, 5, 5), torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(F.conv2d(x, full(w, 2)), F.conv2d(x, w, groups=2))


@settings(max_examples=10, deadline=None)
@given(networks(), st.sampled_from(["loihi1", "loihi2", "spinnaker2"]))
def test_a_network_that_was_changed_fits_as_it_is(graph, chip):
    try:
        changed = map_network(graph, chip).graph
    except GraphError:
        return
    again = assess(changed, chip)
    assert again.verdict() == FITS, again


# ---------------------------------------------------------------- estimates, learning, words


def test_energy_and_time_of_a_dense_layer_by_hand():
    """4 inputs, 3 neurons, 5 steps on Loihi 1: 12 operations of 23.6 pJ and 3.5 ns; updates of 52 or 81 + 1.7 pJ, 5.3 or 8.4 ns."""
    graph = graph_of(dense(4, 3), LIF(), shape=(4,))
    energy, time, *_ = map_network(graph, "loihi1", steps=5, rates={"input": 0.5, "1": 0.25}).estimates
    assert energy.low == pytest.approx(5 * 3 * 52e-6) and energy.high == pytest.approx(5 * (12 * 23.6 + 3 * 82.7) * 1e-6)
    assert energy.at_rates == pytest.approx(5 * (6 * 23.6 + 3 * (0.25 * 82.7 + 0.75 * 52)) * 1e-6)
    assert time.low == pytest.approx(5 * 3 * 5.3e-3) and time.high == pytest.approx(5 * (12 * 3.5 + 3 * 8.4) * 1e-3)
    assert time.at_rates == pytest.approx(5 * (6 * 3.5 + 3 * (0.25 * 8.4 + 0.75 * 5.3)) * 1e-3)
    assert map_network(graph, "loihi2").estimates[0].low is None and "unknown" in str(map_network(graph, "loihi2").estimates[0])
    with pytest.raises(ParameterError, match="rates are missing"):
        map_network(graph, "loihi1", rates={"1": 0.1})


def test_rates_are_means_over_the_steps_that_count():
    graph = graph_of(dense(2, 3), LIF(), MeanOverTime(), shape=(2,))
    x = torch.zeros(4, 2, 2)
    x[:2, 0], x[3, 0] = 1.0, 9.0
    assert firing_rates(graph, x, torch.tensor([2, 4]))["input"] == pytest.approx(2 * 2 / (6 * 2))


def test_rates_after_a_pool_are_those_that_the_next_layer_reads():
    graph = graph_of(conv(1, 1, 1, p=0), LIF(threshold=0.01), MaxPool2d(2), Flatten(), dense(4, 2), MeanOverTime(), shape=(1, 4, 4))
    x = torch.zeros(1, 1, 1, 4, 4)
    x[0, 0, 0, 0, 0] = 1000.0 * graph["0"].weight.sign().item()
    rates = firing_rates(graph, x)
    assert (rates["1"], rates["4 input"]) == (1 / 16, 1 / 4)
    energy = map_network(graph, "spinnaker2", steps=1, rates=rates).estimates[0]
    assert energy.at_rates == pytest.approx((450 * (16 * rates["input"] + 8 / 4) + 2190 * 18) * 1e-6)


def test_counts_above_one_stay_within_the_range_that_is_given():
    graph = graph_of(dense(2, 3), LIF(), MeanOverTime(), shape=(2,))
    for name in ("loihi1", "spinnaker2"):
        plain, counted_ = (map_network(graph, name, steps=2, rates=firing_rates(graph, torch.full((2, 1, 2), float(n)))).estimates[0] for n in (1, 9))
        assert plain.at_rates <= plain.high < counted_.high == counted_.at_rates and "or to what was measured" in counted_.why and "or to what" not in plain.why


def test_a_value_that_is_no_count_is_one_event():
    """Currents of a series: not -0.25 events per input, but as many as are not 0; in the steps that count. Counts stay sums."""
    graph = graph_of(dense(2, 3), LIF(), MeanOverTime(), shape=(2,))
    x = torch.tensor([[-3.0, 0.0], [2.5, 0.0], [-0.5, -7.0]])[:, None]
    rates = firing_rates(graph, x, torch.tensor([2]))
    assert rates["input"] == rates["0 input"] == 0.5
    assert firing_rates(graph, torch.tensor([[0.0, 3.0]])[:, None])["0 input"] == 1.5
    e = map_network(graph, "spinnaker2", steps=2, rates=rates).estimates[0]
    assert e.low <= e.at_rates <= e.high


def test_weights_that_are_not_numbers_are_refused():
    net = Sequential(dense(2, 2), LIF())
    graph = neuro.trace(net, torch.zeros(2, 1, 2))
    broken = g.Graph([replace(n, weight=torch.tensor([[float("nan"), 1.0], [0.0, 1.0]])) if isinstance(n, g.Linear) else n for n in graph])
    with pytest.raises(GraphError, match="Linear '0': its weights hold NaN"):
        map_network(broken, "loihi1")


def test_energy_lies_within_its_range_and_power_states_its_floor():
    graph = graph_of(conv(2, 4), LIF(), Flatten(), dense(64, 5), MeanOverTime(), shape=(2, 4, 4))
    x = spikes(2, 4, 4).clamp(max=1)
    for name in ("loihi1", "spinnaker2"):
        e = map_network(graph, name, steps=6, rates=firing_rates(graph, x)).estimates[0]
        assert e.low < e.at_rates < e.high
    power = next(e for e in map_network(graph, "akida", steps=1, seconds=2.0).estimates if e.what == "energy by power")
    assert (power.low, power.high) == (905.0 * 2e3, 1021.0 * 2e3)
    assert any("floor" in lack for lack in CHIPS["akida"].lacks) and "floor" in repr(map_network(graph, "akida", steps=1))


def test_which_layer_may_learn():
    graph = graph_of(dense(8, 6), LIF(), dense(6, 4), LIF(), shape=(8,))
    may = lambda name, of=graph: [yes for yes, _ in assess(of, name).learns.values()]  # noqa: E731
    assert may("akida") == [False, True] and may("loihi2") == [True, True] and may("speck") == [False, False]
    deep = graph_of(dense(8, 6), LIF(), dense(6, 5), LIF(), dense(5, 4), LIF(), shape=(8,))
    assert may("akida", deep) == [False, False, True]  # the one in the middle reads spikes too, and is not the last
    assert may("akida", graph_of(dense(8, 4), LIF(), shape=(8,))) == [False]  # its inputs are not binary
    assert may("akida", graph_of(conv(3, 2), LIF(), conv(2, 2), LIF(), shape=(3, 8, 8))) == [False, False]


def test_tables_and_dictionaries_hold_every_layer_and_source():
    graph = graph_of(conv(2, 4), LIF(), MaxPool2d(2), Flatten(), dense(16, 5), MeanOverTime(), shape=(2, 4, 4))
    mapped = map_network(graph, "loihi1", steps=3)
    text, document = repr(mapped), json.loads(json.dumps(mapped.to_dict(), allow_nan=False))
    assert all(name in text for name in mapped.layers) and "nengo-loihi" in text and "not checked: bits of an input" in text
    assert sum(p["stop"] - p["start"] for p in document["parts"]) == sum(row["neurons"] for row in document["placed"])
    assert all(f["source"] for layer in document["layers"] for f in layer["findings"])
    assert sum(share for _, _, share in mapped.shares()) > 0 and "<table>" in mapped._repr_html_()
    assert capacity(CHIPS["speck"], 5)["kernel_words"] == 64 * 1024


@pytest.mark.parametrize("told", [{"weight_bits": 0}, {"input_bits": 1.5}, {"steps": -1}, {"steps": True}])
def test_numbers_that_make_no_sense_are_refused(told):
    with pytest.raises(ParameterError, match="whole number from 1"):
        map_network(graph_of(dense(2, 2), LIF(), shape=(2,)), "loihi1", **told)


def test_other_mistakes_are_named():
    with pytest.raises(UnknownName, match="loihi2"):
        map_network(graph_of(dense(2, 2), LIF(), shape=(2,)), "loihi3")
    with pytest.raises(GraphError, match="last axis of a map"):
        map_network(graph_of(dense(4, 2), LIF(), shape=(2, 4, 4)), "loihi1")
    with pytest.raises(GraphError, match="no layer to map"):
        map_network(graph_of(Flatten(), shape=(2, 4, 4)), "loihi1")
