"""Spoken digits (FSDD) through bands of a mel spectrogram, one window of 32 ms every 16 ms.

    neuro train series_digits --data FOLDER --out runs/digits

FOLDER holds `DIGIT_SPEAKER_INDEX.wav`, loose or in zips. Trained on index 5 and above, judged on 0 to 4: the official split, in
which all speakers are in both parts. --unseen NAME judges on all recordings of one speaker instead.
"""

from __future__ import annotations

from pathlib import Path

import torch

from neuro.datasets import FSDD, ArrayDataModule
from neuro.datasets.array_augment import AddNoise, Louder, Several
from neuro.datasets.encoding import MelBands
from neuro.datasets.splits import by_group
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, divided, made, official, recipe_of, train_and_judge
from neuro.training.threads import use_threads


def main(
    out: Path,
    data: Path | None = None,
    epochs: int = 12,
    seed: int = 0,
    unseen: str = "",
    noise: float = 0.002,
    louder: float = 0.5,
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
    """Train two layers of LIF neurons on spoken digits.

    Args:
        out: folder of the run.
        data: folder of the waves; without it, simulated examples.
        epochs: passes over the training examples.
        seed: of the weights, the order and the augmentation.
        unseen: a speaker to judge by, who is then not trained on; default: the official split.
        noise: largest standard deviation of noise added to the wave, of full scale 1.
        louder: waves are made up to this share louder or softer.
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
        found.train, test=found.test, encode=MelBands(FSDD.rate_hz), augment=Several((Louder(louder), AddNoise(noise))), classes=FSDD.classes,
        batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    judged = train_and_judge(
        create("series_digits"), loaders, run, found.split, epochs=epochs, lr=lr, weight_decay=weight_decay, devices=devices, resume=resume, linear=32,
    )  # fmt: skip
    print(judged.scores.table())
    print(judged.summary())


def parts(o: dict) -> Parts:
    """The official parts, or one speaker against the others; to tune, index 5 to 9 is held out, or a second speaker."""
    if o["data"] is None:
        return made(FSDD, o["simulated"], o["seed"])
    if o["unseen"]:
        every = FSDD(o["data"])
        found = divided(every, by_group("unseen speaker", every.speakers, [o["unseen"]]))
        groups = [every.speakers[i] for i in found.train.indices]
        return found.tuning(groups, [max(groups)]) if o["tune"] else found
    found = official(FSDD(o["data"], "train"), FSDD(o["data"], "test"), "test: index 0 to 4 of each speaker and digit")
    index = [int(name.split("_")[2].split(".")[0]) for name in found.train.names]
    return found.tuning([i < 10 for i in index], [True]) if o["tune"] else found
