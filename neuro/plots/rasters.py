"""Raster: which neuron fired at which step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuro.errors import ShapeError, explain
from neuro.plots.columns import array
from neuro.plots.figure import BLUE, INK, new_figure, shortened, style


def raster(spikes: Any, *, dt: float | None = None, most: int = 400) -> Any:
    """A mark for every spike: time to the right, neurons upward, one panel per layer.

    Args:
        spikes: [T, *N] of one sample, or a dict of them by layer name; axes after the first are flattened.
        dt: seconds per step; the axis is then in milliseconds.
        most: neurons shown per layer, evenly spaced; the panel says so where it has more.

    snnTorch's raster draws the same marks, but its module imports pyplot.
    """
    layers = spikes if isinstance(spikes, Mapping) else {"": spikes}
    found = {str(name): _matrix(str(name), s) for name, s in layers.items()}
    if not found:
        raise ShapeError(explain("raster: there is no layer to draw."))
    shown = [min(s.shape[1], most) for s in found.values()]
    heights = [0.9 + 1.6 * min(1.0, n / 100) for n in shown]
    figure = new_figure(0.5 + sum(heights))
    panels = figure.subplots(len(found), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (name, s) in zip(panels, found.items(), strict=True):
        _panel(axes, name, s, dt, most)
    panels[-1].set_xlabel("time (ms)" if dt else "step", fontsize=10, color=INK)
    for axes in panels[:-1]:
        axes.tick_params(axis="x", labelbottom=False)
    return figure


def _panel(axes: Any, name: str, s: np.ndarray, dt: float | None, most: int) -> None:
    total = s.shape[1]
    index = np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(int))
    t, row = np.nonzero(s[:, index])
    scale = 1.0 if dt is None else dt * 1e3
    size = float(np.clip(60 / len(index), 1.8, 6))
    axes.plot(t * scale, index[row], "|", color=BLUE, markersize=size, markeredgewidth=1.2, rasterized=len(t) > 1500)
    style(axes, title=shortened(name, 24), y="neuron")
    part = f", {len(index):,} of {total:,} shown" if len(index) < total else ""
    axes.set_title(f"{np.count_nonzero(s) / s.size:.2%} fire{part}", fontsize=9, color=INK, loc="right")
    axes.set_xlim(-0.6 * scale, (s.shape[0] - 0.4) * scale)
    axes.set_ylim(-0.8, total - 0.2)
    axes.xaxis.get_major_locator().set_params(integer=dt is None)
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=5)


def _matrix(name: str, s: Any) -> np.ndarray:
    s = array(s)
    if s.ndim < 2 or 0 in s.shape:
        cure = "Give [T, N] of one sample: spikes[:, b]."
        raise ShapeError(explain(f"raster: {name or 'the spikes'} are not a sequence of steps.", f"shape {list(s.shape)}", cure=cure))
    return s.reshape(s.shape[0], -1)
