"""One layer on the chip's grid: integer weights, threshold and bias from float ones, by one scale.

The float neuron sees `gain * (W x + b)` and fires at `threshold`; the chip integrates `64 * (W_int x)` plus a bias and fires
above `64 * vth`. With one scale s,

    W_int = round(s W),   bias = round(64 s b),   vth = s threshold / gain,   so that   v_int / (64 vth) = v / threshold.

s is the largest for which everything fits (weights, vth <= 131071, |bias| <= 4095 * 2^7, and the worst case of the accumulated
input below 2^17), lowered by at most 1/vth so that vth is a whole number and no error comes from the threshold.

Fewer than 8 bits are a coarser grid within the same range, so that chip, file and twin know 8-bit weights only:
multiples of 2^(8 - bits), twice that where signs are mixed. With `clip`, s may be larger than the range of the weights
allows: outliers are cut off where the mean square error falls by it, which is the rule at 2 to 4 bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuro.deploy.nodes import Range, weighted_range
from neuro.deploy.rules import CURRENT, weight_problem
from neuro.errors import GraphError, ParameterError, explain

MOST_VTH, MOST_MANT, MOST_EXP = 131071, 4095, 7
STRETCHES = [1 + i / 8 for i in range(25)]  # of the scale, 1 .. 4, tried where outliers may be cut off


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer on the grid: its products, which share one scale, and what its neuron needs.

    weights: int32, one per product.  scale: s, one number, or one per channel [O]; vth likewise.  bias_mant: int32 [O] or 0.
    """

    weights: tuple[np.ndarray, ...]
    scale: float | np.ndarray
    vth: int | np.ndarray
    bias_mant: np.ndarray | int
    bias_exp: int

    @property
    def weight(self) -> np.ndarray:
        return self.weights[0]


def both_signs(weight: np.ndarray) -> bool:
    return bool((weight > 0).any() and (weight < 0).any())


def spacing(mixed: bool, bits: int) -> int:
    """Distance of neighbours on the grid: 2^(8 - bits), doubled where signs are mixed."""
    return 2 ** (8 - bits) * (2 if mixed else 1)


def to_grid(weight: np.ndarray, scale: float | np.ndarray, bits: int = 8) -> np.ndarray:
    """Nearest weights that the chip holds, int32: for 8 bits even in -256 .. 254 if signs are mixed, else every one in -255 .. 255.

    scale: one number, or one per row of weight [O, ...].
    """
    mixed = both_signs(weight)
    whole = _nearest(weight * rows(np.asarray(scale), weight), bits, mixed).astype(np.int32)
    assert not weight_problem(whole), weight_problem(whole)
    return whole


def rows(scale: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A scale [] or [O] in the shape that multiplies weight [O, ...]."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale


def _nearest(scaled: np.ndarray, bits: int, mixed: bool) -> np.ndarray:
    """A whole matrix on the grid, as float."""
    whole = _rounded(scaled, bits, mixed)
    if mixed and whole.max() <= 0:  # the positive ones vanished: -256 needs a positive weight beside it
        whole = np.maximum(whole, spacing(mixed, bits) - 256)
    return whole


def _rounded(scaled: np.ndarray, bits: int, mixed: bool) -> np.ndarray:
    step = spacing(mixed, bits)
    return np.clip(step * np.round(scaled / step), -256 if mixed else step - 256, 256 - step)


def widest(weight: np.ndarray, bits: int = 8, clip: bool = False, mixed: bool | None = None) -> float:
    """Largest scale at which every weight is inside the grid; infinite for zeros. `clip`: the one of least square error.

    mixed: whether the matrix that these rows belong to has both signs; None: judged by themselves.
    """
    nearest = _nearest if mixed is None else _rounded  # a matrix, or rows of one
    mixed = both_signs(weight) if mixed is None else mixed
    high, low = float(weight.max(initial=0)), -float(weight.min(initial=0))
    top = 256 - spacing(mixed, bits)
    if max(high, low) <= 0:
        return math.inf
    scale = min(top / high if high > 0 else math.inf, (256 if mixed else top) / low if low > 0 else math.inf)
    if not clip:
        return scale
    scales = [scale * stretch for stretch in STRETCHES]
    return min(scales, key=lambda s: float(np.square(nearest(weight * s, bits, mixed) / s - weight).sum()))


@dataclass(frozen=True, eq=False)
class Demand:
    """What a neuron asks of the layer before it: threshold and gain, float64 [] or [O]; du likewise, 4095 for no memory.

    through: whether the bias is part of the current, and so counts in its bound.
    """

    threshold: np.ndarray
    gain: np.ndarray
    du: np.ndarray
    through: bool = False

    def row(self, o: int) -> Demand:
        """The same for one channel; du stays that of all, because the neuron's bound is that of all."""
        return Demand(*(x[o] if x.ndim else x for x in (self.threshold, self.gain)), self.du, self.through)

    @property
    def uneven(self) -> bool:
        """Whether one scale for all channels would leave thresholds that are not whole."""
        return self.threshold.ndim + self.gain.ndim > 0


@dataclass(frozen=True)
class Grid:
    """How weights are rounded. bits: 2 .. 8; clip: outliers may be cut off; per_channel: a scale for each output channel."""

    bits: int = 8
    clip: bool = False
    per_channel: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 2 <= self.bits <= 8:
            raise ParameterError(explain(f"weight_bits is {self.bits!r}.", cure="Give a whole number, 2 to 8."))


def fit_layer(name: str, parts: Sequence[tuple[np.ndarray, Range]], bias: np.ndarray | None, demand: Demand, grid: Grid = Grid()) -> Fitted:
    """Fit the products that feed one neuron.

    Args:
        name: of the layer, for the error.
        parts: float64 weights [O, ...] and the range of the inputs of each product.
        bias: float64 [O] or None, the sum over the products.

    Raises:
        GraphError: no scale fits, so that a threshold of one unit is too much already.
    """
    if not grid.per_channel and not demand.uneven:
        scale = _scale(name, parts, [both_signs(w) for w, _ in parts], bias, demand, grid)
        scales, vth = np.array(scale), round(scale * float(demand.threshold) / float(demand.gain))
    else:
        mixed, rows = [both_signs(w) for w, _ in parts], range(len(parts[0][0]))
        demands = [demand.row(o) for o in rows]
        one = [[(w[o : o + 1], r) for w, r in parts] for o in rows]
        scales = np.array([_scale(f"{name}, channel {o}", one[o], mixed, None if bias is None else bias[o : o + 1], demands[o], grid) for o in rows])
        vth = np.array([round(s * float(d.threshold) / float(d.gain)) for s, d in zip(scales, demands, strict=True)], np.int32)
    mant, exp = to_mantissa(bias, 64 * scales)
    return Fitted(tuple(to_grid(w, scales, grid.bits) for w, _ in parts), scales if scales.ndim else float(scales), vth, mant, exp)


def fit(
    name: str, weight: np.ndarray, bias: np.ndarray | None, threshold: float, gain: float, inputs: Range, du: int = 4095,
    bits: int = 8, clip: bool = False,
) -> Fitted:  # fmt: skip
    """`fit_layer` for one product and one scale."""
    return fit_layer(name, [(weight, inputs)], bias, Demand(np.asarray(float(threshold)), np.asarray(float(gain)), np.asarray(du)), Grid(bits, clip))


def _scale(name: str, parts: Sequence[tuple[np.ndarray, Range]], mixed: Sequence[bool], bias: np.ndarray | None, demand: Demand, grid: Grid) -> float:
    """The largest s for which weights, threshold, bias and the current's worst case fit, and at which vth is whole."""
    threshold, gain, du = float(demand.threshold), float(demand.gain), int(demand.du.min())
    offset = 0.0 if bias is None else float(np.abs(bias).max(initial=0))
    scale = min(MOST_VTH * gain / threshold, *(widest(w, grid.bits, grid.clip, m) for (w, _), m in zip(parts, mixed, strict=True)))
    if offset > 0:
        scale = min(scale, MOST_MANT * 2**MOST_EXP / (64 * offset))
    while True:
        vth = math.floor(threshold * scale / gain * (1 + 1e-12))
        if vth < 1:
            raise _too_much(name, parts, offset, threshold, gain)
        exact = vth * gain / threshold
        worst = MOST_MANT * 2**MOST_EXP / 64 + 1 if demand.through and offset > 0 else 0.0  # the most that any channel's bias adds
        for (w, inputs), m in zip(parts, mixed, strict=True):
            low, high = weighted_range(_rounded(w * exact, grid.bits, m), *inputs)
            worst += max(-low, high)
        worst = worst * 4096 // (du + 1)
        if worst < CURRENT:
            return exact
        scale = exact * min(CURRENT / worst, 0.99)


def _too_much(name: str, parts: Sequence[tuple[np.ndarray, Range]], offset: float, threshold: float, gain: float) -> GraphError:
    weights = ", ".join(f"weights to {np.abs(w).max():.4g} on inputs {r}" for w, r in parts)
    return GraphError(
        explain(
            f"{name!r} does not fit the chip's integers.",
            f"{weights}, bias to {offset:.4g}, threshold {threshold:.4g}, gain {gain:.4g}",
            f"The current of its neuron holds less than 2^17 = {CURRENT}, in the worst case over all inputs; at the scale that keeps to it the threshold would be below one unit.",
            cure="Train with weight decay, split the layer's inputs, or take fewer message_bits.",
        )
    )


def to_mantissa(bias: np.ndarray | None, scale: float | np.ndarray) -> tuple[np.ndarray | int, int]:
    """`bias * scale` as mantissas of 13 bits and the smallest common exponent."""
    if bias is None or not np.any(bias):
        return 0, 0
    scaled = bias * scale
    exp = max(0, math.ceil(math.log2(np.abs(scaled).max() / MOST_MANT)))
    return np.clip(np.round(scaled / 2**exp), -MOST_MANT, MOST_MANT).astype(np.int32), exp


def fit_product(threshold: float, gain: float, scale: float, most: int) -> tuple[int, int, bool]:
    """(weight, vth, whether vth is exact) of an attention product `scale * (q k^T) v`, whose integer part reaches `most`.

    vth = weight * threshold / (gain * scale). Among weights up to 254 that keep the input below 2^17, the largest
    power of two that makes vth whole (finer steps for the leak), else the one with the smallest rounding.
    """
    ratio = threshold / (gain * scale)
    fits = [w for w in range(254, 0, -1) if most * w < CURRENT and 1 <= round(w * ratio) <= MOST_VTH]
    if not fits:
        raise GraphError(explain("The attention product does not fit the chip.", f"it reaches {most}, threshold {ratio:.4g} units", cure="Use fewer tokens, or narrower heads."))
    exact = [w for w in fits if abs(w * ratio - round(w * ratio)) < 1e-9 * w * ratio]
    weight = next((w for w in exact if w & (w - 1) == 0), None) or (exact or sorted(fits, key=lambda w: abs(round(w * ratio) / (w * ratio) - 1)))[0]
    return weight, round(weight * ratio), weight in exact
