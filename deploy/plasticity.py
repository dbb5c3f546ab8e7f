"""Synapses that learn on the chip, in integers: traces, pairwise STDP, and a third factor, as Loihi's learning engine has them.

Per step, for a synapse from input i to neuron o, with spikes of 0 and 1:

    x_i <- decayed(x_i) + impulse * s_i          trace of the input, 7 bits, saturating
    y_o <- decayed(y_o) + impulse * s_o          trace of the neuron
    d   =  (plus * x_i * s_o - minus * y_o * s_i) >> shift       pairwise STDP; a spike does not meet its own trace
    w   <- clip(w + d)                                           8 bits
or, with a third factor r of the neuron (reward, or target - output):
    e   <- decayed(e) + d,    w <- clip(w + (r_o * e >> reward_shift))

`decayed(x) = x * (4096 - decay) >> 12`, truncated towards zero as all of the chip's decays. Sums of products of traces, spikes and a third
factor are the form of Loihi's rules (Davies et al. 2018, section "Learning"). These three are a deterministic cut of them, not Lava's bits:
here all is truncated where the chip rounds at random, weights have 8 bits, spikes of one step do not meet each other, and an error may be
negative whenever. `neuro.deploy.learning_engine` is equal to Lava's LearningDense in every bit and takes any such rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from neuro.errors import ParameterError, ShapeError, explain

TRACE = 127  # 7 bits
ELIGIBILITY = 2**23 - 1
WEIGHT = (-128, 127)


@dataclass(frozen=True)
class Rule:
    """Constants of a learning rule, integers.

    decay: of the traces, 0 .. 4096 of 4096 per step.  impulse: that a spike adds, 0 .. 127.  plus, minus: of STDP, 0 or more.
    shift: right shift of a change, 0 .. 30.  tag_decay, reward_shift: of the eligibility and its use.  low, high: of weights.
    """

    decay: int = 512
    impulse: int = 127
    plus: int = 1
    minus: int = 1
    shift: int = 4
    tag_decay: int = 0
    reward_shift: int = 0
    low: int = WEIGHT[0]
    high: int = WEIGHT[1]

    def __post_init__(self) -> None:
        for name, top in (("decay", 4096), ("tag_decay", 4096), ("impulse", TRACE), ("shift", 30), ("reward_shift", 30), ("plus", 2**15), ("minus", 2**15)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or not 0 <= value <= top:
                raise ParameterError(explain(f"Rule: {name} is a whole number in 0 .. {top}.", f"{name} {value!r}"))
        if not WEIGHT[0] <= self.low <= self.high <= WEIGHT[1]:
            raise ParameterError(explain(f"Rule: weights lie in {WEIGHT[0]} .. {WEIGHT[1]}.", f"low {self.low}   high {self.high}"))


class Synapses(NamedTuple):
    """weight int64 [O, I]; traces x [I], y [O]; eligibility [O, I]. Values: a step returns new ones."""

    weight: np.ndarray
    x: np.ndarray
    y: np.ndarray
    eligibility: np.ndarray


def synapses(weight: Any) -> Synapses:
    """Synapses [O, I] with these integer weights and nothing seen.

    >>> s = synapses([[0, 0]])
    >>> rule = Rule(shift=0, decay=2048)
    >>> s = stdp(s, [1, 0], [0], rule)      # input 0 fires
    >>> s = stdp(s, [0, 0], [1], rule)      # then the neuron: its trace has fallen from 127 to 63
    >>> s.weight.tolist()
    [[63, 0]]
    """
    w = np.asarray(weight)
    if w.ndim != 2 or w.dtype.kind not in "iu" or (w.size and (w.min() < WEIGHT[0] or w.max() > WEIGHT[1])):
        raise ShapeError(explain("synapses: these are no weights.", f"weight {list(w.shape)} {w.dtype}", cure=f"Whole numbers [O, I] in {WEIGHT[0]} .. {WEIGHT[1]}."))
    outputs, inputs = w.shape
    return Synapses(w.astype(np.int64), np.zeros(inputs, np.int64), np.zeros(outputs, np.int64), np.zeros((outputs, inputs), np.int64))


def stdp(s: Synapses, pre: Any, post: Any, rule: Rule) -> Synapses:
    """One step of pairwise STDP. pre: spikes [I], post: [O], of 0 and 1."""
    change, x, y = _change(s, pre, post, rule)
    return Synapses(np.clip(s.weight + change, rule.low, rule.high), x, y, s.eligibility)


def three_factor(s: Synapses, pre: Any, post: Any, third: Any, rule: Rule) -> Synapses:
    """One step of STDP that is kept as eligibility, and used where the third factor, int [O] or one for all, is not 0."""
    change, x, y = _change(s, pre, post, rule)
    tag = np.clip(_decayed(s.eligibility, rule.tag_decay) + change, -ELIGIBILITY, ELIGIBILITY)
    return Synapses(_used(s.weight, tag, _third(third, len(s.y)), rule), x, y, tag)


def error_driven(s: Synapses, pre: Any, error: Any, rule: Rule) -> Synapses:
    """One step of `w <- w + (plus * error_o * x_i >> shift)`: the third factor is target minus output, and no neuron need fire.

    The rule of on-line learning on Loihi by errors (Stewart et al. 2020, "Online Few-shot Gesture Learning on a Neuromorphic
    Processor"), without its surrogate factor.
    """
    x = np.minimum(_decayed(s.x, rule.decay) + rule.impulse * _spikes(pre, len(s.x), "pre"), TRACE)
    weight = s.weight + _shifted(rule.plus * _third(error, len(s.y))[:, None] * x, rule.shift)
    return Synapses(np.clip(weight, rule.low, rule.high), x, s.y, s.eligibility)


def _change(s: Synapses, pre: Any, post: Any, rule: Rule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Change of pairwise STDP, and the traces after this step. Spikes of one step do not meet each other's."""
    pre, post = _spikes(pre, len(s.x), "pre"), _spikes(post, len(s.y), "post")
    x, y = _decayed(s.x, rule.decay), _decayed(s.y, rule.decay)
    change = _shifted(rule.plus * x[None] * post[:, None] - rule.minus * y[:, None] * pre[None], rule.shift)
    return change, np.minimum(x + rule.impulse * pre, TRACE), np.minimum(y + rule.impulse * post, TRACE)


def _used(weight: np.ndarray, tag: np.ndarray, third: np.ndarray, rule: Rule) -> np.ndarray:
    return np.clip(weight + _shifted(third[:, None] * tag, rule.reward_shift), rule.low, rule.high)


def _decayed(x: np.ndarray, decay: int) -> np.ndarray:
    return _shifted(x * (4096 - decay), 12)


def _shifted(x: np.ndarray, bits: int) -> np.ndarray:
    """x / 2^bits, truncated towards zero."""
    return np.sign(x) * (np.abs(x) >> bits)


def _spikes(x: Any, n: int, name: str) -> np.ndarray:
    x = np.asarray(x)
    if x.shape != (n,) or x.dtype.kind not in "biu" or (x.size and (x.max() > 1 or x.min() < 0)):
        raise ShapeError(explain(f"learning: {name} are no spikes of this layer.", f"{name} {list(x.shape)} {x.dtype}   expected [{n}] of 0 and 1"))
    return x.astype(np.int64)


def _third(x: Any, n: int) -> np.ndarray:
    x = np.asarray(x)
    if x.shape not in ((), (n,)) or x.dtype.kind not in "iu" or np.abs(x).max(initial=0) > 2**15:
        raise ShapeError(explain("learning: the third factor does not fit.", f"{list(x.shape)} {x.dtype}   expected one whole number, or [{n}], up to 2^15"))
    return np.broadcast_to(x, (n,)).astype(np.int64)
