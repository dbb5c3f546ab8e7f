"""Surrogates: what fires, and which derivative stands in."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuro
from neuro.errors import ParameterError
from neuro.reset import subtract
from neuro.surrogate import (
    ATan,
    FastSigmoid,
    Gaussian,
    Levels,
    Rectangle,
    Sigmoid,
    StraightThrough,
    SuperSpike,
    Surrogate,
    Triangle,
)

# every surrogate, and its derivative written once more from its source
FORMULAS = {
    ATan(2.0): lambda u: 1 / (1 + (math.pi * u) ** 2),
    ATan(5.0): lambda u: 2.5 / (1 + (2.5 * math.pi * u) ** 2),
    Sigmoid(4.0): lambda u: 4 * math.exp(-4 * u) / (1 + math.exp(-4 * u)) ** 2,
    FastSigmoid(25.0): lambda u: 1 / (1 + 25 * abs(u)) ** 2,
    SuperSpike(10.0): lambda u: 10 / (1 + 10 * abs(u)) ** 2,
    Triangle(0.5, 0.3): lambda u: 0.3 * max(0.0, 1 - abs(u) / 0.5),
    Rectangle(0.8): lambda u: 1 / 0.8 if abs(u) <= 0.4 else 0.0,
    Gaussian(0.4): lambda u: math.exp(-(u**2) / 0.32) / (0.4 * math.sqrt(2 * math.pi)),
    StraightThrough(): lambda u: 1.0,
}
ALL = pytest.mark.parametrize("spike", FORMULAS, ids=str)


def points() -> torch.Tensor:
    """From -2 to 2, also 0 and its neighbours; never on the kink of a piecewise one."""
    tiny = torch.tensor([0.0, -0.0, 5e-324, -5e-324, 1e-30, -1e-30], dtype=torch.float64)
    return torch.cat([torch.linspace(-2.003, 2.001, 801, dtype=torch.float64), tiny])


def test_the_table_above_holds_every_surrogate():
    ours = {kind for kind in Surrogate.__subclasses__() if kind.__module__ == "neuro.surrogate"}
    assert {type(s) for s in FORMULAS} | {Levels} == ours  # Levels gives more than 0 and 1: see the tests of levels


@pytest.mark.parametrize("levels", [1, 3, 15])
@pytest.mark.parametrize("unit", [1.0, 0.25])
def test_levels_count_the_steps_that_are_reached_and_pass_the_gradient_straight(levels, unit):
    u = torch.cat([torch.linspace(-3, 20, 93), torch.arange(-2, 20) * unit]).double().requires_grad_()
    for strict in (False, True):
        y = Levels(levels, unit, strict)(u)
        whole = torch.ceil(u / unit) if strict else torch.floor(u / unit) + 1
        assert torch.equal(y.detach(), whole.clamp(0, levels).detach())
    (grad,) = torch.autograd.grad(y.sum(), u)
    inside = (u > -unit / 2) & (u <= (levels - 0.5) * unit)
    assert torch.equal(grad, inside.double() / unit) and torch.equal(grad, Levels(levels, unit).derivative(u.detach()))
    h = 1e-6
    slope = (Levels(levels, unit).primitive(u + h) - Levels(levels, unit).primitive(u - h)) / (2 * h)
    off = (u / unit * 2 - (u / unit * 2).round()).abs() > 1e-3  # away from the kinks
    torch.testing.assert_close(slope[off], grad[off], rtol=1e-3, atol=2e-4)


def test_levels_that_make_no_sense_are_refused():
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ParameterError, match="levels"):
            Levels(wrong)
    with pytest.raises(ParameterError, match="takes no account of levels"):
        neuro.neurons.LIF(spike=Levels(2))


def test_a_neuron_of_levels_runs_by_kernel_as_by_its_definition():
    x = (9 * torch.rand(63, 3, 500, generator=torch.Generator().manual_seed(0)) - 1).requires_grad_()
    for neuron in (neuro.neurons.LIF(decay=0.5, spike=Levels(4), reset=subtract), neuro.neurons.PLIF(spike=Levels(3, strict=True), reset=subtract)):
        y = neuron(x)
        (grad,) = torch.autograd.grad(y.square().sum(), x)
        state, by_hand = neuron.initial(x[0]), []
        for now in x:
            s, state = type(neuron).step(now, state, neuron.params(), **neuron.choices())
            by_hand.append(s)
        expected = torch.stack(by_hand)
        (wanted,) = torch.autograd.grad(expected.square().sum(), x)
        assert y.max() == neuron.spike.levels and (y != expected).float().mean() < 1e-4
        same = (y == expected).all(0).expand_as(grad)
        torch.testing.assert_close(grad[same], wanted[same], rtol=1e-4, atol=1e-5)


@ALL
def test_values_are_exactly_0_or_1(spike):
    u = points()
    assert torch.equal(spike(u), (u >= 0).double())
    strict = type(spike)(strict=True)
    assert torch.equal(strict(u), (u > 0).double())
    assert (spike.comparison, strict.comparison) == (">=", ">")


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(spike, dtype):
    u = torch.linspace(-1, 1, 9, dtype=dtype).requires_grad_()
    s = spike(u)
    s.sum().backward()
    assert s.dtype == dtype and u.grad.dtype == dtype and spike.derivative(u).dtype == dtype


@ALL
def test_derivative_is_its_formula(spike):
    expected = torch.tensor([FORMULAS[spike](u) for u in points().tolist()], dtype=torch.float64)
    torch.testing.assert_close(spike.derivative(points()), expected, rtol=1e-12, atol=1e-15)


@ALL
def test_derivative_is_the_slope_of_the_primitive(spike):
    u, h = points(), 1e-6
    slope = (spike.primitive(u + h) - spike.primitive(u - h)) / (2 * h)
    torch.testing.assert_close(slope, spike.derivative(u), rtol=1e-3, atol=2e-4)


@ALL
def test_gradient_through_a_spike_is_the_derivative(spike):
    u = points().requires_grad_()
    weigh = torch.randn_like(u)
    (spike(u) * weigh).sum().backward()
    assert torch.equal(u.grad, weigh * spike.derivative(u.detach()))


@ALL
@given(u=st.floats(-1e6, 1e6))
def test_derivative_is_even_finite_and_not_negative(spike, u):
    here, there = spike.derivative(torch.tensor([u, -u], dtype=torch.float64)).tolist()
    assert here == pytest.approx(there, abs=1e-15) and 0 <= here < math.inf


@ALL
def test_vmap_and_functional_grad_agree(spike):
    u = torch.randn(4, 6)
    assert torch.equal(torch.vmap(spike)(u), spike(u))
    assert torch.equal(torch.func.grad(lambda u: spike(u).sum())(u), spike.derivative(u))


@ALL
def test_forward_mode_agrees(spike):
    """Also forward over reverse, as torch.func.hessian takes it, and for many directions at once."""
    u, v = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    spikes, tangent = torch.func.jvp(spike, (u,), (v,))
    assert torch.equal(spikes, spike(u)) and torch.equal(tangent, v * spike.derivative(u))
    assert torch.equal(torch.func.jacfwd(spike)(u), spike.derivative(u).diag())

    def total(u):
        return (spike(u) * u.cumsum(0)).sum()

    torch.testing.assert_close(torch.func.hessian(total)(u), torch.autograd.functional.hessian(total, u))


def test_known_heights():
    at = torch.zeros(())
    assert Sigmoid(4.0).derivative(at) == 1 and ATan(2.0).derivative(at) == 1 and FastSigmoid().derivative(at) == 1


@pytest.mark.parametrize("kind", [ATan, Sigmoid, FastSigmoid, SuperSpike, Triangle, Rectangle, Gaussian])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_widths_that_make_no_sense_are_refused(kind, value):
    with pytest.raises(ParameterError, match="positive number"):
        kind(value)


def test_they_are_values():
    assert ATan(2.0) == ATan() and ATan(2.0) != ATan(3.0) and len({ATan(), ATan(), Sigmoid()}) == 2
