"""The integer network: what it accepts, how it aligns branches, and what the chip cannot hold."""

import numpy as np
import pytest

from neuro.deploy.network import (
    LIF,
    Add,
    Attention,
    Conv,
    Dense,
    Flatten,
    Input,
    IntegerNetwork,
    MaxPool,
    Readout,
    Tokens,
)
from neuro.errors import GraphError, UnknownName


def chain(*nodes, shape=(4,), size=4, bits=1):
    """Input `x`, the nodes, and a head on the last, whose output has `size` values."""
    return IntegerNetwork([Input("x", shape, bits), *nodes, Flatten("f", nodes[-1].name),
                           Dense("h", "f", np.full((1, size), 2)), Readout("r", "h", np.zeros(1, int))])


def eye(n, value=2):
    return value * np.eye(n, dtype=int)


def test_shapes_latency_and_delays(network):
    assert network.shapes["tokens"] == (np.prod(network.shapes["b.add"][1:]), network.shapes["b.add"][0])
    assert network.latency["a.lif"] == 1 and network.latency["b.lif"] == network.latency["b.add"] == 2
    assert network.delays["b.add"] == (1, 0, 1)
    assert network.delays["block.add1"] == (3, 0) and network.delays["block.add2"] == (2, 0)
    assert network.latency["readout"] == 2 + 5 + 1 + 1
    for node in network.nodes:      # all inputs of a node belong to one step
        assert len({network.latency[s] + d for s, d in zip(node.inputs, network.delays[node.name], strict=True)}) <= 1


def test_ranges_bound_what_can_occur():
    net = chain(Dense("d", "x", np.array([[2, -4, 6, 0]])), size=1, bits=2)
    assert net.ranges["d"] == (-12, 24)
    net = chain(LIF("s", "x", 0, 1), Add("a", ("s", "s", "x")), bits=3)
    assert net.ranges["a"] == (0, 9) and not net.binary("a") and net.binary("s")


@pytest.mark.parametrize("make, said", [
    (lambda: chain(Dense("d", "x", np.ones((2, 3), int))), "weight"),
    (lambda: chain(Dense("d", "y", eye(4))), "'y'"),
    (lambda: chain(Dense("x", "x", eye(4))), "taken"),
    (lambda: chain(Dense("d", "x", eye(4) * 1.0)), "float64"),
    (lambda: chain(Dense("d/../e", "x", eye(4))), "name"),
    (lambda: chain(Dense("d", "x", eye(4)), MaxPool("p", "d", 2, 2)), "C, H, W"),
    (lambda: chain(Conv("c", "x", np.ones((2, 2, 3, 3), int)), shape=(3, 5, 5)), "groups"),
    (lambda: chain(Conv("c", "x", np.ones((2, 3, 7, 3), int)), shape=(3, 5, 5)), "smaller"),
    (lambda: chain(LIF("s", "x", 0, 1, np.zeros(3, int))), "bias_mant"),
    (lambda: chain(Tokens("t", "x"), Attention("a", "t", "t", "t", 3), shape=(4, 2, 2)), "heads"),
    (lambda: IntegerNetwork([Input("x", (4,))]), "Readout"),
    (lambda: chain(LIF("s", "x", 2048.5, 1)), "dv is 2048.5"),
])
def test_what_cannot_be_built_is_refused(make, said):
    with pytest.raises(GraphError, match=said):
        make()


@pytest.mark.parametrize("weight, said", [
    ([[3, -2]], "odd"), ([[256, -2]], "leave"), ([[254, -258]], "leave"), ([[256, 0]], "pass 255"), ([[-256, 0]], "pass -255"),
])
def test_weights_off_the_grid_are_refused(weight, said):
    net = chain(Dense("layer.x", "x", np.array(weight)), shape=(2,), size=1)
    with pytest.raises(GraphError, match=said) as error:
        net.check()
    assert "layer.x" in str(error.value)


@pytest.mark.parametrize("weight", [[[254, -256]], [[255, 1]], [[-255, -1]], [[-2, 2]]])
def test_weights_on_the_grid_pass(weight):
    assert chain(Dense("d", "x", np.array(weight)), shape=(2,), size=1).check() == []


def test_all_zero_weights_are_a_warning():
    assert "zero" in chain(Dense("d", "x", eye(4, 0))).check()[0]


@pytest.mark.parametrize("change", [dict(vth=0), dict(vth=131072), dict(dv=4097), dict(dv=-1), dict(du=4096), dict(du=-1),
                                    dict(bias_exp=8), dict(bias_mant=4096), dict(bias_mant=np.array([0, 0, 0, -4096]))])
def test_neuron_parameters_out_of_range_are_refused(change):
    with pytest.raises(GraphError, match="'s'"):
        chain(LIF("s", "x", **{"dv": 0, "vth": 100, **change})).check()


def test_accumulators_that_could_overflow_are_refused():
    def net(fan_in, **lif):
        return chain(Dense("d", "x", np.full((1, fan_in), 254)), LIF("s", "d", 0, 100, **lif), shape=(fan_in,), size=1)
    net(516).check()
    with pytest.raises(GraphError, match=r"'s'(.|\n)*131318(.|\n)*131072"):
        net(517).check()
    net(10, du=2047).check()
    with pytest.raises(GraphError, match="131072"):     # current that stays adds up
        net(300, du=2047).check()


def test_a_convolution_keeps_to_24_bits():
    """Lava's Conv wraps there, its Dense at 32; a wide input that no neuron bounds could pass it."""
    def net(channels):
        return IntegerNetwork([Input("x", (channels, 1, 1), 15), Conv("c", "x", np.full((1, channels, 1, 1), 255)), Flatten("f", "c"), Readout("r", "f", np.zeros(1, int))])
    net(1).check()
    with pytest.raises(GraphError, match=r"'c'(.|\n)*2\^23"):
        net(2).check()


def test_an_unknown_node_is_named(network):
    with pytest.raises(UnknownName, match="a.conv"):
        network["a.convv"]


def test_arrays_of_a_node_cannot_be_changed(network):
    with pytest.raises(ValueError):
        network["a.conv"].weight[:] = 0
