"""LIF beside snnTorch's Leaky, from which it must not differ: spikes, membrane and gradient, 50 steps of 4000 neurons."""

import pytest
import snntorch
import torch
from snntorch import surrogate as peer_surrogate

import neuro
from neuro.neurons import LIF
from neuro.reset import Subtract, ToZero, none
from neuro.surrogate import ATan, FastSigmoid

STEPS, BATCH, NEURONS = 50, 8, 500


def assert_equal_to_leaky(ours: LIF, leaky: snntorch.Leaky, membrane: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, BATCH, NEURONS, generator=generator) * 0.5 + 0.2
    weigh = torch.randn(STEPS, BATCH, NEURONS, generator=generator)

    mine = x.clone().requires_grad_()
    spikes, state = neuro.run(ours, mine)
    (spikes * weigh).sum().backward()

    theirs, mem, peers = x.clone().requires_grad_(), leaky.reset_mem(), []
    for x_t in theirs:
        s, mem = leaky(x_t, mem)
        peers.append(s)
    (torch.stack(peers) * weigh).sum().backward()

    assert 0.05 < spikes.mean() < 0.9
    assert torch.equal(spikes, torch.stack(peers))
    assert mine.grad.abs().max() > 0.1
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-6)
    if membrane:
        torch.testing.assert_close(state["#0"], mem, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("spike", "peer"),
    [
        (FastSigmoid(slope=25, strict=True), peer_surrogate.fast_sigmoid(slope=25)),
        (ATan(alpha=2.0, strict=True), peer_surrogate.atan(alpha=2.0)),
    ],
    ids=["fast_sigmoid", "atan"],
)
@pytest.mark.parametrize(
    ("reset", "mechanism"), [(Subtract(delayed=True), "subtract"), (ToZero(delayed=True), "zero"), (none, "none")]
)
def test_equals_leaky(spike, peer, reset, mechanism):
    ours = LIF(decay=0.9, spike=spike, reset=reset)
    assert_equal_to_leaky(ours, snntorch.Leaky(beta=0.9, threshold=1.0, spike_grad=peer, reset_mechanism=mechanism), membrane=True)


def test_immediate_zero_has_the_spikes_of_the_delayed_one():
    leaky = snntorch.Leaky(beta=0.9, spike_grad=peer_surrogate.fast_sigmoid(slope=25), reset_mechanism="zero")
    assert_equal_to_leaky(LIF(decay=0.9, spike=FastSigmoid(25, strict=True), reset=ToZero()), leaky, membrane=False)


def test_threshold_other_than_one():
    leaky = snntorch.Leaky(beta=0.8, threshold=0.7, spike_grad=peer_surrogate.fast_sigmoid(slope=25))
    ours = LIF(decay=0.8, threshold=0.7, spike=FastSigmoid(25, strict=True), reset=Subtract(delayed=True))
    assert_equal_to_leaky(ours, leaky, membrane=True)


def test_equality_fires_here_and_not_in_snntorch():
    x = torch.ones(1, 1, 1)
    assert LIF(decay=0.9)(x).item() == 1
    assert LIF(decay=0.9, spike=ATan(strict=True))(x).item() == 0
    assert snntorch.Leaky(beta=0.9)(x[0])[0].item() == 0
