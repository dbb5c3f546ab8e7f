"""Reset rules."""

import pytest
import torch

from neuro.neurons import LIF
from neuro.reset import RULES as RULES_BY_NAME
from neuro.reset import NoReset, Subtract, ToValue, ToZero, name_of, none, subtract, to_zero
from neuro.surrogate import ATan

RULES = [ToZero, ToValue, Subtract, NoReset]
AFTER = {ToZero: lambda v: 0 * v, ToValue: lambda v: 0 * v - 0.5, Subtract: lambda v: v - 1.5, NoReset: lambda v: v}


def make(kind, **how):
    return kind(value=-0.5, **how) if kind is ToValue else kind(**how)


@pytest.mark.parametrize("kind", RULES)
def test_silent_neurons_are_untouched_and_the_others_follow_the_rule(kind):
    v = torch.linspace(-3, 3, 25)
    s = (v >= 1.5).float()
    after = make(kind)(v, s, 1.5)
    assert torch.equal(after[s == 0], v[s == 0])
    assert torch.equal(after[s == 1], AFTER[kind](v[s == 1]))


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("detach", [True, False])
def test_gradient_through_the_spike_only_if_not_detached(kind, detach):
    v, s = torch.tensor([2.0, 0.3], requires_grad=True), torch.tensor([1.0, 0.0], requires_grad=True)
    through_v, through_s = torch.autograd.grad(make(kind, detach=detach)(v, s, 1.5).sum(), (v, s), allow_unused=True, materialize_grads=True)
    assert torch.equal(through_v, torch.tensor([0.0, 1.0]) if kind in (ToZero, ToValue) else torch.ones(2))
    expected = {ToZero: -v, ToValue: -v - 0.5, Subtract: -1.5 + 0 * v, NoReset: 0 * v}[kind].detach()
    assert torch.equal(through_s, torch.zeros(2) if detach else expected)


def test_delayed_subtraction_is_the_written_out_recurrence():
    x = torch.randn(40, 2, 9, dtype=torch.float64)
    v, s, expected = torch.zeros(2, 9, dtype=torch.float64), torch.zeros(2, 9, dtype=torch.float64), []
    for x_t in x:
        v = 0.75 * v + x_t - s * 1.0
        s = (v >= 1).double()
        expected.append(s)
    assert torch.equal(LIF(decay=0.75, reset=Subtract(delayed=True))(x), torch.stack(expected))


@pytest.mark.parametrize("kind", [ToZero, ToValue])
@pytest.mark.parametrize("detach", [True, False])
def test_delayed_hard_reset_spikes_like_the_immediate_one(kind, detach):
    x = torch.randn(40, 2, 9)
    at_once, late = (x.clone().requires_grad_() for _ in range(2))
    a = LIF(decay=0.75, reset=make(kind, detach=detach))(at_once)
    b = LIF(decay=0.75, reset=make(kind, detach=detach, delayed=True))(late)
    (a * x).sum().backward()
    (b * x).sum().backward()
    assert a.sum() > 50 and torch.equal(a, b)
    torch.testing.assert_close(at_once.grad, late.grad)


def test_a_delayed_subtraction_differs_from_the_immediate_one():
    x = torch.full((4, 1, 1), 1.25)
    assert LIF(decay=0.5, reset=Subtract())(x).sum() != LIF(decay=0.5, reset=Subtract(delayed=True))(x).sum()


@pytest.mark.parametrize("delayed", [True, False])
def test_undetached_reset_by_hand(delayed):
    """Two steps, one spike: the gradient of the second membrane through the first spike."""
    x = torch.tensor([1.25, 0.25], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    spike = ATan(2.0)
    s = LIF(decay=0.5, spike=spike, reset=Subtract(detach=False, delayed=delayed))(x)
    s[1].sum().backward()
    scale = 1.0 if delayed else 0.5  # the threshold is taken after or before the leak
    u0, u1 = torch.tensor(0.25, dtype=torch.float64), 0.5 * 1.25 + 0.25 - scale - torch.tensor(1.0, dtype=torch.float64)
    expected = spike.derivative(u1) * (0.5 - scale * spike.derivative(u0))
    torch.testing.assert_close(x.grad[0].squeeze(), expected)


def test_ready_made_rules():
    assert (to_zero, subtract, none) == (ToZero(), Subtract(), NoReset())
    assert to_zero.detach and not to_zero.delayed


@pytest.mark.parametrize("decay", [1.0, 0.75, 0.0])
@pytest.mark.parametrize("rule", [*RULES_BY_NAME.values(), ToZero(delayed=True), ToZero(detach=False), Subtract(detach=False), Subtract(False, True), NoReset(delayed=True), ToValue(0.0)])
def test_a_rule_goes_by_the_name_of_one_that_gives_the_same_spikes(rule, decay):
    x = torch.randn(60, 2, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.3
    named = RULES_BY_NAME[name_of(rule, decay)]
    assert torch.equal(LIF(decay=decay, reset=rule)(x), LIF(decay=decay, reset=named)(x))


def test_what_does_otherwise_has_no_name():
    class Half(Subtract):
        def __call__(self, v, s, threshold):
            return v - s * threshold / 2

    class SaysSoft(ToZero):
        hard = False

    assert [name_of(r) for r in (None, ToValue(0.3), Half(), SaysSoft())] == [None] * 4
    assert name_of(Subtract(delayed=True), torch.tensor([1.0, 0.5])) == "late" and name_of(subtract, levels=7) == "subtract"
    assert {name: name_of(rule, 0.9) for name, rule in RULES_BY_NAME.items()} == {name: name for name in RULES_BY_NAME}
