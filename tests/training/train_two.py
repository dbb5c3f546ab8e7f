"""`python train_two.py FOLDER`: one step on 7 recordings by one process, and by two, which share them as 4 and 3; each rank saves its weights."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from train_tiny import tiny_data, tiny_model

from neuro.training import Run
from neuro.training.fit import fit


class Noting:
    """Cross entropy that saves the model's weights whenever it is asked in validation."""

    def __init__(self, model, folder):
        self.model, self.folder = model, folder

    def __call__(self, logits, label):
        if not torch.is_grad_enabled():
            rank = dist.get_rank() if dist.is_initialized() else 0
            torch.save(self.model.state_dict(), self.folder / f"rank{rank}.pt")
        return torch.nn.functional.cross_entropy(logits, label)


def main(folder):
    torch.set_num_threads(1)
    for name, devices, batch_size in (("one", 1, 8), ("two", 2, 4)):
        model = tiny_model(dropout=0.0)
        run = Run.create(folder / name, recipe="tiny", seed=3)
        data = tiny_data(0, batch_size, augment=None, shuffled=7)
        fit(model, data, run, 1, clip=0, warmup=0, devices=devices, accelerator="cpu", loss=Noting(model, run.folder), look_every=1, report=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
