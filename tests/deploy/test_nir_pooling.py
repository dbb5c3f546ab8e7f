"""Max pools of spikes in NIR: written as plain NIR that computes the same, read back as pools, refused where it would be wrong."""

import copy
import warnings

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuro import layers, neurons, reset
from neuro.deploy import nir as exchange
from neuro.deploy.nir_layers import SumPool2d
from neuro.deploy.nir_pooling import FORMS, any_spike
from neuro.errors import GraphError, ParameterError
from neuro.scanning import plain_loop
from neuro.surrogate import ATan, Levels


@pytest.fixture(autouse=True)
def _loop():
    with plain_loop():
        yield


def exported(model, x, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return exchange.export(model.eval(), x, **{"dt": 1e-3, **how})


def pooled(*pools, rule=reset.to_zero, strict=False):
    """A convolution, neurons, and pools of their spikes, with weights that make them fire."""
    model = layers.Sequential(layers.Conv2d(2, 3, 3, padding=1), neurons.LIF(spike=ATan(strict=strict), reset=rule), *pools)
    model[0].weight.data *= 6
    return model.eval()


def plain(graph):
    """The same graph as one of another library: nothing in its metadata but the step."""
    bare = copy.deepcopy(graph)
    for node in bare.nodes.values():  # soft resets stay stated
        node.metadata = {k: v for k, v in node.metadata.items() if k in ("fires", "reset")}
    return bare


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.booleans(), st.sampled_from(FORMS),
    st.sampled_from([reset.to_zero, reset.subtract]), st.sampled_from([1e-4, 1e-3, 0.37]), st.integers(0, 1000),
)  # fmt: skip
def test_a_pool_comes_back_and_plain_nir_computes_the_same(tmp_path_factory, kernel, stride, padded, form, rule, dt, seed):
    torch.manual_seed(seed)
    padding = tuple(k // 2 for k in kernel) if padded else (0, 0)
    model = pooled(layers.MaxPool2d(kernel, stride, padding), rule=rule)
    x = (torch.rand(15, 2, 2, 7, 6) < 0.5).float()
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    graph = exported(model, x, dt=dt, max_pool=form, path=path)
    kinds = [type(n).__name__ for n in graph.nodes.values()]
    assert kinds[-3:] == ["Conv2d" if any(padding) and (kernel[0] - kernel[1]) % 2 == 0 else "SumPool2d", form, "Output"]
    with torch.no_grad():
        want = model(x)
        network = exchange.load(path)
        assert torch.equal(network(x), want) and want.any() and not want.all()
        last = network.layers["2"]
        assert isinstance(last, layers.MaxPool2d) and (last.kernel_size, last.stride, last.padding) == (kernel, stride, padding)
        other = exchange.load(plain(graph))
        assert not any(isinstance(m, nn.MaxPool2d) for m in other.modules())
        assert torch.equal(other(x), want)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.sampled_from([1e-4, 1e-3, 0.37]))
def test_the_neuron_has_no_memory(sums, dt):
    """Whatever came before, the output is whether this sum is 1 or more, and nothing is left; by the equation of NIR's LIF."""
    lif, v = any_spike(nir, (1,), dt, "LIF"), 0.0
    for total in sums:
        v = (v + dt / lif.tau * (lif.v_leak - v + lif.r * total)).item()
        fired = v > lif.v_threshold.item()
        v = lif.v_reset.item() if fired else v
        assert fired == (total > 0) and v == 0


@pytest.mark.parametrize("form", FORMS)
def test_pools_behind_pools_delays_and_recurrence(form):
    torch.manual_seed(2)
    model = pooled(layers.MaxPool2d(2), layers.Delay(2), layers.MaxPool2d(2, 1), layers.Flatten(), layers.Linear(3 * 2 * 2, 4), neurons.Recurrent(neurons.LIF(), 4))
    model[6].weight.data *= 4
    x = (torch.rand(20, 3, 2, 6, 6) < 0.5).float()
    network = exchange.load(exported(model, x, max_pool=form))
    with torch.no_grad():
        assert torch.equal(network(x), model(x))
    assert sum(isinstance(m, layers.MaxPool2d) for m in network.modules()) == 2
    again = exchange.load(exported(network, x, max_pool=form))  # what was read can be written
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


class Summed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.pool = neurons.IF(), neurons.LIF(), layers.MaxPool2d(2)

    def forward(self, x):
        return self.pool(self.a(x) + self.b(x))


@pytest.mark.parametrize(
    ("model", "source"),
    [
        (layers.Sequential(layers.MaxPool2d(2), neurons.LIF()), "input"),
        (layers.Sequential(layers.Conv2d(2, 3, 3), layers.MaxPool2d(2), neurons.LIF()), "Conv2d"),
        (layers.Sequential(layers.Conv2d(2, 3, 3), layers.BatchNorm(3), layers.MaxPool2d(2), neurons.LIF()), "Conv2d"),
        (layers.Sequential(neurons.LIF(), layers.AvgPool2d(2), layers.MaxPool2d(2), neurons.LIF()), "AvgPool2d"),
        (Summed(), "Add"),
        (layers.Sequential(neurons.LIF(spike=Levels(3), reset=reset.subtract), layers.Delay(1), layers.MaxPool2d(2), neurons.LIF()), "Neuron|0 or 1"),
    ],
)  # fmt: skip
def test_a_pool_of_other_than_spikes_is_refused_by_name(model, source):
    with pytest.raises(GraphError, match=f"{source}") as refused:
        exported(model, (torch.rand(9, 2, 2, 8, 8) < 0.5).float())
    if "Levels" not in str(refused.value):
        assert "MaxPool2d" in str(refused.value) and "behind a neuron" in str(refused.value)


def test_an_unknown_form_is_refused():
    with pytest.raises(ParameterError, match="'LIF' and 'Threshold'"):
        exported(pooled(layers.MaxPool2d(2)), torch.rand(9, 1, 2, 6, 6), max_pool="IF")


def changed(graph, **values):
    other = copy.deepcopy(graph)
    for key, value in values.items():
        setattr(other.nodes["2"], key, value * np.ones_like(getattr(other.nodes["2"], key)))
    return other


@pytest.mark.parametrize("change", [{"v_threshold": 0.75}, {"v_leak": 0.4}, {"v_reset": -1.0}, {"r": 0.4}, {"tau": 1.0}, {"v_threshold": -0.1}])
def test_a_neuron_that_is_no_maximum_any_more_stays_a_neuron(change):
    """The mark in the metadata decides nothing alone."""
    model = pooled(layers.MaxPool2d(2))
    x = (torch.rand(12, 2, 2, 6, 6) < 0.5).float()
    graph = changed(exported(model, x), **change)
    network = exchange.load(graph)
    assert not any(isinstance(m, nn.MaxPool2d) for m in network.modules())
    with torch.no_grad():
        assert torch.equal(network(x), exchange.load(plain(graph), dt=1e-3)(x))


def test_a_mark_behind_real_numbers_is_not_believed():
    model = pooled(layers.MaxPool2d(2))
    x = (torch.rand(12, 2, 2, 6, 6) < 0.5).float()
    graph = exported(model, x)
    nodes = {k: n for k, n in graph.nodes.items() if k != "1"}
    edges = [("0", "2.sum") if e == ("0", "1") else e for e in graph.edges if e[0] != "1"]
    network = exchange.load(nir.NIRGraph(nodes, edges, metadata={"dt": 1e-3}, type_check=False))
    assert isinstance(network.layers["2_sum"], SumPool2d) and not any(isinstance(m, nn.MaxPool2d) for m in network.modules())


@pytest.mark.parametrize("change", ["weight", "bias", "dilation"])
def test_a_convolution_that_sums_no_windows_stays_one(change):
    graph = exported(pooled(layers.MaxPool2d(3, 1, 1)), (torch.rand(12, 2, 2, 6, 6) < 0.5).float())
    assert isinstance(exchange.load(graph).layers["2"], layers.MaxPool2d)
    node = graph.nodes["2.sum"]
    if change == "weight":
        node.weight[0, 0, 1, 1] = 2
    elif change == "bias":
        node.bias[0] = 1
    else:
        node.dilation, node.padding = np.array([2, 2]), np.array([2, 2])
    assert isinstance(exchange.load(graph).layers["2_sum"], layers.Conv2d)


def test_reading_at_another_step_keeps_the_pool_only_while_it_is_one():
    model = pooled(layers.MaxPool2d(2))
    graph = exported(model, (torch.rand(12, 2, 2, 6, 6) < 0.5).float(), dt=1e-3)
    assert isinstance(exchange.load(graph, dt=0.9e-3).layers["2"], layers.MaxPool2d)
    assert isinstance(exchange.load(graph, dt=0.2e-3).layers["2"], neurons.LIF)  # one spike no longer reaches its threshold
