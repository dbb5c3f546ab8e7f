"""PLIF: LIF with a learned time constant."""

import pytest
import torch

import neuro
from neuro.errors import ParameterError
from neuro.neurons import LIF, PLIF
from neuro.reset import ToZero, subtract
from neuro.surrogate import Surrogate


class Smooth(Surrogate):
    """A step that is as smooth as its derivative says: sigmoid(u), so that finite differences see the gradient."""

    def __call__(self, u):
        return torch.sigmoid(u)


@pytest.mark.parametrize("shape", [(), (3,), (3, 1, 1)])
def test_gradients_are_those_of_finite_differences(shape):
    n = (3, 2, 2) if len(shape) == 3 else (3,)
    neuron = PLIF(tau=3.0, shape=shape, spike=Smooth(), reset=ToZero(detach=False)).double()
    x = torch.randn(5, 2, *n, dtype=torch.float64, requires_grad=True)

    def forward(x, w):
        return torch.func.functional_call(neuron, {"w": w}, x)

    assert torch.autograd.gradcheck(forward, (x, neuron.w.detach().clone().requires_grad_()))


def test_it_spikes_like_lif():
    x = torch.randn(20, 4, 5) + 1
    assert torch.equal(PLIF(tau=2.0, reset=subtract)(x), LIF(tau=2.0, reset=subtract)(x))


def test_channels_learn_apart():
    neuron = PLIF(tau=2.0, shape=(2, 1, 1))
    x = torch.rand(6, 3, 2, 4, 4) * 3
    neuron(x)[:, :, 0].sum().backward()
    assert neuron.w.grad.shape == (2, 1, 1) and neuron.w.grad[0] != 0 and neuron.w.grad[1] == 0


def test_a_step_on_w_moves_tau_and_it_stays_above_1():
    neuron = PLIF(tau=2.0)
    with torch.no_grad():
        neuron.w.fill_(50.0)
    p = neuron.params()
    assert 0 <= p.decay <= 1e-6 and p.decay + p.gain == 1


def test_float64_input_is_computed_in_float64():
    _, state = neuro.run(PLIF(), torch.rand(3, 1, 2, dtype=torch.float64))
    assert state["#0"].dtype == torch.float64


@pytest.mark.parametrize("tau", [1.0, 0.5, -2.0])
def test_tau_must_exceed_one_step(tau):
    with pytest.raises(ParameterError, match="PLIF"):
        PLIF(tau=tau)


def test_repr_shows_the_learned_values():
    assert "0.5 (learned)" in repr(PLIF()) and "[4] in 0.5 .. 0.5 (learned)" in repr(PLIF(shape=(4,)))
