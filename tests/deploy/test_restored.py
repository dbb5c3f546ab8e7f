"""Integer networks as graphs: names, units, and spikes nearly the twin's."""

import numpy as np
import pytest
import torch

from neuro.deploy import examples
from neuro.deploy import network as ints
from neuro.deploy.differentiable import run_whole
from neuro.deploy.mapping import map_network
from neuro.deploy.mapping_rewrites import on_grid
from neuro.deploy.restored import graph_of
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ShapeError


def both(network, steps=12, seed=0):
    events = examples.events(np.random.default_rng(seed), network, steps, 3)
    return run_twin(network, events, record=True), graph_of(network).values(torch.tensor(events).float())


@pytest.mark.parametrize("seed", range(4))
def test_a_transformer_spikes_as_its_twin_does(seed):
    network = examples.transformer(np.random.default_rng(seed), 16, (4, 8, 16), blocks=1)
    twin, values = both(network, seed=seed)
    assert sum(s.sum() for s in twin.spikes.values()) > 1000
    for name, spikes in twin.spikes.items():  # the leak is truncated in one of them
        assert (values[name].numpy() != spikes).mean() < 2e-3, name
    assert values[network.readout.name].numpy() == pytest.approx(twin.logits / network.readout.scale, abs=20)


@pytest.mark.parametrize("seed", range(8))
def test_exactly_it_fires_as_the_twin_does(seed):
    """Leaks that are truncated, membranes that are clipped, biases beside currents with memory, levels, feedback: every spike, with padding too."""
    rng = np.random.default_rng(seed)
    network = (examples.random_network if seed % 2 else examples.random_cells)(rng)
    try:
        graph = graph_of(network, exact=True)
    except GraphError as error:  # levels over an adapting threshold, and the like
        assert "no counterpart" in str(error)
        graph = None
    events, lengths = examples.events(rng, network, 15, 3, 0.3), np.array([15, 4, 9])
    twin, whole = run_twin(network, events, lengths, record=True), run_whole(network, torch.tensor(events), torch.tensor(lengths))
    values = whole if graph is None else graph.values(torch.tensor(events).float(), torch.tensor(lengths))
    for name, spikes in twin.spikes.items():
        for b, steps in enumerate(lengths):
            assert np.array_equal(values[name][:steps, b].numpy(), spikes[:steps, b]), name
            assert np.array_equal(whole[name][:steps, b].numpy(), spikes[:steps, b]), name
    assert whole[network.readout.name].numpy() == pytest.approx(twin.logits, rel=1e-12, abs=1e-12)
    if graph is not None:
        assert values[network.readout.name].numpy() == pytest.approx(twin.logits / network.readout.scale, rel=1e-5, abs=1e-3)


def test_the_exact_graph_is_of_the_same_nodes_and_refuses_what_the_network_does():
    """Low thresholds and a long memory, where the truncated leak decides about spikes."""
    rng = np.random.default_rng(1)
    nodes = [ints.Input("input", (4,), 2), ints.Dense("a", "input", examples.even(rng, (9, 4), 6)), ints.LIF("b", "a", 300, 3, rng.integers(-20, 20, 9)),
             ints.Dense("c", "b", examples.even(rng, (3, 9))), ints.StepReadout("out", "c", [0, 0, 0])]  # fmt: skip
    network = ints.IntegerNetwork(nodes)
    exact, plain = graph_of(network, exact=True), graph_of(network)
    assert repr(exact) == repr(plain)
    x = torch.tensor(examples.events(np.random.default_rng(0), network, 99, 5)).float()
    spikes = run_twin(network, x.numpy().astype(int), record=True).spikes["b"]
    assert (exact.values(x)["b"].numpy() == spikes).all() and (plain.values(x)["b"].numpy() != spikes).any()
    for bad, words in [(x + 99, "bits"), (x - 0.5, "event counts"), (x[:, :0], "nothing")]:
        with pytest.raises(GraphError, match=words):
            exact.run(bad)
    with pytest.raises(ShapeError, match="does not fit"):
        exact.run(x[..., 1:])


def test_answers_read_from_a_sum_over_tokens_keep_its_unit():
    nodes = [ints.Input("input", (2, 3, 3), 2), ints.Tokens("t", "input"), ints.TokenSum("s", "t")]
    events = examples.events(np.random.default_rng(0), ints.IntegerNetwork([*nodes, ints.Readout("out", "s", [0, 0])]), 5, 2, 0.5)
    for end in (kind("out", "s", [3, -1]) for kind in (ints.Readout, ints.StepReadout, ints.SumReadout)):
        network = ints.IntegerNetwork([*nodes, end])
        assert graph_of(network).run(torch.tensor(events).float()).numpy() == pytest.approx(run_twin(network, events).logits)


def cells(**how):
    """Cells in a network of whole decays, where nothing is truncated."""
    nodes = [
        ints.Input("input", (2, 4, 4), 2), ints.Conv("a", "input", examples.even(np.random.default_rng(1), (3, 2, 3, 3), 20), padding=1),
        ints.Cell("b", "a", dv=4096, vth=[9, 12, 9] if how.get("levels", 1) == 1 else 9, bias_mant=[64, 0, -64], du=4095, **how),
        ints.SumPool("pool", "b", 2, 2), ints.Delay("late", "pool", 2), ints.Add("twice", ("late", "pool", "pool")), ints.Flatten("flat", "twice"),
        ints.Dense("c", "flat", examples.even(np.random.default_rng(2), (5, 12), 8)), ints.RecurrentCell("d", "c", dv=0, vth=20, reset="none", weight=2 * np.eye(5, dtype=int)),
        ints.Dense("head", "d", examples.even(np.random.default_rng(3), (3, 5))), ints.Readout("out", "head", [5, -3, 0], 0.25),
    ]  # fmt: skip
    return ints.IntegerNetwork(nodes)


@pytest.mark.parametrize("how", [{}, {"reset": "subtract"}, {"reset": "none"}, {"levels": 3, "reset": "subtract"}, {"jump": 128, "dh": 2048, "reset": "subtract"}], ids=str)
def test_without_a_leak_to_truncate_every_spike_is_the_twins(how):
    network = cells(**how)
    twin, values = both(network)
    assert twin.spikes["b"].max() == how.get("levels", 1) and 0 < twin.spikes["d"].mean() < 1
    for name, spikes in twin.spikes.items():
        assert np.array_equal(values[name].numpy(), spikes), name
    assert values["out"].numpy() == pytest.approx(twin.logits / 0.25, rel=1e-6)


def test_its_weights_are_the_chips_and_are_not_rounded_again():
    network = examples.transformer(np.random.default_rng(0), 16, (4, 8, 16), blocks=1)
    graph = graph_of(network)
    for node in graph:
        if node.kind in ("Conv2d", "Linear"):
            assert on_grid(node.weight, 8), node.name
    mapped = map_network(graph, "spinnaker2", input_bits=network.input.message_bits)
    assert not [c for c in mapped.changes if "rounded" in c] and sum(n.layer.neurons for n in mapped.layers.values()) == network.neurons + 8
    assert not on_grid(torch.tensor([254.0, -3.0]), 8) and not on_grid(torch.tensor([1.0, 0.3]), 8)


def test_a_bias_beside_a_current_with_memory_comes_on_with_it():
    nodes = [ints.Input("input", (3,)), ints.Dense("a", "input", np.zeros((3, 3), int)), ints.LIF("b", "a", 2048, 100, 4000, 0, du=2047),
             ints.Dense("c", "b", np.eye(3, dtype=int)), ints.Readout("out", "c", np.zeros(3, int))]  # fmt: skip
    twin, values = both(ints.IntegerNetwork(nodes), steps=60)
    assert twin.spikes["b"].sum() > 0 and abs(int(values["b"].sum()) - int(twin.spikes["b"].sum())) <= 9


def test_what_no_float_neuron_is_is_named():
    base = [ints.Input("input", (3,)), ints.Dense("a", "input", np.eye(3, dtype=int))]
    tail = [ints.Dense("c", "b", np.eye(3, dtype=int)), ints.Readout("out", "c", np.zeros(3, int))]
    for how, words in [({"du": 2047, "jump": 64}, "memory and a threshold that adapts"), ({"levels": 3, "jump": 64}, "3 levels"), ({"levels": 3, "reset": "zero"}, "3 levels and a hard reset")]:
        with pytest.raises(GraphError, match=f"Cell 'b'.*{words}"):
            graph_of(ints.IntegerNetwork([*base, ints.Cell("b", "a", dv=0, vth=2, **{"reset": "subtract", **how}), *tail]))
