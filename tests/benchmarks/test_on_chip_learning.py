"""What the script on new digits is made of: parts that do not overlap, rows that alone learn, and no data said in a line."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

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


def test_parts_share_no_recording_and_hold_all(bench):
    labels = torch.arange(10).repeat(20)
    learn, judge = bench.parts(labels, 0.7, seed=1)
    assert not set(learn) & set(judge) and len(learn) + len(judge) == 200
    assert np.bincount(labels[learn]).tolist() == [14] * 10


def test_only_the_rows_that_are_asked_learn_and_they_learn(bench):
    rng = np.random.default_rng(0)
    centres = np.array([rng.permutation([1] * 12 + [0] * 28) for _ in range(3)])
    layer, rows = bench.Errors(40, 3, threshold=100), np.array([1, 1, 0])
    for k in rng.integers(0, 2, 30):
        layer.learn(np.tile(centres[k], (6, 1)), k, rows)
    assert not layer.weights[2].any() and layer.weights[:2].any()
    old = layer.weights[:2].copy()
    assert layer.classify(np.tile(centres[:2], (6, 1, 1))).tolist() == [0, 1]
    for _ in range(5):
        layer.learn(np.tile(centres[2], (6, 1)), 2, 1 - rows)
    assert np.array_equal(layer.weights[:2], old) and layer.classify(np.tile(centres[2], (6, 1, 1))).tolist() == [2]


def test_scores_are_of_all_old_and_new(bench):
    truth = np.array([0, 1, 8, 9])
    assert bench.judged(np.array([0, 8, 8, 8]), truth) == (0.5, 0.5, 0.5)
    assert bench.nearest(np.eye(3, dtype=int), np.array([4, 5, 6]), np.array([[0, 1, 0]])).tolist() == [5]


def test_no_recordings_are_said_in_a_line(bench, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["on_chip_learning.py", str(tmp_path / "nowhere")])
    assert bench.main() == 0 and "no recordings" in capsys.readouterr().out
