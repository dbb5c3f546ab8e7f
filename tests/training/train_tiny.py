"""A tiny training run for the tests, and a server that starts many of them without importing torch each time.

`python train_tiny.py FOLDER [--resume] [--kill BATCHES] [--slow-write N] [--workers 2] [--devices 1]` trains with shuffling, augmentation,
dropout and loader workers. `--kill N` ends the process by SIGKILL in the N-th batch from its start; `--slow-write N` hangs
with the N-th checkpoint half written. `python train_tiny.py serve` reads such lines and forks a process for each.
"""

import argparse
import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import torch

import neuro
from neuro.datasets import EventDataModule, Frames, make_motions
from neuro.datasets.augment import Compose, RandomDrop, RandomShift
from neuro.training import Run, checkpoints, module
from neuro.training.fit import fit


def tiny_data(workers=0, batch_size=4, augment=Compose(RandomShift(2), RandomDrop(0.1)), shuffled=24):
    recordings = make_motions(32, seed=5)
    frames = Frames(window_us=25_000, duration_us=100_000)
    return EventDataModule(
        recordings[:shuffled], recordings[24:], frames=frames, augment=augment, classes=range(8), batch_size=batch_size, workers=workers, seed=3
    )


def tiny_model(dropout=0.2):
    torch.manual_seed(3)
    return neuro.models.create("spikformer_2_256", dim=16, heads=2, image=32, classes=8, dropout=dropout)


def main(words) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--slow-write", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1)
    asked = parser.parse_args(words)
    if asked.kill:
        kill_in_batch(asked.kill)
    if asked.slow_write:
        hang_in_write(asked.slow_write)
    torch.set_num_threads(1)
    run = Run.create(asked.folder, recipe="tiny", seed=3, resume=asked.resume)
    data = tiny_data(asked.workers)
    how = {"resume": asked.resume, "checkpoint_batches": 2, "look_every": 2, "report": False}
    fit(tiny_model(), data, run, 3, devices=asked.devices, accelerator="cpu", **how)


def kill_in_batch(number: int) -> None:
    """SIGKILL this process in its N-th batch."""
    step, count = module.Classifier.training_step, [0]

    def counted(self, batch, batch_idx):
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, batch_idx)

    module.Classifier.training_step = counted


def hang_in_write(number: int) -> None:
    """Write half of the N-th checkpoint, say so in a file, and hang."""
    whole, count = checkpoints.replacing, [0]

    class Half:
        def __init__(self, file, path):
            self.file, self.path = file, path

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            Path(f"{self.path}.half").touch()
            time.sleep(60)

    @contextmanager
    def replacing(path):
        count[0] += 1
        with whole(path) as file:
            yield Half(file, path) if count[0] == number else file

    checkpoints.replacing = replacing


def serve() -> None:
    """For each line: fork, print the process number, and when it has ended its exit code (minus the signal)."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            code = 1
            try:
                main(line.split())
                code = 0
            except KeyboardInterrupt:
                code = 130
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)
        print("pid", child, flush=True)
        print("code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main(sys.argv[1:])
