"""Energy bars: the spiking network against the same network of numbers, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuro.errors import ShapeError, explain
from neuro.plots.columns import number
from neuro.plots.figure import BLUE, INK, NEUTRAL, ORANGE, PALETTE, bar_labels, new_figure, style

COLOURS = {"SNN": BLUE, "ANN sparse": ORANGE, "ANN dense": NEUTRAL}
UNITS = ((1e-12, "pJ"), (1e-9, "nJ"), (1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"))


def energy_bars(layers: Mapping[str, Mapping[str, Mapping[str, float]]], *, logarithmic: bool = False) -> Any:
    """A group of bars per layer, one per variant, compute (full colour) and memory (pale) stacked; sums in the legend.

    Args:
        layers: layer -> variant -> {"compute": joules, "memory": joules}; variants "SNN", "ANN sparse", "ANN dense",
            or others. A layer may lack a variant, a variant its memory.
        logarithmic: for layers that differ by powers of ten. Stacks are then drawn as one bar of the sum.

    Energies are per sample, or whatever the caller counted; the unit is chosen to suit.
    """
    names = [str(name) for name in layers]
    variants = list(dict.fromkeys(v for per in layers.values() for v in per))
    if not variants:
        raise ShapeError(explain("energy_bars: there is no energy to draw.", f"layers {len(names)}"))
    joules = {v: [[number(per.get(v, {}).get(k, 0)) for per in layers.values()] for k in ("compute", "memory")] for v in variants}
    sums = {v: np.nansum(joules[v], axis=0) for v in variants}
    unit, symbol = unit_for(max(float(s.max()) for s in sums.values()))
    figure = new_figure(1.5 + 0.22 * len(variants) + len(names) * (0.18 + 0.16 * len(variants)))
    axes = style(figure.subplots(), x=f"energy ({symbol})", grid="x")
    thick = 0.82 / len(variants)
    rows = np.arange(len(names))
    for k, variant in enumerate(variants):
        colour = COLOURS.get(variant, PALETTE[k % len(PALETTE)])
        at = rows - 0.41 + thick * (k + 0.5)
        compute, memory = (np.nan_to_num(part) / unit for part in joules[variant])
        if logarithmic:
            axes.barh(at, compute + memory, height=thick * 0.92, color=colour)
        else:
            axes.barh(at, compute, height=thick * 0.92, color=colour)
            axes.barh(at, memory, left=compute, height=thick * 0.92, facecolor=(*_rgb(colour), 0.35), edgecolor=colour, linewidth=0.6)
    if logarithmic:
        axes.set_xscale("log")
    bar_labels(axes, names)
    _legend(figure, variants, sums, logarithmic)
    return figure


def unit_for(joules: float) -> tuple[float, str]:
    """The unit in which a value is at least 1: (its size in joules, its symbol).

    >>> unit_for(3.2e-6)
    (1e-06, 'µJ')
    """
    fitting = [u for u in UNITS if joules >= u[0]]
    return fitting[-1] if fitting else UNITS[0]


def _legend(figure: Any, variants: list[str], sums: dict[str, np.ndarray], logarithmic: bool) -> None:
    from matplotlib.patches import Patch

    handles = []
    for k, variant in enumerate(variants):
        total = float(sums[variant].sum())
        unit, symbol = unit_for(total)
        handles.append(Patch(color=COLOURS.get(variant, PALETTE[k % len(PALETTE)]), label=f"{variant}: {total / unit:.3g} {symbol} in all"))
    if not logarithmic:
        handles += [Patch(facecolor="#8c959f", label="compute"), Patch(facecolor="#8c959f55", edgecolor="#8c959f", hatch="/////", label="memory")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)
