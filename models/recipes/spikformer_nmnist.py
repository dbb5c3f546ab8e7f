"""Spikformer on N-MNIST, trained from scratch on two CPU cores.

    neuro train spikformer_nmnist --data FOLDER --out runs/nmnist             all training recordings
    neuro train spikformer_nmnist --data FOLDER --out runs/folds --folds 5    cross-validation
    neuro evaluate runs/nmnist --data FOLDER --split test

The model, 0.16 M parameters, sees 6 frames of a recording's own duration. Each recording is moved, turned, scaled,
thinned and jittered anew in each epoch; recordings held out are not. Only the `train` part of the folder is used.

Seen with seed 0 on the first 850 recordings of the training set, on one core of a shared two-core machine:

    --folds 5 --epochs 60 --workers 0    0.9000 0.9647 0.9471 0.9294 0.9588, mean 0.9400, in 25 min; the two-layer CNN on
                                         summed frames, 40 epochs of the same augmentation and folds: mean 0.9294
    --workers 0                          200 epochs on all 850 in 15.6 min; 0.9600 of 50 recordings of the test set
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from neuro.datasets import NMNIST, EventDataModule, Frames
from neuro.datasets.augment import Compose, RandomAffine, RandomDrop, TimeJitter
from neuro.models import create
from neuro.training import Run
from neuro.training.baselines import SmallCNN, train_on_summed_frames
from neuro.training.fit import fit
from neuro.training.folds import Part
from neuro.training.folds import folds as cut

IN_MEMORY = 5000  # recordings; a larger set is read from its files again and again


def main(
    data: Path,
    out: Path,
    epochs: int = 200,
    folds: int = 0,
    cnn_epochs: int = 40,
    seed: int = 0,
    bins: int = 6,
    batch_size: int = 32,
    lr: float = 3e-3,
    weight_decay: float = 0.05,
    smoothing: float = 0.1,
    dropout: float = 0.1,
    shift: float = 3.0,
    rotate: float = 15.0,
    scale: float = 0.2,
    shear: float = 0.15,
    drop: float = 0.2,
    jitter: float = 3000.0,
    workers: int = 1,
    threads: int = 1,
    devices: int = 1,
    resume: bool = False,
) -> None:
    """Train a Spikformer on N-MNIST.

    Args:
        data: folder of N-MNIST, loose files or zips.
        out: folder of the run.
        epochs: passes over the recordings.
        folds: 0 trains on all training recordings; from 2 on, cross-validates with so many parts.
        cnn_epochs: passes of the two-layer CNN that is trained beside each fold, on the same recordings and augmentation.
        seed: of the weights, the order, the augmentation and the folds.
        bins: frames per recording, T.
        batch_size: recordings per step and device.
        lr: largest learning rate.
        weight_decay: of matrices and kernels.
        smoothing: of the labels, 0 to 1.
        dropout: share of the features before the head.
        shift: up to so many pixels, each way.
        rotate: up to so many degrees, each way.
        scale: up to this share larger or smaller, each way by itself.
        shear: up to so many pixels sideways per pixel down.
        drop: share of the events left out.
        jitter: of each event's time, standard deviation in microseconds.
        workers: processes that prepare batches.
        threads: of each process that trains; more than there are free cores is far slower.
        devices: processes that train.
        resume: go on with the run in `out`.
    """
    options = dict(locals())
    torch.set_num_threads(threads)
    recordings = NMNIST(data, split="train")
    labels = recordings.labels
    run = Run.create(out, recipe="spikformer_nmnist", options=options, seed=seed, resume=resume)
    if len(recordings) <= IN_MEMORY:
        recordings = list(recordings)
    augment = Compose(RandomAffine(rotate, scale, shear, shift), RandomDrop(drop), TimeJitter(jitter))

    def parted(train: np.ndarray, held_out: np.ndarray | None, workers: int = workers) -> EventDataModule:
        return EventDataModule(
            Part(recordings, train),
            None if held_out is None else Part(recordings, held_out),
            frames=Frames(bins=bins), augment=augment, classes=NMNIST.classes, batch_size=batch_size, workers=workers, seed=seed,
        )  # fmt: skip

    def train(run: Run, events: EventDataModule):
        torch.manual_seed(seed)
        model = create("spikformer_nmnist", dropout=dropout)
        return fit(
            model, events, run, epochs, lr, weight_decay=weight_decay,
            loss=nn.CrossEntropyLoss(label_smoothing=smoothing), devices=devices, resume=resume,
        )  # fmt: skip

    everything = np.arange(len(labels))
    if not folds:
        print(train(run, parted(everything, None)).summary())
        return
    spiking, plain = [], []
    for k, held_out in enumerate(cut(labels, folds, seed)):
        part = Run.create(out / f"fold_{k}", recipe="spikformer_nmnist", options=options, seed=seed, resume=resume)
        kept = np.setdiff1d(everything, held_out)
        result = train(part, parted(kept, held_out))
        spiking.append(result.val_accuracy)
        torch.manual_seed(seed)
        cnn = SmallCNN(2, NMNIST.sensor.width, len(NMNIST.classes), width=32, hidden=128)
        plain.append(train_on_summed_frames(cnn, parted(kept, held_out, workers=0), cnn_epochs, smoothing=smoothing))
        print(f"fold {k}: {result.summary()}; two-layer CNN on summed frames {plain[-1]:.4f}", flush=True)
    for name, reached in (("spiking transformer", spiking), ("CNN on summed frames", plain)):
        print(f"{name}: {' '.join(f'{a:.4f}' for a in reached)}   mean {np.mean(reached):.4f}   std {np.std(reached):.4f}")
