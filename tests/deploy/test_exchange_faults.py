"""What goes wrong where other libraries hand a network on, each with what ours does instead: D23 to D31 of the faults we know of.

Who reads our own files in which way is measured by benchmarks/nir_conformance.py, in the libraries themselves.
"""

import nir
import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from neuro import layers, neurons, reset
from neuro.deploy import nir as exchange
from neuro.interop import from_snntorch
from neuro.surrogate import ATan


def through_a_file(model, x, path, dt):
    exchange.export(model, x, dt=dt, path=path)
    assert all(node is not None for node in nir.read(path).nodes.values())
    with torch.no_grad():
        return exchange.load(path)(x)


def lively(model):
    torch.manual_seed(0)
    for p in model.parameters():
        p.data = (torch.rand_like(p) - 0.2) * (3 / max(1, p[0].numel()) ** 0.5 if p.dim() > 1 else 1.0)
    return model.eval()


@pytest.mark.parametrize("dt", [1e-4, 1e-3])
@pytest.mark.parametrize("rule", ["subtract", "zero"])
def test_d23_d24_a_network_of_snntorch_gives_its_own_spikes_after_every_file(tmp_path, rule, dt):
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Linear(4, 8), snntorch.Leaky(0.9, reset_mechanism=rule, init_hidden=True))
    theirs[0].weight.data = (theirs[0].weight.data * 64).round() / 64  # sums are exact in any order
    theirs[0].bias.data = (theirs[0].bias.data * 64).round() / 64 + 0.25
    x = (torch.rand(40, 3, 4) < 0.6).float()
    with torch.no_grad():
        want = torch.stack([theirs(x_t) for x_t in x])
    assert want.sum() > 100
    assert torch.equal(through_a_file(from_snntorch(theirs, x[:5]), x, tmp_path / "a.nir", dt), want)


@pytest.mark.parametrize("dt", [1e-4, 1e-3])
def test_d25_a_membrane_that_decays_towards_its_input_keeps_its_count_whatever_the_step(tmp_path, dt):
    """SpikingJelly's LIF, tau 2: `v += (x - v) / 2`, reset to 0."""
    model = lively(layers.Sequential(layers.Linear(4, 8), neurons.LIF(tau=2.0)))
    x = (torch.rand(40, 3, 4) < 0.6).float()
    want = model(x).detach()
    assert want.sum() > 100 and torch.equal(through_a_file(model, x, tmp_path / "a.nir", dt), want)


def test_d26_a_time_constant_is_written_in_seconds_and_survives_its_own_import(tmp_path):
    """Norse's LIF box: `v += dt / tau (x - v)`, tau 0.01 s at 1 ms."""
    model = lively(layers.Sequential(layers.Linear(4, 8), neurons.LIF(tau=0.01, dt=1e-3, threshold=0.2)))
    x = (torch.rand(60, 3, 4) < 0.6).float()
    want = model(x).detach()
    assert want.sum() > 50 and torch.equal(through_a_file(model, x, tmp_path / "a.nir", 1e-3), want)
    np.testing.assert_allclose(nir.read(tmp_path / "a.nir").nodes["1"].tau, 0.01, rtol=1e-6)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lif = layers.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), neurons.LIF(reset=reset.subtract)  # depthwise

    def forward(self, x):
        return self.lif(self.conv(x)) + x


def test_d27_d28_d29_norms_pools_dropout_depthwise_and_residual_sums_are_written(tmp_path):
    model = layers.Sequential(
        layers.Conv2d(2, 4, 3, padding=1, bias=False), layers.BatchNorm(4), neurons.LIF(), layers.MaxPool2d(2), Residual(), layers.AvgPool2d(2), nn.Dropout(0.5),
        layers.Flatten(), layers.Linear(16, 5), neurons.LIF(threshold=0.5),
    )  # fmt: skip
    lively(model)
    x = (torch.rand(30, 2, 2, 8, 8) < 0.5).float()
    want = model(x).detach()
    assert 0.05 < want.mean() < 0.95
    assert torch.equal(through_a_file(model, x, tmp_path / "a.nir", 1e-3), want)


def test_d30_an_integrator_does_not_leak():
    graph = nir.NIRGraph.from_list(nir.Linear(np.eye(1)), nir.IF(r=np.ones(1), v_threshold=np.ones(1)))
    x = torch.full((40, 1, 1), 0.0625)
    assert exchange.load(graph, dt=1.0)(x).sum() == 2  # 40 / 16, as the unit of time is the step


@pytest.mark.parametrize("strict", [False, True])
def test_d31_what_happens_exactly_at_the_threshold_is_stated_and_kept(tmp_path, strict):
    model = layers.Sequential(layers.Linear(1, 1, bias=False), neurons.IF(spike=ATan(strict=strict))).eval()
    model[0].weight.data[:] = 0.25
    x = torch.ones(8, 1, 1)
    want = [0, 0, 0, 1] * 2 if not strict else [0, 0, 0, 0, 1, 0, 0, 0]
    assert through_a_file(model, x, tmp_path / "a.nir", 1e-3).flatten().tolist() == want
    assert nir.read(tmp_path / "a.nir").nodes["1"].metadata["fires"] == (">" if strict else ">=")
