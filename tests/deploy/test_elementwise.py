"""Work between layers, on both sides: by hand, and by loops over the values that met."""

import itertools

import pytest
import torch
from torch import nn

import neuro
from neuro.deploy.elementwise import SIDES, Elementwise, elementwise_work, energy
from neuro.deploy.energy import ann_once_work, ann_work, compare_energy, estimate, from_activity, int8
from neuro.layers import AvgPool2d, BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, MeanOverTime, Sequential
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
    assert [energy(found[side], int8) * 1e6 for side in SIDES] == pytest.approx([4 * 0.1 + 2 * 0.2, 8 * 0.1 + 2 * 0.2, 4 * 0.1 + 2 * 0.2, 0.1])


def loops(x, kernel, stride, padding):
    """n - 1 over the windows of n values that are not zero, and n - 1 over all, by loops; x [T, C, H, W]."""
    met = every = 0
    (H, W), given = x.shape[2:], x.tolist()
    rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (H, W))
    for t, c, y, z in itertools.product(range(len(x)), range(x.shape[1]), range(rows), range(columns)):
        inside = [given[t][c][a][b] for a, b in itertools.product(range(y * stride - padding, y * stride - padding + kernel), range(z * stride - padding, z * stride - padding + kernel))
                  if 0 <= a < H and 0 <= b < W]  # fmt: skip
        met += max(sum(v != 0 for v in inside) - 1, 0)
        every += len(inside) - 1
    return met, every


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
    snn, ann = (sum(loops(v[:, b], *how)[0] for b in range(2)) / 2 for v in (fired, currents))
    assert getattr(of(found, "snn", kind), what) == snn > 0
    assert getattr(of(found, "sparse", kind), what) == ann > snn
    assert getattr(of(found, "dense", kind), what) == loops(fired[:, 0], *how)[1]
    outputs = values[graph.nodes[3].name]
    assert of(found, "snn", kind).multiplies == (0 if what == "comparisons" else float(outputs.count_nonzero()) / 2)


def test_recordings_count_as_alone():
    net, x, lengths = Residual(), spikes(5, 3, 3, share=0.7), torch.tensor([5, 2, 3])
    graph = neuro.trace(net, x)
    found = elementwise_work(graph, x, lengths)
    alone = [elementwise_work(graph, x[:n, b : b + 1]) for b, n in enumerate(lengths.tolist())]
    for side in ("snn", "dense", "sparse"):
        for kind in ("Add", "MeanOverTime"):
            for name in ("adds", "multiplies"):
                assert getattr(of(found, side, kind), name) == pytest.approx(sum(getattr(of(a, side, kind), name) for a in alone) / 3)


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


def test_a_recurrent_network_has_one_side():
    net, x = Sequential(Linear(4, 3), Recurrent(LIF(), 3), Linear(3, 2), MeanOverTime()), spikes(5, 1, 4)
    assert list(elementwise_work(neuro.trace(net, x), x)) == ["snn"]


def test_the_comparison_states_it_apart_and_leaves_the_rows_as_they_were():
    net, x = Residual(), spikes(4, 2, 3, share=0.8)
    graph = neuro.trace(net, x)
    work, anns, once = from_activity(neuro.activity(net, x), graph), ann_work(graph, x), ann_once_work(graph, x)
    found = elementwise_work(graph, x)
    plain, whole = compare_energy(work, *anns, once=once), compare_energy(work, *anns, once=once, elementwise=found)
    assert plain.rows() == whole.rows() and "Elementwise" not in repr(plain)
    snn, dense = estimate(work, int8).total + energy(found["snn"], int8), estimate(anns[0], int8, "dense").total + energy(found["dense"], int8)
    (line,) = (n for n in whole.notes() if n.startswith("Elementwise, int8_45nm:"))
    assert f"SNN/dense {snn / dense:.3f}" in line and "SNN/once" in line and "by one rule" in repr(whole)
    odd = {side: [*w, Elementwise("strange", "Softmax", understood=False, elements=12)] for side, w in found.items()}
    assert "NOT COUNTED: Softmax strange, 12 elements" in repr(compare_energy(work, *anns, elementwise=odd))
