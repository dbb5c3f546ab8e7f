"""Convolutions with LIF neurons on objects on a turntable before a DVS128, judged on another day's recordings.

    neuro train conv_objects --data FOLDER --out runs/objects

FOLDER holds `train/CLASS__NAME.aedat` and `valid/...`, loose or in zips. Streams are cut into windows of 100 ms; the network
sees 5 frames of 32 x 32 around the median of a window's events. Trained on `train`, judged on `valid`: other recordings, of a day on
which, of those in `train`, only the mouse was recorded, so that day and class cannot be told apart there.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from neuro.datasets import DVSObjects, EventDataModule, Frames
from neuro.datasets.augment import Compose, RandomAffine, RandomDrop, RandomFlip
from neuro.datasets.centring import Centred, Prepared
from neuro.datasets.resizing import SpatialDownsample
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, divided, made, recipe_of, train_and_judge
from neuro.training.threads import use_threads

SIZE = 64  # pixels of the sensor, each way, around an object


def main(
    out: Path,
    data: Path | None = None,
    epochs: int = 12,
    seed: int = 0,
    bins: int = 5,
    smoothing: float = 0.1,
    dropout: float = 0.3,
    rotate: float = 25.0,
    scale: float = 0.25,
    drop: float = 0.3,
    batch_size: int = 32,
    lr: float = 3e-3,
    weight_decay: float = 0.05,
    simulated: int = 400,
    workers: int = 0,
    threads: int = 1,
    devices: int = 1,
    tune: bool = False,
    resume: bool = False,
) -> None:
    """Train a small convolutional network on event frames of objects.

    Args:
        out: folder of the run.
        data: folder of the recordings; without it, simulated examples.
        epochs: passes over the training examples.
        seed: of the weights, the order and the augmentation.
        bins: frames per window, T.
        smoothing: of the labels, 0 to 1.
        dropout: share of the features before the head.
        rotate: up to so many degrees, each way.
        scale: up to this share larger or smaller, each way by itself.
        drop: share of the events left out.
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
    loaders = EventDataModule(
        found.train, test=found.test, frames=frames(bins), classes=DVSObjects.classes, batch_size=batch_size, workers=workers, seed=seed,
        augment=Compose(Centred(SIZE), RandomAffine(rotate, scale, 0.1), RandomFlip(), RandomDrop(drop)),
    )  # fmt: skip
    torch.manual_seed(seed)
    judged = train_and_judge(
        create("conv_objects", dropout=dropout), loaders, run, found.split, epochs=epochs, lr=lr, weight_decay=weight_decay, devices=devices, resume=resume, loss=nn.CrossEntropyLoss(label_smoothing=smoothing),
    )  # fmt: skip
    print(judged.scores.table())
    print(judged.summary())


def frames(bins: int) -> Prepared:
    """Counts [T, 2, 32, 32] around the median, at most 4."""
    return Prepared((Centred(SIZE), SpatialDownsample(2)), Frames(bins=bins, duration_us=DVSObjects.duration_us, origin_us=0), most=4)


def parts(o: dict) -> Parts:
    """The windows of the parts `train` and `valid`; to tune, the last third of each training stream is held out."""
    if o["data"] is None:
        return made(DVSObjects, o["simulated"], o["seed"])
    windows = DVSObjects(o["data"])
    found = divided(windows, windows.across_days())
    if not o["tune"]:
        return found
    streams = [windows.streams[i] for i in found.train.indices]
    place = [(k - streams.index(s)) * 3 // streams.count(s) for k, s in enumerate(streams)]
    return found.tuning(place, [2])
