"""Two processes take the step that one process takes on the joined batch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_server import wait_for
from train_tiny import tiny_data, tiny_model

from neuro.errors import ParameterError
from neuro.training import Run
from neuro.training.checkpoints import WholeCheckpoints
from neuro.training.fit import fit

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


def alive(group):
    """Whether any process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def assert_stopped(server, group):
    server.finish(130)
    wait_for(lambda: not alive(group), 20)
    assert server.errors.read_text() == ""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks the system for the children of a process")
def test_two_processes_stop_together_and_go_on(tmp_path, server):
    """Ctrl-C while they import, which reaches all of them; then the signal to the first process alone, in training."""
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoints/last.ckpt"
    group = server.start(folder, "--devices", 2)
    children = Path(f"/proc/{group}/task/{group}/children")
    wait_for(lambda: len(children.read_text().split()) == 3)  # the two, and Python's resource tracker
    os.killpg(group, signal.SIGINT)
    assert_stopped(server, group)
    assert not checkpoint.exists()
    group = server.start(folder, "--resume", "--devices", 2)
    wait_for(checkpoint.exists)
    os.kill(group, signal.SIGINT)
    assert_stopped(server, group)
    kept = WholeCheckpoints().load_checkpoint(checkpoint)
    assert kept["model"] and 2 <= kept["step"] < 9 and not (folder / "model.safetensors").exists()
    run = Run.create(folder, recipe="tiny", seed=3, resume=True)
    result = fit(tiny_model(), tiny_data(batch_size=8), run, 3, accelerator="cpu", resume=True, report=False, progress=False)
    assert (result.epochs, result.steps) == (3, 9)


def test_what_cannot_be_sent_to_another_process_is_refused(tmp_path):
    run = Run.create(tmp_path / "run", recipe="tiny", seed=3)
    with pytest.raises(ParameterError, match="cannot be sent(.|\n)*lambda"):
        fit(tiny_model(), tiny_data(), run, 1, devices=2, accelerator="cpu", loss=lambda y, label: y.mean(), progress=False)
