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
from neuro.datasets.text import Vocabulary
from neuro.models import create
from neuro.training import Run
from neuro.training.judging import Parts, recipe_of, say_simulated, train_and_judge
from neuro.training.threads import use_threads


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
    use_threads(threads)
    options = dict(locals())
    found = parts(options)
    run = Run.create(out, recipe=recipe_of(__file__), options=options, seed=seed, resume=resume)
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
        say_simulated(TextFile, o["simulated"], o["seed"])
        counts = (o["simulated"], max(o["simulated"] // 4, 1))
        train, test = (TextFile.simulated(count, o["seed"] + k, steps=o["steps"]) for k, count in enumerate(counts))
        texts = [part.vocabulary.decode(part.numbers) for part in (train, test)]
        both = Vocabulary.of("".join(texts), "character")
        for part, text in zip((train, test), texts, strict=True):
            part.vocabulary, part.numbers = both, both.encode(text)
    else:
        path, (a, b) = the_file(Path(o["data"]), "*.txt"), (0.8, 0.9) if o["tune"] else (0.9, 1.0)
        whole = TextFile(path, steps=o["steps"])
        train, test = (TextFile(path, steps=o["steps"], vocabulary=whole.vocabulary, share=share) for share in ((0.0, a), (a, b)))
    return Parts(train, test, {"name": "held out of the training part" if o["tune"] else "shares of a file", "train": train.split, "test": test.split})


def counted(found: Parts) -> dict[str, tuple[float, float]]:
    """What counting says of the test passages, {name: (accuracy, bits per character)}, from one and from two characters before.

    The counts of the longer context are smoothed by 5 of the shorter's, `p(c | ab) = (n(abc) + 5 p(c | b)) / (n(ab) + 5)`, and so on
    down to an even distribution. The first character of a passage has none before it: as for the network, it begins without a past.
    """
    n = len(found.train.vocabulary)
    a, b, c = (found.train.numbers[k : len(found.train.numbers) - 2 + k].astype(np.int64) for k in range(3))
    even = np.bincount(c, minlength=n) + 5 / n
    one, two = Following(b, c, n), Following(a * n + b, c, n)
    right, bits = ({"the character before, counted": [], "the two before, counted": []} for _ in range(2))
    for x, y in found.test:
        short = smoothed(one.counts(x), even / even.sum())
        long = np.concatenate([short[:1], smoothed(two.counts(x[:-1] * n + x[1:]), short[1:])])
        for name, p in zip(right, (short, long), strict=True):
            right[name].append(p.argmax(-1) == y)
            bits[name].append(-np.log2(p[np.arange(len(y)), y]))
    return {name: (float(np.mean(right[name])), float(np.mean(bits[name]))) for name in right}


class Following:
    """How often each of n symbols came behind a context; contexts [N] and what came behind them, symbols [N], are numbers."""

    def __init__(self, contexts: np.ndarray, symbols: np.ndarray, n: int) -> None:
        order = np.argsort(contexts, kind="stable")
        self.contexts, self.symbols, self.n = contexts[order], symbols[order], n

    def counts(self, contexts: np.ndarray) -> np.ndarray:
        """[K] -> [K, n]; n^3 counts of all contexts would not fit the memory where there are many symbols."""
        asked, place = np.unique(contexts, return_inverse=True)
        ends = zip(np.searchsorted(self.contexts, asked), np.searchsorted(self.contexts, asked, "right"), strict=True)
        return np.stack([np.bincount(self.symbols[i:j], minlength=self.n) for i, j in ends])[place] if len(asked) else np.zeros((0, self.n))


def smoothed(counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Probabilities [K, n] from counts and 5 times those of the shorter context."""
    return (counts + 5 * shorter) / (counts.sum(-1, keepdims=True) + 5)
