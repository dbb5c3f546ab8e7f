"""Energy: prices times counts, by hand on small cases; the counts of activity and of the integer twin agree."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

import neuro
from neuro import activity
from neuro.deploy.energy import (
    PROFILES,
    Chip,
    SecondState,
    Work,
    access,
    accesses,
    ann_work,
    break_even_rate,
    compare_energy,
    estimate,
    firing_rate,
    fp32,
    from_activity,
    from_twin,
    int8,
    int8_shared,
    loihi1,
)
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError
from neuro.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, MeanOverTime, MeanOverTokens, Sequential, Tokens
from neuro.neurons import ALIF, CUBALIF, IF, LIF, PLIF, Recurrent
from neuro.reset import subtract
from neuro.surrogate import ATan

STRICT = ATan(2.0, strict=True)


def spikes(*shape, share=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share).float()


def traced_work(net, x, lengths=None):
    graph = neuro.trace(net, x)
    return from_activity(activity(net, x, lengths), graph), graph


class Attention(nn.Module):
    """A net with graded input, a residual sum, an attention product and a head, exact in integers."""

    def __init__(self):
        super().__init__()
        self.conv, self.lif, self.pool, self.tokens = Conv2d(2, 4, 3, padding=1), IF(threshold=2.0, spike=STRICT), MaxPool2d(2), Tokens()
        self.q, self.q_lif = Linear(4, 4), IF(spike=STRICT)
        self.product, self.product_lif = neuro.layers.AttentionProduct(2, 0.125, order="qk_first"), IF(threshold=0.5, spike=STRICT)
        self.mean, self.head, self.end = MeanOverTokens(), Linear(4, 3), MeanOverTime()
        for layer, top in ((self.conv, 127), (self.q, 127), (self.head, 127)):
            layer.weight.data = torch.randint(-60, 128, layer.weight.shape).float() / 64
            layer.weight.data.view(-1)[0] = top / 64
            layer.bias.data.zero_()

    def forward(self, x):
        x = self.tokens(self.pool(self.lif(self.conv(x))))
        q = self.q_lif(self.q(x))
        x = x + self.product_lif(self.product(q, q, q))
        return self.end(self.head(self.mean(x)))


@functools.cache
def attention_net():
    torch.manual_seed(0)
    return Attention(), torch.randint(0, 3, (6, 3, 2, 6, 6), generator=torch.Generator().manual_seed(2)).float()


def test_activity_and_twin_agree():
    net, x = attention_net()
    network, report = quantize(net, x, message_bits=None)
    assert report.changed == 0 and sum(r.spikes for r in report.layers) > 100, report
    ours, _ = traced_work(net, x)
    theirs = from_twin(run_twin(network, x.numpy().astype(int)), network)
    assert [w.name for w in ours] == [w.name for w in theirs] == ["conv", "q", "product", "head"]
    for a, b in zip(ours, theirs, strict=True):
        for name in ("operations", "events", "weights", "neurons", "updates", "spikes", "leaky", "from_input", "inputs", "outputs"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-12), (a.name, name)
    assert ours[0].multiplies == pytest.approx(theirs[0].multiplies, rel=0.1) and ours[0].multiplies > 0
    assert [w.multiplies for w in ours[1:3]] == [w.multiplies for w in theirs[1:3]] == [0, 0]


def test_lengths_count_as_alone_in_all_three():
    net, x = attention_net()
    lengths = torch.tensor([6, 2, 3])
    network, _ = quantize(net, x, message_bits=None)
    ours, graph = traced_work(net, x, lengths)
    theirs = from_twin(run_twin(network, x.numpy().astype(int), lengths.numpy()), network)
    assert [w.operations for w in ours] == [w.operations for w in theirs]
    dense, sparse = ann_work(graph, x, lengths)
    parts = [ann_work(graph, x[:n, b : b + 1]) for b, n in enumerate(lengths.tolist())]
    for i in range(len(dense)):
        assert dense[i].operations == pytest.approx(sum(p[0][i].operations for p in parts) / 3)
        assert sparse[i].operations == pytest.approx(sum(p[1][i].operations for p in parts) / 3)


def test_a_dense_ann_in_fp32_costs_its_macs():
    resnet18 = Work("resnet18", 0.0, 1.82e9, 0.0, 11_000_000, 1.0, 0.0, 0.0, False, False, 1.0, 0.0)
    assert estimate([resnet18], fp32, "dense").part("synapse") == pytest.approx(8372)  # 8.37 mJ, in µJ
    net = Sequential(Conv2d(2, 4, 3), LIF(), Flatten(), Linear(144, 5), MeanOverTime())
    dense, _ = ann_work(neuro.trace(net, torch.zeros(3, 1, 2, 8, 8)), torch.zeros(3, 2, 2, 8, 8))
    macs = 3 * (36 * 4 * 2 * 9 + 144 * 5)
    assert estimate(dense, fp32, "dense").part("synapse") == pytest.approx(4.6e-6 * macs)


def test_spiking_over_ann_is_rate_times_steps_over_five():
    """Operations only: SNN/ANN = 0.9 r T / 4.6 against an ANN that is run once; 1 at r T = 5.11."""
    r, T, dense = 0.25, 12, 1000.0
    snn = Work("fc", r * T * dense, 0.0, r * T * 10, 1000, 100, T * 100, r * T * 100, False, False, 10, T * 100)
    ann = Work("fc", 0.0, dense, 10, 1000, 100, 100, 100, False, False, 10, 100)
    ours, theirs = estimate([snn], fp32), estimate([ann], fp32, "dense")
    assert ours.part("synapse") / theirs.part("synapse") == pytest.approx(0.9 * r * T / 4.6)
    even = break_even_rate([snn], theirs, parts=("synapse",))
    assert even * T == pytest.approx(4.6 / 0.9)


@pytest.mark.parametrize("parts", [("synapse",), ("synapse", "neuron", "addressing", "memory")])
def test_at_the_break_even_rate_both_cost_the_same(parts):
    net, x = attention_net()
    work, graph = traced_work(net, x)
    ann = estimate([replace(w, multiplies=20 * w.multiplies) for w in ann_work(graph, x)[1]], int8, "sparse")
    even = break_even_rate(work, ann, parts)
    factor = even / firing_rate(work)
    scaled = [replace(w, spikes=w.spikes * factor, **({} if w.from_input else {n: getattr(w, n) * factor for n in ("adds", "multiplies", "events")})) for w in work]
    assert sum(estimate(scaled, int8).part(p) for p in parts) == pytest.approx(sum(ann.part(p) for p in parts))
    assert firing_rate(scaled) == pytest.approx(even)
    cheap = estimate([replace(w, adds=0, multiplies=0, events=0, outputs=0, spikes=0) for w in work], int8, "sparse")
    assert break_even_rate(work, cheap) is None


def two_spikes(neuron):
    """conv 1 -> 1, 3x3, padding 1, 4x4 input, one spike in the middle at each of T=2 steps."""
    net = Sequential(Conv2d(1, 1, 3, padding=1, bias=True), neuron)
    net[0].weight.data.fill_(0.25)
    net[0].bias.data.zero_()
    x = torch.zeros(2, 1, 1, 4, 4)
    x[0, 0, 0, 1, 1] = x[1, 0, 0, 2, 2] = 1
    return traced_work(net, x)[0][0]


def test_lemaires_table_by_hand():
    T, outputs, events = 2, 16, 2
    w_if, w_lif = two_spikes(IF()), two_spikes(LIF())
    for w in (w_if, w_lif):
        assert (w.events, w.operations, w.updates, w.neurons, w.weights) == (events, events * 9, T * outputs, outputs, 9)
        assert accesses(w) == {"inputs": events, "weights": events * 9, "biases": T * outputs, "potentials": events * 9 + T * outputs, "outputs": w.spikes}
    a, b = estimate([w_if], int8).layers[0], estimate([w_lif], int8).layers[0]
    assert a.synapse == b.synapse == pytest.approx(18 * 0.1)
    leak = b.neuron - a.neuron - (w_lif.spikes - w_if.spikes) * 0.1
    assert leak == pytest.approx(T * outputs * 0.3)  # LIF adds exactly T*O MACs
    assert a.addressing == pytest.approx(events * 2 * 0.3 + 18 * 0.1)
    word = 10 / 64  # every memory here is below 8 KB
    assert a.memory == pytest.approx(word * (18 * 8 + 32 * 32 + 2 * 50 * 32 + (events + w_if.spikes) * 16))


@pytest.mark.parametrize(
    ("neuron", "macs", "adds", "adds_per_spike"),
    [
        (CUBALIF(0.5, decay=0.5), 2, 2, 1), (CUBALIF(0.5, decay=1.0), 1, 3, 1), (CUBALIF(1.0, decay=1.0), 0, 3, 1),
        (ALIF(decay=0.5), 2, 3, 2), (ALIF(decay=1.0, adapt_decay=1.0), 0, 3, 2),
    ],
)  # fmt: skip
def test_a_second_state_word_by_hand(neuron, macs, adds, adds_per_spike):
    """Both words are read and written at each update; what arrives is added to one of them."""
    neuron.threshold = 0.3
    w = two_spikes(neuron)
    assert w.spikes > 0 and w.updates == 32 and accesses(w)["potentials"] == 18 + 2 * 32
    e, word = estimate([w], int8).layers[0], 10 / 64
    assert e.neuron == pytest.approx(32 * (macs * 0.3 + adds * 0.1) + w.spikes * adds_per_spike * 0.1)
    assert e.memory == pytest.approx(word * (18 * 8 + 32 * 32 + 2 * (18 + 64) * 32 + (2 + w.spikes) * 16))
    large = replace(w, neurons=1e5)  # the memory that holds it is as large as twice as many neurons of one word
    assert estimate([large], int8_shared).layers[0].addressing == e.addressing
    assert access(32, 2e5 * 4) * 2 * 82 < estimate([large], int8_shared).layers[0].memory < access(32, 2e5 * 4) * (2 * 82 + 32 + 18 + 9)


def test_a_second_word_that_never_holds_anything_costs_nothing():
    for plain, other in ((LIF(decay=0.5), CUBALIF(0.0, decay=0.5)), (LIF(decay=0.5, reset=subtract), ALIF(decay=0.5, adapt_step=0.0))):
        assert estimate([two_spikes(plain)], int8) == estimate([two_spikes(other)], int8)


def test_a_recurrent_layer_is_its_neurons_and_its_loop():
    """N=5 neurons, T=7 steps: the loop makes N operations for each spike but those of the last step."""
    torch.manual_seed(0)
    net = Sequential(Linear(6, 5, bias=False), Recurrent(CUBALIF(threshold=0.2), 5), Linear(5, 2), MeanOverTime())
    x = spikes(7, 1, 6, share=0.6)
    fired = net[1](net[0](x)).detach()
    (fc, loop, head), graph = traced_work(net, x)
    assert [w.name for w in (fc, loop, head)] == ["0", "1 (loop)", "2"] and [w.fires for w in (fc, loop, head)] == [True, False, False]
    assert fc.spikes == float(fired.sum()) > float(fired[:-1].sum()) == loop.events > 0 and fc.updates == 35
    assert (loop.operations, loop.weights, loop.updates) == (5 * loop.events, 25, 0)
    e, word = estimate([loop], int8).layers[0], 10 / 64
    assert (e.synapse, e.neuron) == (pytest.approx(5 * loop.events * 0.1), 0)
    assert e.memory == pytest.approx(word * (5 * loop.events * (8 + 2 * 32) + loop.events * 16))
    big = [replace(w, neurons=1e5) for w in (fc, loop)]
    assert estimate(big, int8_shared).layers[0] == estimate([*big[:1], replace(big[1], neurons=0)], int8_shared).layers[0]
    with pytest.raises(GraphError, match="ANN without time"):
        ann_work(graph, x)


def test_activity_and_twin_agree_on_neurons_that_keep_current():
    net = Sequential(Linear(6, 5, bias=False), CUBALIF(0.5, decay=0.5, spike=STRICT), Linear(5, 2, bias=False), MeanOverTime())
    x = spikes(7, 2, 6, share=0.6)
    network = quantize(net, x, message_bits=1)[0]
    ours, theirs = traced_work(net, x)[0], from_twin(run_twin(network, x.numpy().astype(int)), network)
    assert [w.second for w in ours] == [w.second for w in theirs] == [SecondState(True), None]


def test_an_ann_layer_by_hand():
    net = Sequential(Linear(3, 2, bias=False), LIF(), Linear(2, 2, bias=False), MeanOverTime())
    net[0].weight.data = torch.tensor([[1.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    x = torch.tensor([[[2.0, 0.0, 1.0]], [[0.0, 0.0, 3.0]]])  # currents (2, -2), then (0, 0)
    graph = neuro.trace(net, x)
    dense, sparse = ann_work(graph, x)
    assert [w.operations for w in dense] == [12, 8]
    assert [w.operations for w in sparse] == [(2 + 1) * 2, 1 * 2]  # of the second layer one input is above zero
    assert (sparse[0].events, sparse[0].spikes, sparse[1].events) == (3, 1, 1)
    e = estimate(sparse, int8, "sparse").layers[0]
    word = 10 / 64
    assert e.synapse == pytest.approx(6 * 0.3) and e.neuron == pytest.approx(4 * 2 * 0.1)
    assert e.addressing == pytest.approx((3 + 4) * 0.1)  # inputs that are not zero, and outputs
    assert e.memory == pytest.approx(word * (6 * 8 + 6 * 8 + 4 * 32 + 1 * 8))


def test_sparse_never_exceeds_dense_and_zeros_cost_only_updates():
    net, x = attention_net()
    graph = neuro.trace(net, x)
    for d, s in zip(*ann_work(graph, x), strict=True):
        assert 0 <= s.operations <= d.operations and s.events <= d.events and s.spikes <= d.spikes
    silent, _ = traced_work(Sequential(Linear(6, 5), LIF()), torch.zeros(4, 1, 6))
    e = estimate(silent, int8).layers[0]
    assert e.synapse == e.addressing == 0 and e.neuron > 0 and e.memory > 0


def test_energy_is_monotone_in_activity():
    torch.manual_seed(0)
    net = Sequential(Linear(20, 30), LIF())
    totals = [estimate(traced_work(net, spikes(8, 2, 20, share=s))[0], int8).part("synapse") for s in (0.1, 0.3, 0.9)]
    assert totals == sorted(totals) and totals[0] < totals[2]


def test_norms_are_free_once_folded():
    net = Sequential(Conv2d(2, 3, 3), BatchNorm(3), LIF(), Flatten(), Linear(108, 4), MeanOverTime()).eval()
    work, _ = traced_work(net, spikes(3, 2, 2, 8, 8))
    assert [w.name for w in work] == ["0", "4"] and work[0].leaky and not work[1].leaky


def test_memory_prices():
    assert [access(64, kb * 1024) for kb in (1, 8, 32, 1024)] == [10, 10, 20, 100]
    assert access(8, 1024) == 10 / 8
    sizes = [2**k for k in range(10, 26)]
    prices = [access(32, s) for s in sizes]
    assert prices == sorted(prices) and prices[-1] > prices[-3] > access(32, 2**20)
    assert access(64, 181 * 1024) == pytest.approx(100 * (181 / 1024) ** 0.464, rel=1e-3)  # log-log between 32 KB and 1 MB
    net, x = attention_net()
    big = [replace(w, weights=w.weights * 10_000) for w in traced_work(net, x)[0]]
    assert estimate(big, int8_shared).memory > estimate(big, int8).memory


def test_loihi_by_hand():
    w = Work("fc", 100.0, 5.0, 20.0, 200, 10, 40.0, 8.0, True, False, 20, 40.0)
    report = estimate([w], loihi1)
    assert report.total == pytest.approx((23.6 * 105 + 81 * 8 + 52 * 32 + 1.7 * 8) * 1e-6)
    with pytest.raises(ParameterError, match="no figures for an ANN"):
        estimate([w], loihi1, "dense")
    with pytest.raises(ParameterError):
        break_even_rate([w], report)


def test_the_comparison_shows_a_range_and_its_conventions():
    net, x = attention_net()
    work, graph = traced_work(net, x)
    found = compare_energy(work, *ann_work(graph, x))
    low, high = found.range()
    assert 0 < low < high
    for kind, which in (("dense", 1), ("sparse", 2)):
        ratios = [r[0].total / r[which].total for r in found.reports.values() if r[which] is not None]
        assert found.range(kind) == (min(ratios), max(ratios)) and len(ratios) == sum(not isinstance(p, Chip) for p in PROFILES)
    for text in (repr(found), found._repr_html_()):
        for p in PROFILES:
            assert p.name in text and p.source.split(",")[0] in text
        for words in ("break-even", "not a measurement", "ANN sparse"):
            assert words in text
    assert all(isinstance(p, Chip) == (found.reports[p.name][1] is None) for p in PROFILES)
    report = estimate(work, int8)
    assert report.total == pytest.approx(report.compute + report.memory)
    for text in (repr(report), report._repr_html_()):
        assert "addressing" in text and "µJ" in text and "conv" in text


class Shortcut(nn.Module):
    """A neuron behind a sum of spikes, as where the membrane carries the residual: no layer drives it directly."""

    def __init__(self):
        super().__init__()
        self.a, self.a_lif = Linear(6, 4), IF(spike=STRICT)
        self.b, self.b_lif = Linear(4, 4), IF(spike=STRICT)
        self.late, self.head, self.end = IF(threshold=1.0, spike=STRICT), Linear(4, 2), MeanOverTime()

    def forward(self, x):
        y = self.a_lif(self.a(x))
        return self.end(self.head(self.late(y + self.b_lif(self.b(y)))))


def test_neurons_that_no_layer_drives_are_rows_of_their_own():
    torch.manual_seed(0)
    net, x = Shortcut(), spikes(5, 3, 6, share=0.7)
    net.a.weight.data.abs_()
    work, graph = traced_work(net, x)
    network, _ = quantize(net, x, message_bits=1)
    assert [w.name for w in work] == ["a", "b", "late", "head"]
    counted = activity(net, x)
    assert sum(w.spikes for w in work) == pytest.approx(counted.total("spikes").mean()) and work[2].spikes > 0
    assert sum(w.updates for w in work) == counted.total("updates").mean() + 5 * 2  # of the head
    assert work[2].operations == 0 and work[2].updates == 5 * 4
    theirs = from_twin(run_twin(network, x.numpy().astype(int)), network)
    assert [(w.name, w.updates, w.weights, w.leaky, w.fires) for w in theirs] == [(w.name, w.updates, w.weights, w.leaky, w.fires) for w in work]
    dense, sparse = ann_work(graph, x)
    assert [w.name for w in dense] == [w.name for w in sparse] == [w.name for w in work]
    assert dense[2].outputs == work[2].updates and 0 < sparse[2].spikes <= dense[2].spikes
    assert firing_rate(work) == pytest.approx(counted.total("spikes").mean() / (5 * 12))


def test_silent_neurons_without_leak_count_in_the_rate_and_are_named():
    net = Sequential(Linear(4, 3), IF(threshold=0.1), Linear(3, 5), IF(threshold=1e3), Linear(5, 2), MeanOverTime())
    net[0].weight.data.fill_(1.0)
    x = spikes(6, 2, 4, share=0.9)
    work, graph = traced_work(net, x)
    assert work[0].spikes > 0 == work[2].spikes
    assert firing_rate(work) == pytest.approx(work[0].spikes / (6 * (3 + 5)))
    found = compare_energy(work, *ann_work(graph, x))
    assert found.silent == ("2",) and "SILENT" in repr(found)


def test_what_cannot_be_told_apart_is_refused():
    fc, lif = Linear(4, 4), IF()
    x = spikes(3, 1, 4)
    with pytest.raises(GraphError, match="used twice"):
        traced_work(Sequential(fc, lif, fc, IF(), MeanOverTime()), x)
    assert [w.fires for w in traced_work(Sequential(Linear(4, 4), LIF(), Linear(4, 2)), x)[0]] == [True, False]


def test_at_the_break_even_rate_thinned_spikes_cost_what_the_ann_costs(monkeypatch):
    """Every neuron fires at random with one rate; at the rate that was found, the counted energy is the ANN's."""
    torch.manual_seed(0)
    net = Sequential(Linear(60, 80), LIF(), Linear(80, 80), LIF(), Linear(80, 80), LIF(), Linear(80, 5), MeanOverTime())
    x = spikes(40, 2, 60, share=0.2)
    graph = neuro.trace(net, x)

    def counted(rate):
        generator = torch.Generator().manual_seed(0)
        with monkeypatch.context() as patch:
            patch.setattr(LIF, "forward", lambda self, x: (torch.rand(x.shape, generator=generator) < rate).float())
            return from_activity(activity(net, x), graph)

    ann = estimate(ann_work(graph, x)[0], int8, "dense")
    even = break_even_rate(counted(0.05), ann)
    assert 0.05 < even < 1
    assert estimate(counted(even), int8).total == pytest.approx(ann.total, rel=0.02)


@pytest.mark.parametrize("kind", ["soft", "channels", "adapts", "loop", "current"])
def test_every_neuron_of_the_twin_is_priced_as_its_float_one(kind):
    torch.manual_seed(3)
    neuron = {
        "soft": lambda: LIF(tau=2.0, reset=subtract, spike=STRICT),
        "channels": lambda: PLIF(shape=(8,), spike=STRICT),
        "adapts": lambda: ALIF(spike=STRICT),
        "loop": lambda: Recurrent(LIF(spike=STRICT), 8),
        "current": lambda: CUBALIF(spike=STRICT),
    }[kind]()
    net = Sequential(Linear(6, 8), neuron, Linear(8, 3), MeanOverTime())
    with torch.no_grad():
        net[0].weight.abs_().mul_(3)
        net[0].bias.abs_()
    x = spikes(7, 4, 6, share=0.5)
    network, report = quantize(net, x, message_bits=1)
    ours, theirs = traced_work(net, x)[0], from_twin(run_twin(network, x.numpy().astype(int)), network)
    assert len(ours) == len(theirs) == (3 if kind == "loop" else 2) and ours[0].spikes > 10
    for a in ours:
        (b,) = (w for w in theirs if w.name == a.name)
        for name in ("weights", "neurons", "updates", "leaky", "from_input", "inputs", "outputs", "fires", "second"):
            assert getattr(a, name) == getattr(b, name), (a.name, name)
    assert theirs[0].operations == ours[0].operations > 0
    assert sum(w.spikes for w in theirs) == pytest.approx(sum(w.spikes for w in ours), rel=0.2)  # constants are rounded
    if kind == "loop":
        loop = next(w for w in theirs if w.name.endswith("(loop)"))
        assert loop.operations == loop.events * 8 > 0


def test_counts_of_another_network_are_refused():
    """Of the same names: its operations would be priced with these weights."""
    net, x = Sequential(Linear(4, 3), LIF(), Linear(3, 2), MeanOverTime()), torch.ones(3, 2, 4)
    other = Sequential(Linear(4, 5), LIF(), Linear(5, 2), MeanOverTime())
    with pytest.raises(GraphError, match=r"weights are not those whose operations were counted.\n  20 counted, 12 in the graph"):
        from_activity(activity(other, x), neuro.trace(net, x))
