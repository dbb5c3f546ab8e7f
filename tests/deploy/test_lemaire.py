"""Lemaire's closed formulas: the table by hand, against loops, and against what was counted."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuro
from neuro.deploy.elementwise import Elementwise, elementwise_work
from neuro.deploy.lemaire import Shape, counts, lemaire, shapes_of
from neuro.errors import GraphError, ParameterError
from neuro.layers import AvgPool2d, Conv2d, Flatten, Linear, MeanOverTime, MeanOverTokens, Sequential, Tokens
from neuro.neurons import IF, LIF, Recurrent

# conv 1 -> 1, 3x3, padding 1, 4x4 input with two spikes, T=2
TWO = Shape("conv", (1, 4, 4), (1, 4, 4), (3, 3), (1, 1), steps=2, events=2, spikes=3, spiking=True, leaky=False)


def test_the_papers_table_by_hand():
    c = counts(TWO)
    assert (c.read_inputs, c.read_weights, c.read_biases, c.potentials, c.write_outputs) == (2, 18, 32, 18 + 32, 3)
    assert (c.macs, c.acs, c.addressing_macs, c.addressing_acs) == (0, 18 + 32 + 3, 4, 18)
    leaky = counts(replace(TWO, leaky=True))
    assert leaky == replace(c, macs=2 * 16)  # LIF adds exactly T*O MACs
    dense = counts(replace(TWO, spiking=False))
    assert (dense.macs, dense.acs, dense.read_inputs, dense.read_weights, dense.read_biases, dense.write_outputs) == (144, 16, 144, 144, 16, 16)
    assert (dense.addressing_macs, dense.addressing_acs, dense.potentials) == (0, 16 + 16 + 9, 0)
    strided = counts(replace(TWO, outputs=(1, 2, 2), stride=(2, 2)))
    assert strided.acs == 2 * 2 * 2 + 2 * 4 + 3 and strided.read_weights == 18  # ceil(3/2)^2 of the 9 taps


def test_a_full_layer_by_hand():
    fc = Shape("fc", (10,), (4,), (), (), steps=3, events=7, spikes=5, spiking=True, leaky=True)
    c = counts(fc)
    assert (c.macs, c.acs, c.addressing_macs, c.addressing_acs) == (12, 28 + 12 + 5, 0, 28)
    assert (c.read_inputs, c.read_weights, c.read_biases, c.potentials, c.write_outputs) == (7, 28, 12, 40, 5)
    d = counts(replace(fc, spiking=False))
    assert (d.macs, d.acs, d.read_inputs, d.read_weights, d.read_biases, d.write_outputs) == (40, 4, 10, 40, 4, 4)


def test_the_energy_of_two_spikes_by_hand():
    ops, addressing = 53 * 0.1, 4 * 3.2 + 18 * 0.1
    linear = lemaire([TWO]).layers["conv"]
    assert linear[:2] == (pytest.approx(ops), pytest.approx(addressing))
    assert linear[2] == pytest.approx((2 + 32 + 2 * 50 + 3) * (13.2 + 1.09e-5 * 16 * 32) + 18 * (13.2 + 1.09e-5 * 9 * 32))
    assert lemaire([TWO], "wide").layers["conv"][2] == pytest.approx((2 + 18 + 32 + 2 * 50 + 3) * 5.0)
    report = lemaire([TWO, replace(TWO, name="b")])
    assert report.total == pytest.approx(2e-6 * sum(linear)) and 0.9 < report.memory_share < 1
    assert "not a measurement" in repr(report) and "conv" in report._repr_html_() and lemaire([]).total == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(0, 999))
def test_closed_formulas_equal_loops_where_no_border_is_near(channels, out, kernel, steps, seed):
    """Full padding, stride 1: every event meets all taps, so that counting one by one gives what the formula says."""
    net = Sequential(Conv2d(channels, out, kernel, padding=kernel - 1), LIF())
    x = (torch.rand(steps, 1, channels, 4, 5, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
    loops = sum(1 for t, c, i, j in itertools.product(range(steps), range(channels), range(4), range(5)) for _ in range(out * kernel**2) if x[t, 0, c, i, j])
    found = neuro.activity(net, x)
    (shape,) = shapes_of(found, neuro.trace(net, x))
    c, updates = counts(shape), steps * shape.out
    assert c.read_weights == c.addressing_acs == loops == found["0"].effective[0]
    assert c.acs == loops + updates + found["1"].spikes[0] and c.macs == updates and c.potentials == loops + updates


def test_where_borders_are_near_the_formula_is_an_upper_bound():
    net = Sequential(Conv2d(2, 3, 3, padding=1), IF(), AvgPool2d(2), Conv2d(3, 4, 3, groups=1), LIF(), Flatten(), Linear(16, 5), MeanOverTime())
    x = (torch.rand(4, 2, 2, 8, 8) < 0.5).float()
    found, graph = neuro.activity(net, x), neuro.trace(net, x)
    a, b, c = shapes_of(found, graph)
    assert counts(a).read_weights > found["0"].effective.mean() > 0
    assert (a.spiking, b.spiking, c.spiking) == (True, False, True)  # averages of spikes are no spikes
    assert (a.leaky, b.leaky, c.leaky) == (False, True, False) and counts(b).macs == b.out * 3 * 9
    assert not any(s.spiking for s in shapes_of(found, graph, spiking=False))
    assert lemaire([a, b, c]).total > 0


def test_an_input_channel_reaches_only_its_group():
    net = Sequential(Conv2d(4, 8, 3, padding=2, groups=4), LIF())
    x = (torch.rand(2, 1, 4, 5, 5) < 0.5).float()
    found = neuro.activity(net, x)
    (shape,) = shapes_of(found, neuro.trace(net, x))
    assert counts(shape).read_weights == found["0"].effective[0] == x.sum() * 2 * 9


def test_a_product_for_each_token_is_a_convolution_of_one_tap():
    net = Sequential(Conv2d(2, 6, 1), IF(threshold=0.1), Tokens(), Linear(6, 4), LIF(), MeanOverTokens(), MeanOverTime())
    x = (torch.rand(3, 1, 2, 3, 3) < 0.5).float()
    found = neuro.activity(net, x)
    _, tokens = shapes_of(found, neuro.trace(net, x))
    assert (tokens.inputs, tokens.outputs, tokens.kernel, tokens.stride) == ((6, 9), (4, 9), (1,), (1,))
    assert counts(tokens).read_weights == found["3"].effective[0] == 4 * found["1"].spikes[0] > 0
    assert counts(tokens).macs == 3 * 9 * 4 and counts(replace(tokens, spiking=False)).macs == found["3"].dense[0] / 3


def test_what_has_no_formula_is_refused():
    net = Sequential(Linear(4, 3), Recurrent(LIF(), 3), Linear(3, 2), MeanOverTime())
    x = torch.ones(3, 1, 4)
    with pytest.raises(GraphError, match="no such layer"):
        shapes_of(neuro.activity(net, x), neuro.trace(net, x))
    for how in ({"memory": "free"}, {"bits": 0}, {"bits": 128}):
        with pytest.raises(ParameterError, match="no such memory"):
            lemaire([TWO], **how)


def test_work_between_layers_is_priced_in_its_memories():
    """Two maps of 4x4 spikes pooled to 2x2: the words of the pool in memories of 32 and of 8 words, no addressing."""
    net = Sequential(Conv2d(1, 2, 3, padding=1), IF(threshold=0.1), AvgPool2d(2), Flatten(), Linear(8, 3), LIF())
    net[0].weight.data.fill_(1.0)
    net[0].bias.data.zero_()
    x = (torch.rand(3, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    fired = net[1](net[0](x))
    pooled = net[2](fired).count_nonzero().item()
    found, graph = neuro.activity(net, x), neuro.trace(net, x)
    (pool,) = elementwise_work(graph, x)["snn"]
    report, layers = lemaire(shapes_of(found, graph), elementwise=[pool]), lemaire(shapes_of(found, graph))
    spikes = fired.sum().item()
    adds, words = spikes - pooled, spikes * (13.2 + 1.09e-5 * 32 * 32) + pooled * (13.2 + 1.09e-5 * 8 * 32)
    assert report.layers["2"] == (pytest.approx(adds * 0.1 + pooled * 3.1), 0.0, pytest.approx(words)) and adds > 0
    assert report.total == pytest.approx(layers.total + 1e-6 * sum(report.layers["2"])) and {**layers.layers, "2": report.layers["2"]} == report.layers
    wide = lemaire([], "wide", 8, elementwise=[pool])
    assert wide.layers["2"][2] == pytest.approx((spikes + pooled) * 10 / 8)
    with pytest.raises(ParameterError, match="no rule for Softmax 'strange'"):
        lemaire([], elementwise=[Elementwise("strange", "Softmax", understood=False, elements=12)])
