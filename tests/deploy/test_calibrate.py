"""Calibration: means of currents are kept, spikes come closer, and nothing else changes."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import neuro
from neuro.deploy import network as ints
from neuro.deploy.agreement import compare
from neuro.deploy.quantize import quantize
from neuro.graph import fold_norms
from neuro.layers import Conv2d, Flatten, Linear, MeanOverTime, Sequential
from neuro.neurons import CUBALIF, LIF
from neuro.surrogate import ATan

STRICT = ATan(2.0, strict=True)


def network(seed):
    torch.manual_seed(seed)
    net = Sequential(Conv2d(2, 8, 3, padding=1, stride=2, groups=2), LIF(spike=STRICT), Flatten(), Linear(72, 20, bias=False), LIF(threshold=0.05, spike=STRICT), Linear(20, 4), MeanOverTime())
    for p in net.parameters():
        p.data += 0.2 * p.abs().mean() if p.dim() > 1 else 0.1
    return net


def recordings(n, seed=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.rand(2, 6, 6, generator=generator).expand(12, n, 2, 6, 6), generator=generator)


def test_spikes_on_other_recordings_come_closer():
    changed = np.zeros(2)
    for seed in range(4):
        net, x, other = network(seed), recordings(12), recordings(12, 10).flip(1)
        for i, calibrate in enumerate((False, True)):
            found, report = quantize(net, x, message_bits=4, weight_bits=3, clip=True, calibrate=calibrate)
            again = compare(neuro.trace(net, x), found, other, None, report.layers)
            assert min(r.spikes for r in again.layers if r.neuron) > 50
            changed[i] += again.changed
    assert changed[1] < 0.95 * changed[0]


@pytest.mark.parametrize("lengths", [None, torch.tensor([12, 3, 7])])
def test_the_mean_current_of_each_channel_is_that_of_the_float_layer(lengths):
    net, x = network(1), recordings(3)
    if lengths is not None:
        for b, n in enumerate(lengths):
            x[n:, b] = 7  # padding, which must not count
    steps = [12] * 3 if lengths is None else lengths.tolist()
    for calibrate, most in ((False, None), (True, 2e-3)):
        found, report = quantize(net, x, lengths=lengths, message_bits=4, weight_bits=3, clip=True, calibrate=calibrate)
        layer, neuron = found["0"], found["1"]
        scale = report.layers[0].scale
        bias = torch.tensor(np.broadcast_to(neuron.bias_mant * 2.0**neuron.bias_exp / 64, 8).copy())
        valid = torch.cat([x[:n, b] for b, n in enumerate(steps)])
        ours = F.conv2d(valid.double(), torch.tensor(layer.weight / scale), bias / scale, layer.stride, layer.padding, 1, 2)
        theirs = F.conv2d(valid, net[0].weight, net[0].bias, 2, 1, 1, 2).double()
        gap = (ours - theirs).mean((0, 2, 3)).abs().max()
        assert gap < most if most else gap > 1e-2


def test_weights_and_what_has_a_current_of_its_own_stay():
    torch.manual_seed(2)
    net = Sequential(Linear(6, 5, bias=False), CUBALIF(0.5, decay=0.5, spike=STRICT), Linear(5, 3, bias=False), MeanOverTime())
    x = torch.poisson(torch.full((8, 4, 6), 0.7))
    before, after = (quantize(net, x, weight_bits=3, calibrate=c)[0] for c in (False, True))
    assert isinstance(after["1"], ints.LIF) and not after["1"].bias_mant.any()
    assert (before["0"].weight == after["0"].weight).all() and (before["2"].weight == after["2"].weight).all()


def test_the_model_is_left_alone_and_the_answer_is_one():
    net, x = network(3), recordings(3)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    first, second = (quantize(net, x, message_bits=4, weight_bits=4, calibrate=True)[0] for _ in range(2))
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    assert (first["1"].bias_mant == second["1"].bias_mant).all()
    assert all(n.bias is None for n in fold_norms(neuro.trace(net, x)) if n.name == "3")
