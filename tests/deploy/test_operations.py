"""Energy of operations alone: any network, by counted values and by the convention of papers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import neuro
from neuro.deploy.energy import (
    ann_once_work,
    ann_work,
    break_even_rate,
    compare_energy,
    estimate,
    from_activity,
    int8,
    int8_shared,
    loihi1,
    spinnaker2,
    traffic,
    with_activations,
)
from neuro.deploy.operations import operations_energy, sop_convention
from neuro.deploy.profiles import fp32
from neuro.deploy.work import Work
from neuro.errors import ParameterError
from neuro.layers import Conv2d, Flatten, Linear, MeanOverTime, Sequential
from neuro.neurons import IF, LIF


def spikes(*shape, share=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share).float()


class Functional(nn.Module):
    """No layer that could be traced: functional calls, attention, a norm, softmax and a product of elements."""

    def __init__(self):
        super().__init__()
        self.w, self.norm = nn.Parameter(torch.rand(8, 8)), nn.LayerNorm(8)

    def forward(self, x):
        q = F.linear(x, self.w)
        return torch.fft.fft(F.scaled_dot_product_attention(q, x, x) * x + self.norm(x)).real


def test_any_network_is_priced_and_what_is_not_is_named():
    x = spikes(2, 4, 8)
    net = Functional()
    found = operations_energy(neuro.activity(net, x, batch_axis=0))
    q = (F.linear(x, net.w) != 0).float()
    acs = (8 * x.sum() + (q @ x.mT).sum()) / 2  # F.linear; q k^T, where k is 0 or 1
    after = sum(4 * x[b].sum() for b in range(2)) / 2  # softmax has no zeros
    products = found.layers[""][0]
    assert products == pytest.approx(float(acs + after) * 0.9)
    assert found.layers["norm"] == (0.0, 0.0, pytest.approx(32 * (4 * 0.9 + 3 * 3.7)))
    assert found.layers[""][2] >= 32 * 3.7  # the product of elements
    assert any("softmax" in name for name in found.unpriced) and any("fft" in name for name in found.unpriced) and 0 < found.coverage < 1
    for text in (repr(found), found._repr_html_()):
        assert "NOT PRICED" in text and "lower bound" in text and "Understood" in text and "Horowitz" in text


def test_a_layer_by_hand():
    net = Sequential(Linear(3, 2), LIF())
    x = torch.tensor([[[1.0, 0.0, 2.0]], [[0.0, 0.5, -1.0]]])
    found = operations_energy(neuro.activity(net, x), int8)
    assert found.layers["0"] == (pytest.approx(2 * 2 * 0.1 + 2 * 2 * 0.3 + 4 * 0.1), 0.0, 0.0)
    assert found.layers["1"] == (0.0, pytest.approx(4 * (2 * 0.1 + 0.2)), 0.0) and found.coverage == 1.0
    assert found.total == pytest.approx(1e-6 * (found.layers["0"][0] + found.layers["1"][1]))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_convention_is_rate_times_dense(share):
    T, net = 5, Sequential(Conv2d(2, 4, 3, padding=1), LIF(), Flatten(), Linear(144, 5))
    net[0].weight.data.abs_()
    x = spikes(T, 1, 2, 6, 6, share=share)
    activity = neuro.activity(net, x)
    found = sop_convention(activity)
    rate_in, rate_mid = float(x.mean()), activity["1"].spikes[0] / (T * 144)
    assert found.layers["0"][0] == pytest.approx(0.9 * rate_in * T * 36 * 4 * 18)
    assert found.layers["3"][0] == pytest.approx(0.9 * rate_mid * T * 144 * 5)
    exact = operations_energy(activity)
    assert found.layers["0"][0] >= 0.9 * activity["0"].effective[0] and (share == 0 or exact.layers["0"][0] > 0)  # taps on padding, too


def test_analog_input_and_residual_sums():
    T, x = 4, torch.rand(4, 1, 6) + 0.1
    net = Sequential(Linear(6, 5), LIF())
    once, every = (sop_convention(neuro.activity(net, x), first=f).layers["0"][0] for f in ("once", "every step"))
    assert every == pytest.approx(T * once) == pytest.approx(4.6 * T * 30)
    sums = neuro.activity(net, 2.0 * spikes(T, 1, 6))
    rate = float(spikes(T, 1, 6).mean())
    assert sop_convention(sums, integers="ac").layers["0"][0] == pytest.approx(0.9 * rate * T * 30)
    assert sop_convention(sums, integers="mac", first="every step").layers["0"][0] == pytest.approx(4.6 * T * 30)


def test_only_the_first_layer_may_be_charged_once():
    T, x = 4, torch.rand(4, 1, 6) + 0.1
    found = sop_convention(neuro.activity(nn.Sequential(Linear(6, 5), Linear(5, 2)), x))
    assert found.layers["0"][0] == pytest.approx(4.6 * 30) and found.layers["1"][0] == pytest.approx(4.6 * T * 10)


def test_a_product_of_elements_is_one_multiplication_and_a_sum_one_addition():
    class Both(nn.Module):
        def forward(self, x):
            return x * x + x

    assert operations_energy(neuro.activity(Both(), spikes(2, 8), batch_axis=0)).layers[""] == (0.0, 0.0, pytest.approx(8 * (3.7 + 0.9)))


def test_a_rate_that_breaks_even_with_a_dense_ann():
    """At r T = 4.6 / 0.9 the convention's spiking layer costs what the ANN's dense one does."""
    T = 46
    x = torch.zeros(T, 1, 90)
    x[:, 0, :10] = 1.0  # r = 1/9, r T = 5.11
    found = sop_convention(neuro.activity(nn.Linear(90, 7), x))
    assert found.total == pytest.approx(4.6e-6 * 90 * 7)


@pytest.mark.parametrize("how", [{"first": "never"}, {"integers": "real"}])
def test_wrong_choices_are_refused(how):
    activity = neuro.activity(Linear(3, 2), torch.ones(1, 1, 3))
    with pytest.raises(ParameterError, match="no such choice"):
        sop_convention(activity, **how)
    for price in (operations_energy, sop_convention):
        with pytest.raises(ParameterError, match="chip"):
            price(activity, loihi1)


def test_spinnaker2_by_hand():
    w = Work("fc", 100.0, 5.0, 20.0, 200, 10, 40.0, 8.0, True, False, 20, 40.0)
    assert estimate([w], spinnaker2).total == pytest.approx((450 * 105 + 2190 * 40) * 1e-6)


def test_the_ann_that_is_run_once_has_matched_bits():
    """T=6: three bits, seven values; currents of a layer with weights 1, 0.5 and 0.05 have means 0.5, 0.25 and 0.025."""
    net = Sequential(Linear(1, 3, bias=False), LIF(), Linear(3, 2, bias=False), MeanOverTime())
    net[0].weight.data = torch.tensor([[1.0], [0.5], [0.05]])
    x = torch.tensor([1.0, 0, 1, 0, 1, 0])[:, None, None]
    work, bits = ann_once_work(neuro.trace(net, x), x)
    assert bits == 3 and [w.operations for w in work] == [3, 2 * 2]  # the third rounds to zero of six levels
    assert (work[0].events, work[0].outputs, work[0].spikes) == (1, 3, 3)
    assert [ann_once_work(neuro.trace(net, x), x[:t])[1] for t in (1, 2, 3, 4)] == [1, 2, 2, 3]
    each = ann_work(neuro.trace(net, x), x)[1]
    assert each[0].operations == 9 and each[1].operations == 9 * 2
    e = estimate(work, with_activations(int8, 3), "sparse").layers[0]
    assert e.synapse == pytest.approx(3 * (0.1 + 0.2 * 3 / 8))


def test_the_comparison_prints_the_opponent_that_is_run_once():
    torch.manual_seed(0)
    net = Sequential(Linear(20, 30), IF(), Linear(30, 5), MeanOverTime())
    x = spikes(8, 3, 20)
    graph = neuro.trace(net, x)
    work = from_activity(neuro.activity(net, x), graph)
    found = compare_energy(work, *ann_work(graph, x), once=ann_once_work(graph, x))
    assert "int8_45nm_a4" in repr(found) and "matched bits" in repr(found) and set(found.once) == {"int8_45nm", "int8_45nm_shared", "int8_45nm_narrow", "fp32_45nm"}
    assert all(0 < ann.total < found.reports[name][2].total for name, (ann, _) in found.once.items())
    for bits in (0, 9):
        with pytest.raises(ParameterError, match="1 to 8 bits"):
            with_activations(int8, bits)
    assert with_activations(fp32, 4).mul == fp32.mul


def test_against_the_ann_that_is_run_once_each_is_priced_in_its_own_profile():
    snn = [Work("fc", 3000.0, 0.0, 30.0, 1000, 100, 200.0, 40.0, False, False, 10, 200.0)]
    ann = [Work("fc", 0.0, 20_000.0, 50.0, 1000, 100, 100.0, 80.0, False, False, 10, 100.0)]
    matched, even = compare_energy(snn, ann, ann, once=(ann, 2)).once["int8_45nm"]
    assert matched == estimate(ann, with_activations(int8, 2), "sparse") and matched.profile.mul == pytest.approx(0.2 * 2 / 8)
    assert even == break_even_rate(snn, matched, profile=int8) > 0 and even != break_even_rate(snn, matched)


def test_traffic_by_hand_and_its_sum_is_the_memory():
    net = Sequential(Conv2d(2, 3, 3, padding=1), LIF(), Flatten(), Linear(108, 4), MeanOverTime())
    x = spikes(5, 2, 2, 6, 6)
    graph = neuro.trace(net, x)
    work = from_activity(neuro.activity(net, x), graph)
    dense, sparse = ann_work(graph, x)
    for profile in (int8, int8_shared, fp32):
        for rows, kind in ((work, "snn"), (dense, "dense"), (sparse, "sparse")):
            moved = traffic(rows, profile, kind)
            assert sum(t.energy for t in moved) * 1e-6 == pytest.approx(estimate(rows, profile, kind).memory)
            assert {t.layer for t in moved} == {w.name for w in rows}
    first = {t.what: t for t in traffic(work, int8)[:6]}
    assert (first["weights read"].words, first["weights read"].bits, first["weights read"].size) == (work[0].operations, 8, 54)
    assert first["states read"].words == first["states written"].words == work[0].operations + 5 * 108 and first["states read"].size == 108 * 4
    assert (first["events read"].words, first["events read"].bits) == (x.sum() / 2, 16) and first["spikes written"].words == work[0].spikes
    assert {t.size for t in traffic(work, int8_shared)} == {54 + 432 + 112 * 4}  # the readout holds four states
    product = [Work("product", 9.0, 0.0, 3.0, 0, 5000.0, 5000.0, 1.0, True, False, 10_000, 5000.0)]  # of two activations: they lie where states or inputs do
    assert traffic(product, int8)[0].size == 20_000 and [t.size for t in traffic(product, int8, "sparse")] == [10_000, 10_000, 0, 5000]
    with pytest.raises(ParameterError, match="include its memory"):
        traffic(work, loihi1)


class Early(nn.Module):
    """Stops at the first step in which the neuron has fired as often as asked."""

    def __init__(self, enough):
        super().__init__()
        self.enough, self.fc, self.lif = enough, Linear(6, 3), IF(threshold=0.5)

    def forward(self, x):
        total, state = 0, None
        for x_t in x.split(1):
            y, state = neuro.run(self.lif, self.fc(x_t), state)
            total = total + y.sum()
            if total >= self.enough:
                break
        return total


def test_a_network_that_stops_early_pays_for_the_steps_that_it_ran():
    torch.manual_seed(0)
    net, x = Early(4), spikes(20, 4, 6, share=0.5)
    net.fc.weight.data.abs_()
    activity = neuro.activity(net, x)
    ran = activity["lif"].steps
    fired = [net.lif(net.fc(x[:, b : b + 1])).sum((1, 2)).cumsum(0) for b in range(4)]
    assert ran.tolist() == [int((f >= 4).nonzero()[0]) + 1 for f in fired] and 1 < ran.min() < ran.max() < 20
    assert activity.steps.tolist() == [20] * 4  # were given
    found = operations_energy(activity, int8)
    spent = sum(3 * x[:n, b].count_nonzero().item() * 0.1 + 3 * n * 0.1 for b, n in enumerate(ran.tolist())) / 4
    assert found.layers["fc"][0] == pytest.approx(spent)
    assert found.layers["lif"][1] == pytest.approx(3 * ran.mean() * (2 * 0.1 + 0.2))
