"""Learning in a last layer of binary weights: what a recording changes, and what it never touches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.deploy.learning import few_shot, ones_for, spiked
from neuro.deploy.twin import run_twin
from neuro.errors import ParameterError, ShapeError

SEEDS = st.integers(0, 2**16)


def patterns(seed, classes=4, samples=30, inputs=120, active=20, noise=3):
    """Binary recordings of classes: a pattern of each, some of its inputs lost and others added."""
    rng = np.random.default_rng(seed)
    centres = [rng.choice(inputs, active, replace=False) for _ in range(classes)]
    x, labels = np.zeros((samples, inputs), np.uint8), rng.integers(0, classes, samples)
    for row, label in zip(x, labels, strict=True):
        row[centres[label]] = 1
        row[rng.choice(inputs, noise, replace=False)] ^= 1
    return x, labels


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 3), st.integers(1, 40))
def test_every_neuron_keeps_its_number_of_ones(seed, neurons, ones):
    x, labels = patterns(seed)
    layer = few_shot(120, 4, neurons, ones, seed=seed).learn(x, labels)
    assert layer.weights.max() == 1 and (layer.weights.sum(2) == ones).all() and layer.ones == ones
    assert (layer.plasticity >= 0.1).all() and (layer.plasticity <= 1).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_recording_changes_one_neuron_of_its_class_for_the_better(seed):
    x, labels = patterns(seed, samples=12)
    layer = few_shot(120, 4, 3, 24, seed=seed)
    for sample, label in zip(x, labels, strict=True):
        after = layer.learn(sample[None], [label])
        changed = np.argwhere((after.weights != layer.weights).any(2))
        before, now = layer.overlaps(sample[None])[0, label], after.overlaps(sample[None])[0, label]
        assert len(changed) <= 1 and (len(changed) == 0 or changed[0, 0] == label)
        assert len(changed) == 0 or changed[0, 1] == before.argmax()  # the best match
        assert (now >= before).all() and (now.max() > before.max() or before.max() == min(24, sample.sum()))
        layer = after


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 3))
def test_classes_learned_before_keep_every_bit(seed, added):
    x, labels = patterns(seed, classes=3)
    old = few_shot(120, 3, 2, 24, seed=seed).learn(x, labels)
    new_x, new_labels = patterns(seed + 1, classes=added)
    new = old.add_classes(added).learn(new_x, new_labels + 3)
    assert new.classes == 3 + added and np.array_equal(new.weights[:3], old.weights) and np.array_equal(new.plasticity[:3], old.plasticity)
    assert np.array_equal(new.overlaps(x)[:, :3], old.overlaps(x))
    kept = new.classify(x) == old.classify(x)
    assert (new.classify(x)[~kept] >= 3).all()  # a decision changes only in favour of a new class


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_learning_in_parts_is_learning_at_once_and_changes_no_argument(seed):
    x, labels = patterns(seed)
    start = few_shot(120, 4, 2, 24, seed=seed)
    weights, data = start.weights.copy(), x.copy()
    whole, parts = start.learn(x, labels), start.learn(x[:11], labels[:11]).learn(x[11:], labels[11:])
    assert np.array_equal(whole.weights, parts.weights) and np.array_equal(whole.plasticity, parts.plasticity)
    assert np.array_equal(start.weights, weights) and np.array_equal(x, data) and start.seen == 0 and whole.seen == 30
    assert np.array_equal(few_shot(120, 4, 2, 24, seed=seed).learn(x, labels).weights, whole.weights)  # the same seed, the same bits


def test_a_class_starts_the_same_whenever_it_is_added():
    assert np.array_equal(few_shot(50, 5, 2, 9, seed=3).weights, few_shot(50, 2, 2, 9, seed=3).add_classes(2).add_classes(1).weights)


def test_plasticity_falls_to_its_least_and_moves_fewer_ones():
    x = np.zeros((1, 100), np.uint8)
    x[0, :30] = 1
    layer, moved = few_shot(100, 1, 1, 30, decay=0.5, lowest=0.2), []
    expected = [1.0, 0.5, 0.25, 0.2, 0.2]
    for p in expected:
        assert layer.plasticity[0, 0] == pytest.approx(p)
        sample = np.roll(x, 40 * len(moved), 1)
        after = layer.learn(sample, [0])
        unused = ((layer.weights[0, 0] == 1) & (sample[0] == 0)).sum()
        moved.append((after.weights != layer.weights).sum() // 2)
        assert moved[-1] == np.ceil(p * unused)
        layer = after
    assert moved[0] > moved[-1] > 0


def test_one_shot_of_full_plasticity_is_the_recording():
    x = np.zeros((1, 60), np.uint8)
    x[0, ::5] = 1  # twelve ones
    assert np.array_equal(few_shot(60, 1, 1, 12).learn(x, [0]).weights[0], x)


def test_noisy_patterns_are_learned_from_few_shots():
    x, labels = patterns(5, classes=6, samples=120, noise=8)
    layer = few_shot(120, 6, 2, ones_for(x), seed=0)
    before = (layer.classify(x[60:]) == labels[60:]).mean()
    accuracy = [(layer.learn(x[:n], labels[:n]).classify(x[60:]) == labels[60:]).mean() for n in (12, 60)]
    assert before < 0.5 < accuracy[0] and accuracy[1] > 0.95


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_the_twin_gives_the_overlaps(seed):
    x, labels = patterns(seed)
    layer = few_shot(120, 4, 2, 24, seed=seed).learn(x, labels)
    acc = run_twin(layer.network(), x[None].astype(np.int32)).acc
    assert np.array_equal(acc.reshape(-1, 4, 2), layer.overlaps(x)) and np.array_equal(acc.argmax(1) // 2, layer.classify(x))


def test_lava_gives_the_overlaps(lava):
    from neuro.deploy.lava import run_lava

    x, labels = patterns(1, samples=3)
    layer = few_shot(120, 4, 2, 24).learn(x, labels)
    assert np.array_equal(run_lava(layer.network(), x[None].astype(np.int32), python=lava).acc.reshape(-1, 4, 2), layer.overlaps(x))


def test_spikes_become_binary_inputs():
    s = np.zeros((3, 2, 2, 2), int)
    s[0, 0, 0, 1] = s[2, 0, 0, 1] = s[1, 1, 1, 0] = 1
    assert spiked(s).tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]] and spiked(s, 2).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert ones_for(np.array([[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]])) == 6
    with pytest.raises(ShapeError, match="over time"):
        spiked(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="active"):
        ones_for(np.zeros((2, 3)))


def test_what_does_not_fit_is_refused():
    layer = few_shot(6, 2, 1, 3)
    for x in (np.ones((1, 5), int), np.ones(6, int), 2 * np.ones((1, 6), int), np.ones((1, 6)), -np.ones((1, 6), int)):
        with pytest.raises(ShapeError, match="input"):
            layer.classify(x)
    x = np.ones((2, 6), int)
    for labels in ([0], [0, 2], [0, -1], [0.0, 1.0], 0):
        with pytest.raises(ShapeError, match="labels"):
            layer.learn(x, labels)
    for how in ({"inputs": 2}, {"ones": 0}, {"classes": 0}, {"neurons": 0}, {"decay": 1.5}, {"lowest": -0.1}):
        with pytest.raises(ParameterError, match="range"):
            few_shot(**{"inputs": 6, "classes": 2, "neurons": 1, "ones": 3} | how)
    with pytest.raises(ParameterError):
        layer.add_classes(0)
    assert layer.learn(np.zeros((0, 6), int), np.zeros(0, int)).seen == 0 and layer.classify(np.zeros((0, 6), int)).tolist() == []
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0, 0, 0] = 1
