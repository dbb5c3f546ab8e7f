"""A run that was killed ends, after resuming, with the weights of the run that was not."""

import os
import random
import signal

import pytest
import torch
from safetensors.torch import load_file
from tiny_server import wait_for

from neuro.training.checkpoints import WholeCheckpoints

FIGURES = ("epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    server.start(folder)
    server.finish()
    assert server.errors.read_text() == ""  # no chatter
    return folder


def assert_same_run(folder, whole):
    """Bit-equal weights, and the same rows in the tables."""
    ours, theirs = load_file(folder / "model.safetensors"), load_file(whole / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert (folder / "layers.csv").read_bytes() == (whole / "layers.csv").read_bytes()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    assert figures(folder) == figures(whole)


def figures(folder):
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    wanted = [i for i, name in enumerate(lines[0]) if name in FIGURES]
    return [[line[i] for i in wanted] for line in lines]


def test_killed_at_random_batches(tmp_path, server, whole):
    """SIGKILL before the first checkpoint and at three random batches; once with other loader workers."""
    folder = tmp_path / "run"
    draw = random.Random(7)
    server.start(folder, "--kill", 1)
    server.finish(-signal.SIGKILL)
    assert not (folder / "checkpoints/last.ckpt").exists()
    for workers in (2, 0, 2):
        server.start(folder, "--resume", "--kill", draw.randint(3, 6), "--workers", workers)
        server.finish(-signal.SIGKILL)
    server.start(folder, "--resume")
    server.finish()
    assert_same_run(folder, whole)


def test_killed_while_a_checkpoint_is_written(tmp_path, server, whole):
    """The checkpoint before it still stands, and is gone on from. Then Ctrl-C, and on again."""
    folder = tmp_path / "run"
    child = server.start(folder, "--slow-write", 4)
    wait_for((folder / "checkpoints/last.ckpt.half").exists)
    assert list((folder / "checkpoints").glob(".last.ckpt.*.part"))
    os.killpg(child, signal.SIGKILL)
    server.finish(-signal.SIGKILL)
    checkpoint = folder / "checkpoints/last.ckpt"
    assert WholeCheckpoints().load_checkpoint(checkpoint)["step"] == 6  # written after 2, 4 and 6; not after 8
    old = checkpoint.stat().st_ino
    child = server.start(folder, "--resume", "--workers", 0)
    wait_for(lambda: checkpoint.stat().st_ino != old)
    os.kill(child, signal.SIGINT)
    server.finish(130)
    server.start(folder, "--resume")
    server.finish()
    assert_same_run(folder, whole)
    assert not list((folder / "checkpoints").glob(".*"))  # the half file is gone
