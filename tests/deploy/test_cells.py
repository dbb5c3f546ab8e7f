"""Neurons and nodes beyond Lava's: the twin is their definition, their bounds hold, their files come back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.deploy.cells import Cell, RecurrentCell
from neuro.deploy.examples import cell, even, events, random_cells
from neuro.deploy.network import LIF, Delay, Dense, Input, IntegerNetwork, Readout, SumPool
from neuro.deploy.reference import CellState, cell_step, lif_step, run_reference, sumpool
from neuro.deploy.rules import current_bound
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, GraphError


def assert_same(network, inputs, lengths):
    twin = run_twin(network, inputs, lengths, record=True, threads=2)
    for b, steps in enumerate(lengths):
        trace = run_reference(network, inputs[:steps, b])
        np.testing.assert_array_equal(twin.acc[b], trace.acc)
        for node in network.lifs:
            name, count = node.name, twin.counts[node.name]
            np.testing.assert_array_equal(twin.spikes[name][:steps, b], trace.values[name], name)
            np.testing.assert_array_equal(twin.membranes[name][:steps, b], trace.membranes[name], name)
            assert (count.spikes[b], count.equal[b]) == (trace.values[name].sum(), trace.equal[name])
            assert count.updates[b] == steps * np.prod(network.shapes[name])
        for name, operations in trace.operations.items():
            assert twin.counts[name].operations[b] == operations, name
        for name, (low, high) in network.ranges.items():
            if name in trace.values:
                assert low <= trace.values[name].min() and trace.values[name].max() <= high, name
    return twin


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_twin_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    network = random_cells(rng)
    assert_same(network, events(rng, network, 12, 2, 0.3), np.array([12, 5]))


def test_spikes_flow_through_every_kind():
    """So that the property above compares more than silence."""
    totals = {}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        network = random_cells(rng)
        twin = run_twin(network, events(rng, network, 12, 4, 0.3))
        for name in ("a.cell", "b.cell", "q.cell", "c.cell"):
            totals[name] = totals.get(name, 0) + int(twin.counts[name].spikes.sum())
        totals["back"] = totals.get("back", 0) + int(twin.counts["c.cell"].operations.sum())
    assert min(totals.values()) > 100, totals


@pytest.mark.parametrize("seed", range(10))
def test_a_plain_cell_is_lavas_neuron(seed):
    """Hard reset, no adaptation, no current: the step of LIF, bit for bit."""
    rng = np.random.default_rng(seed)
    dv, vth, bias = int(rng.integers(0, 4097)), int(rng.integers(1, 500)), rng.integers(-4000, 4000, 20)
    node, zero = Cell("s", "x", dv, vth, bias), np.zeros(20, np.int64)
    state, u, v = CellState(zero, zero, zero, zero), zero, zero
    for a in rng.integers(-600, 600, (100, 20)):
        s, u, v, _ = lif_step(u, v, a, 4095, dv, vth, bias)
        state, _, _ = cell_step(state, a, node)
        np.testing.assert_array_equal(state.s, s)
        np.testing.assert_array_equal(state.v, v)


def one(node, inputs, shape=(1,), bits=10):
    network = IntegerNetwork([Input("x", shape, bits), node, Readout("r", node.name, np.zeros(shape, int))])
    x = np.asarray(inputs).reshape(len(inputs), 1, *shape)
    return run_twin(network, x, record=True)


def test_soft_reset_keeps_what_exceeded_the_threshold():
    result = one(Cell("s", "x", 0, 10, reset="subtract"), [7, 7, 7, 7, 7])
    assert result.spikes["s"].ravel().tolist() == [0, 1, 1, 0, 1]
    assert (result.membranes["s"].ravel() / 64).tolist() == [7, 4, 1, 8, 5]


def test_levels_are_what_one_level_gives_in_as_many_silent_steps():
    """v > k theta counted once: a soft-reset cell of one level, driven once and left alone, gives the same count."""
    for value in (0, 9, 10, 11, 20, 21, 35, 90, 1000):
        many = one(Cell("s", "x", 0, 10, reset="subtract", levels=15), [value]).spikes["s"].sum()
        unary = one(Cell("s", "x", 0, 10, reset="subtract"), [value] + [0] * 14).spikes["s"].sum()
        assert many == unary == min(15, max(0, -(-value // 10) - 1))


def test_adaptation_raises_the_threshold_and_decays():
    spikes = one(Cell("s", "x", 4096, 10, dh=2048, jump=64 * 10), [11] * 8).spikes["s"].ravel().tolist()
    assert spikes == [1, 0, 0, 0, 0, 1, 0, 0]  # theta 20, 15, 12.5, 11.25, 10.625
    spikes = one(Cell("s", "x", 4096, 10, dh=2048, jump=64 * 10), [12] * 8).spikes["s"].ravel().tolist()
    assert spikes == [1, 0, 0, 0, 1, 0, 0, 0]  # theta 11.25 four steps later


def test_bias_goes_through_the_current():
    result = one(Cell("s", "x", 4096, 131071, 64, 0, 2047), [0, 0, 0])
    assert result.membranes["s"].ravel().tolist() == [64, 96, 112]  # u of 1, 3/2, 7/4 times the bias
    assert one(LIF("s", "x", 4096, 131071, 64, 0, 2047), [0, 0, 0]).membranes["s"].ravel().tolist() == [64, 64, 64]


def test_feedback_comes_back_after_one_step():
    node = RecurrentCell("s", "x", 4096, 1, weight=np.array([[0, 4], [4, 0]]))
    spikes = one(node, [[2, 0], [0, 0], [0, 0], [0, 0]], (2,)).spikes["s"].reshape(4, 2).tolist()
    assert spikes == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_delay_and_sum_of_windows():
    result = one(Delay("d", "x", 2), [1, 2, 3, 4, 5])
    assert result.acc.item() == 1 + 2 + 3
    assert one(Delay("d", "x", 7), [1, 2, 3]).acc.item() == 0
    x = np.arange(24).reshape(2, 3, 4)
    pool = SumPool("p", "x", 2, 2, 1)
    assert sumpool(x, pool, pool.out_shape((2, 3, 4)))[0].tolist() == [[0, 3, 3], [12, 30, 18]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), du=st.integers(0, 4095))
def test_the_current_never_passes_its_bound(seed, du):
    """Driven with the worst input of one sign for long, the register comes near its bound, and never past."""
    rng = np.random.default_rng(seed)
    node = RecurrentCell("s", "d", 4096, 1, rng.integers(-4095, 4096, 3), int(rng.integers(0, 8)), du, weight=even(rng, (3, 3), 250))
    network = IntegerNetwork([Input("x", (4,), 2), Dense("d", "x", even(rng, (3, 4), 250)), node, Readout("r", "s", np.zeros(3, int))])
    bound, zero = 64 * current_bound(network, node), np.zeros(3, np.int64)
    low, high = network.ranges["d"]
    for a in (low, high):
        state = CellState(zero, zero, zero, zero)
        for _ in range(60):
            state, _, _ = cell_step(state, np.full(3, a), node)
            assert np.abs(state.u).max() <= bound


def test_a_current_that_could_pass_24_bits_is_refused_with_layer_bound_and_cure():
    def net(value, bias=0, du=4095):
        return IntegerNetwork([Input("x", (2,), 8), Dense("d", "x", np.full((1, 2), value)), Cell("layer.s", "d", 0, 1, bias, 7, du, reset="subtract"), Readout("r", "layer.s", np.zeros(1, int))])
    net(254).check()
    with pytest.raises(GraphError, match=r"Cell 'layer.s'(.|\n)*'d' can reach 137730, limit 2\^23/64 = 131072(.|\n)*Scale the weights"):
        net(254, 4095).check()
    with pytest.raises(GraphError, match=r"'layer.s'(.|\n)*131072"):
        net(254, du=100).check()


@pytest.mark.parametrize("change, said", [
    ({"vth": 0}, "vth reaches 0"), ({"vth": np.array([1, 131072])}, "vth reaches 131072"), ({"dv": np.array([-1, 0])}, "dv reaches -1"),
    ({"dh": 4097}, "dh reaches 4097"), ({"jump": -1}, "jump reaches -1"), ({"jump": 2**23}, "jump reaches 8388608"), ({"du": -1}, "du reaches -1"),
    ({"bias_exp": 8}, "bias_exp"),
])  # fmt: skip
def test_constants_out_of_range_are_refused(change, said):
    node = Cell("s", "x", **{"dv": 0, "vth": 1, **change})
    with pytest.raises(GraphError, match=f"'s'(.|\n)*{said}"):
        IntegerNetwork([Input("x", (2,)), node, Readout("r", "s", np.zeros(2, int))]).check()


@pytest.mark.parametrize("make, said", [
    (lambda: Cell("s", "x", 0, 1, reset="soft"), "reset is 'soft'"), (lambda: Cell("s", "x", 0, 1, levels=0), "levels is 0"),
    (lambda: Cell("s", "x", 0, 1, levels=16), "levels is 16"), (lambda: Cell("s", "x", 0.5, 1), "dv has dtype"),
    (lambda: Delay("d", "x", 0), "steps is 0"), (lambda: SumPool("p", "x", 2, 2, 2), "half the kernel"),
    (lambda: SumPool("p", "x", 2, 2, -1), "half the kernel"), (lambda: Cell("s", "x", 0, 1, bias_exp=99), "bias_exp is 99"),
    (lambda: IntegerNetwork([Input("x", (3,)), Cell("s", "x", np.zeros(2, int), 1)]), r"dv \[2\]"),
    (lambda: IntegerNetwork([Input("x", (3,)), RecurrentCell("s", "x", 0, 1, weight=np.zeros((2, 2), int))]), r"weight \[2, 2\]"),
])  # fmt: skip
def test_what_cannot_be_built_is_refused(make, said):
    with pytest.raises(GraphError, match=said):
        make()


def test_feedback_off_the_grid_is_refused():
    node = RecurrentCell("s", "x", 0, 1, weight=np.array([[1, -1], [0, 0]]))
    with pytest.raises(GraphError, match="feedback: 2 of 4 weights are odd"):
        IntegerNetwork([Input("x", (2,)), node, Readout("r", "s", np.zeros(2, int))]).check()


@pytest.mark.parametrize("seed", range(4))
def test_files_come_back(seed, tmp_path):
    rng = np.random.default_rng(seed)
    network = random_cells(rng)
    again = IntegerNetwork.load(network.save(tmp_path / "n.npz"))
    x = events(rng, network, 6, 2, 0.3)
    assert (run_twin(network, x).acc == run_twin(again, x).acc).all()
    for a, b in zip(network.nodes, again.nodes, strict=True):
        assert type(a) is type(b) and a.parameters() == b.parameters()
        assert all((getattr(a, f) == getattr(b, f)).all() for f in a.array_fields)


def test_an_edited_reset_is_found(tmp_path):
    import json

    from neuro.deploy.network_file import checksum, describe, write
    network = IntegerNetwork([Input("x", (2,)), cell(np.random.default_rng(0), "s", "x", 2), Readout("r", "s", np.zeros(2, int))])
    document, arrays = describe(network)
    document = json.loads(json.dumps(document))
    document["nodes"][1]["parameters"]["reset"] = ["zero"]
    with pytest.raises(FormatError, match="checksum"):
        IntegerNetwork.load(write(tmp_path / "n.npz", document, arrays))
    document["checksum"] = checksum(document, arrays)
    with pytest.raises(FormatError, match="reset is"):
        IntegerNetwork.load(write(tmp_path / "n.npz", document, arrays))
