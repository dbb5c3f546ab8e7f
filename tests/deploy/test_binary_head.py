"""A binary last layer in a network file: the twin's acc are its overlaps, the latch is a comparison of sums, it comes back as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.deploy.added_classes import head_inputs
from neuro.deploy.binary_head import MOST, attached, described, least_for, restored, source_of
from neuro.deploy.competition import Competition
from neuro.deploy.learning import few_shot
from neuro.deploy.mapping import assess
from neuro.deploy.network import LIF, Add, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.restored import graph_of
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, GraphError, ParameterError

SEEDS = st.integers(0, 2**16)


def body(seed, inputs=6, hidden=12, classes=3, graded=False):
    """Input -> Dense -> LIF -> Dense -> Readout; graded: the head reads the sum of two layers of spikes."""
    rng = np.random.default_rng(seed)
    nodes = [Input("input", (inputs,), message_bits=2)]
    for name in "ab" if graded else "a":
        nodes += [Dense(f"{name}.fc", "input", rng.integers(-20, 60, (hidden, inputs)) * 2), LIF(name, f"{name}.fc", dv=1024, vth=60)]
    nodes += [Add("sum", ("a", "b"))] if graded else []
    return IntegerNetwork([*nodes, Dense("head", "sum" if graded else "a", rng.integers(-20, 20, (classes, hidden)) * 2), Readout("readout", "head", rng.integers(-9, 9, classes))])


def recordings(seed, steps, number=8, inputs=6):
    return np.random.default_rng(seed).integers(0, 4, (steps, number, inputs)).astype(np.int32)


def taught(seed, counts, least, neurons=2, classes=3):
    seen = (counts >= least).astype(np.uint8)
    layer = few_shot(seen.shape[1], classes, neurons, 4, seed=seed, how=Competition(competition=0.1))
    return layer.learn(seen, np.arange(len(seen)) % classes), seen


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(1, 5), st.booleans())
def test_the_twin_gives_the_overlaps_of_whatever_reached_its_least(seed, steps, least, graded):
    """Against sums counted outside; recordings of unequal length in one batch, more than one time over the least."""
    network, x = body(seed, graded=graded), recordings(seed, steps)
    lengths = np.random.default_rng(seed).integers(1, steps + 1, x.shape[1])
    counts, _ = head_inputs(network, x, lengths)
    layer, seen = taught(seed, counts, least)
    whole = attached(network, layer, least)
    found = run_twin(whole, x, lengths)
    assert np.array_equal(found.acc.reshape(-1, 3, 2), layer.overlaps(seen)) and np.array_equal(found.predictions // 2, layer.classify(seen))
    assert np.array_equal(head_inputs(whole, x, lengths)[0], seen)  # and it can learn further from what its latch gives
    again = attached(whole, layer.add_classes(1), least)
    assert source_of(again) == source_of(network) and len(again.nodes) == len(whole.nodes)
    assert np.array_equal(run_twin(again, x, lengths).acc[:, :6], found.acc)


def test_without_a_latch_one_step_of_spikes_is_enough():
    network, x = body(1), recordings(1, 1)
    layer, seen = taught(1, head_inputs(network, x)[0], 1)
    whole = attached(network, layer, latch=False)
    assert np.array_equal(run_twin(whole, x).acc.reshape(-1, 3, 2), layer.overlaps(seen)) and "head.latch" not in whole.shapes
    assert assess(graph_of(whole), "akida", weight_bits=4, steps=1).learns["readout"][0]  # what Akida may learn on the chip
    assert not assess(graph_of(attached(network, layer, latch=True)), "loihi2").learns["head.latch"][0]


def test_lava_runs_the_latch(lava):
    from neuro.deploy.lava import compare, run_lava

    network, x = body(3), recordings(3, 7, number=3)
    whole = attached(network, taught(3, head_inputs(network, x)[0], 2)[0], 2)
    assert compare(run_twin(whole, x, record=True), run_lava(whole, x, python=lava), whole.readout.name).exact


def test_the_layer_comes_back_from_the_file_as_it_was(tmp_path):
    network, x = body(2), recordings(2, 5)
    layer, seen = taught(2, head_inputs(network, x)[0], 2)
    whole = IntegerNetwork.load(attached(network, layer, 2).save(tmp_path / "n.npz"))
    back = restored(whole, described(layer, 2, True))
    assert np.array_equal(back.weights, layer.weights) and np.array_equal(back.times, layer.times) and back.how == layer.how and (back.seed, back.seen) == (layer.seed, layer.seen)
    fresh = np.random.default_rng(0).integers(0, 2, seen.shape)
    more = [x.learn(fresh, np.arange(len(seen)) % 3).weights for x in (layer, back)]
    assert np.array_equal(*more) and not np.array_equal(more[0], layer.weights)
    for wrong in ({"seen": -1}, {"seed": True}, {"classes": 2}, {"competition": None}, {"times": [["a", "b"]] * 3}, {"times": (layer.times - 9).tolist()}):
        with pytest.raises(FormatError, match="binary layer"):
            restored(whole, {**described(layer, 2, True), **wrong})
    with pytest.raises(FormatError, match="not the one"):
        restored(network, described(layer, 2, True))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(0, 20))
def test_the_least_is_the_first_that_a_quarter_reach(seed, recordings, most):
    counts = np.random.default_rng(seed).integers(0, most + 1, (recordings, 16))
    least = least_for(counts)

    def dense(n):
        return np.median((counts >= n).mean(1)) > 0.25

    assert 1 <= least <= max(1, most)
    assert all(dense(n) for n in range(1, least)) and (not dense(least) or least == max(1, counts.max()))


def test_what_does_not_fit_is_refused():
    network = body(0)
    layer = few_shot(12, 3, 2, 4)
    for least in (0, MOST + 1, True, 1.5):
        with pytest.raises(ParameterError, match="least"):
            attached(network, layer, least)
    with pytest.raises(ParameterError, match="without a latch"):
        attached(network, layer, 2, latch=False)
    with pytest.raises(GraphError, match="does not fit"):
        attached(network, few_shot(11, 3, 2, 4))
    with pytest.raises(GraphError, match=r"gives 0\.\.2"):
        attached(body(0, graded=True), layer, latch=False)
    signed = IntegerNetwork([Input("input", (4,)), Dense("a", "input", -np.eye(12, 4, dtype=int)), Dense("head", "a", np.eye(3, 12, dtype=int)), Readout("readout", "head", np.zeros(3, int))])
    with pytest.raises(GraphError, match="not negative"):
        attached(signed, layer)
