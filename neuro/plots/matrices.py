"""Confusion matrix: which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuro.errors import ShapeError, explain
from neuro.plots.columns import array
from neuro.plots.figure import GRID, INK, new_figure, shortened, style


def confusion(matrix: Any, classes: Sequence[str] | None = None) -> Any:
    """Rows are true classes, columns what was answered; the colour is the share of the row, the figure the count.

    Args:
        matrix: counts [C, C].
        classes: C names; None: numbers.
    """
    counts = array(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ShapeError(explain("confusion: the matrix is not square.", f"shape {list(counts.shape)}"))
    size = len(counts)
    classes = [str(k) for k in range(size)] if classes is None else [str(c) for c in classes]
    if len(classes) != size:
        raise ShapeError(explain("confusion: names and matrix differ.", f"matrix {size} x {size}   {len(classes)} names"))
    of_row = counts.sum(1, keepdims=True)
    share = np.divide(counts, of_row, out=np.full(counts.shape, np.nan), where=of_row > 0)
    side = float(np.clip(0.42 * size + 1.3, 3.2, 7.5))
    figure = new_figure(side, side + 0.9)
    hits = np.trace(counts) / max(counts.sum(), 1)
    axes = style(figure.subplots(), x="answered", y="true", title=f"{hits:.1%} of {int(counts.sum()):,} right")
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    _ticks(axes, classes)
    if size <= 20:
        for i, j in zip(*np.nonzero(counts), strict=True):
            value = f"{counts[i, j]:g}" if float(counts[i, j]).is_integer() else f"{counts[i, j]:.2f}"
            axes.text(j, i, value, ha="center", va="center", fontsize=8.5 if size <= 12 else 7, color="white" if share[i, j] > 0.55 else "#0b2a45")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(GRID)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, format=lambda v, _: f"{v:.0%}")
    bar.set_label("share of the true class", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8.5, colors=INK)
    bar.outline.set_visible(False)
    return figure


def _ticks(axes: Any, classes: list[str]) -> None:
    every = -(-len(classes) // 25)
    at = range(0, len(classes), every)
    names = [shortened(classes[k], 18) for k in at]
    turned = max(map(len, names)) > 3
    axes.set_xticks(at, names, rotation=45 if turned else 0, ha="right" if turned else "center", rotation_mode="anchor")
    axes.set_yticks(at, names)
    if len(classes) > 12:
        axes.tick_params(labelsize=7.5)
