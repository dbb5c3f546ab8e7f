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
from dataclasses import dataclass

import numpy as np

from neuro.deploy.nodes import Range, weighted_range
from neuro.deploy.rules import CURRENT, weight_problem
from neuro.errors import GraphError, explain

MOST_VTH, MOST_MANT, MOST_EXP = 131071, 4095, 7
STRETCHES = [1 + i / 8 for i in range(25)]  # of the scale, 1 .. 4, tried where outliers may be cut off


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer on the grid. `scale` is s; `weight` int32, `bias_mant` int32 [O] or 0."""

    weight: np.ndarray
    scale: float
    vth: int
    bias_mant: np.ndarray | int
    bias_exp: int
    max_error: float  # largest |W_int / s - W|
    rms_error: float  # root of the mean square of the same


def spacing(weight: np.ndarray, bits: int) -> int:
    """Distance of neighbours on the grid: 2^(8 - bits), doubled where signs are mixed."""
    return 2 ** (8 - bits) * (2 if (weight > 0).any() and (weight < 0).any() else 1)


def to_grid(weight: np.ndarray, scale: float, bits: int = 8) -> np.ndarray:
    """Nearest weights that the chip holds, int32: for 8 bits even in -256 .. 254 if signs are mixed, else every one in -255 .. 255."""
    step = spacing(weight, bits)
    whole = step * np.round(weight * scale / step)
    if (weight > 0).any() and (weight < 0).any():
        whole = np.clip(whole, -256, 256 - step)
        if whole.max() <= 0:  # the positive ones vanished: -256 needs a positive weight beside it
            whole = np.maximum(whole, step - 256)
    else:
        whole = np.clip(whole, step - 256, 256 - step)
    whole = whole.astype(np.int32)
    assert not weight_problem(whole), weight_problem(whole)
    return whole


def widest(weight: np.ndarray, bits: int = 8, clip: bool = False) -> float:
    """Largest scale at which every weight is inside the grid; infinite for zeros. `clip`: the one of least square error."""
    high, low = float(weight.max(initial=0)), -float(weight.min(initial=0))
    top = 256 - spacing(weight, bits)
    if max(high, low) <= 0:
        return math.inf
    scale = min(top / high, 256 / low) if high > 0 and low > 0 else top / max(high, low)
    if not clip:
        return scale
    scales = [scale * stretch for stretch in STRETCHES]
    return min(scales, key=lambda s: float(np.square(to_grid(weight, s, bits) / s - weight).sum()))


def fit(
    name: str, weight: np.ndarray, bias: np.ndarray | None, threshold: float, gain: float, inputs: Range, du: int = 4095,
    bits: int = 8, clip: bool = False,
) -> Fitted:  # fmt: skip
    """Fit a layer whose inputs lie in `inputs`, with a neuron of this threshold and gain.

    Args:
        name: of the layer, for the error.
        weight: float64 [O, ...]; bias: float64 [O] or None; du: the current's memory, 4095 for none.
        bits: of a weight, 2 .. 8; clip: whether outliers may be cut off, see `widest`.

    Raises:
        GraphError: no scale fits, so that a threshold of one unit is too much already.
    """
    scale = min(widest(weight, bits, clip), MOST_VTH * gain / threshold)
    if bias is not None and np.abs(bias).max() > 0:
        scale = min(scale, MOST_MANT * 2**MOST_EXP / (64 * np.abs(bias).max()))
    while True:
        vth = math.floor(threshold * scale / gain * (1 + 1e-12))
        if vth < 1:
            raise GraphError(
                explain(
                    f"{name!r} does not fit the chip's integers.",
                    f"weights to {np.abs(weight).max():.4g}, bias to {0 if bias is None else np.abs(bias).max():.4g}, threshold {threshold:.4g}, gain {gain:.4g}, inputs {inputs}",
                    "At the scale that holds them the threshold would be below one unit.",
                    cure="Train with weight decay, split the layer's inputs, or take fewer message_bits.",
                )
            )
        exact = vth * gain / threshold
        whole = to_grid(weight, exact, bits)
        low, high = weighted_range(whole, *inputs)
        worst = max(-low, high) * 4096 // (du + 1)
        if worst < CURRENT:
            break
        scale = exact * min(CURRENT / worst, 0.99)
    mant, exp = to_mantissa(bias, 64 * exact)
    error = np.abs(whole / exact - weight)
    return Fitted(whole, exact, vth, mant, exp, float(error.max()), float(np.sqrt((error**2).mean())))


def to_mantissa(bias: np.ndarray | None, scale: float) -> tuple[np.ndarray | int, int]:
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
