"""LIF with escape noise: the probability of a spike, its gradient, and repeatability."""

import pytest
import torch

import neuro
from neuro.errors import ParameterError
from neuro.neurons import LIF, EscapeLIF
from neuro.reset import Subtract, none
from neuro.scanning import plain_loop


@pytest.mark.parametrize("v", [0.5, 1.0, 1.4])
def test_it_fires_with_its_probability(v):
    torch.manual_seed(0)
    y = EscapeLIF(decay=0.0, width=0.3)(torch.full((1, 1, 40000), v))
    p = torch.sigmoid(torch.tensor((v - 1) / 0.3)).item()
    assert y.unique().tolist() == [0, 1]
    assert abs(y.mean().item() - p) < 4 * (p * (1 - p) / 40000) ** 0.5


def test_the_gradient_is_that_of_the_probability():
    x = torch.linspace(-1, 3, 50, dtype=torch.float64).view(1, 1, 50).requires_grad_()
    EscapeLIF(decay=0.0, width=0.3)(x).sum().backward()
    p = torch.sigmoid((x.detach() - 1) / 0.3)
    torch.testing.assert_close(x.grad, p * (1 - p) / 0.3)


def test_without_noise_it_is_lif():
    x = torch.randn(9, 3, 700)
    assert torch.equal(EscapeLIF(tau=2.0, width=1e-9)(x), LIF(tau=2.0)(x))


def test_a_seed_repeats_a_run_by_kernel_and_by_loop():
    x, neuron, found = torch.randn(12, 2, 300), EscapeLIF(reset=Subtract()), []
    for by_loop in (False, True, False):
        torch.manual_seed(7)
        if by_loop:
            with plain_loop():
                found.append(neuron(x))
        else:
            found.append(neuron(x))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], neuron(x))
    assert (found[0] != found[1]).float().mean() < 1e-3  # exponentials may differ in their last bit


def test_state_goes_on():
    torch.manual_seed(3)
    x, neuron = torch.randn(8, 2, 64), EscapeLIF(reset=none)
    _, whole = neuro.run(neuron, x)
    _, first = neuro.run(neuron, x[:3])
    _, second = neuro.run(neuron, x[3:], first)
    torch.testing.assert_close(second["#0"], whole["#0"])


def test_bad_values_are_refused():
    with pytest.raises(ParameterError, match="width"):
        EscapeLIF(width=0.0)
    with pytest.raises(ParameterError, match="delayed"):
        EscapeLIF(reset=Subtract(delayed=True))
