"""A delay of whole steps: what comes out when, in chunks, in a graph, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuro
from neuro.errors import NeuroError
from neuro.layers import Delay, Linear, MeanOverTime, Sequential
from neuro.neurons import LIF


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(1, 9), t=st.integers(1, 12), cut=st.integers(1, 11))
def test_a_delay_is_a_shift_however_it_is_cut(steps, t, cut):
    x = torch.randn(t, 2, 3)
    delay = Delay(steps)
    y = delay(x)
    assert torch.equal(y[:steps], torch.zeros_like(y[:steps])) and torch.equal(y[steps:], x[: max(0, t - steps)])
    if cut < t:
        first, state = neuro.run(delay, x[:cut])
        second, _ = neuro.run(delay, x[cut:], state)
        assert torch.equal(torch.cat([first, second]), y)


def test_it_is_traced_and_lets_gradients_through():
    net = Sequential(Linear(3, 4), LIF(), Delay(2), Linear(4, 2), MeanOverTime())
    x = torch.randn(6, 2, 3)
    graph = neuro.trace(net, x)
    assert [n.kind for n in graph] == ["Input", "Linear", "Neuron", "Delay", "Linear", "MeanOverTime"] and graph["2"].steps == 2
    assert torch.allclose(graph.run(x), net(x), atol=1e-6) and torch.allclose(graph.run(x[:1]), net(x[:1]), atol=1e-6)
    x.requires_grad_()
    Delay(2)(x).sum().backward()
    assert x.grad[:4].eq(1).all() and x.grad[4:].eq(0).all()


@pytest.mark.parametrize("wrong", [0, -1, 1.0, True, None])
def test_no_delay_is_refused(wrong):
    with pytest.raises(NeuroError, match="whole number of steps"):
        Delay(wrong)


def test_what_is_no_sequence_is_refused():
    for x in (torch.zeros(3), torch.zeros(0, 1, 2), "x"):
        with pytest.raises(NeuroError, match="Delay"):
            Delay(1)(x)
