"""Quantisation-aware training: what was trained is what runs."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import neuro
from neuro.deploy.agreement import evaluate_quantized
from neuro.deploy.cells import Cell, RecurrentCell
from neuro.deploy.differentiable import Soft, cell, lif
from neuro.deploy.grid import both_signs, spacing, to_grid, widest
from neuro.deploy.nodes import LIF as LIFNode
from neuro.deploy.qat import QuantizationAware
from neuro.deploy.quantize import quantize
from neuro.deploy.reference import CellState, cell_step, lif_step
from neuro.deploy.rules import weight_problem
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError, ShapeError
from neuro.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, MeanOverTime, Sequential
from neuro.models import small
from neuro.neurons import CUBALIF, IF, LIF, PLIF
from neuro.reset import ToZero
from neuro.surrogate import ATan, Triangle


def counts(*shape, t=7, b=3, rate=0.4, seed=1):
    return torch.poisson(torch.full((t, b, *shape), rate), generator=torch.Generator().manual_seed(seed))


def assert_what_is_trained_runs(aware, x, lengths=None):
    """Every spike of every layer, and every score, are the twin's. Returns the number of spikes."""
    network = aware.network()
    twin = run_twin(network, x.numpy().astype(int), None if lengths is None else lengths.numpy(), record=True)
    with torch.no_grad():
        values = aware.values(x, lengths)
    for name, spikes in twin.spikes.items():
        ours = values[name].numpy()
        for b, steps in enumerate(twin.steps):
            np.testing.assert_array_equal(ours[:steps, b], spikes[:steps, b], name)
    np.testing.assert_allclose(values[network.readout.name].numpy(), twin.logits, rtol=1e-12, atol=1e-12)
    return sum(int(s.sum()) for s in twin.spikes.values())


def any_neuron(rng, bias):
    kinds = [lambda: IF(), lambda: LIF(decay=float(rng.uniform(0, 1)), spike=Triangle()), lambda: LIF(tau=float(rng.uniform(1, 5)), threshold=float(rng.uniform(0.3, 2)))]
    kinds += [lambda: PLIF(tau=3.0)] if bias else [lambda: CUBALIF(float(rng.uniform(0, 0.9)), decay=0.5)]
    return kinds[rng.integers(len(kinds))]()


def any_network(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    groups, c, stride = int(rng.choice([1, 2])), 2 * int(rng.integers(1, 4)), int(rng.integers(1, 3))
    bias = [bool(rng.integers(2)) for _ in range(3)]
    net = Sequential(
        Conv2d(2, c, 3, padding=1, stride=stride, groups=groups, bias=bias[0]), any_neuron(rng, bias[0]), MaxPool2d(2),
        Conv2d(c, c, (1, 3), padding=(0, 1), bias=False), BatchNorm(c), any_neuron(rng, True), Flatten(),
        Linear(c * (4 // stride) ** 2, 9, bias=bias[1]), any_neuron(rng, bias[1]), Linear(9, 4, bias=bias[2]), MeanOverTime(),
    )  # fmt: skip
    net[4].bias.data.uniform_(0, 1)
    return net.eval(), rng


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8), clip=st.booleans())
def test_what_was_trained_is_what_runs(seed, bits, clip):
    net, rng = any_network(seed)
    x = counts(2, 8, 8, seed=seed)
    aware = QuantizationAware(net, x, message_bits=None, weight_bits=bits, clip=clip)
    lengths = torch.tensor([7, 1, 4])
    assert_what_is_trained_runs(aware, x, lengths)
    F.cross_entropy(aware(x), torch.tensor([0, 1, 2])).backward()
    with torch.no_grad():
        for p in aware.parameters():
            p -= 0.3 * p.abs().max() * p.grad / p.grad.abs().max().clamp(min=1e-9)
    assert_what_is_trained_runs(aware, x)
    network, report = quantize(aware, x, lengths=lengths)
    assert report.changed == 0 and report.agree == report.samples and report.score_error < 1e-6
    for node in network.nodes:
        if hasattr(node, "weight"):
            assert not (node.weight % spacing(both_signs(node.weight), bits)).any()


def test_a_spikformer_trains_as_it_runs():
    torch.manual_seed(0)
    model, x = small("spikformer_motions", dim=16), counts(2, 16, 16, t=3, b=2, rate=2.0)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.bias.data.uniform_(0.3, 1.2)
            module.momentum = 0.5
    for _ in range(5):
        model(x)
    model.eval()
    aware = QuantizationAware(model, x, message_bits=None, weight_bits=4)
    assert assert_what_is_trained_runs(aware, x) > 1000
    aware(x).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in aware.parameters())


@pytest.mark.parametrize("seed", range(8))
def test_the_neuron_is_the_chips_down_to_the_last_unit(seed):
    """Low thresholds and long memory, where each truncation of the leak decides about spikes."""
    rng = np.random.default_rng(seed)
    node = LIFNode("s", "x", dv=int(rng.integers(1, 600)), vth=int(rng.integers(1, 5)), du=int(rng.choice([4095, rng.integers(100, 4095)])))
    a, bias = rng.integers(-1, 2, (200, 300)), rng.integers(-20, 21, 300)
    u = v = np.zeros(300, np.int64)
    expected = []
    for now in a:
        s, u, v, _ = lif_step(u, v, now, node.du, node.dv, node.vth, bias)
        expected.append(s)
    found = lif(torch.tensor(a), node, torch.tensor(bias).double(), Soft(ATan(2.0), torch.tensor(1.0), True))
    np.testing.assert_array_equal(found.numpy(), np.array(expected))
    assert 0.01 < found.mean() < 0.9


@pytest.mark.parametrize("seed", range(8))
def test_cells_are_the_definition_down_to_the_last_unit(seed):
    rng = np.random.default_rng(seed)
    feedback = bool(seed % 2)
    how = {"reset": ("zero", "subtract", "none")[seed % 3], "dh": rng.integers(1, 4097, 30), "jump": rng.integers(0, 40, 30)}
    values = ("s", "x", rng.integers(1, 600, 30), rng.integers(1, 5, 30), rng.integers(-20, 21, 30), 0, rng.integers(2000, 4096, 30))
    node = RecurrentCell(*values, **how, weight=rng.integers(-1, 2, (30, 30))) if feedback else Cell(*values, **how)
    a = rng.integers(-1, 2, (100, 4, 30))
    weight = torch.tensor(node.weight).double() if feedback else None
    found = cell(torch.tensor(a), node, torch.tensor(node.bias_mant).double(), Soft(ATan(2.0), torch.tensor(1.0), True), weight).numpy()
    for b in range(4):
        state = CellState(*[np.zeros(30, np.int64)] * 4)
        for t in range(100):
            state, _, _ = cell_step(state, a[t, b].astype(np.int64), node)
            np.testing.assert_array_equal(found[t, b], state.s)
    assert 0.01 < found.mean() < 0.95


def test_gradients_are_those_of_the_float_network():
    """On a network that loses nothing by rounding, forward and every gradient are the float ones."""
    strict = ATan(2.0, strict=True)
    net = Sequential(Linear(4, 6), LIF(decay=0.5, spike=strict, reset=ToZero(detach=False)), Linear(6, 3), MeanOverTime())
    torch.manual_seed(2)
    for layer in (net[0], net[2]):
        layer.weight.data = torch.randint(-127, 128, layer.weight.shape).float() / 64
        layer.weight.data[0, 0] = 127 / 64
        layer.bias.data = torch.randint(-3, 4, layer.bias.shape).float() / 128
    x = counts(4, t=3, b=5)
    aware = QuantizationAware(net, x, message_bits=None)
    for network in (net, aware):
        network(x).square().sum().backward()
    assert torch.equal(net(x).argmax(1), aware(x).argmax(1))
    torch.testing.assert_close(net(x), aware(x), rtol=1e-5, atol=1e-5)
    for ours, theirs in ((aware.weights["0"], net[0].weight), (aware.biases["0"], net[0].bias), (aware.weights["2"], net[2].weight), (aware.biases["2"], net[2].bias)):
        assert theirs.grad.abs().max() > 0
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_training_recovers_what_rounding_to_few_bits_lost():
    """A teacher's classes, learned in floats; at 2 bits rounding alone loses many of them, training with the integers regains most."""
    torch.manual_seed(4)
    x = counts(12, t=8, b=240, rate=0.6)
    labels = (x.sum(0) @ torch.randn(12, 4)).argmax(1)
    net = Sequential(Linear(12, 32), LIF(), Linear(32, 4), MeanOverTime())

    def train(model, rate):
        optimizer = torch.optim.Adam(model.parameters(), rate)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(4 * model(x), labels).backward()
            optimizer.step()

    train(net, 0.03)
    aware = QuantizationAware(net, x, weight_bits=2, clip=True)

    def accuracy(model, **how):
        return float((run_twin(quantize(model, x, **how)[0], x.numpy().astype(int)).predictions == labels.numpy()).mean())

    rounded = accuracy(net, weight_bits=2, clip=True)
    train(aware, 0.01)
    assert accuracy(aware) > rounded + 0.05
    assert accuracy(aware) == pytest.approx(float((aware(x).argmax(1) == labels).float().mean()))
    assert net[0].weight.grad is not None and not torch.equal(aware.weights["0"], net[0].weight), "the model itself is left alone"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8), sign=st.sampled_from([1, 0, -1]))
@example(seed=267, bits=2, sign=0)  # at the best scale all positive weights vanish
def test_fewer_bits_are_a_coarser_grid_that_the_chip_holds(seed, bits, sign):
    w = np.random.default_rng(seed).standard_normal((4, 9)) ** 3
    w = np.abs(w) * sign if sign else w
    errors = []
    for clip in (False, True):
        scale = widest(w, bits, clip)
        whole = to_grid(w, scale, bits)
        assert weight_problem(whole) == "" and len(np.unique(whole)) <= 2**bits and not (whole % spacing(both_signs(w), bits)).any()
        errors.append(np.square(whole / scale - w).sum())
    assert errors[1] <= errors[0]


def test_wrong_use_is_said():
    net, x = Sequential(Linear(3, 2), LIF(), MeanOverTime()), counts(3)
    for bits in (1, 9, 4.5, "4", True):
        with pytest.raises(ParameterError, match=f"weight_bits is {bits!r}"):
            QuantizationAware(net, x, weight_bits=bits)
        with pytest.raises(ParameterError, match=f"weight_bits is {bits!r}"):
            quantize(net, x, weight_bits=bits)
    aware = QuantizationAware(net, x, weight_bits=4)
    with pytest.raises(ParameterError, match="trained for 4"):
        quantize(aware, x, weight_bits=8)
    with pytest.raises(ParameterError, match="as it was trained"):
        quantize(aware, x, calibrate=True)
    with pytest.raises(GraphError, match="event counts"):
        quantize(aware, x - 0.5)
    for bad in (x[0], counts(4), x[..., 0]):
        with pytest.raises(ShapeError, match="input does not fit"):
            aware(bad)
    for bad in (x - 1, x * 0.5, x * 1000, x[:, :0], x[:0]):
        with pytest.raises(GraphError, match="'input'"):
            aware(bad)
    for bad in ([7, 7], [0, 1, 1], [8, 1, 1]):
        with pytest.raises(ShapeError, match="lengths"):
            aware.run(x, torch.tensor(bad))
    aware.weights["0"].data[0, 0] = float("nan")
    with pytest.raises(ParameterError, match="'0' are not finite"):
        aware(x)
    with pytest.raises(GraphError, match="answers are vectors"):
        QuantizationAware(Sequential(Conv2d(1, 2, 3), LIF()), counts(1, 8, 8))


def test_it_is_a_module_like_any_other(tmp_path):
    net, _ = any_network(3)
    x, lengths = counts(2, 8, 8), torch.tensor([7, 2, 5])
    aware = QuantizationAware(net, x, weight_bits=4)
    scores, _ = neuro.run(aware, x, lengths=lengths)
    torch.testing.assert_close(scores, aware.run(x, lengths))
    torch.testing.assert_close(scores[1], aware(x[:2, 1:2])[0])
    other = QuantizationAware(any_network(3)[0], x, weight_bits=4)
    other.load_state_dict({k: v * 0.9 for k, v in aware.state_dict().items()})
    other.load_state_dict(aware.state_dict())
    torch.testing.assert_close(other(x), aware(x))
    found = evaluate_quantized(aware, aware.network(), [(x, lengths, torch.tensor([0, 1, 2]))])
    assert found.same == 1.0
