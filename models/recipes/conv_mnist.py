"""Convolutions with LIF neurons on MNIST: the picture itself as a current, at each of a few steps.

    neuro train conv_mnist --data FOLDER --out runs/mnist

FOLDER holds the IDX files, gzipped or not. Judged on the test pictures.
"""

from __future__ import annotations

from pathlib import Path

import torch

from neuro.datasets import MNIST, ArrayDataModule
from neuro.datasets.array_augment import ShiftPicture
from neuro.datasets.encoding import Direct
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, made, official, recipe_of, train_and_judge
from neuro.training.threads import use_threads


def main(
    out: Path,
    data: Path | None = None,
    epochs: int = 3,
    seed: int = 0,
    steps: int = 4,
    shift: int = 2,
    batch_size: int = 64,
    lr: float = 5e-3,
    weight_decay: float = 0.01,
    simulated: int = 400,
    workers: int = 0,
    threads: int = 1,
    devices: int = 1,
    tune: bool = False,
    resume: bool = False,
) -> None:
    """Train a small convolutional network on MNIST.

    Args:
        out: folder of the run.
        data: folder of the IDX files; without it, simulated examples.
        epochs: passes over the training examples.
        seed: of the weights, the order and the augmentation.
        steps: T.
        shift: pictures are moved by up to so many pixels, each way.
        batch_size: examples per step and device.
        lr: largest learning rate.
        weight_decay: of matrices and kernels.
        simulated: how many examples are made without data.
        workers: processes that prepare batches.
        threads: of each process that trains; more than there are free cores is far slower.
        devices: processes that train.
        tune: leave the test examples alone and judge on a part of the training ones, to choose settings.
        resume: go on with the run in `out`.
    """
    use_threads(threads)
    options = dict(locals())
    found = parts(options)
    run = Run.create(out, recipe=recipe_of(__file__), options=options, seed=seed, resume=resume)
    loaders = ArrayDataModule(
        found.train, test=found.test, encode=Direct(steps), augment=ShiftPicture(shift), classes=MNIST.classes,
        batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    judged = train_and_judge(
        create("conv_mnist"), loaders, run, found.split, epochs=epochs, lr=lr, weight_decay=weight_decay, devices=devices, resume=resume, linear=1,
    )  # fmt: skip
    print(judged.scores.table())
    print(judged.summary())


def parts(o: dict) -> Parts:
    """Training and test pictures."""
    if o["data"] is None:
        return made(MNIST, o["simulated"], o["seed"])
    found = official(MNIST(o["data"], "train"), MNIST(o["data"], "test"), "training and test files")
    return found.tuning(seed=o["seed"]) if o["tune"] else found
