"""CUBALIF: a current with a memory before the membrane."""

import pytest
import torch

import neuro
from neuro.errors import ParameterError
from neuro.neurons import CUBALIF, LIF
from neuro.reset import Subtract, ToZero


@pytest.mark.parametrize("reset", [ToZero(), Subtract(), Subtract(delayed=True), ToZero(delayed=True)], ids=str)
def test_without_memory_of_the_current_it_is_lif(reset):
    x = torch.randn(30, 2, 20) + 0.5
    assert torch.equal(CUBALIF(current_decay=0, decay=0.5, reset=reset)(x), LIF(decay=0.5, reset=reset)(x))


def test_one_pulse_below_threshold_is_the_alpha_function():
    """u[t] = a^t, v[t] = sum of a^k b^(t-k)."""
    a, b, steps = 0.5, 0.75, 12
    x = torch.zeros(steps, 1, 1, dtype=torch.float64)
    x[0] = 1.0
    y, state = neuro.run(CUBALIF(current_decay=a, decay=b, threshold=100.0), x)
    assert not y.any()
    assert state["#0.u"].item() == pytest.approx(a ** (steps - 1))
    assert state["#0.v"].item() == pytest.approx(sum(a**k * b ** (steps - 1 - k) for k in range(steps)))


def test_the_reset_leaves_the_current_alone():
    x = torch.tensor([4.0, 0, 0]).view(3, 1, 1)
    y, state = neuro.run(CUBALIF(current_decay=0.5, decay=0.5), x)  # u = 4, 2, 1: still enough
    assert y.flatten().tolist() == [1, 1, 1] and state["#0.u"].item() == 1 and state["#0.v"].item() == 0


def test_a_current_decay_outside_0_to_1_is_named():
    with pytest.raises(ParameterError, match="current_decay"):
        CUBALIF(current_decay=1.5)
    with pytest.raises(ParameterError, match="both tau"):
        CUBALIF(tau=2.0, decay=0.5)
