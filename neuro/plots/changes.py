"""Quantisation changes: how much of every layer's output is no longer what the float model gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuro.errors import ShapeError, explain
from neuro.plots.columns import number
from neuro.plots.figure import BLUE, INK, PALETTE, bar_labels, bars_height, legend, new_figure, percent_axis, style


def quantization_changes(changes: Mapping[str, float | Mapping[str, float]], *, what: str = "spikes that changed") -> Any:
    """A bar per layer: the fraction of its spikes that differ; stacked by cause where causes are given.

    changes: layer -> fraction in 0 .. 1, or layer -> {cause: fraction}.
    """
    if not changes:
        raise ShapeError(explain("quantization_changes: there is no layer to draw."))
    names = [str(name) for name in changes]
    split = [dict(c) if isinstance(c, Mapping) else {"": c} for c in changes.values()]
    causes = list(dict.fromkeys(cause for c in split for cause in c))
    several = causes != [""]
    figure = new_figure(bars_height(len(names)) + 0.3 * several)
    axes = style(figure.subplots(), x=f"{what} (%)", grid="x")
    left = np.zeros(len(names))
    for k, cause in enumerate(causes):
        width = np.nan_to_num([number(c.get(cause, 0)) for c in split])
        axes.barh(range(len(names)), width, left=left, height=0.7, color=PALETTE[k % len(PALETTE)] if several else BLUE, label=cause or "other")
        left = left + width
    top = max(float(left.max()), 1e-4)
    axes.set_xlim(0, top * 1.18)
    for k, total in enumerate(left):
        axes.text(total + top * 0.015, k, "none" if total == 0 else f"{total:.2%}", va="center", fontsize=8.5, color=INK)
    percent_axis(axes.xaxis)
    bar_labels(axes, names)
    if several:
        legend(figure, loc="outside lower center", ncols=min(len(causes), 3))
    return figure
