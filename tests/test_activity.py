"""neuro.activity: counts by value against brute force, whatever the network is built of, and nothing silently zero."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import neuro
from neuro.errors import ParameterError, ShapeError
from neuro.graph import fold_norms
from neuro.layers import AvgPool2d, BatchNorm, Conv2d, Linear, Sequential
from neuro.models import small
from neuro.neurons import LIF, Recurrent


def spikes(*shape, share=0.3, seed=1):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()


def layer(model, x, **how):
    how.setdefault("batch_axis", 0)
    found = neuro.activity(model, x, **how)
    return next(iter(found))


def brute_force(x, conv):
    """(effective, dense) of a convolution by loops over outputs and taps; x [C, H, W]."""
    (sy, sx), (py, px), (dy, dx) = conv.stride, conv.padding, conv.dilation
    out, per, kh, kw = conv.weight.shape
    share = out // conv.groups
    H = (x.shape[1] + 2 * py - dy * (kh - 1) - 1) // sy + 1
    W = (x.shape[2] + 2 * px - dx * (kw - 1) - 1) // sx + 1
    effective = dense = 0
    for o, y, z, c, i, j in itertools.product(range(out), range(H), range(W), range(per), range(kh), range(kw)):
        a, b = y * sy - py + i * dy, z * sx - px + j * dx
        if 0 <= a < x.shape[1] and 0 <= b < x.shape[2]:
            dense += 1
            effective += int(x[c + o // share * per, a, b] != 0)
    return effective, dense


@pytest.mark.parametrize("how", [{}, {"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"groups": 2, "padding": 1}], ids=str)
def test_convolution_equals_loops(how):
    conv = nn.Conv2d(2, 4, 3, **how)
    x = spikes(2, 2, 5, 5)
    found = layer(conv, x)
    for b in range(2):
        effective, dense = brute_force(x[b], conv)
        assert (found.ac[b], found.dense[b]) == (effective, dense) and effective > 0
    y = conv(x)
    assert found.padded.tolist() == [y[0].numel() * conv.weight[0].numel()] * 2


def test_transposed_convolution_equals_what_arrives():
    conv = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, bias=False)
    x = spikes(2, 3, 4, 4)
    nn.init.ones_(conv.weight)
    found = layer(conv, x)
    assert found.ac.tolist() == conv(x).flatten(1).sum(1).round().long().tolist()
    assert found.padded.tolist() == [3 * 4 * 4 * 2 * 9] * 2 and (found.dense < found.padded).all() and found.outputs.tolist() == [2 * 7 * 7] * 2


def test_a_bias_is_added_once_to_each_output():
    for make, x in ((lambda bias: nn.Conv2d(2, 4, 3, bias=bias), spikes(2, 2, 5, 5)), (lambda bias: nn.Linear(6, 4, bias=bias), spikes(2, 3, 6))):
        with_bias, without = layer(make(True), x), layer(make(False), x)
        assert with_bias.biases.tolist() == with_bias.outputs.tolist() == [make(True)(x)[0].numel()] * 2 and without.biases.tolist() == [0, 0]


@pytest.mark.parametrize("inference", [False, True])
def test_one_linear(inference):
    with torch.inference_mode(inference):
        x = torch.zeros(32, 100)
        x.view(-1)[torch.randperm(3200)[:313]] = 1
        net = nn.Linear(100, 50)
        found = layer(net, x)
    assert found.ac.sum() == 15_650 and found.mac.sum() == found.graded.sum() == 0
    assert found.dense.sum() == 160_000 and found.input_class == "binary"
    assert found.ac.tolist() == (50 * x.count_nonzero(1)).tolist()


@pytest.mark.parametrize(
    ("values", "kind", "column"),
    [(lambda x: x, "binary", "ac"), (lambda x: -x, "ternary", "ac"), (lambda x: 3 * x, "integer", "graded"), (lambda x: 0.7 * x, "real", "mac"), (lambda x: 0 * x, "zero", "ac")],
    ids=["binary", "ternary", "integer", "real", "zero"],
)  # fmt: skip
def test_the_class_is_that_of_the_values(values, kind, column):
    x = values(spikes(4, 100))
    for net in (nn.Linear(100, 50), nn.Conv1d(4, 50, 100)):
        x_in = x if isinstance(net, nn.Linear) else x[None]
        found = layer(net, x_in)
        assert found.input_class == kind
        assert getattr(found, column).sum() == found.effective.sum() == 50 * x.count_nonzero()


def test_a_mixed_tensor_is_split_by_value():
    found = layer(nn.Linear(6, 10), torch.tensor([[0.0, 1, -1, 2, 0.5, 7]]))
    assert (found.ac[0], found.graded[0], found.mac[0], found.dense[0]) == (20, 20, 10, 60)
    assert (found.unit[0], found.integer[0], found.real[0], found.events[0], found.padded[0]) == (2, 2, 1, 5, 60)


def test_all_ones_is_dense_and_zeros_still_update_neurons():
    net = Sequential(Conv2d(2, 3, 3, padding=1, bias=False), LIF())
    ones, zeros = torch.ones(4, 2, 2, 6, 6), torch.zeros(4, 2, 2, 6, 6)
    assert (neuro.activity(net, ones)["0"].ac == neuro.activity(net, ones)["0"].dense).all()
    silent = neuro.activity(net, zeros)
    assert silent.total("effective").sum() == 0
    assert silent["1"].updates.tolist() == [4 * 3 * 36] * 2 and silent["1"].steps.tolist() == [4, 4]


def test_single_steps_add_up_to_the_whole():
    net, x = Conv2d(2, 3, 3, padding=1), spikes(5, 2, 2, 6, 6)
    whole = neuro.activity(net, x)[""]
    parts = [neuro.activity(net, x[t : t + 1])[""] for t in range(5)]
    for name in ("ac", "dense", "padded", "inputs"):
        assert (getattr(whole, name) == sum(getattr(p, name) for p in parts)).all()


def test_samples_do_not_depend_on_the_batch_nor_on_the_run():
    torch.manual_seed(0)
    net = small("spikformer_motions", dim=16)
    x = torch.poisson(torch.full((3, 2, 2, 16, 16), 0.5))
    once, again, double = (neuro.activity(net, v) for v in (x, x, torch.cat([x, x], 1)))
    assert once.total("ac").sum() > 0
    for name in ("ac", "graded", "mac", "dense", "updates", "spikes"):
        assert once.total(name).tolist() == again.total(name).tolist()
        assert double.total(name).tolist() == once.total(name).tolist() * 2


def test_a_padded_sample_counts_as_alone():
    net = Sequential(Linear(6, 5), LIF(), Linear(5, 2))
    x = spikes(7, 3, 6)
    found = neuro.activity(net, x, torch.tensor([7, 2, 4]))
    for b, n in enumerate((7, 2, 4)):
        alone = neuro.activity(net, x[:n, b : b + 1])
        for name in ("ac", "mac", "dense", "updates", "spikes"):
            assert found.total(name)[b] == alone.total(name)[0]
    assert found.steps.tolist() == [7, 2, 4]


class _Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = Linear(6, 5)

    def forward(self, x):
        return self.fc(x + x)


def test_scaled_spikes_are_multiplications_where_they_fall_and_nowhere_else():
    """A converted network sends spikes times a scale of their channel: one operation per spike and weight, not a dense layer."""
    torch.manual_seed(0)
    scale = torch.rand(5) + 0.1

    class Converted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.lif, self.b = Linear(6, 5), LIF(), Linear(5, 3)

        def forward(self, x):
            return self.b(self.lif(self.a(x)) * scale)

    net, x = Converted(), 3 * spikes(16, 2, 6)
    fired = net.lif(net.a(x)).sum((0, 2))
    found = neuro.activity(net, x)["b"]
    assert found.mac.tolist() == (3 * fired).long().tolist() and found.ac.sum() == 0 and fired.min() > 0
    assert (found.effective < found.dense).all() and found.dense.tolist() == [16 * 15] * 2


def test_residual_sums_and_averages_are_no_spikes():
    assert neuro.activity(_Sum(), spikes(2, 1, 6))["fc"].graded.sum() > 0
    assert neuro.activity(_Sum(), spikes(2, 1, 6))["fc"].ac.sum() == 0
    pooled = neuro.activity(Sequential(AvgPool2d(2), Conv2d(2, 3, 3)), spikes(2, 1, 2, 8, 8))["1"]
    assert pooled.mac.sum() > 0 and pooled.input_class == "real"


def test_spikes_are_those_of_the_neuron():
    net = Sequential(Linear(6, 5), LIF())
    x = spikes(9, 2, 6, share=0.8)
    found = neuro.activity(net, 3 * x)["1"]
    assert found.spikes.tolist() == net(3 * x).sum((0, 2)).long().tolist() and found.updates.tolist() == [45, 45]


def test_a_recurrent_layer_counts_its_feedback():
    torch.manual_seed(0)
    net = Recurrent(LIF(), 6)
    x = 4 * spikes(5, 1, 6)
    found = neuro.activity(net, x)[""]
    y = net(x)
    assert found.ac[0] == y[:-1].sum() * 6 > 0 and found.dense[0] == 5 * 36
    assert found.spikes[0] == y.sum() and found.updates[0] == 30


class _Call(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f
        self.w = nn.Parameter(torch.rand(8, 8))

    def forward(self, x):
        return self.f(x, self.w)


def both_nonzero(x):
    """Pairs of x x^T with both factors nonzero."""
    n = (x != 0).double()
    return int((n @ n.transpose(-1, -2)).sum())


@pytest.mark.parametrize("f", [lambda x, w: x @ w, lambda x, w: F.linear(x, w), lambda x, w: torch.einsum("bni,io->bno", x, w)], ids=["@", "F.linear", "einsum"])
def test_functional_products(f):
    x = spikes(2, 4, 8)
    assert layer(_Call(f), x).ac.tolist() == (8 * x.count_nonzero((1, 2))).tolist()


@pytest.mark.parametrize("f", [lambda x, w: x @ x.mT, lambda x, w: torch.einsum("bni,bmi->bnm", x, x)], ids=["@", "einsum"])
def test_a_product_of_activations_needs_both(f):
    x = spikes(2, 4, 8)
    found = layer(_Call(f), x)
    assert found.ac.tolist() == [both_nonzero(x[0]), both_nonzero(x[1])] and found.dense.tolist() == [128, 128]
    assert layer(_Call(f), 0.5 * x).mac.tolist() == layer(_Call(f), 3 * x).graded.tolist() == found.ac.tolist()


def test_one_spike_in_a_pair_of_activations_needs_no_multiplier():
    x = spikes(2, 4, 8)
    for factor in (0.3, 5.0):
        found = layer(_Call(lambda x, w, factor=factor: (factor * x) @ x.mT), x)
        assert found.ac.tolist() == [both_nonzero(x[0]), both_nonzero(x[1])] and found.effective.tolist() == found.ac.tolist()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dims", [3, 4])
@pytest.mark.parametrize("values", [1.0, 3.0, 0.5])
def test_fused_attention_is_counted(causal, dims, values):
    """q k^T meets where both are not zero, of the spikes' own values and not of what torch scales; each score that is not masked meets v."""
    x = spikes(2, 3, 4, 8)[:, : dims - 2] if dims == 4 else spikes(2, 4, 8)
    found = layer(_Call(lambda x, w: F.scaled_dot_product_attention(x, x, x, is_causal=causal)), values * x)
    after = torch.tril(torch.ones(4, 4)) if causal else torch.ones(4, 4)
    first, second = [both_nonzero(s) for s in x], [int((after @ (s != 0).float()).sum()) for s in x]
    assert found.effective.tolist() == [a + b for a, b in zip(first, second, strict=True)]
    assert found.dense.tolist() == [2 * x[0].numel() * 4] * 2
    certain = [int((s[..., 0, :] != 0).sum()) if causal else 0 for s in x]  # the first token sees itself alone: a softmax of 1
    real = [n - c for n, c in zip(found.effective.tolist(), certain, strict=True)]
    one = {1.0: (found.ac, [a + b for a, b in zip(first, second, strict=True)]), 3.0: (found.graded, first), 0.5: (found.mac, real)}[values]
    assert one[0].tolist() == one[1]


def test_a_token_that_sees_nothing_adds_nothing():
    x, mask = spikes(1, 2, 4, 8, share=0.6), torch.ones(4, 4, dtype=torch.bool)
    mask[1] = False
    found = layer(_Call(lambda x, w: F.scaled_dot_product_attention(x, x, x, attn_mask=mask)), x)
    assert found.effective.tolist() == [both_nonzero(x) + int((mask.float() @ x).sum())]


def test_fused_attention_of_groups_and_masks():
    x, mask = spikes(1, 4, 5, 8), torch.rand(5, 5) < 0.6
    mask.fill_diagonal_(True)
    for given in (mask, torch.where(mask, 0.0, -torch.inf)):
        net = _Call(lambda x, w, given=given: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], attn_mask=given, enable_gqa=True))
        kv = x[:, :2].repeat_interleave(2, 1)
        expected = int((x @ kv.mT).sum() + (mask.float() @ kv).sum())
        assert layer(net, x).ac.tolist() == [expected]


def test_multihead_attention_and_transposed_layers_are_counted():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    found = neuro.activity(encoder, torch.randn(2, 4, 8), batch_axis=0)
    assert found.total("dense").tolist() == [4 * 8 * 24 + 4 * 8 * 8 + 2 * 4 * 4 * 8 + 2 * 4 * 8 * 16] * 2
    assert not found.not_counted
    names = {name for _, name in found.elementwise}
    assert {"native_layer_norm", "relu"} <= names and any("softmax" in n for n in names)


def test_elementwise_work_is_listed_in_elements():
    net = nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Softmax(-1))
    found = neuro.activity(net, torch.randn(2, 8), batch_axis=0)
    assert {name: v.tolist() for (_, name), v in found.elementwise.items()} == {"native_layer_norm": [8, 8], "gelu": [8, 8], "_softmax": [8, 8]}
    assert "gelu 8" in repr(found)


@pytest.mark.parametrize("net", [_Call(lambda x, w: torch.fft.fft(x).real), nn.LSTM(8, 4)], ids=["fft", "lstm"])
def test_what_is_not_understood_is_said(net):
    found = neuro.activity(net, torch.randn(2, 3, 8))
    assert found.not_counted or found.total("mac").sum() > 0
    if found.not_counted:
        assert 0 < found.share_not_counted <= 1 and "NOT COUNTED" in repr(found) and "NOT COUNTED" in found._repr_html_()


class Keeps(nn.Module):
    """h <- (x + h W > 0.5), in a buffer written in place, in one that is replaced, or in a plain attribute."""

    def __init__(self, how, start=0.0):
        super().__init__()
        self.how, self.w = how, nn.Parameter(torch.rand(6, 6))
        if how == "attribute":
            self.h = torch.full((1, 6), start)
        else:
            self.register_buffer("h", torch.full((1, 6), start))

    def forward(self, x):
        out = []
        for x_t in x:
            new = (x_t + self.h @ self.w > 0.5).float()
            if self.how == "in place":
                self.h.copy_(new)
            else:
                self.h = new
            out.append(new)
        return torch.stack(out)


@pytest.mark.parametrize("how", ["in place", "replaced", "attribute"])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_state_in_a_module_is_no_weight_and_starts_each_sample_anew(how, start):
    """A loop over every step and weight: h has 6 readers for each of its spikes, of the step before."""
    torch.manual_seed(0)
    net, x = Keeps(how, start), spikes(4, 3, 6, share=0.2)
    expected = []
    for b in range(3):
        h, operations = torch.full((6,), start), 0
        for t in range(4):
            operations += sum(6 for i in range(6) if h[i] != 0)
            h = (x[t, b] + h @ net.w.detach() > 0.5).float()
        expected.append(operations)
    once, again = neuro.activity(net, x), neuro.activity(net, x)
    assert once.total("ac").tolist() == again.total("ac").tolist() == expected and sum(expected) > 0
    assert once.total("dense").tolist() == [4 * 36] * 3
    assert net.h.tolist() == [[start] * 6]


def test_an_accumulator_made_of_a_weight_is_no_weight():
    x = spikes(2, 8)

    def accumulate(x, w):
        total = torch.zeros_like(w[:1])
        total += x
        return total @ w

    assert neuro.activity(_Call(accumulate), x, batch_axis=0).total("ac").tolist() == (8 * x.count_nonzero(1)).tolist()
    assert neuro.activity(_Call(lambda x, w: x @ w.clone().mul_(2)), x, batch_axis=0).total("dense").tolist() == [64, 64]


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's own, of the copy that is meant here
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_taps_on_padding_are_not_in_the_map_whoever_padded(kernel):
    """padding='same' pads an even kernel by an operator of its own; F.pad does so for any."""
    x, conv = spikes(1, 2, 5, 6), nn.Conv2d(2, 3, kernel, padding="same")
    before = (kernel - 1) // 2
    dense = effective = 0
    for _, y, z, c, i, j in itertools.product(range(3), range(5), range(6), range(2), range(kernel), range(kernel)):
        a, b = y - before + i, z - before + j
        if 0 <= a < 5 and 0 <= b < 6:
            dense, effective = dense + 1, effective + int(x[0, c, a, b] != 0)
    found = layer(conv, x)
    assert (found.dense[0], found.ac[0]) == (dense, effective)
    plain = nn.Conv2d(2, 3, kernel)
    pads = (before, kernel - 1 - before) * 2
    padded = layer(_Call(lambda x, w: plain(F.pad(x, pads))), x)
    assert (padded.dense[0], padded.ac[0], padded.inputs[0]) == (dense, effective, x.numel())
    twice = layer(_Call(lambda x, w: plain(F.pad(F.pad(x, (pads[0], 0, 0, 0)), (0, *pads[1:])))), x)  # what was padding stays padding
    assert (twice.dense[0], twice.ac[0], twice.inputs[0]) == (dense, effective, x.numel())
    around = layer(_Call(lambda x, w: plain(F.pad(x, pads, value=1.0))), x)
    assert around.dense[0] == 3 * 5 * 6 * 2 * kernel**2 and around.ac[0] > effective  # padding with ones is read and added


@pytest.mark.parametrize("how", [{"groups": 4}, {"groups": 4, "dilation": 2, "padding": 2}, {"groups": 2, "stride": (2, 1), "padding": (0, 2)}], ids=str)
@pytest.mark.parametrize("values", [1.0, -1.0, 3.0, 0.5])
def test_grouped_convolution_of_any_values_equals_loops(how, values):
    conv, x = nn.Conv2d(4, 8, 3, **how), values * spikes(1, 4, 6, 5)
    conv.stride, conv.padding, conv.dilation = ((v, v) if isinstance(v, int) else v for v in (conv.stride, conv.padding, conv.dilation))
    found, (effective, dense) = layer(conv, x), brute_force(x[0], conv)
    assert (found.effective[0], found.dense[0]) == (effective, dense)
    assert getattr(found, {1.0: "ac", -1.0: "ac", 3.0: "graded", 0.5: "mac"}[values])[0] == effective > 0


@pytest.mark.parametrize("gates", [1, 3, 4], ids=["RNN", "GRU", "LSTM"])
def test_torchs_recurrent_layers_are_counted(gates):
    """By loops: each gate reads every input and every state of the step before; the first state is zero."""
    torch.manual_seed(0)
    net, x = {1: nn.RNN, 3: nn.GRU, 4: nn.LSTM}[gates](6, 5), spikes(4, 2, 6)
    found = neuro.activity(net, x)
    y, _ = net(x)
    for b in range(2):
        effective = sum(gates * 5 for t in range(4) for i in range(6) if x[t, b, i]) + sum(gates * 5 for t in range(3) for i in range(5) if y[t, b, i])
        assert found.total("effective")[b] == effective and found.total("dense")[b] == 4 * gates * 5 * 11
    assert not found.not_counted and torch.backends.mkldnn.enabled == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("how", ["model", "part", "in place", "function"])
def test_compiled_networks_count_as_plain_ones(how):
    """torch.compile with the eager back end, which still takes a graph: counts do not depend on it."""
    torch.manual_seed(0)
    x, fc, head = spikes(3, 8), nn.Linear(8, 5), nn.Linear(5, 2)
    plain = neuro.activity(nn.Sequential(fc, nn.ReLU(), head), x, batch_axis=0)
    if how == "part":
        net = nn.Sequential(torch.compile(fc, backend="eager"), nn.ReLU(), head)
    elif how == "function":
        net = nn.Sequential(fc, _Call(torch.compile(lambda x, w: head(x.relu()), backend="eager")))
    else:
        net = nn.Sequential(fc, nn.ReLU(), head)
        net = torch.compile(net, backend="eager") if how == "model" else net
        if how == "in place":
            net.compile(backend="eager")
    net(x)  # compiled now, so that what is counted is what a compiled network would skip
    found = neuro.activity(net, x, batch_axis=0)
    for name in ("dense", "ac", "mac", "outputs"):
        assert found.total(name).tolist() == plain.total(name).tolist() != [0, 0, 0], name


class Early(nn.Module):
    """Stops at the first step at which a class has `enough` spikes."""

    def __init__(self, enough):
        super().__init__()
        self.enough, self.fc, self.lif = enough, Linear(6, 3), neuro.neurons.IF(threshold=0.5)

    def forward(self, x):
        total, state = 0, None
        for t in range(len(x)):
            y, state = neuro.run(self.lif, self.fc(x[t : t + 1]), state)
            total = total + y[0]
            if total.max() >= self.enough:
                break
        return total


def test_only_steps_that_were_executed_are_counted():
    torch.manual_seed(0)
    net, x = Early(2), spikes(20, 4, 6, share=0.3)
    net.fc.weight.data.abs_()
    found, runs = neuro.activity(net, x), []
    for b in range(4):
        total, ran = torch.zeros(3), 0
        while ran < 20 and total.max() < 2:
            ran += 1
            total = net.lif(net.fc(x[:ran, b : b + 1])).sum((0, 1))
        runs.append(ran)
        assert found["lif"].steps[b] == ran < 20 and found["lif"].updates[b] == 3 * ran
        assert found["fc"].ac[b] == 3 * x[:ran, b].count_nonzero() and found["fc"].dense[b] == 18 * ran
    assert found.executed == {n: runs.count(n) / 4 for n in sorted(set(runs))} and len(set(runs)) > 1 and sum(found.executed.values()) == 1
    assert f"Steps run, of 20 given: {min(runs)} in {runs.count(min(runs)) / 4:.1%}, " in repr(found)
    head = neuro.activity(nn.Sequential(net.fc, net.lif, neuro.layers.LastStep(), nn.Unflatten(0, (1, -1)), neuro.neurons.IF()), x)
    assert head.executed == {20: 1.0} and head["4"].steps.tolist() == [1] * 4  # the layer that ran most tells
    whole = neuro.activity(Sequential(net.fc, net.lif), x, torch.tensor([20, 3, 20, 7]))
    assert whole.executed == {3: 0.25, 7: 0.25, 20: 0.5} and "Steps run" not in repr(whole) and neuro.activity(net.fc, x).executed == {}


def test_neurons_of_other_packages_and_of_the_user_are_neurons():
    snntorch = pytest.importorskip("snntorch")

    class Mine(nn.Module):
        def forward(self, x):
            return (x > 0).float(), x

    class Net(nn.Module):
        def __init__(self, neuron):
            super().__init__()
            self.fc, self.neuron = nn.Linear(6, 4), neuron

        def forward(self, x):
            return torch.stack([self.neuron(self.fc(x_t))[0] for x_t in x])

    torch.manual_seed(0)
    x = spikes(5, 2, 6)
    for net, known in ((Net(snntorch.Synaptic(0.5, 0.9, threshold=0.1)), ()), (Net(Mine()), (Mine,))):
        found = neuro.activity(net, x, neurons=known)["neuron"]
        expected = [net(x[:, b : b + 1]).count_nonzero().item() for b in range(2)] if known else found.spikes.tolist()
        assert found.updates.tolist() == [20, 20] and found.steps.tolist() == [5, 5] and found.spikes.tolist() == expected and sum(expected) > 0
    assert "neuron" not in {layer.path for layer in neuro.activity(Net(Mine()), x)}  # unknown: its comparison is elementwise work
    assert any(path == "neuron" for path, _ in neuro.activity(Net(Mine()), x).elementwise)


def test_what_cannot_be_watched_is_refused_or_said():
    for neurons in (nn.ReLU, [nn.ReLU], ("ReLU",)):
        with pytest.raises(ParameterError, match="tuple of classes"):
            neuro.activity(nn.Linear(6, 4), spikes(2, 6), batch_axis=0, neurons=neurons)
    with pytest.raises(ParameterError, match="scripted"), pytest.warns(DeprecationWarning):
        neuro.activity(torch.jit.script(nn.Linear(6, 4)), spikes(2, 6), batch_axis=0)
    solved = neuro.activity(_Call(lambda x, w: torch.linalg.solve(w, x.T)), spikes(2, 8), batch_axis=0)
    assert solved.share_not_counted > 0 and any("solve" in name for _, name in solved.not_counted)


def test_folding_a_norm_changes_only_the_norm():
    torch.manual_seed(0)
    net = Sequential(Conv2d(2, 4, 3), BatchNorm(4), LIF()).eval()
    net[1].running_mean.uniform_(-1, 1)
    x = spikes(4, 2, 2, 8, 8)
    folded = fold_norms(neuro.trace(net, x))
    other = Sequential(Conv2d(2, 4, 3), LIF())
    other[0].weight.data, other[0].bias.data = folded["0"].weight, folded["0"].bias
    torch.testing.assert_close(other[0](x), net[1](net[0](x)))
    assert torch.equal(other(x), net(x)) and net(x).any()
    a, b = neuro.activity(net, x), neuro.activity(other, x)
    assert a.total("ac").tolist() == b.total("ac").tolist() and a.total("spikes").tolist() == b.total("spikes").tolist()
    assert any("batch_norm" in name for _, name in a.elementwise) and not any("batch_norm" in name for _, name in b.elementwise)


def test_counting_leaves_the_model_alone():
    net = nn.Sequential(Linear(6, 5), nn.Dropout(0.5), LIF()).train()
    net[0].eval()
    neuro.activity(net, spikes(3, 2, 6))
    assert [m.training for m in net] == [False, True, True]
    assert not net[0]._forward_hooks and not net[0]._forward_pre_hooks and torch.backends.mha.get_fastpath_enabled()


def test_wrong_lengths_are_refused():
    net, x = Linear(6, 5), spikes(3, 2, 6)
    for lengths in (torch.tensor([1]), torch.tensor([0, 3]), torch.tensor([4, 1]), torch.tensor([1.0, 2.0])):
        with pytest.raises(ShapeError, match="lengths"):
            neuro.activity(net, x, lengths)
    with pytest.raises(ShapeError, match="lengths"):  # without a time axis there is nothing to cut
        neuro.activity(net, x, torch.ones(len(x), dtype=torch.int64), batch_axis=0)
    with pytest.raises(ParameterError, match="batch_axis"):
        neuro.activity(net, x, batch_axis=2)


def test_weights_are_those_that_a_layer_holds():
    net = Sequential(Conv2d(2, 3, 3), LIF(), Linear(4, 5, bias=False))
    found = neuro.activity(net, spikes(2, 3, 2, 6, 6))
    assert {layer.path: layer.weights for layer in found} == {"0": 54, "1": 0, "2": 20}
    for shared, x in ((nn.Linear(6, 6), spikes(2, 6)), (nn.Conv1d(6, 6, 1), spikes(2, 6, 3)), (nn.RNN(6, 6), spikes(2, 4, 6))):
        twice = shared if isinstance(shared, nn.RNN) else nn.Sequential(shared, shared)  # used again and again, held once
        assert {found.weights for found in neuro.activity(twice, x, batch_axis=0)} == {36}


def test_tables():
    found = neuro.activity(Sequential(Linear(6, 5), LIF()), spikes(3, 2, 6))
    for text in (repr(found), found._repr_html_()):
        assert "Linear" in text and "effective" in text and "padding" in text
    frame = found.to_frame()
    assert len(frame) == 4 and frame["ac"].sum() == found.total("ac").sum()


def test_counting_adds_few_operations_to_those_of_the_network():
    """By torch's own counter of multiplications, over everything that runs: the maps are counted by channel sums, not channel by channel."""
    net, x = nn.Conv2d(64, 64, 3, padding=1), spikes(2, 64, 16, 16)
    with FlopCounterMode(display=False) as plain:
        net(x)
    with FlopCounterMode(display=False) as counted:
        neuro.activity(net, x, batch_axis=0)
    assert 1 <= counted.get_total_flops() / plain.get_total_flops() < 1.01


def test_large_counts_are_exact():
    """Odd and above 2^24, so that float32 could not hold them."""
    found = layer(nn.Linear(4099, 4097), torch.ones(1, 4099))
    assert found.ac[0] == found.dense[0] == 4099 * 4097 == np.int64(16_793_603)
    conv = nn.Conv1d(4099, 4097, 1, bias=False)
    assert layer(conv, torch.ones(1, 4099, 1)).ac[0] == 4099 * 4097


def test_importing_what_uses_it_does_not_shadow_the_function():
    import neuro.deploy.energy  # noqa: F401

    assert callable(neuro.activity) and callable(neuro.trace)


def test_branches_and_loops_are_what_was_run():
    """torch.cond's own operator counts the branch that was taken, and only that."""
    net = _Call(lambda x, w: torch.ops.higher_order.cond(x.sum() >= 2, lambda y: y @ w, lambda y: y * 3, (x,)))
    x = torch.tensor([[1.0, 0, 1, 1, 0, 0, 0, 0], [0.0, 1, 0, 0, 0, 0, 0, 0]])
    found = neuro.activity(net, x, batch_axis=0)
    assert found.total("ac").tolist() == [24, 0] and not found.not_counted
    assert found.elementwise["", "mul"].tolist() == [0, 8]
    assert torch.equal(net(x[1:]), 3 * x[1:])


def test_an_unknown_operator_of_higher_order_runs_and_is_said():
    net = _Call(lambda x, w: torch.ops.higher_order.map_impl(lambda a, b: (a @ b,), [x], [w])[0])
    x = spikes(2, 8)[:, None]
    found = neuro.activity(net, x, batch_axis=0)
    assert any("map" in name for _, name in found.not_counted) or found.total("ac").tolist() == (8 * x.count_nonzero((1, 2))).tolist()



@pytest.mark.parametrize("x", [np.ones((3, 2, 4)), [torch.ones(2, 4)], None], ids=["numpy", "list", "none"])
def test_what_is_no_tensor_is_refused(x):
    with pytest.raises(ParameterError, match="the input must be one tensor"):
        neuro.activity(nn.Linear(4, 3), x)
