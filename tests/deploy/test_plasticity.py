"""Synapses that learn in integers: closed forms of pairs, loops over every synapse and step, bounds, and what changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.deploy.plasticity import Rule, error_driven, stdp, synapses, three_factor
from neuro.errors import ParameterError, ShapeError

RULE = Rule(decay=600, shift=2)


def pair(lag, rule=RULE):
    """Weight after one input spike and one of the neuron `lag` steps later (earlier if negative)."""
    s = synapses([[0]])
    for t in range(abs(lag) + 1):
        first, last = int(t == 0), int(t == abs(lag))
        s = stdp(s, [first if lag >= 0 else last], [last if lag >= 0 else first], rule)
    return int(s.weight[0, 0])


def faded(steps, rule=RULE):
    x = rule.impulse
    for _ in range(steps):
        x = x * (4096 - rule.decay) >> 12
    return x


@pytest.mark.parametrize("lag", [1, 2, 5, 11, 40])
def test_a_pair_changes_by_the_trace_that_is_left(lag):
    assert pair(lag) == faded(lag) >> 2 and pair(-lag) == -(faded(lag) >> 2)


def test_change_falls_with_the_lag_and_spikes_at_once_do_nothing():
    changes = [pair(lag) for lag in range(1, 30)]
    assert changes == sorted(changes, reverse=True) and changes[0] > 0 == changes[-1] and pair(0) == 0
    assert [pair(-lag) for lag in range(1, 30)] == [-c for c in changes]


def trains(seed, steps=25, inputs=4, outputs=3):
    rng = np.random.default_rng(seed)
    return (rng.random((steps, inputs)) < 0.3).astype(int), (rng.random((steps, outputs)) < 0.3).astype(int), rng.integers(-20, 21, (outputs, inputs)), rng.integers(-3, 4, (steps, outputs))


def toward_zero(x, bits):
    return int(np.sign(x)) * (abs(int(x)) >> bits)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 4096), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_loops_over_every_synapse_and_step_agree(seed, decay, shift, plus, minus):
    pre, post, w, third = trains(seed)
    rule = Rule(decay=decay, shift=shift, plus=plus, minus=minus, tag_decay=700, reward_shift=3, low=-50, high=40)
    two, three = synapses(w), synapses(w)
    for t in range(len(pre)):
        two, three = stdp(two, pre[t], post[t], rule), three_factor(three, pre[t], post[t], third[t], rule)
    for o in range(3):
        for i in range(4):
            x = y = tag = 0
            a = b = int(w[o, i])
            for t in range(len(pre)):
                x, y = toward_zero(x * (4096 - decay), 12), toward_zero(y * (4096 - decay), 12)
                change = toward_zero(plus * x * post[t, o] - minus * y * pre[t, i], shift)
                tag = toward_zero(tag * (4096 - 700), 12) + change
                a, b = min(40, max(-50, a + change)), min(40, max(-50, b + toward_zero(third[t, o] * tag, 3)))
                x, y = min(127, x + 127 * pre[t, i]), min(127, y + 127 * post[t, o])
            assert (two.weight[o, i], three.weight[o, i], three.eligibility[o, i]) == (a, b, tag)


def test_without_a_third_factor_nothing_changes_and_its_sign_turns_the_change():
    pre, post, w, _ = trains(3)
    w = w * 0

    def learned(third):
        s = synapses(w)
        for p, q in zip(pre, post, strict=True):
            s = three_factor(s, p, q, third, replace(RULE, reward_shift=4))
        return s.weight

    assert not learned(0).any() and learned(1).any() and np.array_equal(learned(1), -learned(-1))
    only = learned(np.array([0, 1, 0]))
    assert not only[[0, 2]].any() and np.array_equal(only[1], learned(1)[1])


def test_reward_that_comes_late_finds_the_synapse_that_was_active():
    s = synapses([[0, 0]])
    for t in range(12):
        s = three_factor(s, [int(t == 0), 0], [int(t == 1)], int(t == 11), Rule(decay=600, shift=2, tag_decay=100))
        assert t == 11 or not s.weight.any()
    assert s.weight[0, 0] > 0 == s.weight[0, 1]


def test_silence_and_zero_error_change_nothing():
    s, nothing = synapses([[3, -4]]), [0, 0]
    assert np.array_equal(stdp(s, nothing, [0], RULE).weight, s.weight) and np.array_equal(error_driven(s, [1, 1], 0, RULE).weight, s.weight)
    assert np.array_equal(error_driven(s, nothing, 5, RULE).weight, s.weight)
    assert s.weight.tolist() == [[3, -4]] and not s.x.any()  # and a step leaves what it was given


def test_errors_teach_a_pattern_and_bounds_hold():
    """Two patterns, two neurons that fire at 200: after learning each fires for its own."""
    rng, w = np.random.default_rng(0), np.zeros((2, 20), int)
    patterns, s = np.eye(2, dtype=int).repeat(10, 1), synapses(w)
    rule = Rule(shift=7, low=-20, high=30)
    for _ in range(60):
        k = rng.integers(2)
        fires = (s.weight @ patterns[k] > 200).astype(int)
        wanted = (np.arange(2) == k).astype(int)
        s = error_driven(s._replace(x=0 * s.x), patterns[k], 2 * (wanted - fires), rule)
        assert -20 <= s.weight.min() and s.weight.max() <= 30
    assert [(s.weight @ p > 200).tolist() for p in patterns] == [[True, False], [False, True]]
    strong = s
    for _ in range(300):
        strong = error_driven(strong, patterns[0], np.array([9, -9]), Rule(shift=0))
    assert strong.weight.max() == 127 and strong.weight.min() == -128 and strong.x.max() == 127


def test_what_does_not_fit_is_refused():
    s = synapses(np.zeros((2, 3), int))
    for pre, post in (([1, 0], [0, 0]), ([1, 0, 0], [1]), ([2, 0, 0], [0, 0]), ([0.0, 1.0, 0.0], [0, 0]), ([-1, 0, 0], [0, 0])):
        with pytest.raises(ShapeError, match="spikes"):
            stdp(s, pre, post, RULE)
    for third in (0.5, [1, 2, 3], 2**16):
        with pytest.raises(ShapeError, match="third factor"):
            three_factor(s, [0, 0, 0], [0, 0], third, RULE)
    for w in (np.zeros(3, int), np.zeros((2, 2)), [[128]], [[-129]]):
        with pytest.raises(ShapeError, match="weights"):
            synapses(w)
    for how in ({"decay": 4097}, {"decay": -1}, {"impulse": 128}, {"shift": 31}, {"plus": 0.5}, {"low": 5, "high": 4}, {"high": 128}):
        with pytest.raises(ParameterError):
            Rule(**how)
