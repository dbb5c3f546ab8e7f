"""NIR: what is written and read again spikes as before, for every node that NIR can hold; what it cannot hold is named."""

import os
import warnings
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuro import layers, neurons, reset, trace
from neuro import run as neuro_run
from neuro.deploy import nir as exchange
from neuro.deploy import nir_layers
from neuro.errors import GraphError, ParameterError
from neuro.scanning import plain_loop
from neuro.surrogate import ATan

RESETS = (reset.to_zero, reset.subtract, reset.none, reset.ToValue(-0.25), reset.Subtract(delayed=True), reset.ToZero(delayed=True))
DATA = Path(os.environ.get("NEURO_DATA", "/nowhere")) / "nir_graphs"
GRAPHS = (
    "01_lif/debug_spike_representation/two_lif_neurons.nir", "01_lif/lif_norse.nir", "01_lif/lif_rockpool.nir", "02_cnn/cnn_sinabs.nir",
    "03_rnn/braille_noDelay_bias_zero.nir", "03_rnn/braille_noDelay_noBias_subtract.nir",
    "03_rnn/extras/braille_noDelay_bias_zero_subgraph.nir", "03_rnn/extras/braille_noDelay_noBias_subtract_subgraph.nir",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _loop():
    """The definition of every neuron: many kinds run here, and a kernel for each would only take time to make."""
    with plain_loop():
        yield


class Residual(nn.Module):
    """Two branches of unequal depth, and a sum of three."""

    def __init__(self, neuron):
        super().__init__()
        self.a, self.spike, self.b = layers.Conv2d(4, 4, 3, padding=1), neuron, layers.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)

    def forward(self, x):
        y = self.a(x)
        return self.b(self.spike(y)) + x + y


def lively(model, by=3.0):
    """Weights large enough that neurons fire."""
    for p in model.parameters():
        p.data = p.data * by if p.dim() > 1 else p.data + 0.4
    return model.eval()


def dense(how):
    return layers.Sequential(
        layers.Linear(8, 16), neurons.LIF(tau=3.0, **how), layers.Linear(16, 12, bias=False), neurons.IF(**how),
        neurons.CUBALIF(0.7, decay=0.9, **how), layers.Linear(12, 5), neurons.PLIF(shape=(5,), **how),
    )  # fmt: skip


def recurrent(how):
    return layers.Sequential(
        layers.Linear(8, 16), neurons.Recurrent(neurons.LIF(**how), 16), layers.Linear(16, 6),
        neurons.Recurrent(neurons.CUBALIF(0.5, tau=4.0, **how), 6, bias=True), layers.MeanOverTime(),
    )  # fmt: skip


def convolutions(how):
    return layers.Sequential(
        layers.Conv2d(2, 4, 3, padding=1, bias=False), layers.BatchNorm(4), neurons.LIF(**how), Residual(neurons.LIF(decay=0.9, **how)),
        neurons.LIF(decay=0.5, **how), layers.Conv2d(4, 8, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)), neurons.IF(**how),
        layers.AvgPool2d(2), nir_layers.SumPool2d((2, 1), (2, 1)), layers.Flatten(), layers.Linear(8 * 1 * 4, 5), neurons.LIF(**how), layers.SumOverTime(),
    )  # fmt: skip


def line(how):
    return layers.Sequential(
        layers.Fold(nn.Conv1d(3, 6, 3, stride=2, padding=1, dilation=1, groups=3)), neurons.LIF(**how), layers.Flatten(), layers.Linear(24, 4), neurons.IF(**how)
    )


KINDS = {"dense": (dense, (8,)), "recurrent": (recurrent, (8,)), "convolutions": (convolutions, (2, 8, 8)), "line": (line, (3, 8))}


def exported(model, x, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a random network may be silent somewhere
        return exchange.export(model, x, **{"dt": 1e-3, **how})


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)), st.sampled_from(RESETS), st.booleans(), st.sampled_from([1e-4, 1e-3, 0.37]), st.sampled_from(["written out", "stated"]),
    st.integers(0, 1000),
)  # fmt: skip
def test_what_is_exported_and_read_again_is_equal(tmp_path_factory, kind, rule, strict, dt, soft, seed):
    torch.manual_seed(seed)
    make, shape = KINDS[kind]
    model = lively(make({"spike": ATan(strict=strict), "reset": rule}))
    x = (torch.rand(20, 2, *shape) < 0.6).float()
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    exported(model, x, dt=dt, soft_reset=soft, path=path)
    network = exchange.load(path)
    other = (torch.rand(17, 3, *shape) < 0.6).float()
    with torch.no_grad():
        assert torch.equal(network(other), model(other))
    nir.read(path)  # with its check of types
    again = exchange.load(exported(trace(network, x), x, dt=2 * dt))
    with torch.no_grad():
        assert torch.equal(again(other), model(other))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_these_networks_do_fire(kind):
    torch.manual_seed(0)
    make, shape = KINDS[kind]
    model = lively(make({}))
    seen = trace(model, torch.ones(2, 1, *shape)).values((torch.rand(20, 4, *shape) < 0.6).float())
    assert sum(bool(v.any()) for v in seen.values()) == len(seen)


def test_kernels_keep_their_compact_form():
    model = layers.Sequential(layers.Conv2d(4, 8, (3, 1), padding=(1, 0), groups=2), neurons.LIF()).eval()
    x = (torch.rand(20, 2, 4, 6, 6) < 0.7).float()
    network = exchange.load(exported(model, x))
    assert network.layers["0"].weight.shape == model[0].weight.shape and network.layers["0"].groups == 2
    assert torch.equal(network.layers["0"].weight, model[0].weight)
    assert exported(model, x).nodes["0"].weight.shape == (8, 4, 3, 3)
    assert exported(model, x, expand_kernels=False).nodes["0"].weight.shape == (8, 2, 3, 1)


@pytest.mark.parametrize("chunks", [(20,), (1, 19), (7, 6, 7)])
def test_state_is_carried(chunks):
    torch.manual_seed(1)
    model = lively(recurrent({})[:4])
    network = exchange.load(exported(model, torch.ones(9, 1, 8)))
    x, state, seen = (torch.rand(20, 2, 8) < 0.6).float(), None, []
    with torch.no_grad():
        for part in x.split(chunks):
            y, state = neuro_run(network, part, state)
            seen.append(y)
        assert torch.equal(torch.cat(seen), model(x))


def test_soft_reset_is_written_out_or_stated():
    model = layers.Sequential(layers.Linear(2, 3), neurons.LIF(tau=4.0, reset=reset.subtract)).eval()
    x = 3 * torch.rand(30, 2, 2)
    out, stated = exported(model, x), exported(model, x, soft_reset="stated")
    assert [type(n).__name__ for n in out.nodes.values()] == ["Input", "Linear" if model[0].bias is None else "Affine", "LI", "Threshold", "Scale", "Output"]
    assert type(stated.nodes["1"]) is nir.LIF and stated.nodes["1"].metadata == {"fires": ">=", "reset": "subtract"}
    for graph in (out, stated):
        assert exchange.load(graph).layers["1"].reset == reset.subtract


def test_a_changed_way_back_is_not_taken_for_a_soft_reset():
    model = layers.Sequential(layers.Linear(2, 3), neurons.LIF(tau=4.0, reset=reset.subtract)).eval()
    graph = exported(model, torch.ones(9, 1, 2))
    graph.nodes["1.reset"].scale = graph.nodes["1.reset"].scale * 1.5
    with pytest.raises(ValueError, match="loop"):
        exchange.load(graph)


def test_seconds_and_rules_are_stated():
    model = layers.Sequential(layers.Linear(2, 3), neurons.LIF(tau=20e-3, dt=1e-3, spike=ATan(strict=True))).eval()
    graph = exported(model, torch.ones(9, 1, 2), dt=1e-3)
    lif = graph.nodes["1"]
    np.testing.assert_allclose(lif.tau, 20e-3, rtol=1e-12)
    np.testing.assert_allclose(lif.r, 1.0, rtol=1e-12)
    assert graph.metadata["dt"] == 1e-3 and lif.metadata["fires"] == ">"


@pytest.mark.parametrize("strict", [False, True])
def test_equality_at_the_threshold_survives(strict):
    model = layers.Sequential(layers.Linear(1, 1, bias=False), neurons.LIF(decay=0.5, spike=ATan(strict=strict))).eval()
    model[0].weight.data[:] = 0.5
    x = torch.ones(6, 1, 1)
    x[2] = 1.25  # 0.5, 0.75, 1.0: exactly at the threshold
    want = model(x).detach()
    assert want[2].item() == (not strict)
    assert torch.equal(exchange.load(exported(model, x))(x), want)


@pytest.mark.parametrize(
    ("layer", "shape", "named"),
    [
        (layers.MaxPool2d(2), (2, 4, 4), "behind a neuron"), (neurons.ALIF(), (4,), "LIF, IF, PLIF"), (layers.Tokens(), (2, 4, 4), "1x1"),
        (layers.AvgPool2d(2, padding=1, count_include_pad=False), (2, 4, 4), "count_include_pad"), (layers.Linear(4, 4), (3, 4), "Flatten"),
    ],
)  # fmt: skip
def test_what_nir_cannot_hold_is_named_with_a_remedy(layer, shape, named):
    model = layers.Sequential()
    model.add_module("odd", layer)
    model.add_module("after", neurons.LIF())
    with pytest.raises(GraphError, match=f"'odd'[\\s\\S]*{named}"):
        exported(model.eval(), torch.rand(4, 2, *shape))


def test_one_value_read_twice_is_refused():
    class Twice(nn.Module):
        def forward(self, x):
            return x + x

    with pytest.raises(GraphError, match="twice"):
        exported(layers.Sequential(Twice(), neurons.LIF()), torch.rand(4, 2, 3))


def test_an_export_that_runs_otherwise_is_refused(monkeypatch):
    model = lively(dense({}))
    real = neurons.LIF.__init__

    def other(self, *args, **how):
        real(self, *args, **how)
        self.threshold *= 1.5

    x = (torch.rand(20, 2, 8) < 0.6).float()
    monkeypatch.setattr(neurons.LIF, "__init__", other)
    with pytest.raises(GraphError, match="does not run as it did"):
        exported(model, x)


def test_nothing_is_written_when_refused(tmp_path):
    with pytest.raises(GraphError):
        exported(layers.Sequential(layers.MaxPool2d(2), neurons.LIF()), torch.rand(4, 2, 2, 4, 4), path=tmp_path / "a.nir")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dt", [0.0, -1.0, float("nan")])
def test_dt_must_be_a_time(dt):
    with pytest.raises(ParameterError, match="dt"):
        exported(layers.Sequential(neurons.LIF()), torch.rand(4, 2, 3), dt=dt)


def test_a_silent_layer_is_told():
    with pytest.warns(UserWarning, match="fires on the example"):
        exchange.export(layers.Sequential(neurons.LIF()), torch.zeros(4, 2, 3), dt=1e-3)


def test_delays_carry_over_chunks():
    delay = nir_layers.Delay(torch.tensor([0, 2, 3]))
    x = torch.rand(9, 2, 3)
    y = delay(x)
    assert torch.equal(y[:, :, 0], x[:, :, 0]) and torch.equal(y[2:, :, 1], x[:-2, :, 1]) and torch.equal(y[3:, :, 2], x[:-3, :, 2])
    assert not y[:3, :, 2].any()
    a, state = neuro_run(delay, x[:2])
    b, _ = neuro_run(delay, x[2:], state)
    assert torch.equal(torch.cat([a, b]), y)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=5, max_size=5), st.sampled_from([1e-4, 1e-3, 0.37]), st.integers(1, 12), st.integers(0, 1000))
def test_delays_are_written_in_seconds_and_read_in_steps(tmp_path_factory, steps, dt, whole, seed):
    torch.manual_seed(seed)
    model = lively(layers.Sequential(layers.Linear(4, 5), neurons.LIF(tau=3.0), nir_layers.Delay(torch.tensor(steps)), layers.Linear(5, 3), layers.Delay(whole), neurons.IF()))
    x = (torch.rand(20, 2, 4) < 0.6).float()
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    graph = exported(model, x, dt=dt, path=path)
    np.testing.assert_allclose(graph.nodes["2"].delay, np.array(steps) * dt)
    np.testing.assert_allclose(graph.nodes["4"].delay, np.full(3, whole * dt))
    assert nir.read(path).nodes["2"].delay.shape == (5,)
    network = exchange.load(path)
    assert network.layers["4"].steps == whole
    with torch.no_grad():
        assert torch.equal(network(x), model(x))
        assert torch.equal(trace(network, x).run(x), model(x))
        first, state = neuro_run(network, x[:7])
        rest, _ = neuro_run(network, x[7:], state)
        assert torch.equal(torch.cat([first, rest]), model(x))
        assert torch.equal(exchange.load(exported(network, x, dt=2 * dt))(x), model(x))


def test_delays_in_float32_are_whole_steps_still():
    one = np.ones(1)
    for steps in (3, 999, 77_777):
        graph = nir.NIRGraph.from_list(nir.Linear(np.eye(1)), nir.Delay(np.float32(steps * 1e-4) * one.astype(np.float32)))
        assert exchange.load(graph, dt=1e-4).layers["delay"].steps == steps
    with pytest.raises(ValueError, match="whole number of steps"):
        exchange.load(nir.NIRGraph.from_list(nir.Linear(np.eye(1)), nir.Delay(2.5e-4 * one)), dt=1e-4)


@pytest.mark.parametrize("name", ["readout", "output", "values", "keys"])
def test_no_module_name_is_in_the_way(name):
    model = layers.Sequential(layers.Linear(3, 4), neurons.LIF())
    model.add_module(name, layers.Linear(4, 2))
    model.add_module("mean", layers.MeanOverTime())
    lively(model)
    x = torch.rand(12, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(exchange.load(exported(model, x))(x), model(x))


@pytest.mark.skipif(not DATA.is_dir(), reason="NEURO_DATA/nir_graphs is not there")
@pytest.mark.parametrize("name", GRAPHS)
def test_published_graphs_load_and_run(name):
    network = exchange.load(DATA / name, dt=1e-4)
    torch.manual_seed(0)
    x = (torch.rand(20, 2, *network.input_shape) < 0.5).float()
    with torch.no_grad():
        whole = network(x)
        a, state = neuro_run(network, x[:7])
        b, _ = neuro_run(network, x[7:], state)
    assert torch.equal(torch.cat([a, b]), whole)
    assert bool(network.notes) == ("subgraph" in name)


@pytest.mark.skipif(not DATA.is_dir(), reason="NEURO_DATA/nir_graphs is not there")
def test_published_sub_graphs_equal_their_flat_forms():
    torch.manual_seed(0)
    x = (torch.rand(50, 3, 12) < 0.5).float()
    for flat, nested in (GRAPHS[4::2], GRAPHS[5::2]):
        with torch.no_grad():
            a, b = (exchange.load(DATA / n, dt=1e-4)(x) for n in (flat, nested))
        assert a.any() and torch.equal(a, b)
