"""Learning curves: what training and validation did, epoch by epoch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from neuro.errors import ShapeError, explain
from neuro.plots.columns import columns, numbers
from neuro.plots.figure import BLUE, GREEN, INK, PURPLE, RED, legend, new_figure, percent_axis, style

PARTS = {"train": (BLUE, "-", "o"), "val": (RED, "--", "s"), "test": (GREEN, "-.", "^"), "": (PURPLE, "-", "o")}
FULL = {"val": "validation", "train": "training", "test": "test"}
UNITS = {"lr": "learning rate", "seconds": "seconds per epoch"}
FRACTIONS = ("accuracy", "acc", "top1", "top5", "f1", "rate", "silent", "always")


def learning_curves(metrics: Any, *, only: Sequence[str] | None = None, x: str = "") -> Any:
    """A panel per quantity, training and validation together, the best validated epoch marked.

    Args:
        metrics: DataFrame, rows or columns, named `train_loss`, `val_loss`, `train_accuracy`, ..., `lr`. Accuracies are
            fractions. Empty cells are left out.
        only: quantities to draw, such as ["loss", "lr"]; None: every one that has training or validation columns, and lr.
        x: the column to the right; default `epoch`, else `step`, else the number of the row.
    """
    table = columns(metrics)
    x = x or next((name for name in ("epoch", "step") if name in table), "")
    count = max((len(values) for values in table.values()), default=0)
    at = numbers(table[x]) if x in table else np.arange(1, count + 1)
    groups = {k: v for k, v in quantities(table).items() if (k in only if only is not None else k == "lr" or "" not in v)}
    if not groups:
        cure = "Name columns train_loss, val_loss, train_accuracy, val_accuracy or lr."
        raise ShapeError(explain("learning_curves: there is nothing to draw.", f"columns {', '.join(table) or 'none'}", cure=cure))
    heights = [2.1 if name != "lr" else 1.4 for name in groups]
    figure = new_figure(0.4 + sum(heights))
    panels = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (name, parts) in zip(panels, groups.items(), strict=True):
        _panel(axes, name, parts, at)
    panels[-1].set_xlabel(x or "row", fontsize=10, color=INK)
    panels[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return figure


def quantities(table: dict[str, list[Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Columns that hold numbers, by quantity and part: `val_loss` is the part val of loss, `lr` the part "" of lr."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for column, values in table.items():
        found = re.fullmatch(r"(train|val|test)_(.+)", column)
        part, name = found.groups() if found else ("", column)
        y = numbers(values)
        if name not in ("epoch", "step") and np.isfinite(y).any():
            groups.setdefault(name, {})[part] = y
    return dict(sorted(groups.items(), key=lambda item: item[0] == "lr"))


def _panel(axes: Any, name: str, parts: dict[str, np.ndarray], at: np.ndarray) -> None:
    fraction = name in FRACTIONS
    label = UNITS.get(name, name.replace("_", " ")) + (" (%)" if fraction else "")
    style(axes, y=label, grid="y")
    for part, y in parts.items():
        colour, line, marker = PARTS[part]
        keep = np.isfinite(y) & np.isfinite(at[: len(y)])
        how = {"marker": marker, "markersize": 3.5} if keep.sum() <= 40 else {}
        axes.plot(at[: len(y)][keep], y[keep], line, color=colour, linewidth=1.6, label=FULL.get(part, label), **how)
    if fraction:
        percent_axis(axes.yaxis)
    if "val" in parts:
        _mark_best(axes, at, parts["val"], largest=fraction)
    if parts.keys() != {""}:
        legend(axes, loc="best")


def _mark_best(axes: Any, at: np.ndarray, y: np.ndarray, *, largest: bool) -> None:
    best = int(np.nanargmax(y) if largest else np.nanargmin(y))
    shown = f"{y[best]:.1%}" if largest else f"{y[best]:.3g}"
    axes.plot(at[best], y[best], "o", markersize=8, markerfacecolor="none", markeredgecolor=RED)
    axes.set_title(f"best {shown} at {at[best]:.0f}", fontsize=9, color=INK, loc="right")
