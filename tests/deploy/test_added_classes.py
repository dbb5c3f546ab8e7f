"""Classes added to a network's head: old accs stay bit by bit, the file runs as it was learned, a few recordings suffice, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.deploy.added_classes import RULE, add_classes, head_inputs, head_of
from neuro.deploy.examples import random_network
from neuro.deploy.learning_engine import LearningRule, begin, change, step
from neuro.deploy.network import LIF, Add, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError, ShapeError

SEEDS = st.integers(0, 2**16)


def small(seed, classes=3, inputs=30, hidden=40, odd=False, bias=0):
    """Input -> Dense -> LIF -> Dense -> Readout; with `odd` a head of odd positive weights."""
    rng = np.random.default_rng(seed)
    head = rng.integers(0, 60, (classes, hidden)) * 2 + 1 if odd else rng.integers(-60, 60, (classes, hidden)) * 2
    return IntegerNetwork([Input("input", (inputs,), message_bits=2), Dense("fc", "input", rng.integers(-50, 60, (hidden, inputs)) * 2),
                           LIF("lif", "fc", vth=4, dv=1024), Dense("head", "lif", head), Readout("readout", "head", rng.integers(-50, 50, classes) + bias)])  # fmt: skip


def recordings(seed, classes, each=4, inputs=30, steps=10):
    """Each class drives inputs of its own; integers [T, B, inputs] and labels."""
    rng = np.random.default_rng(seed)
    drive = np.stack([np.roll(np.arange(inputs) < inputs // classes, k * (inputs // classes)) for k in range(classes)])
    labels = np.repeat(np.arange(classes), each)
    return (rng.random((steps, len(labels), inputs)) < 0.05 + 0.7 * drive[labels]).astype(np.int32), labels


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 2), st.booleans())
def test_old_accs_stay_and_answers_change_only_to_new_classes(seed, new, odd):
    network = small(seed, odd=odd)
    x, labels = recordings(seed, 3 + new)
    added = add_classes(network, x[:, labels >= 3], labels[labels >= 3], new=new)
    before, after = run_twin(network, x), run_twin(added.network, x)
    assert after.acc.shape[1] == 3 + new and np.array_equal(after.acc[:, :3], before.acc)
    moved = before.predictions != after.predictions
    assert (after.predictions[moved] >= 3).all()
    assert np.array_equal(head_of(added.network).weight[:3], head_of(network).weight)
    added.network.check()  # the chip holds it: parity and sign of the weights too
    again = add_classes(network, x[:, labels >= 3], labels[labels >= 3], new=new)
    assert np.array_equal(head_of(again.network).weight, head_of(added.network).weight) and again.mistakes == added.mistakes


def test_rows_under_odd_weights_keep_their_sign():
    """The chip holds odd weights only where all have one sign: what would make a row negative is cut off."""
    lowest = {}
    for odd in (False, True):
        x, labels = recordings(1, 5, each=8)
        added = add_classes(small(1, odd=odd, bias=-9000), x, labels, new=2, passes=40).network  # rows of 0 are above all old accs
        added.check()
        lowest[odd] = head_of(added).weight[3:].min()
    assert lowest[False] < 0 <= lowest[True]


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_when_no_mistake_is_left_the_twin_answers_as_was_learned(seed):
    network = small(seed)
    x, labels = recordings(seed, 5)
    few = labels >= 3
    added = add_classes(network, x[:, few], labels[few], new=2, passes=60)
    right = (run_twin(added.network, x[:, few]).predictions == labels[few]).all()
    assert right == (added.mistakes[-1] == 0) and added.mistakes[0] > 0


def test_a_few_recordings_are_enough_for_others_of_the_class_and_old_ones_teach_silence():
    new_right, kept = [], {0: [], 4: []}
    for seed in range(6):
        network = small(seed)
        x, labels = recordings(seed, 5, each=24)
        shown, asked = np.arange(len(labels)) % 24 < 4, np.arange(len(labels)) % 24 >= 4
        old = asked & (labels < 3)
        for replayed in kept:
            use = shown & ((labels >= 3) | (replayed > 0))
            truth = np.where(labels < 3, run_twin(network, x).predictions, labels)  # what it answers of old ones is what it should keep
            given = run_twin(add_classes(network, x[:, use], truth[use], new=2, passes=40).network, x).predictions
            kept[replayed].append((given[old] == truth[old]).mean())
            if replayed:
                new_right.append((given[asked & (labels >= 3)] == labels[asked & (labels >= 3)]).mean())
    assert np.mean(new_right) > 0.7 and np.mean(kept[4]) > np.mean(kept[0]) + 0.05


def test_the_head_reads_what_the_accs_are_made_of():
    network = random_network(np.random.default_rng(6))
    if not isinstance(network[network.readout.input], Dense):
        pytest.skip("this network has another head")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (5, 3, *network.shapes["input"])).astype(np.int32)
    lengths = np.array([5, 3, 4])
    counts, steps = head_inputs(network, x, lengths)
    assert steps.tolist() == [5, 3, 4]
    assert np.array_equal(counts @ head_of(network).weight.T.astype(int) + steps[:, None] * network.readout.bias, run_twin(network, x, lengths).acc)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_change_by_counted_traces_is_that_of_the_engine_step_by_step(seed):
    """Spikes of an epoch, taken one by one with a trace that does not decay, end in the weights that their counts give at once."""
    rng = np.random.default_rng(seed)
    spikes, weight, error = rng.random((7, 6)) < 0.5, rng.integers(-100, 100, (3, 6)), 8 * rng.integers(-1, 2, 3)
    rule = LearningRule(RULE.dw, x1=(1, 1e18), third=True, epoch=7)
    s, y = begin(rule, weight), np.stack([0 * error, 0 * error, error])
    for t in range(7):
        s = step(rule, s, spikes[t], np.zeros(3, int), y)
    counts = spikes.sum(0)
    at_once = change(rule, begin(rule, weight), np.stack([counts, 0 * counts]), y)
    assert np.array_equal(s.weight, at_once.weight) and s.steps == at_once.steps
    assert np.abs(at_once.weight - begin(rule, weight).weight - error[:, None] // 8 * counts / 4).max() < 1


def test_lava_runs_what_was_learned(lava):
    from neuro.deploy.lava import compare, run_lava

    x, labels = recordings(0, 5, each=1)
    added = add_classes(small(0), x, labels, new=2).network
    assert compare(run_twin(added, x, record=True), run_lava(added, x, python=lava), added.readout.name).exact


def test_what_does_not_fit_is_refused():
    network = small(0)
    x, labels = recordings(0, 5)
    few = x[:, labels >= 3]
    for wrong in ([3, 4], labels[labels >= 3].astype(float), np.full(8, 5), np.full(8, -1), np.full(8, 3)):
        with pytest.raises(ShapeError, match="label"):
            add_classes(network, few, wrong, new=2)
    for how in ({"new": 0}, {"new": True}, {"new": 1, "passes": 0}):
        with pytest.raises(ParameterError, match="add_classes"):
            add_classes(network, few, labels[labels >= 3], **how)
    with pytest.raises(ShapeError):
        add_classes(network, few[:, :, :4], labels[labels >= 3], new=2)
    with pytest.raises(ShapeError, match="input"):
        add_classes(network, few[:, :0], np.zeros(0, int), new=1)
    two = IntegerNetwork([Input("input", (4,)), Dense("a", "input", np.eye(4, dtype=int)), Dense("b", "input", np.eye(4, dtype=int)), Add("sum", ("a", "b")), Readout("readout", "sum", np.zeros(4, int))])
    with pytest.raises(GraphError, match="sum"):
        add_classes(two, np.zeros((2, 1, 4), np.int32), [4], new=1)
    s = begin(RULE, [[0, 0]])
    for traces in (np.zeros((1, 2), int), np.full((2, 2), 128), np.zeros((2, 2)), np.full((2, 2), -1)):
        with pytest.raises(ShapeError, match="traces"):
            change(RULE, s, traces, np.zeros((3, 1), int))
