"""Loihi's learning engine as Lava simulates it in fixed point, in integers and step by step: traces, tags, weights, random rounding.

At the end of an epoch of steps, for a synapse from input i to neuron o (all of it by Lava's LearningDense, "bit_approximate_loihi"):

    trace   <- rounded(trace * exp(-1 / tau)) + impulse * spike          7 bits, 0 .. 127; tau 0 keeps nothing from step to step
    product  = mantissa * factors >> max(0, bits - 15) << (exponent + 7) each factor and the sum saturate at their widths
    weight  <- rounded((weight << 7) + sum of products >> 7)             9 bits; the tag likewise

A product with the condition x0 takes the traces of the step in which the input fired, with y0 of that in which the neuron fired, with u of the
last one. Spikes of one step meet each other's impulse. `rounded` adds one where a random number is below the fraction that is lost.

Equal to Lava (lava-nc 0.10) in every weight, tag and trace, by test. What Lava does and one may not expect, here done as well:
- one random number a step rounds all synapses, another all traces of inputs: they are rounded up together;
- the numbers that round weights do not depend on the seed of the rule: it is always 2;
- weights of both signs start on the chip's grid of even numbers and leave it while learning: `deployed` brings them back;
- with a third factor a neuron that fires clips its traces at 0, so that a negative third factor is lost in that step;
- tags reach -257, one less than 9 bits hold;
- a product of more than 11 bits of factors is shifted right to 15 and not back: "u0 * x1 * y3" adds an eighth of x1 * y3.
Impulses are whole numbers here: Lava compares the fraction, of 8 bits, with a random number of 7. Delays are not learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from neuro.deploy.sum_of_products import WIDTH, Product, products
from neuro.errors import ParameterError, ShapeError, explain

TRACE = 127
TAG = (-257, 255)
ACCUMULATOR = (-(2**15) - 1, 2**15 - 1)
FRACTION = 7  # bits of a weight or tag below the point while it is summed
FROM_NEURON = 2.0**32  # tau of traces that the neuron sends: they do not decay here
ROUNDING_SEED = 2
TRACES = ("x1", "x2", "y1", "y2", "y3")


class Sign(Enum):
    """Signs that the weights of a layer may have, and their range."""

    MIXED = (-256, 255)
    EXCITATORY = (0, 255)
    INHIBITORY = (-255, 0)


@dataclass(frozen=True)
class LearningRule:
    """Constants of a rule.

    dw, dt: what weight and tag gain, see `neuro.deploy.sum_of_products`; one of them at least.
    x1, x2, y1, y2, y3: (impulse, tau) of each trace: a whole number 0 .. 127, and steps, 0 or more.
    third: y1, y2, y3 come from the neuron in each step (three-factor rules); theirs must not be given then.
    epoch: steps between changes, 1 .. 63.  seed: of the rounding of traces, 0 or more.  sign: of the weights.

    Raises:
        ParameterError: a rule that cannot be read, or numbers out of their range.
    """

    dw: str | None = None
    dt: str | None = None
    x1: tuple[int, float] = (0, 0.0)
    x2: tuple[int, float] = (0, 0.0)
    y1: tuple[int, float] = (0, 0.0)
    y2: tuple[int, float] = (0, 0.0)
    y3: tuple[int, float] = (0, 0.0)
    third: bool = False
    epoch: int = 1
    seed: int = 0
    sign: Sign = Sign.MIXED
    series: dict[str, tuple[Product, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in TRACES:
            impulse, tau = getattr(self, name)
            if not isinstance(impulse, (int, np.integer)) or not 0 <= impulse <= TRACE or not tau >= 0:
                raise _wrong(f"{name} ({impulse!r}, {tau!r})", "An impulse is a whole number in 0 .. 127, tau is 0 or more.")
            if self.third and name[0] == "y" and (impulse, tau) != (0, 0.0):
                raise _wrong(f"third is true and {name} is ({impulse}, {tau:g})", "Traces of the neuron come from it then; leave them out.")
        for name, low, high in (("epoch", 1, 63), ("seed", 0, 2**31)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
                raise _wrong(f"{name} {value!r}", f"It is a whole number in {low} .. {high}.")
        series = {target: products(rule) for target, rule in (("weight", self.dw), ("tag", self.dt)) if rule is not None}
        if not series:
            raise _wrong("neither dw nor dt is given", 'dw="2^-2 * y0 * x1 - 2^-2 * x0 * y1" is pairwise STDP.')
        periods = {p.every for found in series.values() for p in found} - {None}
        if len(periods) > 1:
            raise _wrong(f"dw and dt have the conditions {', '.join(f'u{k}' for k in sorted(periods))}", "One period for both.")  # type: ignore[type-var]
        object.__setattr__(self, "series", series)


class Learning(NamedTuple):
    """The state of a layer that learns; a step returns a new one.

    weight, tag: int64 [O, I].  x [2, I], y [3, O]: traces.  tx [I], ty [O]: step of the last spike in this epoch, 0 for none.
    steps: taken so far.
    """

    weight: np.ndarray
    tag: np.ndarray
    x: np.ndarray
    y: np.ndarray
    tx: np.ndarray
    ty: np.ndarray
    steps: int = 0


def stdp(plus: str, minus: str, tau_plus: float, tau_minus: float, *, impulse: int = 16, epoch: int = 1, seed: int = 0, sign: Sign = Sign.MIXED) -> LearningRule:
    """Pairwise STDP, as Lava's STDPLoihi: `plus`, such as "2^-2", times the input's trace when the neuron fires; less `minus` times the neuron's when the input fires.

    >>> stdp("2^-2", "2^-3", 10.0, 20.0).dw
    '-2^-3 * x0 * y1 + 2^-2 * y0 * x1'
    """
    return LearningRule(f"-{minus} * x0 * y1 + {plus} * y0 * x1", x1=(impulse, tau_plus), y1=(impulse, tau_minus), epoch=epoch, seed=seed, sign=sign)


def begin(rule: LearningRule, weight: Any, tag: Any = None) -> Learning:
    """A layer with these weights, whole numbers [O, I], put on the chip's grid; nothing seen.

    >>> rule = LearningRule(dw="2^-2 * y0 * x1", x1=(16, 10.0))
    >>> s = begin(rule, [[10, 20]])
    >>> s = step(rule, s, [1, 0], [0])      # input 0 fires: its trace is 16
    >>> s = step(rule, s, [0, 0], [1])      # then the neuron: a quarter of 14 or 15 is added to the weight of input 0
    >>> s.weight.tolist() in ([[13, 20]], [[14, 20]]) and s.x[0, 0] in (14, 15)
    True
    """
    w = np.asarray(weight)
    low, high = rule.sign.value
    if w.ndim != 2 or not w.size or w.dtype.kind not in "iu" or w.min() < low or w.max() > high:
        raise ShapeError(explain("begin: these are no weights of this sign.", f"weight {list(w.shape)} {w.dtype}   sign {rule.sign.name}", cure=f"Whole numbers [O, I] in {low} .. {high}."))
    tag = np.zeros(w.shape, np.int64) if tag is None else np.asarray(tag)
    if tag.shape != w.shape or tag.dtype.kind not in "iu" or tag.min() < TAG[0] or tag.max() > TAG[1]:
        raise ShapeError(explain("begin: these are no tags.", f"tag {list(tag.shape)} {tag.dtype}   weight {list(w.shape)}", cure=f"Whole numbers [O, I] in {TAG[0]} .. {TAG[1]}."))
    outputs, inputs = w.shape
    zero = (np.zeros(shape, np.int64) for shape in ((2, inputs), (3, outputs), inputs, outputs))
    return Learning(deployed(rule, w), tag.astype(np.int64), *zero)


def deployed(rule: LearningRule, weight: Any) -> np.ndarray:
    """Weights on the chip's grid, as a layer with both signs is given to it: the next even number below."""
    w = np.asarray(weight, np.int64)
    return (w >> 1) << 1 if rule.sign is Sign.MIXED else w.copy()


def step(rule: LearningRule, s: Learning, pre: Any, post: Any, third: Any = None) -> Learning:
    """One step; at the end of an epoch weights and tags change.

    Args:
        pre: spikes of the inputs [I], post: of the neurons [O], of 0 and 1.
        third: y1, y2, y3 of the neurons, whole numbers [3, O] in -128 .. 127, where the rule has third=True.

    Raises:
        ShapeError: spikes or third factors that do not fit.
    """
    pre, post = _spikes(pre, len(s.tx), "pre"), _spikes(post, len(s.ty), "post")
    within = s.steps % rule.epoch + 1
    x = _impulse(s.x, (s.tx > 0) & pre, _impulses(rule, "x"))  # a second spike of an epoch counts at once, at the epoch's start
    y = _third(third, len(s.ty)) if rule.third else _impulse(s.y, (s.ty > 0) & post, _impulses(rule, "y"))
    if third is not None and not rule.third:
        raise ShapeError(explain("step: the rule takes no third factor.", cure="Make it with third=True."))
    s = s._replace(x=x, y=y, tx=np.where(pre, within, s.tx), ty=np.where(post, within, s.ty), steps=s.steps + 1)
    return s if within < rule.epoch else _epoch(rule, s)


def change(rule: LearningRule, s: Learning, x: Any, y: Any) -> Learning:
    """The end of an epoch with these traces, however they came to be: of inputs [2, I], of neurons [3, O]. Only products with u change anything.

    For traces that are counted elsewhere, as over a whole recording; they may have counted values above 1.

    Raises:
        ShapeError: traces that do not fit, or beyond 7 bits.
    """
    x, y = np.asarray(x), _third(y, len(s.ty))
    if x.shape != (2, len(s.tx)) or x.dtype.kind not in "iu" or x.min(initial=0) < 0 or x.max(initial=0) > TRACE:
        raise ShapeError(explain("change: these are no traces of the inputs.", f"x {list(x.shape)} {x.dtype}   expected whole numbers [2, {len(s.tx)}] in 0 .. {TRACE}"))
    s = s._replace(x=x.astype(np.int64), y=y, tx=0 * s.tx, ty=0 * s.ty, steps=(s.steps // rule.epoch + 1) * rule.epoch)
    return s._replace(**_changed(rule, s, s.x[None], s.y[None]))


def _epoch(rule: LearningRule, s: Learning) -> Learning:
    """What an epoch changes."""
    xs = _history(rule, "x", s.x, s.tx, _random(rule.seed, 2 * s.steps))
    ys = _history(rule, "y", s.y, s.ty, _random(rule.seed + 2, 2 * s.steps))
    y = s.y if rule.third else ys[-1]
    return s._replace(x=xs[-1], y=y, tx=0 * s.tx, ty=0 * s.ty, **_changed(rule, s, xs, ys))


def _changed(rule: LearningRule, s: Learning, xs: np.ndarray, ys: np.ndarray) -> dict[str, np.ndarray]:
    """Weights and tags after the products, rounded."""
    random, found = _random(ROUNDING_SEED, s.steps // rule.epoch), {}
    for target, series in rule.series.items():
        total = getattr(s, target) << FRACTION
        for product in series:
            total = np.clip(total + _value(product, rule, s, xs, ys), *ACCUMULATOR)
        limits = rule.sign.value if target == "weight" else TAG
        found[target] = np.clip((total >> FRACTION) + (random < (total % 2**FRACTION) / 2**FRACTION), *limits)
    return found


def _value(p: Product, rule: LearningRule, s: Learning, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """What one product adds, int64 [O, I], in units of 2^-7."""
    pre, post = s.tx[None] > 0, s.ty[:, None] > 0
    if p.condition == "u":
        value = np.full(s.weight.shape, int((s.steps // rule.epoch) % 2 ** (p.every or 0) == 0), np.int64)
    else:
        value = np.broadcast_to(pre if p.condition == "x0" else post, s.weight.shape).astype(np.int64)
    known = {"x0": pre, "y0": post, "w": s.weight, "t": s.tag}
    for f in p.factors:
        factor = (known[f.variable] if f.variable in known else _trace(f.variable, p.condition, s, xs, ys)) + f.constant
        factor = np.sign(factor) if f.sign else factor
        value = value * np.clip(factor, -(2 ** WIDTH[f.variable]), 2 ** WIDTH[f.variable] - 1)
    value = (value * p.mantissa) >> max(0, p.width + 4 - 15)
    return np.clip(value << (p.exponent + 7), *ACCUMULATOR)


def _trace(name: str, condition: str, s: Learning, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """A trace as the condition finds it, to be broadcast to [O, I]."""
    of_input, k = name[0] == "x", int(name[1]) - 1
    history = (xs if of_input else ys)[:, k]  # [steps + 1, I or O]
    if condition == "u":
        return history[-1][None] if of_input else history[-1][:, None]
    if condition == "x0":
        return history[s.tx, np.arange(len(s.tx))][None] if of_input else history[s.tx].T
    return history[s.ty] if of_input else history[s.ty, np.arange(len(s.ty))][:, None]


def _history(rule: LearningRule, kind: str, trace: np.ndarray, spiked: np.ndarray, random: float) -> np.ndarray:
    """Traces at the start of the epoch and after each of its steps, int64 [epoch + 1, traces, N]."""
    taus = np.array([FROM_NEURON if rule.third and kind == "y" else getattr(rule, name)[1] for name in TRACES if name[0] == kind])
    kept = np.where(taus > 0, np.exp(-1 / np.where(taus > 0, taus, 1)), 0)[:, None]
    found = [trace]
    for t in range(1, rule.epoch + 1):
        exact = kept * found[-1]
        left = (np.floor(exact) + (random < exact % 1)).astype(np.int64)
        found.append(_impulse(left, spiked == t, _impulses(rule, kind)))
    return np.stack(found)


def _impulse(trace: np.ndarray, where: np.ndarray, impulses: np.ndarray) -> np.ndarray:
    return np.where(where, np.clip(trace + impulses, 0, TRACE), trace)


def _impulses(rule: LearningRule, kind: str) -> np.ndarray:
    return np.array([getattr(rule, name)[0] for name in TRACES if name[0] == kind], np.int64)[:, None]


def _random(seed: int, index: int) -> float:
    """The number at this place of the stream of this seed, in 0 .. 1: a pure function, so that a state is a value."""
    generator = np.random.default_rng(seed)
    generator.bit_generator.advance(index)  # type: ignore[attr-defined]
    return float(generator.random())


def _spikes(x: Any, n: int, name: str) -> np.ndarray:
    x = np.asarray(x)
    if x.shape != (n,) or x.dtype.kind not in "biu" or (x.size and (x.max() > 1 or x.min() < 0)):
        raise ShapeError(explain(f"step: {name} are no spikes of this layer.", f"{name} {list(x.shape)} {x.dtype}   expected [{n}] of 0 and 1"))
    return x.astype(bool)


def _third(x: Any, n: int) -> np.ndarray:
    x = np.asarray(x)
    if x.shape != (3, n) or x.dtype.kind not in "iu" or x.min(initial=0) < -128 or x.max(initial=0) > TRACE:
        raise ShapeError(explain("step: these are no third factors of this layer.", f"third {list(x.shape)} {x.dtype}   expected y1, y2, y3, whole numbers [3, {n}] in -128 .. 127"))
    return x.astype(np.int64)


def _wrong(fact: str, cure: str) -> ParameterError:
    return ParameterError(explain("LearningRule: this rule cannot be.", fact, cure=cure))
