"""What a checker of chips must get right, number by number as its facts were collected; those that other tests hold are named.

    1, 2   words of DYNAP-CNN                                          test_mapping.test_words_of_dynapcnn_by_hand
    3, 4   shapes, widths and sums on Akida; 57334 inputs              test_mapping.test_akida_shapes_by_hand, test_residual_sums, test_akida_takes_eight_bit_...
    5      more than 80 neural processors: several passes, no "fits"   here
    6      learning on the chip: the last dense layer on 1 bit; ones   test_mapping.test_which_layer_may_learn, test_binary_head, test_learning.test_what_does_not_fit_...
    7      a core for every layer, or a proof that there is none       test_mapping.test_matching_finds_a_core_each_or_there_is_none
    8      integer and float integrate-and-fire, rounded alike         here
    9      events one by one, and steps                                here
    10     a leak by shifts                                            here
    11     every limit with its source, "unknown" in words             test_chips, test_mapping.test_tables_and_dictionaries_hold_every_layer_and_source
    12     power of Akida with or without its floor                    test_mapping.test_energy_lies_within_its_range_and_power_states_its_floor
"""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuro
from neuro.deploy.chips import CHIPS
from neuro.deploy.mapping import assess, map_network
from neuro.deploy.mapping_checks import RETRAIN
from neuro.deploy.mapping_rewrites import to_grid
from neuro.deploy.network import Cell, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.shift_decay import dash_of, shifted
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError
from neuro.layers import AvgPool2d, Conv2d, Linear, Sequential
from neuro.neurons import IF, LIF
from neuro.plots.placement import placement
from neuro.reset import subtract
from neuro.surrogate import ATan, Levels

SEEDS = st.integers(0, 2**16)
SOFT = functools.partial(IF, reset=subtract)


def network(*weights, neuron=SOFT, shape=None):
    """Dense layers of these weights, a neuron behind each, and their graph."""
    layers = []
    for w in weights:
        layers += [Linear(w.shape[1], w.shape[0], bias=False), neuron()]
        with torch.no_grad():
            layers[-2].weight.copy_(w)
    net = Sequential(*layers)
    return net, neuro.trace(net, torch.zeros(2, 1, *(shape or (weights[0].shape[1],))))


def rule(graph, chip, name):
    return next((f for f in assess(graph, chip).findings if f.rule == name), None)


def test_what_needs_more_processors_than_there_are_takes_several_passes():
    graph = neuro.trace(Sequential(*[m for _ in range(81) for m in (Linear(2, 2, bias=False), LIF())]), torch.zeros(1, 1, 2))
    with pytest.raises(GraphError, match=r"81 cores.*has 80(.|\n)*several passes"):
        map_network(graph, "akida", steps=1)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_integer_neurons_fire_as_float_ones_of_the_same_rounded_values(seed):
    """One scale per layer: weights on the 8-bit grid of step 1/64, the threshold on it too; membranes pass exactly through the threshold often."""
    rng = np.random.default_rng(seed)
    w = torch.tensor(rng.normal(0, 0.6, (7, 5)))
    w.view(-1)[0] = 127 / 64
    w = to_grid(w.clamp(-127 / 64, 127 / 64), 8)
    threshold = round(float(rng.uniform(0.3, 2)) * 64) / 64
    x = rng.integers(0, 2, (40, 3, 5)).astype(np.int32)
    whole = (w * 64).round()
    assert torch.equal(whole / 64, w)
    nodes = [Input("input", (5,)), Dense("fc", "input", 2 * whole.numpy().astype(int)), Cell("iaf", "fc", dv=0, vth=round(threshold * 128), reset="subtract"),
             Dense("head", "iaf", np.eye(7, dtype=int)), Readout("readout", "head", np.zeros(7, int))]  # fmt: skip
    integer = run_twin(IntegerNetwork(nodes), x, record=True).spikes["iaf"]
    net, _ = network(w.float(), neuron=lambda: IF(threshold=threshold, reset=subtract, spike=ATan(strict=True)))
    assert np.array_equal(net(torch.tensor(x).float()).detach().numpy(), integer) and integer.any()


def one_by_one(weights, order, threshold=1.0):
    """Spikes of each neuron of each layer when inputs of one event each come in this order; an event triggers one spike at most."""
    v, counts = [np.zeros(len(w)) for w in weights], [np.zeros(len(w), int) for w in weights]
    waiting = [(0, i) for i in order]
    while waiting:
        layer, i = waiting.pop(0)
        v[layer] += weights[layer][:, i]
        fired = v[layer] >= threshold
        v[layer] -= threshold * fired
        counts[layer] += fired
        if layer + 1 < len(weights):
            waiting += [(layer + 1, k) for k in np.flatnonzero(fired)]
    return counts


def by_steps(weights, events):
    """Spikes of each neuron of the last layer, events [T, inputs] a step at a time, several spikes in a step being possible."""
    net, _ = network(*(torch.tensor(w, dtype=torch.float32) for w in weights), neuron=lambda: IF(reset=subtract, spike=Levels(15)))
    return net(torch.tensor(events)[:, None].float()).sum(0)[0].int().numpy()


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_events_one_by_one_and_in_steps_give_the_same_counts_where_weights_are_small_and_not_negative(seed):
    rng = np.random.default_rng(seed)
    weights = [rng.integers(0, 60, shape) / 64 for shape in ((6, 4), (3, 6))]
    events = rng.integers(0, 2, (9, 4))
    order = np.concatenate([rng.permutation(np.flatnonzero(row)) for row in events])
    expected = by_steps(weights, events)
    assert np.array_equal(one_by_one(weights, order)[-1], expected) and np.array_equal(one_by_one(weights, rng.permutation(order))[-1], expected)
    _, graph = network(*(torch.tensor(w, dtype=torch.float32) for w in weights))
    assert rule(graph, "speck", "events") is None and not [line for line in assess(graph, "speck").unchecked if "order of events" in line]


def test_where_they_do_not_the_checker_says_so():
    large = np.array([[2.5]])
    assert one_by_one([large], [0, 0])[0] == 2 and by_steps([large], np.ones((2, 1), int)) == 5
    found = rule(network(torch.tensor(large, dtype=torch.float32))[1], "speck", "events")
    assert found.verdict == RETRAIN and "2.5" in found.what and "threshold is 1" in found.what and "one spike" in found.limit.source
    signed = np.array([[0.75, -0.75]])
    assert one_by_one([signed], [0, 0, 1, 1])[0] != one_by_one([signed], [1, 1, 0, 0])[0]
    graph = network(torch.tensor(signed, dtype=torch.float32))[1]
    assert rule(graph, "speck", "events") is None and any("order of events: 1 has weights below 0" in line for line in assess(graph, "speck").unchecked)
    assert rule(network(torch.tensor(large, dtype=torch.float32))[1], "loihi2", "events") is None
    net = Sequential(Conv2d(1, 1, 1, bias=False), SOFT(), AvgPool2d(2), Conv2d(1, 1, 1, bias=False), SOFT())
    with torch.no_grad():
        net[0].weight.fill_(0.5)
        net[3].weight.fill_(3.0)  # a quarter of it comes through the mean
    assert rule(neuro.trace(net, torch.zeros(2, 1, 1, 4, 4)), "speck", "events") is None


@settings(max_examples=60, deadline=None)
@given(st.integers(-(2**15), 2**15), st.integers(0, 15))
def test_a_leak_by_shifts_ends_at_zero_and_never_overshoots(v, dash):
    steps, last = 0, v
    while last:
        new = int(shifted(last, dash))
        assert abs(new) < abs(last) and new * last >= 0
        assert abs(abs(last) - abs(new) - abs(last) / 2**dash) < 1 or abs(last) - abs(new) == 1
        assert int(shifted(-last, dash)) == -new
        last, steps = new, steps + 1
    assert shifted(0, dash) == 0 and steps <= abs(v)


def test_the_leak_of_the_fact_sheet_by_hand():
    seen = [100]
    while seen[-1]:
        seen.append(int(shifted(seen[-1], 3)))
    assert seen[:4] == [100, 88, 77, 68] and seen[-8:] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert [dash_of(1 - 2.0**-k) for k in range(1, 12)] == list(range(1, 12)) and dash_of(0.88) == 3
    for v, dash in ((1.5, 3), (5, -1), (5, True)):
        with pytest.raises(ParameterError):
            shifted(v, dash)
    with pytest.raises(ParameterError):
        dash_of(1.1)


@pytest.mark.parametrize(("decay", "said"), [(0.5, None), (0.75, None), (0.9, "0.875 (shift by 3)"), (1.0, "longest shift")])
def test_a_decay_that_no_shift_gives_is_said(decay, said):
    _, graph = network(torch.ones(3, 4), neuron=lambda: LIF(decay=decay, reset=subtract))
    found = rule(graph, "xylo", "decay")
    assert (found is None) == (said is None) and (said is None or (found.verdict == RETRAIN and said in found.change))
    assert rule(graph, "spinnaker2", "decay") is None


def test_a_chip_that_counts_its_neurons_as_a_whole_shows_how_full_it_is():
    _, graph = network(torch.ones(200, 16), torch.ones(50, 200), torch.ones(8, 50), neuron=lambda: LIF(reset=subtract))
    mapped = map_network(graph, "xylo")
    assert mapped.utilisation() == {"inputs": (16, 16), "hidden": (250, 1000), "outputs": (8, 8)}
    assert sum(share for _, _, share in mapped.shares()) == pytest.approx(258 / 1008)
    assert any(line.startswith("hidden: 250 of 1,000 on the chip (25.00%)") and "rockpool" in line for line in mapped.summary())


def test_mean_power_of_the_operations_is_their_energy_by_time():
    _, graph = network(torch.ones(3, 4))
    energy, _, power, *_ = map_network(graph, "spinnaker2", steps=4, seconds=0.02).estimates
    assert power.what == "power of the operations" and (power.low, power.high) == (energy.low / 0.02 * 1e-3, energy.high / 0.02 * 1e-3) and "without static" in power.why
    assert all(e.what != "power of the operations" for name in ("loihi2", "akida") for e in map_network(graph, name, steps=1, seconds=0.02).estimates if CHIPS[name])


def test_the_number_on_a_core_stands_out_from_what_fills_it():
    """Dark layers get white figures, light ones dark figures, by the layer that lies in the middle."""
    layers = [f"layer {k}" for k in range(9)]
    texts = placement(9, [(k, layer, 1.0) for k, layer in enumerate(layers)]).axes[0].texts
    assert {t.get_color() for t in texts} == {"white", "#0b2a45"} and len(texts) == 9
    half = placement(9, [(0, "layer 0", 0.3), *[(k, layer, 1.0) for k, layer in enumerate(layers) if k]]).axes[0].texts
    assert half[0].get_color() == "#0b2a45"  # its middle is pale
    bars = placement(4, [(0, "a", 0.5)], totals={"neurons": 0.0002, "words": 0.0, "bits": 0.12}).axes[1].texts
    assert [t.get_text() for t in bars] == ["< 0.1%", "0.0%", "12.0%"]
