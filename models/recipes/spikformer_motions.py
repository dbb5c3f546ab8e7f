"""Spikformer on synthetic motions whose classes differ only in their timing. No data to download.

    neuro train spikformer_motions --out runs/motions

A frame summed over time tells the pairs (right and left, ...) apart by chance only; see `neuro.datasets.motions`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from neuro.datasets import EventDataModule, Frames, make_motions
from neuro.datasets.augment import Compose, RandomDrop, RandomShift
from neuro.datasets.motions import CLASSES, DURATION_US
from neuro.models import create
from neuro.training import Run
from neuro.training.fit import fit
from neuro.training.threads import use_threads


def main(
    out: Path,
    epochs: int = 20,
    recordings: int = 1600,
    seed: int = 0,
    bins: int = 10,
    batch_size: int = 32,
    lr: float = 2e-3,
    weight_decay: float = 0.01,
    workers: int = 1,
    threads: int = 1,
    devices: int = 1,
    resume: bool = False,
) -> None:
    """Train a small Spikformer on synthetic motions.

    Args:
        out: folder of the run.
        epochs: passes over the recordings.
        recordings: for training; a quarter as many are made for validation, with another seed.
        seed: of the recordings, the weights, the order and the augmentation.
        bins: frames per recording, T, over its 100 ms.
        batch_size: recordings per step and device.
        lr: largest learning rate.
        weight_decay: of matrices and kernels.
        workers: processes that prepare batches.
        threads: of each process that trains; more than there are free cores is far slower.
        devices: processes that train.
        resume: go on with the run in `out`.
    """
    use_threads(threads)
    run = Run.create(out, recipe="spikformer_motions", options=dict(locals()), seed=seed, resume=resume)
    data = EventDataModule(
        make_motions(recordings, seed=2 * seed),
        make_motions(max(recordings // 4, 1), seed=2 * seed + 1),
        frames=Frames(bins=bins, duration_us=DURATION_US, origin_us=0),
        augment=Compose(RandomShift(2), RandomDrop(0.1)),
        classes=CLASSES, batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = create("spikformer_nmnist", image=32, classes=len(CLASSES), dim=64)
    result = fit(model, data, run, epochs, lr, weight_decay=weight_decay, devices=devices, resume=resume)
    print(result.scores.table())
    print(result.summary())
