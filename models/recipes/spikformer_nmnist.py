"""Spikformer on N-MNIST, trained from scratch on two CPU cores.

    neuro train spikformer_nmnist --data FOLDER --out runs/nmnist             all training recordings
    neuro train spikformer_nmnist --data FOLDER --out runs/folds --folds 5    cross-validation
    neuro evaluate runs/nmnist --data FOLDER --split test

The model, 0.16 M parameters, sees 6 frames of a recording's own duration. Each recording is moved, turned, scaled,
thinned and jittered anew in each epoch; recordings held out are not. Only the `train` part of the folder is used. With
--folds, the strength of the augmentation and the moment to stop are chosen inside the training part of each fold, for
this network and for a two-layer CNN on summed frames beside it: see `neuro.training.selection`.

Seen with seed 0 on the first 850 recordings of the training set, on one core of a shared two-core machine:

    --workers 0                          200 epochs on all 850 in 12 to 16 min; 47 and 48 of 50 recordings of the test set in two trainings
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neuro.datasets import NMNIST, EventDataModule, Frames, cache_files
from neuro.datasets.augment import Compose, RandomAffine, RandomDrop, TimeJitter
from neuro.models import create
from neuro.training import Run, load
from neuro.training.baselines import SmallCNN, train_on_summed_frames
from neuro.training.fit import Fitted, fit
from neuro.training.folds import Part
from neuro.training.scores import answers
from neuro.training.selection import Piece, cross_validate
from neuro.training.threads import use_threads

IN_MEMORY = 5000  # recordings; a larger set is read from its files again and again


def main(
    data: Path,
    out: Path,
    epochs: int = 200,
    folds: int = 0,
    cnn_epochs: int = 40,
    strengths: tuple[float, ...] = (0.5, 1.0),
    selection: float = 0.5,
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
    jobs: int = 1,
    devices: int = 1,
    cache: bool = True,
    resume: bool = False,
) -> None:
    """Train a Spikformer on N-MNIST.

    Args:
        data: folder of N-MNIST, loose files or zips.
        out: folder of the run.
        epochs: passes over the recordings.
        folds: 0 trains on all training recordings; from 2 on, cross-validates with so many parts.
        cnn_epochs: passes of the two-layer CNN that is trained beside it in each fold.
        strengths: of the augmentation, from which one is chosen in each fold; 1 is what shift to jitter say.
        selection: share of the epochs that are trained to choose it, 0 to 1.
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
        jobs: trainings side by side in a cross-validation; as many as there are free cores.
        devices: processes that train.
        cache: keep the recordings decoded, in one file (13 bytes an event) in `neuro.datasets.cache.cache_folder()`.
        resume: go on with the run in `out`.
    """
    use_threads(threads)
    options = dict(locals())
    recordings = training(options)
    run = Run.create(out, recipe="spikformer_nmnist", options=options, seed=seed, resume=resume)
    run.keep_split({"name": "official", "part": "train", "recordings": len(recordings), "folds": folds, "folds_drawn_from_seed": seed})
    if not folds:
        print(train(options, run, events(options, recordings, range(len(recordings)))).summary())
        return
    reached = cross_validate(
        partial(work, options), recordings.labels, {"transformer": epochs, "cnn": cnn_epochs},
        folds=folds, strengths=strengths, share=selection, seed=seed, folder=out, jobs=jobs, resume=resume,
    )  # fmt: skip
    for name, accuracy in zip(("spiking transformer", "CNN on summed frames"), reached.values(), strict=True):
        print(f"{name}:", *(f"{a:.4f}" for a in accuracy), f"  mean {np.mean(accuracy):.4f}")


def training(o: dict[str, Any]) -> Any:
    """The training part, from its files or from the cache."""
    recordings = NMNIST(o["data"], split="train")
    return cache_files(recordings) if o["cache"] else recordings


def events(o: dict[str, Any], recordings: Any, train: Any, judged: Any = None, strength=1.0) -> EventDataModule:
    """The recordings of these indices, those to train on augmented."""
    s = {name: strength * o[name] for name in ("rotate", "scale", "shear", "shift", "drop", "jitter")}
    moved = RandomAffine(s["rotate"], s["scale"], s["shear"], s["shift"])
    kept = list if len(recordings) <= IN_MEMORY else lambda part: part
    parts = [None if part is None else kept(Part(recordings, part)) for part in (train, judged)]
    return EventDataModule(
        *parts, frames=Frames(bins=o["bins"]), augment=Compose(moved, RandomDrop(s["drop"]), TimeJitter(s["jitter"])),
        classes=NMNIST.classes, batch_size=o["batch_size"], workers=o["workers"], seed=o["seed"],
    )  # fmt: skip


def train(o: dict[str, Any], run: Run, data: EventDataModule, **how: Any) -> Fitted:
    """The transformer; `how` goes to `fit`."""
    torch.manual_seed(o["seed"])
    how = {"epochs": o["epochs"], "loss": nn.CrossEntropyLoss(label_smoothing=o["smoothing"]), **how}
    how |= {name: o[name] for name in ("lr", "weight_decay", "devices", "resume")}
    return fit(create("spikformer_nmnist", dropout=o["dropout"]), data, run, **how)


def work(o: dict[str, Any], piece: Piece) -> dict[int, float]:
    """One training of the cross-validation: {epoch: accuracy on the recordings held out}."""
    use_threads(o["threads"])
    recordings = training(o)
    data = events(o, recordings, piece.train, piece.judged, piece.strength)
    if piece.kind == "cnn":
        data.workers = 0
        torch.manual_seed(o["seed"])
        cnn = SmallCNN(2, NMNIST.sensor.width, len(NMNIST.classes), width=32, hidden=128)
        return train_on_summed_frames(cnn, data, piece.epochs, smoothing=o["smoothing"], looks=piece.looks)
    run = Run.create(piece.folder, recipe="spikformer_nmnist", options=o, seed=o["seed"], resume=o["resume"])
    how = {"epochs": piece.epochs, "stop_after": piece.stop, "progress": False}
    if piece.tried:
        train(o, run, data, report=False, **how)
        reached = {int(row["epoch"]): float(row["val_accuracy"]) for row in run.metrics.rows()}
        return {epoch: reached[epoch] for epoch in piece.looks}
    judge, data.sets["val"] = data.val_dataloader(), None  # they are shown to the model once, when all is decided
    train(o, run, data, **how)
    label, logits = answers(load(run.folder), judge)
    return {piece.stop: float((logits.argmax(1) == label).double().mean())}
