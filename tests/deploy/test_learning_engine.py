"""Loihi's learning engine: equal to Lava's in every weight, tag and trace; closed forms; the grammar of rules; what is refused."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.deploy.learning_engine import LearningRule, Sign, begin, deployed, stdp, step
from neuro.deploy.plasticity import Rule, synapses
from neuro.deploy.plasticity import stdp as truncated_stdp
from neuro.deploy.sum_of_products import Factor, Product, products
from neuro.errors import ParameterError, ShapeError

sys.path.insert(0, str(Path(__file__).parent))
import learning_cases  # noqa: E402

SEEDS = st.integers(0, 2**16)


def lava_states(python, folder, cases):
    learning_cases.write(folder, cases)
    helper = Path(__file__).with_name("learning_by_lava.py")
    done = subprocess.run([python, "-I", helper, folder / "cases.json", folder, folder / "out.npz"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "out.npz") as out:
        return dict(out)


def test_lava_has_the_same_weights_tags_and_traces_after_every_step(lava, tmp_path):
    """Random rules of two and three factors, epochs, signs, periods, constants; and Lava's own STDPLoihi and RewardModulatedSTDP."""
    cases = [learning_cases.random_case(seed) for seed in range(6)]
    arrays = cases[0][1] | {"weight": cases[0][1]["weight"] // 3, "tag": 0 * cases[0][1]["tag"]}
    arrays |= {name: arrays[name] // 8 for name in ("y1", "y2", "y3")}
    ours = [learning_cases.ours(case) for case, _ in cases]
    cases.append(({"name": "stdp", "kind": "STDPLoihi", "factors": 2, "sign": 1,
                   "rule": {"learning_rate": 1, "A_plus": 0.5, "A_minus": -0.25, "tau_plus": 10, "tau_minus": 7, "t_epoch": 2, "rng_seed": 3}}, arrays))  # fmt: skip
    ours.append(stdp("2^-1", "2^-2", 10.0, 7.0, epoch=2, seed=3))
    cases.append(({"name": "reward", "kind": "RewardModulatedSTDP", "factors": 3, "sign": 1,
                   "rule": {"learning_rate": 1, "A_plus": 0.5, "A_minus": -0.5, "pre_trace_decay_tau": 10, "post_trace_decay_tau": 10, "pre_trace_kernel_magnitude": 16,
                            "post_trace_kernel_magnitude": 16, "eligibility_trace_decay_tau": 0.25, "t_epoch": 1, "rng_seed": 3}}, arrays))  # fmt: skip
    ours.append(LearningRule("u0 * t * y2", "-2^-1 * x0 * y1 + 2^-1 * y0 * x1 - 2^-2 * u0 * t", x1=(16, 10.0), third=True, seed=3))
    found, moved = lava_states(lava, tmp_path, cases), 0
    for (case, taken), rule in zip(cases, ours, strict=True):
        states = learning_cases.states(rule, taken)
        for what, values in states.items():
            assert np.array_equal(found[f"{case['name']}/{what}"], values), (case, what)
        moved += len(np.unique(states["weights"], axis=0)) > 5
    assert moved > 4


def pair(lag, rule, weight=0):
    """Weight after one input spike and one of the neuron `lag` steps later (earlier if negative)."""
    s = begin(rule, [[weight]])
    for t in range(abs(lag) + 1):
        first, last = int(t == 0), int(t == abs(lag))
        s = step(rule, s, [first if lag >= 0 else last], [last if lag >= 0 else first])
    return int(s.weight[0, 0])


@pytest.mark.parametrize("lag", [1, 2, 5, 11])
def test_over_seeds_the_mean_change_is_the_exponential(lag):
    """Random rounding is unbiased: the mean over seeds is that of real numbers, which truncation stays below."""
    means = {}
    for sign in (1, -1):
        means[sign] = np.mean([pair(sign * lag, stdp("2^-1", "2^-1", 6.0, 6.0, impulse=120, seed=seed)) for seed in range(80)])
    exact = 60 * np.exp(-lag / 6)
    assert means[1] == pytest.approx(exact, abs=1.5) and means[-1] == pytest.approx(-exact, abs=1.5)


def test_against_the_truncated_rule_two_things_differ():
    """`neuro.deploy.plasticity` truncates and lets no spike meet those of its own step; the engine rounds at random and does."""
    rule = stdp("2^0", "2^-1", 6.0, 6.0, impulse=64)
    ours = Rule(decay=round(4096 * (1 - np.exp(-1 / 6))), impulse=64, shift=0)

    def truncated(lag):
        s = synapses([[0]])
        for t in range(lag + 1):
            s = truncated_stdp(s, [int(t == 0)], [int(t == lag)], ours)
        return int(s.weight[0, 0])

    assert truncated(0) == 0 and pair(0, rule) == 64 - 32
    for lag in range(1, 15):
        assert 0 <= pair(lag, rule) - truncated(lag) <= lag  # each step of decay loses less than 1 to truncation, and gains less than 1 here
    assert sum(pair(lag, rule) for lag in range(1, 15)) > sum(truncated(lag) for lag in range(1, 15))


def test_without_spikes_and_in_the_midst_of_an_epoch_nothing_changes():
    rule = LearningRule("2^-1 * y0 * x1 - 2^-1 * x0 * y1", x1=(16, 9.0), y1=(16, 9.0), epoch=4)
    s = begin(rule, [[10, -20]])
    for _ in range(8):
        s = step(rule, s, [0, 0], [0])
    assert s.weight.tolist() == [[10, -20]] and not s.x.any() and s.steps == 8
    changed = []
    for _ in range(8):
        before, s = s, step(rule, s, [1, 0], [1])
        changed.append(bool((before.weight != s.weight).any()))
    assert not any(changed[:3]) and changed[3] and not any(changed[4:7])


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_ranges_hold_and_a_state_is_a_value(seed):
    case, arrays = learning_cases.random_case(seed, steps=12)
    rule = learning_cases.ours(case)
    once, twice = learning_cases.states(rule, arrays), learning_cases.states(rule, arrays)
    low, high = rule.sign.value
    assert once["weights"].min() >= low and once["weights"].max() <= high and once["tag_1"].min() >= -257 and once["tag_1"].max() <= 255
    assert once["x1"].min() >= 0 and once["x1"].max() <= 127
    assert all(np.array_equal(once[k], twice[k]) for k in once)
    if rule.sign is Sign.MIXED:
        assert not (deployed(rule, once["weights"]) % 2).any()


def test_the_third_factor_decides_and_a_tag_waits_for_it():
    rule = LearningRule("2^-3 * u0 * t * y2", "2^0 * y0 * x1", x1=(16, 6.0), third=True)
    none, weights = np.zeros((3, 1), int), {}
    for reward in (0, 20, -20):
        s = begin(rule, [[0, 0]])
        for t in range(10):
            s = step(rule, s, [int(t == 0), 0], [int(t == 1)], none + (reward if t == 9 else 0))
            assert t == 9 or not s.weight.any()
        weights[reward] = s.weight[0].tolist()
        assert s.tag[0, 0] > 0 == s.tag[0, 1]
    assert weights[0] == [0, 0] and weights[20][0] > 0 > weights[-20][0] and weights[20][1] == weights[-20][1] == 0


def test_a_neuron_that_fires_loses_a_negative_third_factor_as_in_lava():
    rule = LearningRule("2^-2 * u0 * x1 * y3", x1=(64, 8.0), third=True)
    s = step(rule, begin(rule, [[100]]), [1], [0], np.full((3, 1), -8))
    assert step(rule, begin(rule, [[100]]), [1], [1], np.full((3, 1), -8)).weight[0, 0] == 100 > s.weight[0, 0]


def test_the_grammar():
    p, q, r = products("2^-2*y0*x1 - 3 * x0 * (y1 + 4) + 2^(-1) * (-16) * u2 * sgn(w - 2) * t")
    assert p == Product("y0", 1, -2, (Factor("x1"),)) and q == Product("x0", -3, 0, (Factor("y1", 4),))
    assert r == Product("u", -4, 1, (Factor("w", -2, True), Factor("t")), 2) and r.width == 18
    assert products("x0 * y0 * x1")[0].factors == (Factor("y0"), Factor("x1")) and products("-u0*(-w + 3)")[0] == Product("u", 1, 0, (Factor("w", -3),), 0)


@pytest.mark.parametrize("rule", ["", "x1", "x0 *", "x0 * * y1", "y0 * x3", "d * x0", "x0 * q", "9 * x0", "2^9 * x0", "2^-8 * x0", "3^2 * x0", "u0 * w + u1 * w",
                                  "x0 * w * w * t * t", "x0 * (u0 + 1)", "x0 * (x1 + y1)", "x0 x1", "sgn(x1) * x0", "x0 * (x1", "x0 * 2^x1", "u0 * u1 * w", "x0)"])  # fmt: skip
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(ParameterError, match="sum of products"):
        products(rule)


def test_what_does_not_fit_is_refused():
    rule = LearningRule("x0 * y1", x1=(16, 5.0))
    for how in ({"x1": (128, 1.0)}, {"x1": (1.5, 1.0)}, {"x1": (1, -1.0)}, {"y1": (1, float("nan"))}, {"epoch": 0}, {"epoch": 64}, {"seed": -1}, {"epoch": True}, {"dw": None}, {"y1": (1, 2.0), "third": True}):
        with pytest.raises(ParameterError, match="LearningRule"):
            replace(rule, **how)
    with pytest.raises(ParameterError, match="period"):
        LearningRule("u0 * w", "u1 * t")
    for weight in ([[300]], [[-257]], [1, 2], [[0.5]], np.zeros((0, 3), int)):
        with pytest.raises(ShapeError, match="weights"):
            begin(rule, weight)
    with pytest.raises(ShapeError, match="weights"):
        begin(replace(rule, sign=Sign.EXCITATORY), [[-1]])
    with pytest.raises(ShapeError, match="tags"):
        begin(rule, [[1]], [[1, 2]])
    s = begin(rule, [[1, 2]])
    for pre, post in (([1], [1]), ([1, 2], [0]), ([0.0, 1.0], [0]), ([0, 1], [-1])):
        with pytest.raises(ShapeError, match="spikes"):
            step(rule, s, pre, post)
    with pytest.raises(ShapeError, match="third"):
        step(rule, s, [0, 1], [0], np.zeros((3, 1), int))
    three = replace(rule, third=True)
    for third in (None, np.zeros((2, 1), int), np.zeros((3, 1)), np.full((3, 1), 128)):
        with pytest.raises(ShapeError, match="third"):
            step(three, begin(three, [[1, 2]]), [0, 1], [0], third)
