"""The loops that decide between counters: by hand on small cases; ours agrees with them on every network of the table."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("benchmark_energy_peers", FOLDER / "energy_peers.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # its dataclass looks itself up
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("benchmark_energy_peers", None)


def test_loops_by_hand(bench):
    assert bench.loops_linear(torch.tensor([[1.0, 0, -1], [2, 0.5, 0]]), 4) == (8, 8)
    corner = torch.zeros(1, 1, 3, 3)
    corner[0, 0, 0, 0] = 1
    assert bench.loops_conv(corner, nn.Conv2d(1, 2, 3, padding=1)) == (8, 0)  # four taps of nine, for each output channel
    assert bench.loops_conv(0.5 * corner, nn.Conv2d(1, 2, 3)) == (0, 2)
    assert bench.loops_pairs(torch.tensor([[1.0, 3, 0]]), torch.tensor([[2.0], [2], [1]])) == (1, 1)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_ours_equals_the_loops(bench):
    torch.manual_seed(0)
    cases = [*bench.linear_cases(), *bench.conv_cases(), *bench.attention_cases(), *bench.recurrent_cases(None)]
    assert len(cases) == 20
    for case in cases:
        assert bench.asked(bench.ours, case) == case.truth, case.name
    assert sum(sum(case.truth) == 0 for case in cases) == 1  # the silent one


def test_an_error_of_a_tool_is_shown_and_not_a_zero(bench):
    def fails(case):
        raise ValueError("no such layer\nsecond line")

    case = bench.Case("x", nn.Linear(2, 2), torch.ones(1, 2), (4, 0))
    assert bench.asked(fails, case) == "ValueError: no such layer"

    def swallowed(case):
        raise bench.PeerError("0.0, its error swallowed")

    assert bench.asked(swallowed, case) == "0.0, its error swallowed"
    assert bench.cell("ValueError: no such layer", case.truth).startswith("ValueError") and bench.cell((4, 0), (4, 0)) == "equal" and bench.cell((0, 0), (4, 0)) == "0 + 0"


def test_neurons_by_loops_and_ours(bench):
    (case,) = (c for c in bench.recurrent_cases(None) if isinstance(c.net, bench.Steps))
    spikes, updates = bench.neurons_by_loops(case)
    assert updates == 3 * 6 * 10 > spikes > 0 and bench.neurons_ours(case) == (spikes, updates)


def test_a_count_that_is_not_the_truth_is_named(bench, capsys):
    cases = [bench.Case(name, nn.Linear(2, 2), torch.ones(1, 2), (4, 0)) for name in ("a", "b")]
    wrong = bench.compare("network", cases, {"neuro": lambda case: (4, case.name == "b"), "other": lambda case: (0, 0)})
    assert wrong == ["b"]
    assert [line.split()[-2:] for line in capsys.readouterr().out.splitlines()[-1:]] == [["1", "0"]]
