"""Two processes take the step that one process takes on the joined batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neuro.training.checkpoints import WholeCheckpoints

SCRIPT = Path(__file__).with_name("train_two.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


def test_gradients_are_those_of_the_joined_batch(runs):
    """After one AdamW step without clipping the first moment is 0.1 times the gradient."""
    one, two = (WholeCheckpoints().load_checkpoint(runs / name / "checkpoints/last.ckpt")["optimizer"]["state"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert sum(bool(s["exp_avg"].any()) for s in one.values()) > 20
    for i in one:
        assert one[i]["step"] == two[i]["step"] == 1
        torch.testing.assert_close(two[i]["exp_avg"] / 0.1, one[i]["exp_avg"] / 0.1, rtol=1e-5, atol=1e-5)


def test_both_ranks_end_equal(runs):
    first, second = (torch.load(runs / "two" / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first)
    statistics = torch.load(runs / "one/rank0.pt", weights_only=True)
    for k in first:
        if "running" in k:  # of batch norm: joined over the processes
            torch.testing.assert_close(first[k], statistics[k], rtol=1e-5, atol=1e-5)


def test_the_folder_is_written_once(runs):
    one, two = ((runs / name / "metrics.csv").read_text().splitlines() for name in ("one", "two"))
    assert len(two) == 2
    assert [line.split(",")[0] for line in two] == ["epoch", "1"]
    assert two[1].split(",")[4][:6] == one[1].split(",")[4][:6]  # the training loss of all recordings
    layers = (runs / "two/layers.csv").read_text().splitlines()
    assert len(layers) == len(set(layers)) == len((runs / "one/layers.csv").read_text().splitlines())
