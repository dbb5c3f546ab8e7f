"""What the integers cost: counts are quantised whole, currents behind the host's first neurons, and every example is answered by both."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from neuro.datasets.loading import Sample
from neuro.layers import Flatten, Linear, MeanOverTime, Sequential
from neuro.neurons import LIF

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_quantization_loss", FOLDER / "quantization_loss.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop(spec.name, None)


@pytest.fixture
def run(bench, tmp_path, monkeypatch):
    """Makes a stand-in for a run: a network that tells bright from dark, parts of 6 and 9 examples, of counts or of currents."""
    torch.manual_seed(0)
    net = Sequential(Flatten(), Linear(4, 6), LIF(), Linear(6, 5), LIF(), Linear(5, 2), MeanOverTime()).eval()
    for p in net.parameters():
        p.data = p.data * 5
    (tmp_path / "recipe.json").write_text(json.dumps({"options": {"epochs": 7}}))

    def made(counts):
        def part(n):
            xs = [torch.poisson(torch.full((5, 1, 2, 2), 3.0 * (i % 2) + 0.5)) for i in range(n)]
            return [Sample(x if counts else x + 0.25, i % 2) for i, x in enumerate(xs)]

        parts = {"train": part(6), "test": part(9)}
        monkeypatch.setattr(bench, "load", lambda folder: net)
        monkeypatch.setattr(bench, "samples", lambda model, folder, data, which: parts[which])
        return net, parts, tmp_path

    return made


@pytest.mark.parametrize("counts", [True, False], ids=["counts", "currents"])
def test_both_answer_the_same_examples(bench, run, counts):
    net, parts, folder = run(counts)
    loss = bench.examine(folder, folder, examples=9)
    assert [*loss.found] == [(8, False), (4, False), (3, False), (3, True)] and loss.epochs == 7
    assert loss.host == ("" if counts else "0, 1, 2") and loss.firing > 0
    with torch.no_grad():
        want = [int(net(s.x[:, None]).argmax()) for s in parts["test"]]
    for found in loss.found.values():
        assert found.float_predictions.tolist() == want and found.labels.tolist() == [s.label for s in parts["test"]]
    assert loss.found[8, False].same >= 8 / 9
    row = ["`name`", "data", *loss.cells()]
    text = bench.page({"name": row}, {"other": "not trained"})
    assert len(row) == len(bench.HEAD) and f"| {' | '.join(row)} |" in text and "- `other`: not trained" in text


def test_examples_are_spread_over_the_part(bench):
    part = [Sample(torch.full((2, 1, 1, 1), float(i)), i) for i in range(10)]
    shown = [y.tolist() for _, _, y in bench.batches(part, 5, 2)]
    assert shown == [[0, 2], [4, 6], [8]]
