"""Verdicts: what the figures of a layer mean, and what to do about it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

SILENT = 0.95  # share of neurons without a spike from which a layer counts as silent
MOSTLY_SILENT = 0.5
ALWAYS = 0.2  # share of neurons that always fire from which a layer counts as saturated
BUSY = 0.5  # spikes per neuron and step; above it events save nothing
WEAK = 1e-3  # of the typical gradient norm
STRONG = 1e3


def verdict(layer: Any, looks: int, typical: float | None) -> Any:
    """The layer with its verdict and remedy: the gravest finding gives the word, all remedies are joined.

    looks: how often each neuron could have fired. typical: median of the gradient norms above zero.
    """
    found = [*_firing(layer, looks), *_gradient(layer, typical)]
    if not found:
        return layer
    return replace(layer, verdict=found[0][0], remedy=" ".join(cure for _, cure in found))


def _firing(layer: Any, looks: int) -> list[tuple[str, str]]:
    by_chance = (1 - min(layer.rate, 1.0)) ** looks  # share that would stay silent if all fired alike
    if layer.silent >= SILENT and by_chance < 0.5 * layer.silent or layer.rate == 0:
        return [("silent", _wake(layer))]
    if layer.silent > MOSTLY_SILENT and by_chance < 0.5 * layer.silent:
        return [("mostly silent", _wake(layer))]
    if layer.always >= ALWAYS:
        return [("saturated", f"Neurons that fire at every step carry no information. {_calm()}")]
    if layer.rate > BUSY:
        return [("busy", f"So many spikes save no energy. {_calm()}")]
    return []


def _wake(layer: Any) -> str:
    if layer.membrane is not None and not any(layer.membrane):
        return "Nothing arrives: look at the layers before it first."
    return (
        "Lower the threshold, or raise the gain (larger weights or a larger norm scale); check that the norm before it "
        "has seen data (its running statistics)."
    )


def _calm() -> str:
    return (
        "Raise the threshold, put a norm before it, or penalise the firing rate; check for a large positive bias and that "
        "the input is scaled."
    )


def _gradient(layer: Any, typical: float | None) -> list[tuple[str, str]]:
    g = layer.gradient
    if g is None:
        return []
    if not math.isfinite(g):
        return [("gradient not finite", "Lower the learning rate or the loss scale, and look for a division by zero in the loss.")]
    if g == 0:
        return [
            ("no gradient", "No gradient arrives: the layers behind it are silent or detached, or the surrogate is too narrow; widen it.")
        ]
    if typical and g < WEAK * typical:
        return [("weak gradient", "Its gradient is below a thousandth of the typical one: widen the surrogate, add a norm or a residual path.")]
    if typical and g > STRONG * typical:
        return [("strong gradient", "Its gradient is over a thousand times the typical one: clip it, or use a flatter surrogate.")]
    return []
