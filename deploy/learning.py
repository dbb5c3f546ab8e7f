"""Learning on the chip, in integers: new classes in a last layer of binary weights, as on Akida.

`FewShot` is the last layer: `neurons` binary weight vectors per class, each with exactly `ones` ones, on inputs of 0 and 1. A
recording belongs to the class of the neuron that shares most ones with it. A labelled recording changes one neuron of its class, which
exchanges connections that the recording does not use for inputs that it does. Which neuron, and how many connections, is said in
`neuro.deploy.competition`, with what the vendor documents of it and what is assumed. Nothing else changes, so that classes learned
before keep their weights, bit by bit. The same seed and the same recordings give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuro.deploy.competition import Competition, swap
from neuro.deploy.network import Dense, Input, IntegerNetwork, Readout
from neuro.errors import ParameterError, ShapeError, explain


@dataclass(frozen=True, eq=False)
class FewShot:
    """A last layer that learns classes one recording at a time. Immutable: `learn` and `add_classes` return another.

    weights: uint8 [classes, neurons, inputs] of 0 and 1.  times: int64 [classes, neurons], recordings that each neuron has learned.
    seed: of first weights and of swaps.  how: plasticity and competition.  seen: recordings learned by the whole layer.
    """

    weights: np.ndarray
    times: np.ndarray
    seed: int
    how: Competition
    seen: int = 0

    @property
    def classes(self) -> int:
        return self.weights.shape[0]

    @property
    def ones(self) -> int:
        """Ones of each weight vector."""
        return int(self.weights[0, 0].sum()) if self.weights.size else 0

    def overlaps(self, x: Any) -> np.ndarray:
        """Ones that x, bool or 0 and 1 [B, inputs], shares with each neuron: int64 [B, classes, neurons]."""
        flat = self.weights.reshape(-1, self.weights.shape[2]).astype(np.float32)  # sums of ones are exact in it up to 2^24
        return (self._checked(x).astype(np.float32) @ flat.T).astype(np.int64).reshape(-1, *self.weights.shape[:2])

    def classify(self, x: Any) -> np.ndarray:
        """Classes int64 [B]: of the best match, the first one if two are equal."""
        found = self.overlaps(x)
        return found.max(2).argmax(1)

    def learn(self, x: Any, labels: Any) -> FewShot:
        """The layer after these recordings, in this order.

        Args:
            x: bool or 0 and 1, [B, inputs].
            labels: int [B], in 0 .. classes - 1.

        Raises:
            ShapeError: x or labels that do not fit.
        """
        x, labels = self._checked(x), np.asarray(labels)
        if labels.shape != (len(x),) or labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < self.classes):
            raise ShapeError(explain("FewShot: the labels do not fit.", f"labels {list(labels.shape)} {labels.dtype}   inputs {list(x.shape)}   {self.classes} classes",
                                     cure="One whole number in 0 .. classes - 1 per recording; add_classes makes room."))  # fmt: skip
        weights, times = self.weights.copy(), self.times.copy()
        for k, (sample, label) in enumerate(zip(x, labels, strict=True) if self.how.initial else ()):
            if not sample.any():
                continue  # nothing was seen: there is nothing to connect to
            shared = (weights[label] & sample).sum(1, dtype=np.int64)
            n = self.how.learner(shared, times[label], min(self.ones, int(sample.sum())))
            swap(weights[label, n], sample, self.how.plasticity(times[label, n]), np.random.default_rng((self.seed, 1, self.seen + k)))
            times[label, n] += 1
        return replace(self, weights=_frozen(weights), times=_frozen(times), seen=self.seen + len(x))

    def add_classes(self, number: int) -> FewShot:
        """The layer with more classes behind those it has, which keep weights and plasticity. The new ones are fresh."""
        if number < 1:
            raise ParameterError(explain("FewShot: at least one class is added.", f"number {number}"))
        _, neurons, inputs = self.weights.shape
        new = [_first(self.seed, self.classes + c, neurons, inputs, self.ones) for c in range(number)]
        times = np.concatenate([self.times, np.zeros((number, neurons), np.int64)])
        return replace(self, weights=_frozen(np.concatenate([self.weights, new])), times=_frozen(times))

    def network(self, name: str = "few_shot") -> IntegerNetwork:
        """The layer as an integer network on one step of binary input, for the twin and Lava: `acc` are the overlaps, one per neuron."""
        classes, neurons, inputs = self.weights.shape
        flat = self.weights.reshape(classes * neurons, inputs).astype(np.int32)
        return IntegerNetwork([Input("input", (inputs,), message_bits=1), Dense("fc", "input", flat), Readout("readout", "fc", np.zeros(classes * neurons, np.int64))], name)

    def _checked(self, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.weights.shape[2] or x.dtype.kind not in "biu" or (x.size and (x.max() > 1 or x.min() < 0)):
            fact = f"inputs {list(x.shape)} {x.dtype}   expected [B, {self.weights.shape[2]}] of 0 and 1"
            raise ShapeError(explain("FewShot: the input does not fit.", fact, cure="Only binary spikes can be learned; `spiked` makes them of counts."))
        return x.astype(np.uint8)


def few_shot(inputs: int, classes: int, neurons: int, ones: int, *, seed: int = 0, how: Competition | None = None) -> FewShot:
    """A layer that has learned nothing: `ones` inputs of each neuron drawn at random.

    Args:
        inputs: binary inputs.  classes: 1 or more.  neurons: of each class, 1 or more; no more than recordings of a class, or some stay fresh.
        ones: of each weight vector; the vendor's rule is 1.2 times the median number of active inputs (`ones_for`), well below half of all.
        how: plasticity and competition; default the vendor's.

    Raises:
        ParameterError: numbers out of these ranges.

    >>> layer = few_shot(inputs=8, classes=2, neurons=1, ones=3)
    >>> x = np.array([[1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1]])
    >>> layer.learn(x, [0, 1]).classify(x).tolist()
    [0, 1]
    """
    if min(classes, neurons) < 1 or not 0 < ones <= inputs:
        facts = f"inputs {inputs}   classes {classes}   neurons {neurons}   ones {ones}"
        raise ParameterError(explain("few_shot: a number is out of its range.", facts, cure="1 or more classes and neurons, ones in 1 .. inputs."))
    weights = np.stack([_first(seed, c, neurons, inputs, ones) for c in range(classes)])
    return FewShot(_frozen(weights), _frozen(np.zeros((classes, neurons), np.int64)), seed, how or Competition())


def ones_for(x: Any) -> int:
    """The vendor's rule for the number of ones: 1.2 times the median number of active inputs of binary recordings [B, inputs], cut off."""
    x = np.asarray(x)
    if x.ndim != 2 or not x.any():
        raise ShapeError(explain("ones_for: no active input.", f"x {list(x.shape)}", cure="Give binary recordings [B, inputs] that are not all silent."))
    return int(np.clip(int(1.2 * float(np.median((x != 0).sum(1)))), 1, x.shape[1]))


def spiked(spikes: Any, least: int = 1) -> np.ndarray:
    """Binary inputs uint8 [B, inputs] of spikes [T, B, ...]: whether a neuron fired at least so often."""
    spikes = np.asarray(spikes)
    if spikes.ndim < 3:
        raise ShapeError(explain("spiked: these are no spikes over time.", f"spikes {list(spikes.shape)}", cure="Give [T, B, ...]."))
    return (np.count_nonzero(spikes, axis=0) >= least).reshape(spikes.shape[1], -1).astype(np.uint8)


def _first(seed: int, label: int, neurons: int, inputs: int, ones: int) -> np.ndarray:
    """First weights of one class, the same whenever it is added."""
    rng = np.random.default_rng((seed, 0, label))
    found = np.zeros((neurons, inputs), np.uint8)
    for row in found:
        row[rng.choice(inputs, ones, replace=False)] = 1
    return found


def _frozen(x: np.ndarray) -> np.ndarray:
    x.setflags(write=False)
    return x
