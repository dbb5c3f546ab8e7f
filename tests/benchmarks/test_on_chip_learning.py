"""What the script on new classes is made of: parts that do not overlap, last layers that learn and keep, opponents that are what they say."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neuro.deploy.network import LIF, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.twin import run_twin

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_on_chip_learning", FOLDER / "on_chip_learning.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def features(bench):
    """Four classes, two of them old, each driving inputs of its own through a network whose neurons copy them."""
    rng, inputs, steps = np.random.default_rng(0), 40, 8
    labels = np.arange(4).repeat(30)
    drive = np.arange(inputs) // 10 == labels[:, None]
    x = (rng.random((steps, len(labels), inputs)) < 0.05 + 0.5 * drive).astype(np.int32)
    head = np.kron(np.eye(4, dtype=int)[:2], np.full(10, 20))
    nodes = [Input("input", (inputs,)), Dense("fc", "input", 4 * np.eye(inputs, dtype=int)), LIF("lif", "fc", vth=1, dv=4096), Dense("head", "lif", head),
             Readout("readout", "head", np.zeros(2, np.int64))]  # fmt: skip
    network = IntegerNetwork(nodes)
    spikes = run_twin(network, x, record=True).spikes["lif"].astype(np.int64)
    assert np.array_equal(spikes, x)
    return bench.Features(network, x, (spikes.sum(0) > 1).astype(np.uint8), spikes.sum(0), labels, 4, 2)


def test_parts_share_no_recording_and_hold_all(bench):
    labels = np.arange(10).repeat(20)
    learn, judge = bench.parts(labels, np.arange(200), 0.7, seed=1)
    assert not set(learn) & set(judge) and len(learn) + len(judge) == 200
    assert np.bincount(labels[learn]).tolist() == [14] * 10


def test_a_group_is_learned_from_or_judged_on_as_a_whole_and_what_stands_apart_is_judged_on(bench):
    labels, groups = np.arange(3).repeat(200), np.arange(600) // 20
    learn, judge = bench.parts(labels, groups, 0.7, seed=2)
    assert not set(groups[learn]) & set(groups[judge]) and np.bincount(labels[learn]).tolist() == [140] * 3
    assert np.bincount(labels[judge]).tolist() == [bench.JUDGED] * 3 and set(groups[judge]) == set(groups) - set(groups[learn])  # fewer, from all of them
    apart = np.isin(groups, (0, 1, 12))
    learn, judge = bench.parts(labels, groups, 0.7, 2, apart)
    assert set(groups[judge]) == {0, 1, 12} and set(learn) == set(np.flatnonzero(~apart))


@pytest.mark.skipif("NEURO_DATA" not in os.environ, reason="no recordings: set NEURO_DATA")
def test_objects_are_divided_by_time_or_by_day(bench, monkeypatch):
    seen = lambda bins: lambda events, sensor: np.full((bins, 2, 32, 32), min(len(events), 4), np.float32)  # noqa: E731, true frames take long
    monkeypatch.setattr("neuro.models.recipes.conv_objects.frames", seen)
    folder = Path(os.environ["NEURO_DATA"])
    if not (folder / "dvs128_objects").exists():
        pytest.skip(f"no dvs128_objects in {folder}")
    x, labels, groups, apart = bench.objects_of_another_day(folder)
    assert x.shape[:1] + x.shape[2:] == (5, 2, 32, 32) and 0 < x.max() <= 4 and set(labels.tolist()) == set(range(7))
    assert {bench.OBJECTS[k] for k in set(labels[torch.tensor(apart)].tolist())} == {"box", "scissors", "mouse"}
    assert len(set(groups)) == 11 * bench.BLOCKS and all(len(set(labels[torch.tensor(groups == g)].tolist())) == 1 for g in set(groups))
    assert all((np.diff(groups[groups // bench.BLOCKS == s]) >= 0).all() for s in range(11))  # tenths in order of time


def test_every_layer_learns_and_what_the_chip_must_not_touch_stays(bench, features):
    f = features
    learn, judge = bench.parts(f.labels, np.arange(120), 0.5, 0)
    known, new = learn[f.labels[learn] < 2], learn[f.labels[learn] >= 2]
    options = bench.argparse.Namespace(neurons=3, competition=0.1, replay=3)
    before = bench.first(f, known, options, 0)
    after = {name: layer.add(new) for name, layer in before.items()}
    assert set(before) == set(bench.METHODS) and not bench.faults(f, before, after, judge)
    for name in bench.METHODS:
        was, now = (bench.judged(layers[name].answers(judge), f.labels[judge], 2) for layers in (before, after))
        assert was[2] == 0 and now[2] > 0.8 and now[1] > (0.6 if name == "rows" else 0.8), (name, was, now)
        assert after[name].kept() > before[name].kept() > 0
    assert (after["rows"].answers(judge) == f.labels[judge])[f.labels[judge] < 2].mean() <= (after["replay"].answers(judge) == f.labels[judge])[f.labels[judge] < 2].mean()


def test_faults_are_found(bench, features):
    f = features
    learn, judge = bench.parts(f.labels, np.arange(120), 0.5, 0)
    before = bench.first(f, learn[f.labels[learn] < 2], bench.argparse.Namespace(neurons=3, competition=0.1, replay=3), 0)
    after = {name: before[name].add(learn[f.labels[learn] >= 2]) for name in ("binary", "rows", "replay")}
    weights = after["binary"].layer.weights.copy()
    weights[0] = np.roll(weights[0], 5, -1)
    after["binary"].layer = bench.readouts.few_shot(40, 4, 3, 5).__class__(weights, after["binary"].layer.times, 0, after["binary"].layer.how)
    assert "binary: an old weight" in bench.faults(f, before, after, judge)


def test_ridge_is_the_least_squares_solution_and_means_are_means(bench, features):
    f, known = features, np.arange(120)
    ridge = bench.readouts.Ridge(f, f.counts, known, penalty=1e-6)
    x, y = np.c_[f.counts, np.ones(120)], np.where(f.labels[:, None] == np.arange(4), 1, -1)  # classes are of equal size here
    assert np.allclose(x @ ridge.weights, x @ np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-3)
    means = bench.readouts.Means(f, f.binary, known)
    assert np.allclose(means.means[2], f.binary[f.labels == 2].mean(0))
    nearest = bench.readouts.Nearest(f, known[::3])
    distances = (f.binary[:, None].astype(int) != f.binary[None, ::3]).sum(2)
    assert np.array_equal(nearest.answers(known), f.labels[::3][distances.argmin(1)])


def test_logistic_regression_is_at_the_minimum_of_its_loss(bench, features):
    """The gradient of the loss that it states, written out here, is 0 there; classes weigh the same although one has fewer recordings."""
    f, known = features, np.r_[0:120:4, 90:120]
    fitted = bench.readouts.Logistic(f, f.counts, known, penalty=2.0)
    x, y = np.c_[f.counts, np.ones(120)][known], np.eye(4)[f.labels[known]]
    w = fitted.weights.detach().double().numpy()
    p = np.exp(x @ w)
    p /= p.sum(1, keepdims=True)
    weight = (len(known) / 4 / y.sum(0))[f.labels[known]][:, None]
    gradient = x.T @ (weight * (p - y)) / len(known) + 2.0 / len(known) * np.r_[w[:-1], np.zeros((1, 4))]
    assert len(set(y.sum(0))) > 1 and np.abs(gradient).max() < 2e-4 < np.abs(x.T @ (weight * (0.25 - y)) / len(known)).max()
    assert np.array_equal(fitted.answers(np.arange(120)), (np.c_[f.counts, np.ones(120)] @ w).argmax(1))


def test_scores_are_of_all_old_and_new(bench):
    assert bench.judged(np.array([0, 8, 8, 8]), np.array([0, 1, 8, 9]), 8) == (0.5, 0.5, 0.5)


def test_the_picture_is_drawn(bench, tmp_path, capsys):
    rng = np.random.default_rng(0)
    found = {"N": {name: rng.random((len(bench.SHOTS) + 1, 3, 3)) for name in bench.METHODS}}
    bench.draw(found, tmp_path / "p.png", 5)
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG" and "p.png" in capsys.readouterr().out


def test_no_recordings_are_said_in_a_line(bench, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["on_chip_learning.py", str(tmp_path / "nowhere")])
    assert bench.main() == 0 and capsys.readouterr().out.count("no recordings") == len(bench.TASKS)
