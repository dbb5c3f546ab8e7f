"""Last layers that learn new classes from few recordings of the same network: what `on_chip_learning.py` sets beside each other.

Each is made from the old recordings, `add`s a few of new classes and answers. Integers, on the chip's terms:
- Binary: Akida-style, `neuro.deploy.learning`, on binary features; the old classes first, each recording once.
- Rows: Loihi-style, `neuro.deploy.added_classes`: rows under the trained head, by a third factor. With `replay`, that many recordings of each old
  class are kept and shown among the new ones.
Opponents, in real numbers, on a host, on the binary features that Binary learns from, or on the counts of spikes that the rows do:
- Means: the class whose mean is nearest. It keeps a mean per class.
- Ridge: linear, each class weighing the same, penalty chosen on old recordings alone. It keeps a matrix [inputs, inputs] of all recordings, or them.
- Logistic: multinomial logistic regression, classes of equal weight, penalty on squared weights chosen on old recordings alone. It keeps all recordings.
- Nearest: the class of the nearest recording seen (Hamming, so on binary features). It keeps them all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from neuro.deploy.added_classes import add_classes, head_of
from neuro.deploy.competition import Competition
from neuro.deploy.learning import few_shot, ones_for
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import run_twin

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
STRENGTHS = (0.1, 1.0, 10.0)  # of logistic regression


class Features(NamedTuple):
    """The trained and quantised network, its inputs [T, N, ...], binary features of its last spikes [N, features], their counts over the recording
    [N, I], labels [N], numbers of classes."""

    network: IntegerNetwork
    inputs: np.ndarray
    binary: np.ndarray
    counts: np.ndarray
    labels: np.ndarray
    classes: int
    old: int  # the first so many classes are known before


class Binary:
    """Akida-style. Kept per class: neurons x inputs bits."""

    def __init__(self, f: Features, known: np.ndarray, neurons: int, seed: int, competition: float) -> None:
        self.f, how = f, Competition(competition=competition)
        start = few_shot(f.binary.shape[1], f.old, neurons, ones_for(f.binary[known]), seed=seed, how=how)
        self.layer = start.learn(f.binary[known], f.labels[known])

    def add(self, chosen: np.ndarray) -> Binary:
        made = object.__new__(Binary)
        made.f, made.layer = self.f, self.layer.add_classes(self.f.classes - self.f.old).learn(self.f.binary[chosen], self.f.labels[chosen])
        return made

    def answers(self, asked: np.ndarray) -> np.ndarray:
        return self.layer.classify(self.f.binary[asked])

    def kept(self) -> float:
        """Bytes."""
        return self.layer.weights.size / 8


class Rows:
    """Loihi-style: rows under the network's own head. Kept: weights of 8 bits, and the head's inputs of the recordings to replay, a byte each."""

    def __init__(self, f: Features, known: np.ndarray, replay: int = 0) -> None:
        self.f, self.network, self.replay = f, f.network, np.concatenate([known[f.labels[known] == c][:replay] for c in range(f.old)])

    def add(self, chosen: np.ndarray) -> Rows:
        shown = np.random.default_rng(len(chosen)).permutation(np.concatenate([chosen, self.replay]))
        made = object.__new__(Rows)
        made.f, made.replay = self.f, self.replay
        made.network = add_classes(self.f.network, self.f.inputs[:, shown], self.f.labels[shown], new=self.f.classes - self.f.old).network
        return made

    def answers(self, asked: np.ndarray) -> np.ndarray:
        return run_twin(self.network, self.f.inputs[:, asked]).predictions

    def kept(self) -> float:
        weight = head_of(self.network).weight
        return weight.size + len(self.replay) * weight.shape[1]


class Means:
    """The nearest class mean."""

    def __init__(self, f: Features, x: np.ndarray, known: np.ndarray) -> None:
        self.f, self.x, self.known = f, x, known
        self.there = np.unique(f.labels[known])
        self.means = np.stack([x[known][f.labels[known] == c].mean(0) for c in self.there])

    def add(self, chosen: np.ndarray) -> Means:
        return Means(self.f, self.x, np.concatenate([self.known, chosen]))

    def answers(self, asked: np.ndarray) -> np.ndarray:
        distance = (self.means**2).sum(1) - 2 * self.x[asked].astype(float) @ self.means.T
        return self.there[distance.argmin(1)]

    def kept(self) -> float:
        return self.means.size * 4


class Ridge:
    """Linear regression on +1 and -1 with a penalty, classes of equal weight."""

    def __init__(self, f: Features, x: np.ndarray, known: np.ndarray, penalty: float | None = None) -> None:
        self.f, self.x, self.known, self.penalty = f, x, known, penalty or self._chosen(f, x, known)
        self.there = np.unique(f.labels[known])
        counts = np.bincount(f.labels[known], minlength=f.classes)
        share = np.sqrt(len(known) / len(self.there) / counts[f.labels[known]])[:, None]
        shared, y = self._inputs(known) * share, np.where(f.labels[known][:, None] == self.there, 1, -1) * share
        self.weights = shared.T @ np.linalg.solve(shared @ shared.T + self.penalty * np.eye(len(shared)), y)

    @staticmethod
    def _chosen(f: Features, x: np.ndarray, known: np.ndarray) -> float:
        """The penalty that is best on a fifth of the known recordings, in turn."""
        folds = [known[k::5] for k in range(5)]
        right = [sum((Ridge(f, x, np.setdiff1d(known, fold), p).answers(fold) == f.labels[fold]).sum() for fold in folds) for p in PENALTIES]
        return PENALTIES[int(np.argmax(right))]

    def _inputs(self, which: np.ndarray) -> np.ndarray:
        return np.concatenate([self.x[which], np.ones((len(which), 1))], 1)

    def add(self, chosen: np.ndarray) -> Ridge:
        return Ridge(self.f, self.x, np.concatenate([self.known, chosen]), self.penalty)

    def answers(self, asked: np.ndarray) -> np.ndarray:
        return self.there[(self._inputs(asked) @ self.weights).argmax(1)]

    def kept(self) -> float:
        """The smaller of the matrix of products, from which it is solved anew, and the recordings."""
        n, bits = self.x.shape[1] + 1, int(self.x.max()).bit_length()
        return self.weights.size * 4 + min(n * (n + 1) / 2 * 4, len(self.known) * n * bits / 8)


class Logistic:
    """Multinomial logistic regression: mean loss, each class weighing the same, plus penalty / recordings * |weights|^2 / 2; by L-BFGS."""

    def __init__(self, f: Features, x: np.ndarray, known: np.ndarray, penalty: float | None = None) -> None:
        self.f, self.x, self.known, self.penalty = f, x, known, penalty or self._chosen(f, x, known)
        self.there, target = np.unique(f.labels[known], return_inverse=True)
        weight = torch.tensor(len(known) / len(self.there) / np.bincount(target), dtype=torch.float32)[target]
        inputs, target = self._inputs(known), torch.tensor(target)
        self.weights = torch.zeros(inputs.shape[1], len(self.there), requires_grad=True)
        best = torch.optim.LBFGS([self.weights], max_iter=100, history_size=10, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            best.zero_grad()
            each = nn.functional.cross_entropy(inputs @ self.weights, target, reduction="none")
            found = (each * weight).mean() + self.penalty / len(known) * self.weights[:-1].square().sum() / 2
            found.backward()
            return found

        best.step(loss)

    @staticmethod
    def _chosen(f: Features, x: np.ndarray, known: np.ndarray) -> float:
        """The penalty that is best on a fifth of the known recordings, in turn."""
        folds = [known[k::5] for k in range(5)]
        right = [sum((Logistic(f, x, np.setdiff1d(known, fold), p).answers(fold) == f.labels[fold]).sum() for fold in folds) for p in STRENGTHS]
        return STRENGTHS[int(np.argmax(right))]

    def _inputs(self, which: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.concatenate([self.x[which], np.ones((len(which), 1))], 1), dtype=torch.float32)

    def add(self, chosen: np.ndarray) -> Logistic:
        return Logistic(self.f, self.x, np.concatenate([self.known, chosen]), self.penalty)

    def answers(self, asked: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.there[(self._inputs(asked) @ self.weights).argmax(1).numpy()]

    def kept(self) -> float:
        """The weights, and all recordings, from which it is fitted anew."""
        return self.weights.numel() * 4 + len(self.known) * self.x.shape[1] * int(self.x.max()).bit_length() / 8


class Nearest:
    """The nearest recording."""

    def __init__(self, f: Features, known: np.ndarray) -> None:
        self.f, self.known = f, known

    def add(self, chosen: np.ndarray) -> Nearest:
        return Nearest(self.f, np.concatenate([self.known, chosen]))

    def answers(self, asked: np.ndarray) -> np.ndarray:
        x, a = self.f.binary[self.known].astype(np.float32), self.f.binary[asked].astype(np.float32)
        distance = a.sum(1)[:, None] + x.sum(1) - 2 * a @ x.T  # of zeros and ones, exact
        return self.f.labels[self.known][distance.argmin(1)]

    def kept(self) -> float:
        return len(self.known) * self.f.binary.shape[1] / 8
