"""New classes in the head of an integer network, learned from a few recordings: rows are added, and nothing that was there is touched.

The head is the last Dense; a recording belongs to the class with the largest acc = sum over steps of (w . s_t + bias). A new class gets a
row of weights that starts at 0, without a bias, and a three-factor rule of Loihi's (`neuro.deploy.learning_engine`) changes it at the end of
a recording:

    dw = 2^-2 * u0 * x1 * y3         x1: what the input gave over the recording, negative as 0;  y3 = 8 * error

with an error of 1 for the right class where another one has the largest acc, and of -1 for a new class that has it wrongly; so
`w += error * x1 / 4`, rounded at random as the chip does, and nothing changes once all recordings are right. Where an input gives more than 31, all are taken in units of a power
of two that keeps them below 32, so that traces stay within their 7 bits and no recording moves a weight by more than 8. Old rows have no error:
their acc stays the same bit by bit, so that a recording changes its answer only in favour of a new class. How often old
recordings do that depends on what the new rows have seen; recordings of old classes among those given teach them where to be silent, and
without any the more new recordings there are the more old ones go over: of seven objects the old were right in 0.34 of recordings after 20 of
each new one, with five of each old one among them in 0.68. Class means of the same counts, kept on a host, answered better over all
classes at every number of shots in three of four measurements (`benchmarks/on_chip_learning.py`), and worse in the fourth, where most of
what was asked was new and from another day; they need recordings of all old classes.

The learned rows are put on the chip's grid of even weights before they answer, while learning too: what was learned is what runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from neuro.deploy.learning_engine import Learning, LearningRule, Sign, begin, change, deployed
from neuro.deploy.network import Dense, IntegerNetwork, Readout, StepReadout
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError, ShapeError, explain

RULE = LearningRule("2^-2 * u0 * x1 * y3", third=True)
BITS = 5  # of a trace
ERROR = 8  # the product of 7 + 7 bits is shifted right by 3: this loses nothing


class Added(NamedTuple):
    """The network with its new classes, and how many recordings were answered wrongly in each pass, and learned from. One of an old class that is
    taken for another old class is not among them: no new row can mend that."""

    network: IntegerNetwork
    mistakes: tuple[int, ...]


def head_of(network: IntegerNetwork) -> Dense:
    """The Dense that the readout reads. Raises GraphError if it reads anything else."""
    head = network[network.readout.input]
    if isinstance(network.readout, StepReadout):
        raise GraphError(explain(f"{network.name!r} answers at every step; classes are added to a network that answers once.", cure="Train it with MeanOverTime at its end."))
    if not isinstance(head, Dense):
        raise GraphError(explain(f"{network.name!r} has no head that classes can be added to.", f"its readout reads {head.name!r}, of kind {type(head).__name__}",
                                 cure="A network whose last layer is dense."))  # fmt: skip
    return head


def head_inputs(network: IntegerNetwork, inputs: np.ndarray, lengths: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What the head reads, summed over each recording [B, I], and the steps of each [B]; by the twin. inputs: as for `run_twin`."""
    head = head_of(network)
    width = head.weight.shape[1]
    nodes = [n for n in network.nodes if n.name not in (head.name, network.readout.name)]
    ends = [Dense(head.name, head.input, np.eye(width, dtype=np.int32)), Readout(network.readout.name, head.name, np.zeros(width, np.int64))]
    result = run_twin(IntegerNetwork([*nodes, *ends], network.name), inputs, lengths)
    return result.acc, result.steps


def add_classes(network: IntegerNetwork, inputs: np.ndarray, labels: Any, *, new: int, lengths: np.ndarray | None = None, passes: int = 50) -> Added:
    """The network with `new` more classes behind those it has, learned from these recordings.

    Args:
        network: one whose last layer is dense.
        inputs: integers [T, B, ...], as for `run_twin`.
        labels: whole numbers [B]: old classes 0 .. classes - 1, of which any number may be there, then the new ones, each at least once.
        new: classes to add, 1 or more.
        lengths: steps of each recording [B]; None: all.
        passes: over the recordings, at most; it ends when new rows have nothing left to mend.

    Raises:
        GraphError: no dense head.  ShapeError: labels that do not fit.  ParameterError: numbers out of their range.
    """
    head, x, steps = head_of(network), *head_inputs(network, inputs, lengths)
    labels, old = _checked(labels, len(x), len(head.weight), new, passes), len(head.weight)
    rule = replace(RULE, sign=_sign(head.weight))
    known = x @ head.weight.astype(np.int64).T + steps[:, None] * network.readout.bias
    traces = np.clip(x, 0, None) >> max(0, int(x.max(initial=0)).bit_length() - BITS)
    s, mistakes = begin(rule, np.zeros((new, x.shape[1]), np.int64)), []
    for _ in range(passes):
        wrong = 0
        for k in range(len(x)):
            acc = np.concatenate([known[k], deployed(rule, s.weight) @ x[k]])
            if (given := int(acc.argmax())) != labels[k] and max(given, labels[k]) >= old:
                wrong, s = wrong + 1, _learned(rule, s, traces[k], _error(new, labels[k] - old, given - old))
        mistakes.append(wrong)
        if not wrong:
            break
    return Added(_grown(network, head, deployed(rule, s.weight)), tuple(mistakes))


def _learned(rule: LearningRule, s: Learning, trace: np.ndarray, error: np.ndarray) -> Learning:
    """One recording that was answered wrongly."""
    nothing = np.zeros_like(error)
    return change(rule, s, np.stack([trace, 0 * trace]), np.stack([nothing, nothing, ERROR * error]))


def _error(new: int, right: int, given: int) -> np.ndarray:
    """1 for the right class, -1 for the one that was given, as far as they are new: numbers below 0 are old classes."""
    error = np.zeros(new, np.int64)
    for k, value in ((right, 1), (given, -1)):
        if k >= 0:
            error[k] = value
    return error


def _grown(network: IntegerNetwork, head: Dense, rows: np.ndarray) -> IntegerNetwork:
    """The network with these rows under its head's."""
    weight = np.concatenate([head.weight, rows.astype(head.weight.dtype)])
    bias = np.concatenate([network.readout.bias, np.zeros(len(rows), np.int64)])
    ends = {head.name: replace(head, weight=weight), network.readout.name: replace(network.readout, bias=bias)}
    return IntegerNetwork([ends.get(n.name, n) for n in network.nodes], network.name)


def _sign(weight: np.ndarray) -> Sign:
    """Signs that new rows may have beside these: the chip holds odd weights only where all have one sign."""
    if not (weight % 2).any():
        return Sign.MIXED
    return Sign.EXCITATORY if weight.min() >= 0 else Sign.INHIBITORY


def _checked(labels: Any, recordings: int, old: int, new: int, passes: int) -> np.ndarray:
    for name, value in (("new", new), ("passes", passes)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ParameterError(explain(f"add_classes: {name} is not a number of {'classes' if name == 'new' else 'passes'}.", f"{name} {value!r}", cure="Give 1 or more."))
    labels = np.asarray(labels)
    if labels.shape != (recordings,) or labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < old + new):
        raise ShapeError(explain("add_classes: the labels do not fit.", f"labels {list(labels.shape)} {labels.dtype}   {recordings} recordings   {old} old classes, {new} new",
                                 cure="One whole number per recording; the new classes come behind the old ones."))  # fmt: skip
    if absent := sorted(set(range(old, old + new)) - set(labels.tolist())):
        raise ShapeError(explain("add_classes: a new class has no recording.", f"no label {', '.join(map(str, absent))}", cure="Give each new class one or more."))
    return labels.astype(np.int64)
