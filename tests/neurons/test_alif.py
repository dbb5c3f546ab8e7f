"""ALIF: every spike raises the threshold."""

import pytest
import torch

import neuro
from neuro.errors import ParameterError
from neuro.neurons import ALIF, LIF
from neuro.reset import Subtract, subtract, to_zero


def test_without_adaptation_it_is_lif():
    x = torch.randn(30, 2, 20) + 0.5
    for reset in (to_zero, subtract):
        assert torch.equal(ALIF(decay=0.5, adapt_step=0, reset=reset)(x), LIF(decay=0.5, reset=reset)(x))


def test_it_is_the_equation_in_python():
    x = (torch.randn(8, 1, 50) * 8 + 8).round() / 8
    y = ALIF(decay=0.5, adapt_decay=0.5, adapt_step=0.25)(x)[:, 0].T.tolist()
    for n, currents in enumerate(x[:, 0].T.tolist()):
        v = a = 0.0
        for t, current in enumerate(currents):
            height, v = 1 + 0.25 * a, 0.5 * v + current
            s = float(v >= height)
            assert y[n][t] == s
            v, a = v - s * height, 0.5 * a + s


def test_it_tires():
    x = torch.full((60, 1, 1), 1.2)
    y = ALIF(decay=0.5, adapt_decay=1.0, adapt_step=0.1)(x).flatten()
    assert y[:10].sum() > y[-10:].sum()


def test_silent_neurons_do_not_adapt():
    _, state = neuro.run(ALIF(), torch.full((20, 1, 1), 0.1))
    assert state["#0.a"].item() == 0 and state["#0.v"].item() > 0


def test_gradients_reach_through_the_adaptation():
    x = torch.full((4, 1, 1), 1.5, requires_grad=True)
    y = ALIF(decay=0.0, adapt_decay=1.0, adapt_step=0.5)(x)
    (through_adaptation,) = torch.autograd.grad(y[-1].sum(), x)
    assert through_adaptation[0].item() < 0  # more current now, a spike more, a higher threshold later


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ParameterError, match="delayed"):
        ALIF(reset=Subtract(delayed=True))
    with pytest.raises(ParameterError, match="adapt_decay"):
        ALIF(adapt_decay=1.2)
    with pytest.raises(ParameterError, match="adapt_step"):
        ALIF(adapt_step=-1.5)
