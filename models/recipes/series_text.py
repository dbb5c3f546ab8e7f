"""Text, character by character: which one comes next?

    neuro train series_text --data FILE.txt --out runs/text

The first 90 % of the characters are trained on, the last 10 % judged by. Beside it, what the one or two characters before tell
by counting. The loss in bits per character is printed and kept in summary.json.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from neuro.datasets import ArrayDataModule, TextFile
from neuro.datasets.encoding import OneHot
from neuro.datasets.npz import the_file
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, train_and_judge


def main(
    out: Path,
    data: Path | None = None,
    epochs: int = 4,
    seed: int = 0,
    steps: int = 128,
    width: int = 512,
    batch_size: int = 32,
    lr: float = 8e-3,
    weight_decay: float = 0.01,
    simulated: int = 400,
    workers: int = 0,
    threads: int = 1,
    devices: int = 1,
    tune: bool = False,
    resume: bool = False,
) -> None:
    """Train two layers of LIF neurons to continue a text.

    Args:
        out: folder of the run.
        data: a text in UTF-8, or a folder that holds one .txt; without it, simulated examples.
        epochs: passes over the training examples.
        seed: of the weights, the order and the augmentation.
        steps: characters of a passage; each begins without a past.
        width: neurons of a layer.
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
    torch.set_num_threads(threads)
    options = dict(locals())
    found = parts(options)
    run = Run.create(out, recipe="series_text", options=options, seed=seed, resume=resume)
    symbols = found.train.vocabulary.symbols
    loaders = ArrayDataModule(
        found.train, test=found.test, encode=OneHot(len(symbols)), classes=[repr(s) for s in symbols], batch_size=batch_size, workers=workers, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = create("series_text", inputs=len(symbols), classes=len(symbols), width=width)
    judged = train_and_judge(
        model, loaders, run, found.split, epochs=epochs, lr=lr, weight_decay=weight_decay, devices=devices, resume=resume, linear=0,
        others=lambda: {name: accuracy for name, (accuracy, _) in counted(found).items()},
    )  # fmt: skip
    print(judged.summary())
    print(f"bits per character: {judged.loss / math.log(2):.3f}", *(f"{name} {bits:.3f}" for name, (_, bits) in counted(found).items()), sep=", ")


def parts(o: dict) -> Parts:
    """Passages of the first nine tenths and of the last; to tune, the last tenth of the first is held out."""
    if o["data"] is None:
        made = TextFile.simulated(o["simulated"], o["seed"], steps=o["steps"])
        train, test = made, TextFile.simulated(max(o["simulated"] // 4, 1), o["seed"] + 1, steps=o["steps"])
        test.vocabulary, test.numbers = made.vocabulary, made.vocabulary.encode(test.vocabulary.decode(test.numbers))
    else:
        path, (a, b) = the_file(Path(o["data"]), "*.txt"), (0.8, 0.9) if o["tune"] else (0.9, 1.0)
        whole = TextFile(path, steps=o["steps"])
        train, test = (TextFile(path, steps=o["steps"], vocabulary=whole.vocabulary, share=share) for share in ((0.0, a), (a, b)))
    return Parts(train, test, {"name": "shares of a file", "train": train.split, "test": test.split})


def counted(found: Parts) -> dict[str, tuple[float, float]]:
    """What counting says of the test passages, {name: (accuracy, bits per character)}, from one and from two characters before.

    The counts of the longer context are smoothed by 5 of the shorter's, `p(c | ab) = (n(abc) + 5 p(c | b)) / (n(ab) + 5)`, and so on
    down to an even distribution. The first character of a passage has none before it: as for the network, it begins without a past.
    """
    n = len(found.train.vocabulary)
    a, b, c = (found.train.numbers[k : len(found.train.numbers) - 2 + k].astype(np.int64) for k in range(3))
    even = np.bincount(c, minlength=n) + 5 / n
    one = np.bincount(b * n + c, minlength=n * n).reshape(n, n) + 5 * even / even.sum()
    one /= one.sum(-1, keepdims=True)
    two = np.bincount((a * n + b) * n + c, minlength=n**3).reshape(n, n, n) + 5 * one
    two /= two.sum(-1, keepdims=True)
    x, y = (np.stack(column) for column in zip(*found.test, strict=True))
    told = {"the character before, counted": one[x], "the two before, counted": np.concatenate([one[x[:, :1]], two[x[:, :-1], x[:, 1:]]], axis=1)}
    bits = {name: -np.log2(np.take_along_axis(p, y[..., None], -1)).mean() for name, p in told.items()}
    return {name: (float((p.argmax(-1) == y).mean()), float(bits[name])) for name, p in told.items()}
