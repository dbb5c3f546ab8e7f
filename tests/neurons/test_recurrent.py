"""Recurrent: a neuron's spikes come back after one step."""

import pytest
import torch

import neuro
from neuro.errors import ShapeError
from neuro.neurons import ALIF, CUBALIF, LIF, PLIF, Recurrent


def test_without_weights_it_is_the_neuron():
    x = torch.randn(20, 2, 5) + 0.5
    for neuron in (LIF(decay=0.5), PLIF(), CUBALIF(), ALIF()):
        net = Recurrent(neuron, 5)
        torch.nn.init.zeros_(net.weight)
        assert torch.equal(net(x), neuron(x))


def test_a_spike_comes_back_one_step_later():
    net = Recurrent(LIF(decay=0.5), 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))  # neuron 0 excites neuron 1
    x = torch.zeros(3, 1, 2)
    x[0, 0, 0] = 1
    assert net(x)[:, 0].tolist() == [[1, 0], [0, 1], [0, 0]]


def test_it_is_the_loop_written_out():
    net, inner = Recurrent(LIF(decay=0.5), 4, bias=True), LIF(decay=0.5)
    x, s, state, expected = torch.randn(10, 2, 4), torch.zeros(2, 4), None, []
    for x_t in x:
        s, state = neuro.run(inner, (x_t + s @ net.weight.T + net.bias)[None], state)
        s = s[0]
        expected.append(s)
    assert torch.equal(net(x), torch.stack(expected))


def test_state_names_and_gradients():
    net = Recurrent(ALIF(), 4)
    x = torch.rand(6, 2, 4) * 3
    y, state = neuro.run(net, x)
    assert set(state) == {"#0.s", "#0.v", "#0.a"} and torch.equal(state["#0.s"], y[-1])
    y.sum().backward()
    assert net.weight.grad.abs().sum() > 0


def test_plif_inside_learns():
    net = Recurrent(PLIF(), 4)
    net(torch.rand(6, 2, 4) * 3).sum().backward()
    assert net.neuron.w.grad.abs() > 0


def test_another_width_is_refused():
    with pytest.raises(ShapeError, match="features 4"):
        Recurrent(LIF(), 4)(torch.zeros(3, 1, 5))
