"""Learning in a last layer of binary weights: what a recording changes, and what it never touches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.deploy.competition import Competition
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
    assert (layer.times >= 0).all() and layer.times.sum() == layer.seen == len(x)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([0, 0.1, 0.5, 1]))
def test_a_recording_changes_one_neuron_of_its_class_for_the_better(seed, competition):
    x, labels = patterns(seed, samples=12)
    layer = few_shot(120, 4, 3, 24, seed=seed, how=Competition(competition=competition))
    for sample, label in zip(x, labels, strict=True):
        after = layer.learn(sample[None], [label])
        (one,) = np.argwhere(after.times != layer.times)
        changed = np.argwhere((after.weights != layer.weights).any(2))
        assert len(changed) <= 1 and one[0] == label and all((c == one).all() for c in changed)
        before, now = layer.overlaps(sample[None])[0, label], after.overlaps(sample[None])[0, label]
        n = one[1]
        assert now[n] > before[n] or before[n] == min(24, sample.sum())
        layer = after


def test_without_competition_each_kind_of_recording_gets_a_neuron_and_with_all_of_it_one_neuron_takes_all():
    x = np.kron(np.eye(4, dtype=np.uint8), np.ones(10, np.uint8))  # four kinds of ten inputs that share none
    x[:, ::10] = 1  # but for one in ten
    order = [0, 1, 2, 3, 0, 1, 2, 3, 2, 1]
    alone, claimed = (few_shot(40, 1, 6, 13, seed=1, how=Competition(competition=c)).learn(x[order], [0] * 10) for c in (0, 1))
    assert (alone.times[0] > 0).sum() == 4 and (alone.overlaps(x)[:, 0].max(1) == 13).all()  # two neurons stay fresh
    assert sorted(claimed.times[0]) == [0, 0, 0, 0, 0, 10]
    few = few_shot(40, 1, 2, 13, seed=1).learn(x[order], [0] * 10)  # more kinds than neurons: the best match learns
    assert (few.times > 0).all() and few.times.sum() == 10


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=8), st.integers(0, 30), st.integers(0, 100))
def test_the_learner_is_the_best_claimer_then_the_best_fresh_one_then_the_best(neurons, most, percent):
    shared, times = np.array([min(s, most) for s, _ in neurons]), np.array([t for _, t in neurons])
    how = Competition(competition=percent / 100)
    n = how.learner(shared, times, most)
    claimers = [i for i in range(len(shared)) if times[i] and 100 * shared[i] >= 100 * most - percent * most]
    fresh = [i for i in range(len(shared)) if not times[i]]
    for group in (claimers, fresh, range(len(shared))):
        if group:
            assert n in group and all((shared[n], -n) >= (shared[i], -i) for i in group)
            break
    more = Competition(competition=min(100, percent + 20) / 100)
    assert more.claim(most) <= how.claim(most) <= most


def test_one_recording_more_or_less_like_another_is_a_matter_of_competition():
    a = np.zeros((1, 100), np.uint8)
    a[0, :20] = 1
    b = np.roll(a, 3, 1)  # shares 17 of 20
    for competition, fresh in ((0, True), (0.1, True), (0.15, False), (0.5, False)):
        layer = few_shot(100, 1, 5, 20, how=Competition(competition=competition)).learn(a, [0]).learn(b, [0])
        assert ((layer.times > 0).sum() == 2) == fresh, competition


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 3))
def test_classes_learned_before_keep_every_bit(seed, added):
    x, labels = patterns(seed, classes=3)
    old = few_shot(120, 3, 2, 24, seed=seed).learn(x, labels)
    new_x, new_labels = patterns(seed + 1, classes=added)
    new = old.add_classes(added).learn(new_x, new_labels + 3)
    assert new.classes == 3 + added and np.array_equal(new.weights[:3], old.weights) and np.array_equal(new.times[:3], old.times)
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
    assert np.array_equal(whole.weights, parts.weights) and np.array_equal(whole.times, parts.times)
    assert np.array_equal(start.weights, weights) and np.array_equal(x, data) and start.seen == 0 and whole.seen == 30
    assert np.array_equal(few_shot(120, 4, 2, 24, seed=seed).learn(x, labels).weights, whole.weights)  # the same seed, the same bits


def test_a_class_starts_the_same_whenever_it_is_added():
    assert np.array_equal(few_shot(50, 5, 2, 9, seed=3).weights, few_shot(50, 2, 2, 9, seed=3).add_classes(2).add_classes(1).weights)


def test_plasticity_falls_by_shares_of_the_first_to_its_least_and_moves_fewer_ones():
    x = np.zeros((1, 100), np.uint8)
    x[0, :30] = 1
    how = Competition(initial=0.8, decay=0.3, lowest=0.2, competition=1)
    layer, moved = few_shot(100, 1, 1, 30, how=how), []
    for k, tenths in enumerate([80, 56, 32, 20, 20]):
        assert how.plasticity(k) * 100 == tenths
        sample = np.roll(x, 40 * k, 1)
        after = layer.learn(sample, [0])
        unused = int(((layer.weights[0, 0] == 1) & (sample[0] == 0)).sum())
        moved.append(int((after.weights != layer.weights).sum()) // 2)
        assert moved[-1] == -(-tenths * unused // 100)
        layer = after
    assert moved[0] > moved[-1] > 0
    assert Competition(initial=0.05).plasticity(0) == Competition(initial=0.05).plasticity(9)  # it never rises to the least


def test_nothing_is_learned_without_plasticity_or_from_silence():
    x, labels = patterns(2)
    start = few_shot(120, 4, 2, 24, how=Competition(initial=0))
    assert np.array_equal(start.learn(x, labels).weights, start.weights) and not start.learn(x, labels).times.any()
    fresh = few_shot(120, 4, 2, 24)
    assert not fresh.learn(0 * x, labels).times.any()


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
    for how in ({"inputs": 2}, {"ones": 0}, {"classes": 0}, {"neurons": 0}):
        with pytest.raises(ParameterError, match="range"):
            few_shot(**{"inputs": 6, "classes": 2, "neurons": 1, "ones": 3} | how)
    for how in ({"decay": 1.5}, {"lowest": -0.1}, {"initial": float("nan")}, {"competition": "0"}, {"competition": True}):
        with pytest.raises(ParameterError, match=next(iter(how))):
            Competition(**how)
    with pytest.raises(ParameterError):
        layer.add_classes(0)
    assert layer.learn(np.zeros((0, 6), int), np.zeros(0, int)).seen == 0 and layer.classify(np.zeros((0, 6), int)).tolist() == []
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0, 0, 0] = 1
