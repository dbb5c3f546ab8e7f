"""Braille letters under a fingertip, seven classes, from the spikes of 12 taxels counted in bins of 20 ms.

    neuro train series_braille --data FILE.npz --out runs/braille

The file has no split of its own: a fifth of every class, drawn from seed 0, is judged by.
"""

from __future__ import annotations

from pathlib import Path

import torch

from neuro.datasets import ArrayDataModule, Braille
from neuro.datasets.array_augment import DropSpikes, Several, ShiftInTime
from neuro.datasets.encoding import Binned
from neuro.datasets.npz import the_file
from neuro.datasets.splits import by_draw
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, divided, made, recipe_of, train_and_judge
from neuro.training.threads import use_threads


def main(
    out: Path,
    data: Path | None = None,
    epochs: int = 40,
    seed: int = 0,
    steps: int = 4,
    dropout: float = 0.2,
    shift: int = 8,
    drop: float = 0.05,
    batch_size: int = 32,
    lr: float = 5e-3,
    weight_decay: float = 0.01,
    simulated: int = 400,
    workers: int = 0,
    threads: int = 1,
    devices: int = 1,
    tune: bool = False,
    resume: bool = False,
) -> None:
    """Train two layers of LIF neurons on Braille letters.

    Args:
        out: folder of the run.
        data: the npz of spikes and labels, or a folder that holds it; without it, simulated examples.
        epochs: passes over the training examples.
        seed: of the weights, the order and the augmentation.
        steps: of 5 ms that are counted in one bin.
        dropout: share of the spikes before the head.
        shift: recordings are moved by up to so many steps of 5 ms, either way.
        drop: share of the spikes left out.
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
        found.train, test=found.test, encode=Binned(steps), augment=Several((ShiftInTime(shift), DropSpikes(drop))), classes=Braille.classes,
        batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    judged = train_and_judge(
        create("series_braille", dropout=dropout), loaders, run, found.split, epochs=epochs, lr=lr, weight_decay=weight_decay, devices=devices, resume=resume,
    )  # fmt: skip
    print(judged.scores.table())
    print(judged.summary())


def parts(o: dict) -> Parts:
    """Four fifths and one."""
    if o["data"] is None:
        return made(Braille, o["simulated"], o["seed"])
    letters = Braille(the_file(Path(o["data"]), "*.npz"))
    found = divided(letters, by_draw("fifth of every class", letters.labels, 0.2, 0))
    return found.tuning(seed=o["seed"]) if o["tune"] else found
