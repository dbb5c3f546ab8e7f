"""Work between layers, on both sides: by hand, and by loops over the values that met."""

import itertools

import pytest
import torch
from torch import nn

import neuro
from neuro.deploy.elementwise import RULE, SIDES, Elementwise, elementwise_work, energy, parts
from neuro.deploy.energy import (
    access,
    ann_once_work,
    ann_work,
    compare_energy,
    compare_on,
    estimate,
    fp32,
    from_activity,
    int8,
    int8_shared,
    loihi1,
    traffic,
    with_activations,
)
from neuro.errors import ParameterError, ShapeError
from neuro.graph import Graph, Input, Scale
from neuro.layers import (
    AttentionProduct,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Delay,
    Flatten,
    Linear,
    MaxPool2d,
    MeanOverTime,
    MeanOverTokens,
    Sequential,
    SumOverTime,
)
from neuro.neurons import IF, LIF, Recurrent


def spikes(*shape, share=0.4, seed=1):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()


class Residual(nn.Module):
    """x [T, B, 3] -> a -> n + m(n) -> head: one residual sum of three elements a step, one mean over time of two classes."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.b, self.m, self.head, self.end = Linear(3, 3, bias=False), IF(), Linear(3, 3, bias=False), IF(), Linear(3, 2, bias=False), MeanOverTime()
        self.a.weight.data = 2 * torch.eye(3)
        self.b.weight.data = torch.tensor([[2.0, 0, 0], [0, 0, 0], [0, 0, 2.0]])
        self.head.weight.data = torch.ones(2, 3)

    def forward(self, x):
        y = self.n(self.a(x))
        return self.end(self.head(y + self.m(self.b(y))))


def of(found, side, kind):
    (one,) = (w for w in found[side] if w.kind == kind)
    return one


def test_a_residual_network_by_hand():
    """Spikes (1,1,0), (1,0,0): n gives the same, m gives its first and third; both are not zero at the first element of each step.

    In the ANN activations are relu of currents (2,2,0), (2,0,0): the same places. The sum over time of two classes adds once each.
    """
    net, x = Residual(), torch.tensor([[[1.0, 1, 0]], [[1.0, 0, 0]]])
    found = elementwise_work(neuro.trace(net, x), x)
    assert tuple(found) == SIDES
    assert [of(found, side, "Add").adds for side in SIDES] == [2, 6, 2, 1]  # once: the means (2,1,0) and their sum with (.,0,.)
    assert [of(found, side, "MeanOverTime").adds for side in SIDES] == [2, 2, 2, 0]
    assert [of(found, side, "MeanOverTime").multiplies for side in SIDES] == [2, 2, 2, 0]
    assert [parts(found[side], int8)[0] * 1e6 for side in SIDES] == pytest.approx([4 * 0.1 + 2 * 0.2, 8 * 0.1 + 2 * 0.2, 4 * 0.1 + 2 * 0.2, 0.1])


def words(work):
    return {w.what: (w.kind, w.words) for w in work.moved}


def test_the_memory_of_a_residual_network_by_hand():
    """n gives three spikes and m two, their sum has three values that are not zero; the head's two classes are never zero."""
    net, x = Residual(), torch.tensor([[[1.0, 1, 0]], [[1.0, 0, 0]]])
    found = elementwise_work(neuro.trace(net, x), x)
    joins = {"snn": ("event", 3 + 2, 3), "dense": ("activation", 12, 6), "sparse": ("activation", 3 + 2, 3), "once": ("activation", 2 + 1, 2)}
    for side, (kind, read, written) in joins.items():
        assert words(of(found, side, "Add")) == {"operands read": (kind, read), "results written": (kind, written)}
    for side, kind in (("snn", "state"), ("dense", "activation"), ("sparse", "activation")):  # 4 currents, 2 of them added to a sum, 2 sums scaled
        assert words(of(found, side, "MeanOverTime")) == {"operands read": (kind, 4), "sums over time read": ("state", 2 + 2), "sums over time written": ("state", 4 + 2)}
    assert not of(found, "once", "MeanOverTime").moved
    word = 10 / 64  # every memory here is below 8 KB
    expected = [word * (8 * 16 + 14 * 32), word * (18 * 8 + 4 * 8 + 10 * 32), word * (8 * 8 + 4 * 8 + 10 * 32), word * 5 * 8]
    assert [parts(found[side], int8)[1] * 1e6 for side in SIDES] == pytest.approx(expected)
    assert [parts(found[side], fp32)[1] * 1e6 for side in SIDES[1:3]] == pytest.approx([word * 32 * 32, word * 22 * 32])
    assert all(energy(found[side], int8) == sum(parts(found[side], int8)) for side in SIDES)


def test_memories_are_as_large_as_what_they_hold_or_as_the_network():
    net, x = Residual(), spikes(4, 2, 3, share=0.8)
    found = elementwise_work(neuro.trace(net, x), x)
    mean = of(found, "dense", "MeanOverTime")
    assert [(t.what, t.bits, t.size) for t in mean.traffic(int8)] == [("operands read", 8, 2), ("sums over time read", 32, 8), ("sums over time written", 32, 8)]
    assert {t.size for t in mean.traffic(int8_shared, 1e6)} == {1e6}
    assert {t.size for t in of(found, "snn", "Add").traffic(int8)} == {0.0}  # events are sent, not kept
    assert mean.memory(int8_shared, 1e6) == pytest.approx(sum(w.words * access({"activation": 8, "state": 32}[w.kind], 1e6) for w in mean.moved))


def loops(x, kernel, stride, padding):
    """Over the windows of n values that are not zero: n - 1, and over all values; then n, likewise, by loops; x [T, C, H, W]."""
    met = every = read = all_read = 0
    (H, W), given = x.shape[2:], x.tolist()
    rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (H, W))
    for t, c, y, z in itertools.product(range(len(x)), range(x.shape[1]), range(rows), range(columns)):
        inside = [given[t][c][a][b] for a, b in itertools.product(range(y * stride - padding, y * stride - padding + kernel), range(z * stride - padding, z * stride - padding + kernel))
                  if 0 <= a < H and 0 <= b < W]  # fmt: skip
        met += max(sum(v != 0 for v in inside) - 1, 0)
        every += len(inside) - 1
        read += sum(v != 0 for v in inside)
        all_read += len(inside)
    return met, every, read, all_read


@pytest.mark.parametrize(("pool", "what"), [(MaxPool2d(3, 2, 1), "comparisons"), (AvgPool2d(2), "adds")], ids=["max", "mean"])
def test_pools_equal_loops(pool, what):
    torch.manual_seed(0)
    net = Sequential(Conv2d(2, 3, 3, padding=1), LIF(threshold=0.2), pool, Flatten(), Linear(27, 2), MeanOverTime())
    x = spikes(4, 2, 2, 6, 6)
    graph = neuro.trace(net, x)
    found = elementwise_work(graph, x)
    how = (3, 2, 1) if what == "comparisons" else (2, 2, 0)
    values, name = graph.values(x), graph.nodes[2].name
    fired, currents = values[name], values[graph.nodes[1].name].relu()
    kind = graph.nodes[3].kind
    (snn, _, read, all_read), (ann, _, ann_read, _) = (tuple(sum(loops(v[:, b], *how)[i] for b in range(2)) / 2 for i in range(4)) for v in (fired, currents))
    assert getattr(of(found, "snn", kind), what) == snn > 0
    assert getattr(of(found, "sparse", kind), what) == ann > snn
    assert getattr(of(found, "dense", kind), what) == loops(fired[:, 0], *how)[1]
    outputs = values[graph.nodes[3].name]
    assert of(found, "snn", kind).multiplies == (0 if what == "comparisons" else float(outputs.count_nonzero()) / 2)
    written = float(outputs.count_nonzero()) / 2
    assert words(of(found, "snn", kind)) == {"operands read": ("event", read), "results written": ("event", written)} and read > snn
    priced = of(found, "snn", kind)
    assert priced.arithmetic(int8) == pytest.approx(0.1 * snn + 0.2 * priced.multiplies) and priced.arithmetic(fp32) == pytest.approx(0.9 * snn + 3.7 * priced.multiplies)
    assert words(of(found, "sparse", kind))["operands read"] == ("activation", ann_read)
    assert words(of(found, "dense", kind)) == {"operands read": ("activation", all_read), "results written": ("activation", outputs[:, 0].numel())}


def test_a_maximum_over_negative_values_is_one_over_all():
    """A zero is then no smaller than the others: the pool of currents compares every value of a window, and reads it."""
    net = Sequential(Conv2d(1, 1, 1), MaxPool2d(2), LIF())
    net[0].weight.data.fill_(-1.0)
    net[0].bias.data.zero_()
    x = spikes(3, 1, 1, 4, 4)
    found = of(elementwise_work(neuro.trace(net, x), x), "snn", "MaxPool2d")
    least = int((x.view(3, 2, 2, 2, 2).transpose(2, 3).flatten(3).sum(3) == 4).sum())  # windows without a zero
    assert found.comparisons == 3 * 4 * 3 > x.sum()
    assert words(found) == {"operands read": ("state", 3 * 16)} | ({"results written": ("state", least)} if least else {})


def test_recordings_count_as_alone():
    net, x, lengths = Residual(), spikes(5, 3, 3, share=0.7), torch.tensor([5, 2, 3])
    graph = neuro.trace(net, x)
    found = elementwise_work(graph, x, lengths)
    alone = [elementwise_work(graph, x[:n, b : b + 1]) for b, n in enumerate(lengths.tolist())]
    for side in ("snn", "dense", "sparse"):
        for kind in ("Add", "MeanOverTime"):
            for name in ("adds", "multiplies"):
                assert getattr(of(found, side, kind), name) == pytest.approx(sum(getattr(of(a, side, kind), name) for a in alone) / 3)
            for what, (_, n) in words(of(found, side, kind)).items():
                assert n == pytest.approx(sum(words(of(a, side, kind)).get(what, ("", 0))[1] for a in alone) / 3)


def test_a_norm_that_no_layer_takes_in_is_work_on_both_sides_and_others_are_none():
    inside = Sequential(Conv2d(2, 3, 3), BatchNorm(3), LIF(), Flatten(), Linear(48, 2), MeanOverTime()).eval()
    x = spikes(3, 1, 2, 6, 6)
    assert {w.kind for w in elementwise_work(neuro.trace(inside, x), x)["snn"]} == {"MeanOverTime"}
    first = Sequential(BatchNorm(2), LIF(), Flatten(), Linear(72, 2), MeanOverTime()).eval()
    first[0].running_mean.fill_(0.3)
    found = elementwise_work(neuro.trace(first, x), x)
    for side, steps in (("snn", 3), ("dense", 3), ("sparse", 3), ("once", 1)):
        norm = found[side][0]
        assert norm.kind in ("BatchNorm", "Affine") and norm.adds == steps * 72 and norm.understood
    assert (found["snn"][0].multiplies, found["dense"][0].multiplies) == (float(x.count_nonzero()), 3 * 72)
    n = float(x.count_nonzero())  # of the recording; what is shifted is nowhere zero, and no spike any more
    assert words(found["snn"][0]) == {"operands read": ("event", n), "results written": ("state", 216), "scales read": ("weight", n), "shifts read": ("state", 216)}
    assert [w.held for w in found["snn"][0].moved] == [72, 72, 2, 2]


def test_delays_are_a_line_that_is_written_and_read():
    """Two steps late: what comes in the last two steps is written and not read. An ANN of means over time has none, and loses nothing by it."""
    torch.manual_seed(0)
    net = Sequential(Linear(6, 5), IF(threshold=0.1), Delay(2), Linear(5, 4), IF(), Linear(4, 2), MeanOverTime())
    net[0].weight.data.abs_()
    x = spikes(6, 1, 6)
    graph = neuro.trace(net, x)
    found, fired = elementwise_work(graph, x), net[1](net[0](x))
    line = of(found, "snn", "Delay")
    assert words(line) == {"operands read": ("event", fired[:4].sum()), "results written": ("event", fired.sum())} and fired[4:].sum() > 0
    assert (line.adds, line.multiplies, line.comparisons) == (0, 0, 0) and [w.held for w in line.moved] == [10, 10]
    assert words(of(found, "dense", "Delay")) == {"operands read": ("activation", 30), "results written": ("activation", 30)}
    assert not [w for w in found["once"] if w.kind == "Delay"]
    late, plain = (ann_once_work(neuro.trace(n, x), x)[0] for n in (net, Sequential(*net[:2], *net[3:])))
    assert [w.operations for w in late][:2] == [w.operations for w in plain][:2] and late[1].operations > 0


def test_scales_and_attention():
    """A scale of channels is read for every use, one number is not, a scale of 1 is nothing; attention's own is in no memory."""
    x = spikes(3, 1, 4)
    for scale, expected in ((torch.tensor([1.0, 2, 3, 4]), {"scales read": ("weight", float(x.sum()))}), (torch.tensor(0.5), {}), (torch.tensor(1.0), None)):
        graph = Graph([Input("x", (), (4,)), Scale("s", ("x",), scale)])
        (work,) = elementwise_work(graph, x)["snn"]
        assert work.multiplies == (0 if expected is None else x.sum())
        assert words(work) == ({} if expected is None else {"operands read": ("event", x.sum()), "results written": ("event", x.sum())} | expected)

    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.product, self.lif, self.mean, self.end = AttentionProduct(1, 0.125), IF(threshold=0.1), MeanOverTokens(), SumOverTime()

        def forward(self, x):
            return self.end(self.mean(self.lif(self.product(x, x, x))))

    x = spikes(3, 1, 4, 4)
    net = Attends()
    found = elementwise_work(neuro.trace(net, x), x)
    product, mean, total = found["snn"]
    assert product.multiplies == net.product(x, x, x).count_nonzero() > 0 and not product.moved
    fired = net.lif(net.product(x, x, x))
    reached = fired.sum(2).count_nonzero()
    assert words(mean) == {"operands read": ("event", fired.sum()), "results written": ("event", reached)} and mean.multiplies == reached
    sums = sum(max(int((fired.sum(2)[:, 0, c] != 0).sum()) - 1, 0) for c in range(4))
    assert words(total) == {"operands read": ("event", reached)} | ({"sums over time read": ("state", sums)} if sums else {}) | {"sums over time written": ("state", reached)}
    assert (total.adds, total.multiplies) == (sums, 0)


def test_values_are_events_only_where_all_of_them_are_spikes():
    """A sum of currents, as where the membrane carries the residual, is no event; a sum of spikes, pooled and flattened, is."""

    class Membranes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.lif, self.head = Linear(4, 4), Linear(4, 4), IF(), Linear(4, 2)

        def forward(self, x):
            return self.head(self.lif(self.a(x) + self.b(x)) + x)

    x = spikes(3, 2, 4)
    currents, sums = (w for w in elementwise_work(neuro.trace(Membranes(), x), x)["snn"] if w.kind == "Add")
    assert {k for k, _ in words(currents).values()} == {"state"} and words(currents)["operands read"][1] == 2 * 12
    assert {k for k, _ in words(sums).values()} == {"event"}


def test_a_recurrent_network_has_one_side():
    net, x = Sequential(Linear(4, 3), Recurrent(LIF(), 3), Linear(3, 2), MeanOverTime()), spikes(5, 1, 4)
    assert list(elementwise_work(neuro.trace(net, x), x)) == ["snn"]


def test_the_comparison_states_it_apart_and_leaves_the_rows_as_they_were():
    net, x = Residual(), spikes(4, 2, 3, share=0.8)
    graph = neuro.trace(net, x)
    work, anns, once = from_activity(neuro.activity(net, x), graph), ann_work(graph, x), ann_once_work(graph, x)
    found = elementwise_work(graph, x)
    plain, whole = compare_energy(work, *anns, once=once), compare_energy(work, *anns, once=once, elementwise=found)
    assert plain.rows() == whole.rows() and "Elementwise, " not in repr(plain)
    snn, dense = estimate(work, int8).total + energy(found["snn"], int8), estimate(anns[0], int8, "dense").total + energy(found["dense"], int8)
    (line,) = (n for n in whole.notes() if n.startswith("Elementwise, int8_45nm:"))
    assert f"SNN/dense {snn / dense:.3f}" in line and "SNN/once" in line and all(r in repr(whole) for r in RULE)
    assert whole.whole("int8_45nm")["snn"] == pytest.approx(snn) and whole.whole("int8_45nm")["dense"] == pytest.approx(dense)
    matched = with_activations(int8, once[1])
    assert whole.whole("int8_45nm")["once"] == pytest.approx(estimate(once[0], matched, "sparse").total + energy(found["once"], matched))
    shared = sum(w.weights + 4 * w.neurons for w in work)  # bytes of the network's one memory
    assert whole.between["int8_45nm_shared"]["snn"] == parts(found["snn"], int8_shared, shared)
    assert plain.whole("int8_45nm") == whole.whole("loihi1") == {} and "was not given" in repr(plain) and "was not given" not in repr(whole)
    assert repr(compare_on(work, graph, x)) == repr(whole)
    odd = {side: [*w, Elementwise("strange", "Softmax", understood=False, elements=12)] for side, w in found.items()}
    assert "NOT COUNTED: Softmax strange, 12 elements" in repr(compare_energy(work, *anns, elementwise=odd))


def test_where_memory_is_shared_it_is_that_of_the_side():
    """13 000 weights of a byte; 205 states of four bytes in the spiking network, as many activations in an ANN."""
    torch.manual_seed(0)
    net, x = Sequential(Linear(60, 200), IF(), Linear(200, 5), MeanOverTime()), spikes(6, 2, 60)
    graph = neuro.trace(net, x)
    found = compare_on(from_activity(neuro.activity(net, x), graph), graph, x)
    for side, size in (("snn", 13_000 + 205 * 4), ("dense", 13_000 + 205), ("sparse", 13_000 + 205), ("once", 13_000 + 205 * 3 / 8)):
        profile = with_activations(int8_shared, 3) if side == "once" else int8_shared
        (mean,) = found.elementwise[side]
        memory = sum(w.words * access(getattr(profile, f"{w.kind}_bits"), size) for w in mean.moved)
        assert found.between["int8_45nm_shared"][side][1] == pytest.approx(memory * 1e-6) and (memory > mean.memory(profile) or side == "once")
        if side in ("dense", "sparse"):
            rows = ann_work(graph, x)[side == "sparse"]
            assert {t.size for t in traffic(rows, profile, side)} == {size}  # the layers pay for the same memory


def test_recordings_of_other_lengths_reach_every_opponent():
    net, x, lengths = Residual(), spikes(5, 3, 3, share=0.7), torch.tensor([5, 2, 3])
    graph = neuro.trace(net, x)
    work = from_activity(neuro.activity(net, x, lengths), graph)
    found = compare_on(work, graph, x, lengths)
    assert found.elementwise == elementwise_work(graph, x, lengths) != elementwise_work(graph, x)
    assert found.reports["int8_45nm"][2] == estimate(ann_work(graph, x, lengths)[1], int8, "sparse")
    assert found.once["int8_45nm"][0].profile.activation_bits == 3


def test_a_recurrent_network_stands_alone():
    net, x = Sequential(Linear(4, 3), Recurrent(LIF(threshold=0.2), 3), Linear(3, 2), MeanOverTime()), spikes(5, 2, 4)
    graph = neuro.trace(net, x)
    work = from_activity(neuro.activity(net, x), graph)
    found = compare_on(work, graph, x)
    between = elementwise_work(graph, x)["snn"]
    assert all(r == (estimate(work, r[0].profile), None, None, None, None) for r in found.reports.values()) and not found.once
    assert found.whole("int8_45nm") == {"snn": pytest.approx(estimate(work, int8).total + energy(between, int8))}
    for text in (repr(found), found._repr_html_()):
        assert "NO ANN beside it" in text and "Elementwise, fp32_45nm: snn" in text and "with it" not in text.split("Elementwise, fp32_45nm")[1][:90]
    with pytest.raises(ParameterError, match="no ANN to compare"):
        found.range()
    with pytest.raises(ParameterError, match="loihi1 has no prices"):
        parts(between, loihi1)


@pytest.mark.parametrize("lengths", [[1], [0, 3], [4, 1], [1.0, 2.0], [True, True], [[1, 2]]], ids=str)
def test_lengths_that_do_not_fit_and_no_recordings_are_refused(lengths):
    net, x = Residual(), spikes(3, 2, 3)
    graph = neuro.trace(net, x)
    for asked in (ann_work, ann_once_work, elementwise_work):
        with pytest.raises(ShapeError, match="lengths do not fit"):
            asked(graph, x, torch.tensor(lengths))
        for none in (x[:0], x[:, :0]):
            with pytest.raises(ShapeError, match="no recordings"):
                asked(graph, none)
