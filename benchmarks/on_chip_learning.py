"""New digits learned on the chip: accuracy against the number of shots, and what becomes of the digits known before. N-MNIST.

    python benchmarks/on_chip_learning.py [FOLDER]     recordings of N-MNIST; $NEURO_DATA/nmnist if no folder is given

A small convolutional network learns the digits 0 to 7 with surrogate gradients and is quantised; from here on all is in integers, on the twin.
Its last spikes are the input of two last layers, which learn the digits 8 and 9 from a few recordings each:

- binary: Akida-style, `neuro.deploy.learning`, on which neurons fired at all; first the digits 0 to 7, once each recording;
- errors: Loihi-style, `neuro.deploy.plasticity.error_driven`, w += error * trace of spikes, 8-bit weights: all rows learn 0 to 7, and then
  only the rows of 8 and 9, which see no other digit then and so come to answer too often;
- nearest: the class of the nearest recording seen (Hamming), which stores them all and bounds what the features allow.

All are judged on recordings that none of them has seen: of all ten digits together ("all"), of the old, and of the new alone. Means and
standard deviations over draws of the shots. *Check* (status 1): weights of the old classes are the same bit by bit, and the twin gives the overlaps.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import peers
import torch
from torch import Tensor, nn

from neuro.datasets import NMNIST, Frames
from neuro.deploy.learning import FewShot, few_shot, ones_for, spiked
from neuro.deploy.plasticity import Rule, error_driven, synapses
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.layers import Conv2d, Flatten, Linear, MeanOverTime, Sequential
from neuro.neurons import LIF
from neuro.surrogate import ATan

NEW = (8, 9)
SHOTS = (1, 2, 5, 10, 20)
STRICT = ATan(2.0, strict=True)  # the chip fires above the threshold, not at it
RULE = Rule(decay=1024, shift=5)  # a full trace changes a weight by 3 per step of error


def network(features: int) -> nn.Module:
    """[T, B, 2, 34, 34] -> features that spike -> 8 digits."""
    def lif() -> LIF:
        return LIF(decay=0.75, threshold=1.0, spike=STRICT)

    return Sequential(Conv2d(2, 12, 5, stride=2, padding=1), lif(), Conv2d(12, 24, 3, stride=2, padding=1), lif(), Flatten(),
                      Linear(24 * 8 * 8, features), lif(), Linear(features, 10 - len(NEW)), MeanOverTime())  # fmt: skip


def recordings(folder: Path, bins: int, most: int) -> tuple[Tensor, Tensor]:
    """Counts 0 to `most` [T, N, 2, 34, 34] and labels of the training recordings that are there."""
    data, frames = NMNIST(folder, split="train"), Frames(bins=bins)
    x = torch.stack([torch.as_tensor(frames(r.events, r.sensor)).float() for r in data], 1)
    return x.clamp(max=most), torch.tensor(data.labels)


def parts(labels: Tensor, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to learn from and to judge on; of each class the same share."""
    rng, learn = np.random.default_rng(seed), []
    for label in range(10):
        there = rng.permutation(np.flatnonzero(labels.numpy() == label))
        learn.append(there[: int(share * len(there))])
    chosen = np.concatenate(learn)
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def train(model: nn.Module, x: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Surrogate gradients, Adam, small random shifts of the frames."""
    order = torch.Generator().manual_seed(seed)
    best = torch.optim.Adam(model.parameters(), lr=2e-3)
    falls = torch.optim.lr_scheduler.OneCycleLR(best, 4e-3, total_steps=epochs * -(-len(labels) // 32))
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=order).split(32):
            dy, dx = torch.randint(-3, 4, (2,), generator=order).tolist()
            loss = nn.functional.cross_entropy(model(x[:, chosen].roll((dy, dx), (-2, -1))) * 4, labels[chosen])
            best.zero_grad()
            loss.backward()
            best.step()
            falls.step()
    model.eval()


class Errors:
    """A last layer of 8-bit weights that learns from its errors: `target - output` times the trace of the input's spikes."""

    def __init__(self, inputs: int, classes: int, threshold: int) -> None:
        self.weights, self.threshold, self.classes = np.zeros((classes, inputs), np.int64), threshold, classes

    def learn(self, spikes: np.ndarray, label: int, rows: np.ndarray) -> None:
        """One recording [T, I]; only these rows change. A neuron fires when its leaky sum passes the threshold; its target is to fire in each step."""
        s, v, target = synapses(self.weights), np.zeros(self.classes, np.int64), (np.arange(self.classes) == label).astype(np.int64)
        for s_t in spikes:
            v = v * 3 // 4 + s.weight @ s_t
            fires = (v > self.threshold).astype(np.int64)
            s = error_driven(s, s_t, (target - fires) * rows, RULE)
        self.weights = s.weight

    def classify(self, spikes: np.ndarray) -> np.ndarray:
        """Classes of recordings [T, B, I]: most spikes, then the largest sum."""
        v, fired, total = 0, 0, 0
        for s_t in spikes:
            v = v * 3 // 4 + s_t @ self.weights.T
            fired, total = fired + (v > self.threshold), total + v
        return (fired * 10**9 + total).argmax(1)


def nearest(x: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    distance = (asked[:, None].astype(int) != x[None]).sum(2)
    return labels[distance.argmin(1)]


def judged(answers: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Accuracy on all, on the old and on the new digits, all ten being possible answers."""
    new = np.isin(truth, NEW)
    right = answers == truth
    return float(right.mean()), float(right[~new].mean()), float(right[new].mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.environ.get("NEURO_DATA", "data")) / "nmnist")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--neurons", type=int, default=10, help="of each class, in the binary layer")
    parser.add_argument("--draws", type=int, default=10, help="of the shots")
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    print(peers.machine())
    if not o.folder.exists():
        print(f"on_chip_learning: no recordings at {o.folder}; name the folder of N-MNIST, or set NEURO_DATA")
        return 0
    torch.manual_seed(o.seed)
    began = time.perf_counter()
    x, labels = recordings(o.folder, bins=6, most=3)
    learn, judge = parts(labels, 0.7, o.seed)
    old = learn[~np.isin(labels[learn], NEW)]
    model = network(o.features)
    train(model, x[:, old], labels[old], o.epochs, o.seed)
    integer, report = quantize(model, x[:, old][:, :32], message_bits=2)
    result = run_twin(integer, x.numpy().astype(np.int32), record=True)
    spikes = result.spikes[integer.lifs[-1].name].astype(np.int64)
    features, truth = spiked(spikes), labels.numpy()
    seen = judge[~np.isin(truth[judge], NEW)]
    print(f"{len(labels)} recordings: {len(old)} of the digits 0 to 7 and {len(learn) - len(old)} of {NEW} to learn from, {len(judge)} to judge on")
    print(f"integer network, digits 0 to 7 among themselves: {(result.acc.argmax(1)[seen] == truth[seen]).mean():.4f}; {report.summary()}")
    print(f"trained, quantised and run in {time.perf_counter() - began:.0f} s; of {o.features} features {features.mean():.1%} fire")
    return tables(o, spikes, features, truth, old, learn, judge)


def first_layers(o: argparse.Namespace, spikes: np.ndarray, features: np.ndarray, truth: np.ndarray, old: np.ndarray) -> tuple[FewShot, Errors]:
    """Both last layers after the old digits, each recording once (binary) or three times (errors)."""
    order = np.random.default_rng(o.seed).permutation(old)
    binary = few_shot(features.shape[1], 10 - len(NEW), o.neurons, ones_for(features[old]), seed=o.seed).learn(features[order], truth[order])
    errors = Errors(features.shape[1], 10, threshold=512)
    rows = (~np.isin(np.arange(10), NEW)).astype(np.int64)
    for i in np.tile(order, 3):
        errors.learn(spikes[:, i], truth[i], rows)
    return binary, errors


def tables(o: argparse.Namespace, spikes: np.ndarray, features: np.ndarray, truth: np.ndarray, old: np.ndarray, learn: np.ndarray, judge: np.ndarray) -> int:
    binary, errors = first_layers(o, spikes, features, truth, old)
    before = {"binary": judged(binary.classify(features[judge]), truth[judge]), "errors": judged(errors.classify(spikes[:, judge]), truth[judge]),
              "nearest": judged(nearest(features[old], truth[old], features[judge]), truth[judge])}  # fmt: skip
    rows, wrong = [("before", name, *(f"{v:.3f}" for v in found)) for name, found in before.items()], []
    for shots in SHOTS:
        found: dict[str, list[tuple[float, float, float]]] = {"binary": [], "errors": [], "nearest": []}
        for draw in range(o.draws):
            rng = np.random.default_rng((o.seed, shots, draw))
            chosen = rng.permutation(np.concatenate([rng.choice(learn[truth[learn] == c], shots, replace=False) for c in NEW]))
            more = binary.add_classes(len(NEW)).learn(features[chosen], truth[chosen])
            later = Errors(features.shape[1], 10, errors.threshold)
            later.weights = errors.weights.copy()
            for i in chosen:
                later.learn(spikes[:, i], truth[i], np.isin(np.arange(10), NEW).astype(np.int64))
            wrong += [] if np.array_equal(more.weights[:8], binary.weights) and np.array_equal(later.weights[:8], errors.weights[:8]) else [(shots, draw)]
            twin = run_twin(more.network(), features[judge][None].astype(np.int32)).acc.reshape(len(judge), 10, -1)
            wrong += [] if np.array_equal(twin, more.overlaps(features[judge])) else [("twin", shots, draw)]
            known = np.concatenate([old, chosen])
            found["binary"].append(judged(twin.max(2).argmax(1), truth[judge]))
            found["errors"].append(judged(later.classify(spikes[:, judge]), truth[judge]))
            found["nearest"].append(judged(nearest(features[known], truth[known], features[judge]), truth[judge]))
        for name, values in found.items():
            rows.append((str(shots), name, *(f"{m:.3f} +- {s:.3f}" for m, s in zip(np.mean(values, 0), np.std(values, 0), strict=True))))
    print(peers.table(("shots per new digit", "layer", "all", "digits 0 to 7", "digits 8, 9"), rows))
    print(f"check: old weights bit for bit and overlaps of the twin {'NOT ' if wrong else ''}equal in {len(SHOTS) * o.draws} draws{f': {wrong}' if wrong else ''}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
