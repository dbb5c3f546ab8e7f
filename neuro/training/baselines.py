"""Plain networks on frames, to hold a spiking network against: what do the frames alone tell?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuro.errors import ParameterError, explain


class LinearOnFrames(nn.Module):
    """One dense layer on all pixels: [B, C, H, W] -> [B, classes]."""

    def __init__(self, channels: int, image: int, classes: int):
        super().__init__()
        self.head = nn.Linear(channels * image * image, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class SmallCNN(nn.Module):
    """Two convolutions 3x3 with batch norm, ReLU and 2x2 max-pooling, then two dense layers: [B, C, H, W] -> [B, classes]."""

    def __init__(self, channels: int, image: int, classes: int, width: int = 16, hidden: int = 64):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        side = image // 4
        self.head = nn.Sequential(nn.Linear(2 * width * side * side, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class Trained(NamedTuple):
    """What `train_until_it_fits` reached, accuracies as fractions."""

    train_accuracy: float
    test_accuracy: float
    epochs: int


def train_until_it_fits(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    enough: float = 0.9,
    patience: int = 6,
    most_epochs: int = 60,
    batch: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train with Adam and cross entropy until the training accuracy passes `enough` or stops rising.

    Args:
        train, test: pairs of input [N, C, H, W] and label [N].
        enough: training accuracy, a fraction, at which to stop.
        patience: epochs without a new best training accuracy (by 0.2 points) after which it has stopped rising.
        on_epoch: called with the epoch and its training accuracy, for a progress bar.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    x, y = train
    best, stale, reached, epoch = 0.0, 0, 0.0, 0
    for epoch in range(1, most_epochs + 1):
        model.train()
        right = 0
        for index in torch.randperm(len(y), generator=generator).split(batch):
            if len(index) < 2:  # batch norm needs two
                continue
            logits = model(x[index])
            F.cross_entropy(logits, y[index]).backward()
            optimizer.step()
            optimizer.zero_grad()
            right += int((logits.argmax(1) == y[index]).sum())
        reached = right / len(y)
        if on_epoch:
            on_epoch(epoch, reached)
        stale = 0 if reached > best + 0.002 else stale + 1
        best = max(best, reached)
        if reached > enough or stale >= patience:
            break
    return Trained(reached, accuracy(model, *test), epoch)


def train_on_summed_frames(
    model: nn.Module,
    data: Any,
    epochs: int,
    *,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    smoothing: float = 0.1,
    looks: Sequence[int] = (),
) -> dict[int, float]:
    """Train on the frames of an `EventDataModule` summed over time; {epoch: accuracy on its validation recordings}.

    Order and augmentation are those that a spiking network gets from the same data module; the learning rate rises over
    the first tenth of the steps and then falls along a cosine.

    Args:
        epochs: the course that the learning rate follows.
        looks: epochs after which the accuracy is taken; training ends with the last of them. Empty: after `epochs`.
    """
    loader = data.train_dataloader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(loader), pct_start=0.1)
    looks = tuple(looks) or (epochs,)
    if not 1 <= min(looks) <= max(looks) <= epochs:
        raise ParameterError(explain(f"looks={looks} are not epochs of {epochs}."))
    found = {}
    for epoch in range(max(looks)):
        model.train()
        data.batches.set_epoch(epoch)
        for x, _, label in loader:
            F.cross_entropy(model(x.sum(0)), label, label_smoothing=smoothing).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if epoch + 1 in looks:
            found[epoch + 1] = _accuracy_on_summed(model, data)
    return found


@torch.no_grad()
def _accuracy_on_summed(model: nn.Module, data: Any) -> float:
    model.eval()
    right = [model(x.sum(0)).argmax(1) == label for x, _, label in data.val_dataloader()]
    return float(torch.cat(right).double().mean())


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch: int = 256) -> float:
    """Share of right answers in evaluation mode, a fraction."""
    model.eval()
    right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(batch), y.split(batch), strict=True))
    return right / len(y)


def mean_features(batches: Iterable[Any], bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, bins * values] and labels [N] of a loader's batches: means over `bins` equal parts of each sample's own steps.

    Where the steps do not divide evenly, neighbouring parts share a step; a sample of fewer steps than bins repeats some of them.
    """
    rows, labels = [], []
    for x, lengths, label in batches:
        for b, steps in enumerate(lengths.tolist()):
            edges = [(k * steps // bins, max(-(-(k + 1) * steps // bins), 1)) for k in range(bins)]
            rows.append(torch.stack([x[a:z, b].mean(0) for a, z in edges]).flatten().numpy())
        labels.append(label)
    return np.stack(rows), torch.cat(labels).numpy()


def linear_classifier(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], seed: int = 0) -> float:
    """Accuracy of a logistic regression on standardised features.

    Its strength of regularisation is chosen among C = 0.001, 0.01, 0.1, 1 on a fifth of (at most 10 000 of) the training samples.
    200 iterations of L-BFGS at most. Where the training samples are too few to choose by, or what is left of them is of one class,
    C = 1. Trained on one class alone, it always answers that.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    (x, y), (x_test, y_test) = train, test
    if len(np.unique(y)) < 2:
        return float((y_test == y[0]).mean())
    mean, std = x.mean(0), x.std(0) + 1e-6

    def fitted(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped after so many iterations, as stated
            return LogisticRegression(C=c, max_iter=200).fit((x - mean) / std, y)

    few = np.random.default_rng(seed).permutation(len(y))[:10_000]
    xa, xb, ya, yb = train_test_split(x[few], y[few], test_size=0.2, random_state=seed)
    best = 1.0
    if len(np.unique(ya)) > 1:
        reached = {c: fitted(xa, ya, c).score((xb - mean) / std, yb) for c in (0.001, 0.01, 0.1, 1.0)}
        best = max(reached, key=lambda c: (reached[c], -c))
    return float(fitted(x, y, best).score((x_test - mean) / std, y_test))
