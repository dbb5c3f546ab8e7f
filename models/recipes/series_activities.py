"""Six activities from a smartwatch's accelerations (WISDM), judged on persons who were not trained on.

    neuro train series_activities --data FILE.npz --out runs/activities

Windows of 5 s at 20 Hz, as ten currents (see `Accelerations`). Judged on the ten subjects of the highest numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from neuro.datasets import ArrayDataModule, WISDMWatch
from neuro.datasets.array_augment import Louder, Several, Turned
from neuro.datasets.encoding import Accelerations
from neuro.datasets.npz import the_file
from neuro.datasets.splits import by_group
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, divided, made, recipe_of, train_and_judge
from neuro.training.threads import use_threads


def main(
    out: Path,
    data: Path | None = None,
    epochs: int = 8,
    seed: int = 0,
    dropout: float = 0.3,
    turn: float = 20.0,
    louder: float = 0.1,
    batch_size: int = 32,
    lr: float = 5e-3,
    weight_decay: float = 0.05,
    simulated: int = 400,
    workers: int = 0,
    threads: int = 1,
    devices: int = 1,
    tune: bool = False,
    resume: bool = False,
) -> None:
    """Train two layers of LIF neurons on accelerations.

    Args:
        out: folder of the run.
        data: the npz of accelerations, or a folder that holds it; without it, simulated examples.
        epochs: passes over the training examples.
        seed: of the weights, the order and the augmentation.
        dropout: share of the spikes before the head.
        turn: windows are turned in space by up to so many degrees.
        louder: windows are made up to this share stronger or weaker.
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
        found.train, test=found.test, encode=Accelerations(), augment=Several((Turned(turn), Louder(louder))), classes=WISDMWatch.classes,
        batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    judged = train_and_judge(
        create("series_activities", dropout=dropout), loaders, run, found.split, epochs=epochs, lr=lr, weight_decay=weight_decay, devices=devices, resume=resume, others=lambda: forest(found, seed),
    )  # fmt: skip
    print(judged.scores.table())
    print(judged.summary())


def parts(o: dict) -> Parts:
    """All subjects but the last ten, and these; to tune, the ten before them are held out."""
    if o["data"] is None:
        return made(WISDMWatch, o["simulated"], o["seed"])
    windows = WISDMWatch(the_file(Path(o["data"]), "*.npz"))
    subjects = sorted(set(windows.subjects))
    found = divided(windows, by_group("unseen subjects", windows.subjects, subjects[-10:]))
    return found.tuning([windows.subjects[i] for i in found.train.indices], subjects[-20:-10]) if o["tune"] else found


def forest(found: Parts, seed: int) -> dict[str, float]:
    """A random forest of 200 trees on mean, deviation, range and spectrum of each axis."""
    from sklearn.ensemble import RandomForestClassifier

    def features(part: Sequence) -> tuple[np.ndarray, list[int]]:
        x = np.stack([example.x for example in part])
        spectrum = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1))[:, 1:26].reshape(len(x), -1)
        return np.concatenate([x.mean(1), x.std(1), np.ptp(x, axis=1), spectrum], axis=1), list(part.labels)

    trees = RandomForestClassifier(200, random_state=seed).fit(*features(found.train))
    return {"random forest on mean, deviation, range, spectrum": float(trees.score(*features(found.test)))}
