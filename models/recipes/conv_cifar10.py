"""Convolutions with LIF neurons on CIFAR-10: the picture itself as a current, at each of a few steps.

    neuro train conv_cifar10 --data FOLDER --out runs/cifar10

FOLDER holds the binary version, or cifar10_train*.npz and cifar10_test*.npz with JPEGs. Judged on the test pictures.
"""

from __future__ import annotations

from pathlib import Path

import torch

from neuro.datasets import CIFAR10, ArrayDataModule
from neuro.datasets.array_augment import FlipPicture, Several, ShiftPicture
from neuro.datasets.cifar10 import CIFAR10JPEG
from neuro.datasets.encoding import Direct
from neuro.datasets.npz import the_file
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, made, official, recipe_of, train_and_judge
from neuro.training.threads import use_threads


def main(
    out: Path,
    data: Path | None = None,
    epochs: int = 6,
    seed: int = 0,
    steps: int = 2,
    shift: int = 3,
    batch_size: int = 64,
    lr: float = 5e-3,
    weight_decay: float = 0.02,
    simulated: int = 400,
    workers: int = 0,
    threads: int = 1,
    devices: int = 1,
    tune: bool = False,
    resume: bool = False,
) -> None:
    """Train a small convolutional network on CIFAR-10.

    Args:
        out: folder of the run.
        data: folder of the binary version, or of npz files of JPEGs; without it, simulated examples.
        epochs: passes over the training examples.
        seed: of the weights, the order and the augmentation.
        steps: T.
        shift: pictures are moved by up to so many pixels, each way, and mirrored.
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
        found.train, test=found.test, encode=Direct(steps), augment=Several((ShiftPicture(shift), FlipPicture())), classes=CIFAR10.classes,
        batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    judged = train_and_judge(
        create("conv_cifar10"), loaders, run, found.split, epochs=epochs, lr=lr, weight_decay=weight_decay, devices=devices, resume=resume, linear=1,
    )  # fmt: skip
    print(judged.scores.table())
    print(judged.summary())


def parts(o: dict) -> Parts:
    """Training and test pictures."""
    if o["data"] is None:
        return made(CIFAR10, o["simulated"], o["seed"])
    folder = Path(o["data"])
    if any(folder.rglob("data_batch_1.bin")):
        train, test = CIFAR10(folder, "train"), CIFAR10(folder, "test")
    else:
        train, test = (CIFAR10JPEG(the_file(folder, f"cifar10_{part}*.npz"), part) for part in ("train", "test"))
    found = official(train, test, "training and test files")
    return found.tuning(seed=o["seed"]) if o["tune"] else found
