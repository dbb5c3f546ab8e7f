"""Quantising: what fits the chip, how close it stays to the float model, and what is refused by name."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuro
from neuro.deploy import network as ints
from neuro.deploy.agreement import compare, evaluate_quantized
from neuro.deploy.grid import fit, fit_product, to_grid
from neuro.deploy.qat import QuantizationAware
from neuro.deploy.quantize import quantize
from neuro.deploy.rules import CURRENT, weight_problem
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError
from neuro.graph import Graph, fold_norms
from neuro.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    MeanOverTime,
    MeanOverTokens,
    Sequential,
    SumOverTime,
    Tokens,
)
from neuro.models import small
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF, Recurrent
from neuro.reset import Subtract, none, subtract
from neuro.surrogate import ATan

STRICT = ATan(2.0, strict=True)


def counts(*shape, t=6, b=3, rate=0.3, seed=1):
    return torch.poisson(torch.full((t, b, *shape), rate), generator=torch.Generator().manual_seed(seed))


def lively(model, x, passes=8):
    """Norm statistics from the data, and shifts that let spikes flow through every layer."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.weight.data.uniform_(0.8, 1.5)
            module.bias.data.uniform_(0.3, 1.2)
            module.momentum = 0.3
    model.train()
    with torch.no_grad():
        for _ in range(passes):
            model(x)
    return model.eval()


@functools.cache
def spikformer():
    """(graph, recordings, network, report) of a small Spikformer in which spikes flow."""
    torch.manual_seed(0)
    x = counts(2, 16, 16)
    graph = neuro.trace(lively(small("spikformer_motions", dim=16), x), x)
    return graph, x, *quantize(graph, x, message_bits=None, name="motions")


def as_float(graph, network):
    """The float graph with the weights that the integer network really has."""
    nodes = []
    for node in fold_norms(graph):
        if node.kind in ("Conv2d", "Linear"):
            reader = next(iter(fold_norms(graph).readers(node.name)))
            lif = network[reader.name]
            if isinstance(lif, ints.LIF):
                p = reader.params
                s = lif.vth * p.gain / p.threshold
                b = np.broadcast_to(lif.bias_mant.astype(float) * 2**lif.bias_exp / (64 * s), len(node.weight))
                node = replace(node, weight=torch.tensor(network[node.name].weight / s).float(), bias=torch.tensor(b.copy()).float())
        nodes.append(node)
    return Graph(nodes)


def test_integer_spikes_are_those_of_the_rounded_weights():
    graph, x, network, report = spikformer()
    rounded = compare(as_float(graph, network), network, x, None, report.layers)
    for layer in rounded.layers:  # only the truncated leak is left
        assert layer.fraction < 2e-3, layer
    assert sum(r.spikes > 0 for r in rounded.layers) >= len(rounded.layers) - 3
    assert rounded.agree == rounded.samples
    assert report.changed >= rounded.changed


def test_a_layer_on_the_grid_is_exact():
    net = Sequential(Linear(4, 3, bias=True), IF(spike=STRICT), MeanOverTime())
    net[0].weight.data = torch.randint(-127, 128, (3, 4)).float() / 64
    net[0].weight.data[0, 0] = 127 / 64
    net[0].bias.data = torch.tensor([1.0, -2.0, 3.0]) / 128
    x = counts(4, t=40, b=8)
    network, report = quantize(net, x, message_bits=None)
    assert report.layers[0].max_error == 0 and report.layers[0].scale == 128
    assert report.layers[0].changed == 0 < report.layers[0].spikes
    assert report.agree == report.samples and report.score_error < 1e-6


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), size=st.floats(-4, 4), bias=st.floats(-4, 4), threshold=st.floats(0.05, 4), gain=st.floats(0.05, 1),
    high=st.sampled_from([1, 6, 255]), sign=st.sampled_from(["both", "positive", "negative", "zero"]),
)  # fmt: skip
def test_a_fitted_layer_is_held_by_the_chip_and_keeps_its_ratios(seed, size, bias, threshold, gain, high, sign):
    r = np.random.default_rng(seed)
    w = r.standard_normal((5, 7)) * 10**size
    w = {"both": w, "positive": abs(w), "negative": -abs(w), "zero": 0 * w}[sign]
    b = r.standard_normal(5) * 10**bias
    try:
        found = fit("layer", w, b, threshold, gain, (0, high))
    except GraphError as error:
        assert "'layer'" in str(error)
        return
    assert weight_problem(found.weight) == ""
    assert 1 <= found.vth <= 131071 and 0 <= found.bias_exp <= 7 and np.abs(found.bias_mant).max() <= 4095
    assert np.abs(found.weight).sum(1).max() * high < 2 * CURRENT
    assert found.vth == pytest.approx(found.scale * threshold / gain)  # v_int / (64 vth) = v / threshold
    step = 2 if sign == "both" else 1
    assert np.abs(found.weight / found.scale - w).max() <= (step / 2 + 1e-6) / found.scale + (2 / found.scale if sign == "both" else 0)
    held = found.bias_mant * 2.0**found.bias_exp / (64 * found.scale)
    assert np.abs(held - b).max() <= 2**found.bias_exp / (128 * found.scale) * (1 + 1e-6) + 1e-3 * np.abs(b).max()


def test_mixed_weights_become_even_and_one_sign_keeps_every_integer():
    mixed = to_grid(np.array([[1.0, -1.0, 0.5]]), 100.0)
    assert mixed.tolist() == [[100, -100, 50]] and not (mixed & 1).any()
    assert to_grid(np.array([[0.37, 1.0]]), 255).tolist() == [[94, 255]]
    assert to_grid(np.array([[-2.0, 1e-9]]), 128).tolist() == [[-254, 0]]  # no positive one left beside -256


def test_every_exported_layer_is_on_the_grid_and_its_rounding_error_is_reported():
    graph, _, network, report = spikformer()
    folded, mixed = fold_norms(graph), 0
    for layer in report.layers:
        if folded[layer.layer].kind not in ("Conv2d", "Linear"):
            continue
        weight = network[layer.layer].weight.astype(int)
        if weight.min() < 0 < weight.max():
            mixed += 1
            assert not (weight & 1).any() and weight.min() >= -256 and weight.max() <= 254, layer.layer
        source = folded[folded[layer.layer].inputs[0]]
        tokens = graph.shapes[source.inputs[0]][0] if source.kind == "MeanOverTokens" else 1  # its 1/N is part of the weight
        error = np.abs(weight / layer.scale - folded[layer.layer].weight.detach().double().numpy() / tokens)
        assert layer.max_error == pytest.approx(error.max(), rel=1e-9) and layer.rms_error == pytest.approx(np.sqrt((error**2).mean()), rel=1e-9)
        assert 0 < layer.max_error * layer.scale <= 2
    assert mixed > 8


def test_the_attention_product_is_exact_where_its_threshold_is_whole():
    weight, vth, exact = fit_product(threshold=0.5, gain=0.5, scale=0.125, most=256)
    assert exact and vth == 8 * weight and weight & (weight - 1) == 0 and 256 * weight < CURRENT
    weight, vth, exact = fit_product(threshold=1.0, gain=0.5, scale=0.3, most=256)
    assert exact and weight * 2 / 0.3 == pytest.approx(vth)
    weight, vth, exact = fit_product(threshold=1.0, gain=1.0, scale=2**-0.5, most=256)
    assert not exact and abs(weight * 2**0.5 / vth - 1) < 1e-4
    with pytest.raises(GraphError, match="does not fit"):
        fit_product(0.5, 0.5, 0.125, CURRENT)


def test_the_network_keeps_names_and_joins():
    _, _, network, report = spikformer()
    assert {"stem.stages.0.conv", "blocks.1.mlp.down_lif", "blocks.0.attention.product", "pool", "head", "readout"} <= set(network.shapes)
    assert network.name == "motions" and network.input.message_bits <= 3
    assert network["blocks.0.attention.product_lif"].dv == 2048
    assert isinstance(network["pool"], ints.TokenSum) and isinstance(network["stem.add"], ints.Add)
    assert network.check() == []


def test_scores_are_in_the_units_of_the_float_model():
    net = Sequential(Conv2d(2, 4, 3, padding=1), LIF(spike=STRICT), MaxPool2d(2), Tokens(), MeanOverTokens(), Linear(4, 3), MeanOverTime())
    x = counts(2, 8, 8, t=10)
    network, report = quantize(net, x)
    assert report.score_error < 0.02
    spread = net(x).detach().std().item()
    assert report.score_error < spread, "the scores say something"


def test_padded_steps_change_nothing():
    graph, x, network, blank = spikformer()
    lengths = torch.tensor([6, 2, 4])
    report = compare(graph, network, x, lengths, blank.layers)
    parts = [compare(graph, network, x[:n, b : b + 1], None, blank.layers) for b, n in enumerate(lengths.tolist())]
    for i, layer in enumerate(report.layers):
        for field in ("compared", "changed", "spikes", "integer_equal"):
            assert getattr(layer, field) == sum(getattr(p.layers[i], field) for p in parts), (layer.layer, field)
    assert report.agree == sum(p.agree for p in parts)


def test_the_report_notices_a_wrong_network():
    net = Sequential(Linear(6, 5), LIF(spike=STRICT), MeanOverTime())
    net[0].weight.data.uniform_(0, 1)
    x = counts(6, t=20)
    network, report = quantize(net, x)
    nodes = [replace(n, vth=n.vth * 3) if isinstance(n, ints.LIF) else n for n in network.nodes]
    wrong = compare(neuro.trace(net, x), ints.IntegerNetwork(nodes), x, None, report.layers)
    assert report.changed < 0.02 < wrong.changed


@pytest.mark.parametrize("spike", [ATan(2.0), STRICT], ids=["at", "above"])
def test_equality_cases_are_counted_and_said(spike):
    net = Sequential(Linear(1, 1, bias=False), LIF(spike=spike), MeanOverTime())
    net[0].weight.data.fill_(2.0)  # gain 1/2: one event is exactly the threshold
    x = torch.zeros(4, 1, 1)
    x[0] = 1
    network, report = quantize(net, x)
    layer = report.layers[0]
    assert (layer.float_equal, layer.integer_equal) == (1, 1)
    assert layer.changed == (1 if spike is not STRICT else 0)
    assert any(">=" in note for note in report.notes) == (spike is not STRICT)


def test_neurons_that_the_chip_holds():
    x = counts(6, t=30, b=4)
    for neuron in (IF(spike=STRICT), LIF(decay=0.9, spike=STRICT), PLIF(spike=STRICT), CUBALIF(0.5, decay=0.75, spike=STRICT)):
        torch.manual_seed(3)
        net = Sequential(Linear(6, 5, bias=not isinstance(neuron, CUBALIF)), neuron, MeanOverTime())
        net[0].weight.data.uniform_(-0.5, 1)
        network, report = quantize(net, x)
        assert report.changed < 0.05 and report.layers[0].spikes > 20, neuron
        assert any("decay" in note for note in report.notes) == (neuron.params().decay == 0.9)


class _Residual(nn.Module):
    """Two currents meet before a neuron; the branches have one and two layers."""

    def __init__(self):
        super().__init__()
        self.fc, self.lif, self.up, self.short, self.neuron, self.head, self.end = Linear(6, 8), LIF(spike=STRICT), Linear(8, 5), Linear(6, 5), LIF(spike=STRICT), Linear(5, 3), MeanOverTime()

    def forward(self, x):
        return self.end(self.head(self.neuron(self.up(self.lif(self.fc(x))) + self.short(x))))


def _plif(shape):
    neuron = PLIF(shape=shape, spike=STRICT)
    neuron.w.data = torch.linspace(-1, 2, neuron.w.numel()).view(shape)
    return neuron


def _wide(neuron, inputs=6):
    return Sequential(Linear(inputs, 5), neuron, Linear(5, 3), MeanOverTime())


CELLS = {
    "soft reset": (lambda: _wide(LIF(spike=STRICT, reset=subtract)), (6,)),
    "delayed soft reset of an IF": (lambda: _wide(IF(spike=STRICT, reset=Subtract(delayed=True))), (6,)),
    "no reset": (lambda: _wide(LIF(spike=STRICT, reset=none)), (6,)),
    "decay per channel": (lambda: _wide(_plif((5,))), (6,)),
    "decay per channel of a map": (lambda: Sequential(Conv2d(2, 4, 3), _plif((4, 1, 1)), Flatten(), Linear(64, 3), MeanOverTime()), (2, 6, 6)),
    "current behind a bias": (lambda: _wide(CUBALIF(0.5, decay=0.75, spike=STRICT)), (6,)),
    "adaptation": (lambda: _wide(ALIF(decay=0.8, adapt_decay=0.9, adapt_step=0.4, spike=STRICT)), (6,)),
    "feedback": (lambda: _wide(Recurrent(LIF(spike=STRICT, reset=subtract), 5)), (6,)),
    "feedback of an ALIF": (lambda: _wide(Recurrent(ALIF(tau=2.0, spike=STRICT), 5)), (6,)),
    "averages": (lambda: Sequential(Conv2d(2, 4, 3, padding=1), LIF(spike=STRICT), AvgPool2d(3, 2, 1), Conv2d(4, 4, 3), LIF(threshold=0.2, spike=STRICT), Flatten(), Linear(4, 3), MeanOverTime()), (2, 6, 6)),
    "sum of currents": (_Residual, (6,)),
    "attention without reset to zero": (lambda: Sequential(Conv2d(2, 4, 3), LIF(), Tokens(), MeanOverTokens(), Linear(4, 3), IF(spike=STRICT, reset=subtract), MeanOverTime()), (2, 6, 6)),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_cells_keep_close_to_the_float_network(name, per_channel):
    """And train as they run: the torch form equals the twin."""
    torch.manual_seed(5)
    make, shape = CELLS[name]
    net, x = make(), counts(*shape, t=25, b=4, rate=0.8)
    for p in net.parameters():
        if p.dim() > 1:
            p.data += 0.3 * p.abs().mean()
    network, report = quantize(net, x, message_bits=None, per_channel=per_channel)
    assert report.changed < 0.03 and min(r.spikes for r in report.layers if r.neuron) > 10, report
    assert per_channel or any(isinstance(n, (ints.Cell, ints.SumPool, ints.Add)) or "attention" in name for n in network.nodes)
    assert not per_channel or not any(isinstance(n, ints.LIF) and isinstance(network[n.input], (ints.Dense, ints.Conv)) for n in network.nodes)
    aware = QuantizationAware(net, x, message_bits=None, weight_bits=5, per_channel=per_channel)
    assert quantize(aware, x)[1].changed == 0
    torch.logsumexp(aware(x), 1).sum().backward()
    for key, p in aware.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, key


def test_a_scale_per_channel_keeps_channels_of_unequal_size():
    """One channel a hundred times the others: with one scale the others get few steps of the grid."""
    torch.manual_seed(1)
    net, x = Sequential(Linear(8, 6, bias=False), IF(spike=STRICT), MeanOverTime()), counts(8, t=40, b=6)
    net[0].weight.data[0] *= 100
    one, each = (quantize(net, x, message_bits=None, weight_bits=5, per_channel=p) for p in (False, True))
    assert each[1].layers[0].rms_error < one[1].layers[0].rms_error
    assert each[1].changed < 0.5 * one[1].changed
    weight = each[0]["0"].weight
    assert np.abs(weight).max(1).min() > 200 > np.abs(one[0]["0"].weight[1:]).max()


def test_a_current_added_to_itself_is_refused():
    class Twice(_Two):
        def forward(self, x):
            y = self.fc(x)
            return self.end(self.a(y + y))

    with pytest.raises(GraphError, match="to itself"):
        quantize(Twice(), counts(3))


def test_a_layer_that_no_scale_fits_is_named_with_its_bound_and_a_cure():
    net, x = Sequential(Linear(4, 2), LIF(threshold=1e-3), MeanOverTime()), counts(4)
    with pytest.raises(GraphError, match=r"'0' does not fit(.|\n)*inputs \(0, 65535\)(.|\n)*2\^17 = 131072(.|\n)*fewer message_bits"):
        quantize(net, x, message_bits=16)
    with pytest.raises(GraphError, match="'0, channel 0'"):
        quantize(net, x, message_bits=16, per_channel=True)
    assert quantize(net, x, message_bits=None, weight_bits=8)[0].check() == []


@pytest.mark.parametrize(("decay", "dv"), [(0.9, 410), (0.5, 2048), (0.99993, 0), (0.9999, 0), (0.99987, 1), (0.0, 4096)])
def test_decay_becomes_the_nearest_of_the_chip(decay, dv):
    net = Sequential(Linear(3, 2), LIF(decay=decay, spike=STRICT), MeanOverTime())
    assert quantize(net, counts(3))[0]["1"].dv == dv == round(4096 * (1 - decay))


def test_message_bits():
    net = Sequential(Linear(3, 2), LIF(spike=STRICT), MeanOverTime())
    x = counts(3).clamp(max=2)
    x[0, 0, 0] = 5
    assert quantize(net, x, message_bits=None)[0].input.message_bits == 3
    for most in (4, 5):
        x[0, 0, 0] = most
        with pytest.raises(GraphError, match="'input'.*counts pass 2 bits"):
            quantize(net, x, message_bits=2)


def test_a_current_that_never_decays_is_refused():
    with pytest.raises(GraphError, match=r"'1'(.|\n)*never decays(.|\n)*below 1"):
        quantize(Sequential(Linear(3, 2, bias=False), CUBALIF(1.0, decay=0.5), MeanOverTime()), counts(3))


class _Units(nn.Module):
    """Adds a mean over 4 tokens, counted in quarters, to spikes."""

    def __init__(self):
        super().__init__()
        self.lif, self.tokens, self.mean, self.fc, self.after, self.end = LIF(), Tokens(), MeanOverTokens(), Linear(3, 3), LIF(), MeanOverTime()

    def forward(self, x):
        y = self.mean(self.tokens(self.lif(x)))
        return self.end(y + self.after(self.fc(y)))


def test_a_sum_of_different_units_is_refused():
    with pytest.raises(GraphError, match=r"different units(.|\n)*0.25(.|\n)*Add spikes to spikes"):
        quantize(_Units(), counts(3, 2, 2))


@pytest.mark.parametrize("bad", [0.5, -1.0])
def test_inputs_that_are_no_counts_are_refused(bad):
    net = Sequential(Linear(3, 2), LIF(), MeanOverTime())
    x = counts(3)
    x[0, 0, 0] = bad
    with pytest.raises(GraphError, match="event counts"):
        quantize(net, x)


class _Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.a, self.b, self.end = Linear(3, 3), LIF(), LIF(), MeanOverTime()

    def forward(self, x):
        y = self.fc(x)
        return self.end(self.a(y) + self.b(y))


class _Currents(_Two):
    def forward(self, x):
        return self.end(self.a(self.fc(x) + x))


class _ToHalf:
    """A hard reset of the user's, without a field that would say where to."""

    hard, detach, delayed = True, True, False

    def __call__(self, v, s, threshold):
        return v * (1 - s) + 0.5 * s


class _Double(ATan):
    """A spike of the user's that is worth 2."""

    def __call__(self, u):
        return 2 * super().__call__(u)


@pytest.mark.parametrize(
    ("net", "shape", "says"),
    [
        (Sequential(Linear(3, 2), ALIF(adapt_step=-0.5), MeanOverTime()), (3,), ["'1'", "falls with spikes", "adapt_step"]),
        (Sequential(Recurrent(LIF(), 3), MeanOverTime()), (3,), ["Recurrent '0'", "feedback", "Put a Linear"]),
        (Sequential(Conv2d(2, 2, 3), LIF(), AvgPool2d(3, 2, 1, count_include_pad=False), Flatten(), MeanOverTime()), (2, 8, 8), ["AvgPool2d '2'", "border"]),
        (Sequential(Conv2d(2, 2, 3), AvgPool2d(2, 2, 1), LIF(), Flatten(), MeanOverTime()), (2, 8, 8), ["AvgPool2d '1'", "less of the bias", "no padding"]),
        (Sequential(Conv2d(2, 2, 3), LIF()), (2, 8, 8), ["'1'", "answers are vectors", "[2, 6, 6]"]),
        (Sequential(Conv2d(2, 2, 3)), (2, 8, 8), ["Conv2d '0'", "answers are vectors"]),
        (Sequential(Linear(3, 3), Linear(3, 2)), (3,), ["'1'", "current of Linear '0'"]),
        (Sequential(Conv2d(2, 2, 3), PLIF(shape=(2, 6, 6)), Flatten(), MeanOverTime()), (2, 8, 8), ["'1'", "differs between neurons of one channel"]),
        (Sequential(BatchNorm(3, axis=-1), LIF(), MeanOverTime()), (3,), ["Affine '0'"]),
        (Sequential(Linear(3, 3), Linear(3, 2), LIF(), MeanOverTime()), (3,), ["'1'", "current of Linear '0'"]),
        (Sequential(Conv2d(2, 2, 3), MaxPool2d(2), Flatten(), MeanOverTime()), (2, 8, 8), ["Flatten '2'", "current of MaxPool2d '1'"]),
        (Sequential(LIF(decay=0.5, threshold=1.5), MeanOverTime()), (3,), ["'0'", "no whole number"]),
        (Sequential(Linear(3, 2), LIF(reset=_ToHalf()), MeanOverTime()), (3,), ["'1'", "resets to zero"]),
        (Sequential(Linear(3, 2), LIF(spike=_Double()), MeanOverTime()), (3,), ["'1'", "0 or 1"]),
        (_Two(), (3,), ["'fc'", "2 layers read"]),
        (_Currents(), (3,), ["Add 'add'", "current of Linear 'fc'"]),
    ],
    ids=lambda v: "",
)
def test_what_the_chip_cannot_hold_is_named(net, shape, says):
    for p in net.parameters():
        if p.shape == (2, 6, 6):
            p.data = torch.linspace(-1, 1, 72).view(2, 6, 6)
    if isinstance(net, nn.Sequential) and isinstance(net[0], BatchNorm):
        net[0].bias.data.fill_(0.5)
    with pytest.raises(GraphError) as error:
        quantize(net, counts(*shape))
    for words in says:
        assert words in str(error.value)


def test_a_sum_over_time_is_the_mean_times_the_steps():
    torch.manual_seed(0)
    layers, x, lengths = (Linear(6, 5), LIF(spike=STRICT), Linear(5, 3)), counts(6, t=20), torch.tensor([20, 1, 7])
    (network, report), (mean, _) = (quantize(Sequential(*layers, end), x, lengths=lengths) for end in (SumOverTime(), MeanOverTime()))
    twin, other = (run_twin(n, x.numpy().astype(int), lengths.numpy()) for n in (network, mean))
    assert isinstance(network.readout, ints.SumReadout) and (twin.acc == other.acc).all()
    assert twin.logits == pytest.approx(other.logits * lengths[:, None].numpy())
    assert report.agree == 3 and report.score_error < 0.02 * np.abs(twin.logits).max()
    aware = QuantizationAware(Sequential(*layers, SumOverTime()), x)
    assert aware.run(x, lengths).detach().numpy() == pytest.approx(twin.logits, rel=1e-6)


def test_neurons_may_read_events_directly():
    net = Sequential(LIF(spike=STRICT), MeanOverTime())  # gain 1/2: the threshold is 2 events
    x = counts(3, t=30, rate=1.5)
    network, report = quantize(net, x)
    assert network["0"].vth == 2 and report.layers[0].spikes > 0
    assert report.layers[0].changed <= report.layers[0].compared * 0.02


def test_a_hook_behind_layers_that_fire_late_is_found():
    """The graph is compared with the model on a whole recording: in its first steps nothing reaches the deep layers."""
    net = Sequential(Linear(2, 8), LIF(decay=1.0, threshold=4.0), Linear(8, 8), LIF(), Linear(8, 3), MeanOverTime())
    for layer in (net[0], net[2]):
        layer.weight.data.fill_(0.5)
        layer.bias.data.zero_()
    x = torch.ones(8, 1, 2)
    assert quantize(net, x)[1].layers[1].spikes > 0
    net[3].register_forward_hook(lambda module, args, y: 0 * y)
    with pytest.raises(GraphError, match="hook"):
        quantize(net, x)
    with pytest.raises(GraphError, match="hook"):
        evaluate_quantized(net, quantize(Sequential(Linear(2, 3), MeanOverTime()), x)[0], [x])


def test_silent_layers_are_named():
    """Two silent layers agree in everything, which says nothing."""
    net = Sequential(Linear(3, 4), LIF(threshold=1e3), Linear(4, 2), MeanOverTime())
    report = quantize(net, counts(3))[1]
    assert any("Silent" in note and note.endswith(" 1.") for note in report.notes)
    lively_net = Sequential(Linear(3, 2), MeanOverTime())
    assert not any("Silent" in note for note in quantize(lively_net, counts(3))[1].notes)


def test_a_membrane_at_the_end_of_its_register_is_noted():
    """An IF that is inhibited for long goes below what 24 bits hold at this threshold, and then fires too early."""
    net = Sequential(Linear(2, 1, bias=False), IF(threshold=1e3), MeanOverTime())
    net[0].weight.data = torch.tensor([[-1.0, 1.0]])
    x = torch.zeros(50, 1, 2)
    x[:25, :, 0] = x[25:, :, 1] = 100
    report = quantize(net, x)[1]
    assert report.layers[0].changed > 0 and any("lowest value" in note for note in report.notes)
    assert not any("lowest value" in note for note in quantize(net, x[:8])[1].notes)


def test_a_head_without_weights_keeps_its_bias():
    net = Sequential(Linear(3, 3), MeanOverTime())
    net[0].weight.data.zero_()
    net[0].bias.data = torch.tensor([0.01, 0.03, 0.02])
    network, report = quantize(net, counts(3))
    assert report.agree == report.samples and report.score_error < 1e-6


def test_the_current_of_a_cubalif_is_rounded_and_says_so():
    net = Sequential(Linear(3, 2, bias=False), CUBALIF(0.37, decay=0.5), MeanOverTime())
    assert any("current_decay 0.37 becomes" in note for note in quantize(net, counts(3))[1].notes)


def test_evaluation_over_batches():
    model, x, network, _ = spikformer()
    lengths, labels = torch.tensor([6, 3, 4]), torch.tensor([0, 1, 2])
    found = evaluate_quantized(model, network, [(x, lengths, labels), (x, lengths, labels)])
    assert found.samples == 6 and 0 <= found.same <= 1 and "accuracy" in repr(found)
    expected = model.run(x, lengths).argmax(1).numpy()
    assert found.float_predictions.tolist() == [*expected, *expected]
    twin = run_twin(network, x.numpy().astype(int), lengths.numpy()).predictions
    assert found.integer_predictions.tolist() == [*twin, *twin]
    assert found.integer_accuracy == np.mean(np.tile(twin, 2) == np.tile(labels, 2))
    assert evaluate_quantized(model, network, [x]).float_accuracy is None


def test_the_report_can_be_read():
    report = spikformer()[3]
    for text in (repr(report), report._repr_html_()):
        for words in ("stem.stages.0.conv", "vth", "changed", "same class"):
            assert words in text


def test_a_convolution_over_one_axis_is_refused_with_a_way_out_that_works():
    x = torch.poisson(torch.full((5, 2, 4, 9), 0.5, dtype=torch.float32))
    line, row = neuro.layers.Conv1d(4, 8, 3, padding=1), Conv2d(4, 8, (1, 3), padding=(0, 1))
    row.load_state_dict({k: v.unsqueeze(2) if v.dim() == 3 else v for k, v in line.state_dict().items()})
    rest = [LIF(), Flatten(), Linear(72, 3), MeanOverTime()]
    with pytest.raises(GraphError, match=r"Conv1d '0'(.|\n)*\(1, k\)(.|\n)*unsqueeze\(3\)"):
        quantize(Sequential(line, *rest), x)
    torch.testing.assert_close(Sequential(row, *rest)(x.unsqueeze(3)), Sequential(line, *rest)(x))
    assert quantize(Sequential(row, *rest), x.unsqueeze(3))[0].input.shape == (4, 1, 9)


@pytest.mark.parametrize("x, said", [([[1.0]], "got list"), (np.ones((3, 2, 4), np.float32), "got ndarray"), (torch.ones(3, 2, 4, dtype=torch.float64), "torch.float64 .* torch.float32")], ids=["list", "numpy", "float64"])
def test_recordings_of_another_type_are_refused_in_a_sentence(x, said):
    with pytest.raises(ParameterError, match=said):
        quantize(Sequential(Linear(4, 3), LIF(), Linear(3, 2), MeanOverTime()), x)


def test_lengths_may_be_a_list():
    net, x = Sequential(Linear(4, 3), LIF(), Linear(3, 2), MeanOverTime()), torch.ones(3, 2, 4)
    listed, report = quantize(net, x, lengths=[1, 3])
    given, same = quantize(net, x, lengths=torch.tensor([1, 3]))
    assert repr(report) == repr(same) and repr(listed) == repr(given)


@pytest.mark.parametrize("where", ["0.weight", "0.bias", "2.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_by_the_name_of_their_layer(where, value):
    net = Sequential(Linear(4, 3), PLIF(shape=(3,)), Linear(3, 2), MeanOverTime())
    layer, name = where.split(".")
    with torch.no_grad():
        getattr(net[int(layer)], name).view(-1)[0] = value
    with pytest.raises(GraphError, match=rf"'{layer}': its {name} holds NaN or infinity"):
        quantize(net, torch.ones(3, 2, 4))
