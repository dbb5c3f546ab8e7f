"""A run that was killed ends, after resuming, with the weights of the run that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuro.training.checkpoints import WholeCheckpoints

SCRIPT = Path(__file__).with_name("train_tiny.py")
FIGURES = ("epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


class Server:
    """Starts tiny runs, each in a process of its own."""

    def __init__(self, errors):
        self.errors = errors
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(errors, "w"), text=True
        )

    def start(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return int(self.answer("pid"))

    def finish(self, code=0):
        assert int(self.answer("code")) == code, self.errors.read_text()

    def answer(self, key):
        for line in self.process.stdout:
            if line.startswith(key):
                return line.split()[1]
        raise AssertionError(self.errors.read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "errors")
    yield server
    server.process.stdin.close()
    server.process.wait(timeout=30)


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


def wait_for(path):
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert path.exists()


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
    wait_for(folder / "checkpoints/last.ckpt.half")
    assert list((folder / "checkpoints").glob(".last.ckpt.*.part"))
    os.killpg(child, signal.SIGKILL)
    server.finish(-signal.SIGKILL)
    checkpoint = folder / "checkpoints/last.ckpt"
    assert WholeCheckpoints().load_checkpoint(checkpoint)["step"] == 6  # written after 2, 4 and 6; not after 8
    old = checkpoint.stat().st_ino
    child = server.start(folder, "--resume", "--workers", 0)
    until = time.monotonic() + 60
    while checkpoint.stat().st_ino == old and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(child, signal.SIGINT)
    server.finish(130)
    server.start(folder, "--resume")
    server.finish()
    assert_same_run(folder, whole)
    assert not list((folder / "checkpoints").glob(".*"))  # the half file is gone
