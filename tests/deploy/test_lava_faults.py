"""What goes wrong in other tools on the way to Lava, each with what ours does instead.

An interpreter that Lava cannot share is held by test_lava_environment: Lava has a Python of its own, and nothing here imports it. The rest:
decays one unit off, a current register that wraps without a word, and decays read in two units by two models of one process.
"""

import numpy as np
import pytest
import torch

from neuro.deploy import kernels
from neuro.deploy.network import LIF, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.quantize import quantize
from neuro.deploy.rules import CURRENT
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError
from neuro.layers import Linear, MeanOverTime, Sequential
from neuro.neurons import CUBALIF
from neuro.surrogate import ATan

T, N = 200, 64


def network(weight, du, dv, vth):
    return IntegerNetwork([Input("input", (weight.shape[1],)), Dense("fc", "input", weight), LIF("lif", "fc", dv=dv, vth=vth, du=du),
                           Dense("head", "lif", np.eye(len(weight), dtype=int)), Readout("readout", "head", np.zeros(len(weight), int))])  # fmt: skip


def shrunk(x, k):
    return np.sign(x) * (np.abs(x) * (4096 - k) >> 12)


def by_hand(a, du, dv, vth, offset=1, bits=None):
    """Spikes [T, N] of Lava's fixed-point LIF, written out; offset 0 leaves out its one unit, bits wraps the current."""
    u = v = np.zeros(a.shape[1], np.int64)
    found = []
    for x in a.astype(np.int64):
        u = shrunk(u, du + offset) + (x << 6)
        u = u if bits is None else (u + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
        v = np.clip(shrunk(v, dv) + u, -(2**23 - 1), 2**23 - 1)
        found.append(v > vth << 6)
        v = np.where(found[-1], 0, v)
    return np.array(found)


def test_a_current_decay_is_one_unit_lower_than_what_it_does():
    rng = np.random.default_rng(0)
    weight, x = 2 * rng.integers(-40, 60, (N, 20)), (rng.random((T, 1, 20)) < 0.3).astype(np.int32)
    spikes = run_twin(network(weight, 400, 200, 900), x, record=True).spikes["lif"][:, 0]
    a = x[:, 0] @ weight.T
    assert np.array_equal(spikes, by_hand(a, 400, 200, 900)) and 0.02 < spikes.mean() < 0.9
    assert (spikes != by_hand(a, 400, 200, 900, offset=0)).any()
    net = Sequential(Linear(3, 2, bias=False), CUBALIF(0.75, decay=0.5), MeanOverTime())
    exported = quantize(net, torch.randint(0, 4, (8, 4, 3)).float())[0]["1"]
    assert np.asarray(exported.du).max() == np.asarray(exported.du).min() == round(4096 * (1 - 0.75)) - 1 and np.asarray(exported.dv).max() == 2048


def test_a_current_that_could_pass_24_bits_is_refused_because_it_would_wrap():
    """Strong input, slow decay: the register wraps in the chip's arithmetic, an emulation without it spikes otherwise, and nobody is told."""
    weight, x = np.full((N, 20), 254) // np.arange(1, N + 1)[:, None] * 2 // 2, np.ones((T, 1, 20), np.int32)
    a, spikes, membranes = np.ascontiguousarray(x[:, 0] @ weight.T, np.int32), np.zeros((T, N), np.int32), np.zeros((T, N), np.int32)
    kernels.lif(a, spikes, membranes, np.zeros(N, np.int32), 40, 100, 100_000, True)
    assert not np.array_equal(spikes, by_hand(a, 40, 100, 100_000)) and np.array_equal(spikes, by_hand(a, 40, 100, 100_000, bits=24))
    strong = network(weight, 40, 100, 100_000)
    for act in (strong.check, lambda: run_twin(strong, x)):
        with pytest.raises(GraphError, match=rf"'lif'(.|\n)*{CURRENT}"):
            act()
    network(weight // 16, 1000, 100, 100_000).check()


def test_decays_are_read_in_one_unit():
    """What is trained with a decay fires on the chip as it did: within three hundredths of the spikes, where the two models of one process differ by two fifths."""
    torch.manual_seed(0)
    net = Sequential(Linear(20, N, bias=False), CUBALIF(0.9, decay=0.8, threshold=30.0, spike=ATan(strict=True)), Linear(N, 4, bias=False), MeanOverTime())
    with torch.no_grad():
        net[0].weight.uniform_(-0.4, 0.8)
    x = (torch.rand(T, 4, 20) < 0.2).float()
    integer, _ = quantize(net, x[:, :1])
    given = run_twin(integer, x.numpy().astype(np.int32), record=True).spikes["1"].astype(int).sum()
    expected = int(net[1](net[0](x)).sum())
    assert 1000 < expected < 0.5 * T * 4 * N and abs(given - expected) < 0.03 * expected
