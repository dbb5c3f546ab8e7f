"""Event strip: a recording as a row of pictures, ON and OFF in two colours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neuro.errors import FormatError, ParameterError, ShapeError, explain
from neuro.plots.figure import BLUE, INK, ORANGE, new_figure, style

ON, OFF = BLUE, ORANGE


def event_strip(events: np.ndarray, sensor: Any, bins: int = 8) -> Any:
    """`bins` pictures of equal duration; each pixel's colour is its share of ON and OFF, its strength the count.

    Args:
        events: structured array with x, y, t (microseconds) and p.
        sensor: with `height` and `width` in pixels, such as `neuro.datasets.events.Sensor`.
        bins: number of pictures.
    """
    counts, edges = event_counts(events, sensor, bins)
    across = min(bins, 4)
    down = math.ceil(bins / across)
    cell = 1.35
    figure = new_figure(0.35 + down * (0.3 + cell * counts.shape[2] / counts.shape[3]), 0.2 + across * cell)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    pictures = coloured(counts)
    for k, axes in enumerate(panels):
        if k >= bins:
            axes.set_visible(False)
            continue
        axes.imshow(pictures[k], interpolation="nearest", aspect="equal")
        style(axes)
        axes.set_title(f"{_span(edges, k)}\n{counts[k].sum():,} events", fontsize=8.5, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color("#8c959f")
    from matplotlib.patches import Patch

    handles = [Patch(color=ON, label="ON, brighter"), Patch(color=OFF, label="OFF, darker")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def event_counts(events: np.ndarray, sensor: Any, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts [bins, 2, H, W] (0 OFF, 1 ON) and the edges [bins + 1] in microseconds; every event is in exactly one bin."""
    if bins < 1:
        raise ParameterError(explain(f"event_strip: bins={bins} must be at least 1."))
    names = getattr(getattr(events, "dtype", None), "names", None) or ()
    if not {"x", "y", "t", "p"} <= set(names):
        raise ShapeError(explain("event_strip: this is not an event array.", f"fields {list(names)}", cure="It needs x, y, t and p."))
    height, width = int(sensor.height), int(sensor.width)
    x, y, t = (events[name].astype(np.int64) for name in "xyt")
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        fact = f"{int(outside.sum())} of {len(x)} events; the first is event {first} at x={x[first]}, y={y[first]}"
        raise FormatError(explain(f"event_strip: events lie outside the sensor of {height} x {width} pixels.", fact))
    start, stop = (int(t.min()), int(t.max()) + 1) if len(t) else (0, bins)
    k = (t - start) * bins // max(stop - start, 1)
    flat = ((k * 2 + (events["p"] > 0)) * height + y) * width + x
    counts = np.bincount(flat, minlength=bins * 2 * height * width).reshape(bins, 2, height, width)
    return counts, np.linspace(start, stop, bins + 1)


def coloured(counts: np.ndarray) -> np.ndarray:
    """Counts [T, 2, H, W] as colours [T, H, W, 3] in 0 .. 1 on white; strength follows log(1 + count)."""
    from matplotlib.colors import to_rgb

    counts = np.maximum(np.asarray(counts, dtype=float), 0)
    total = counts.sum(1)
    active = total[total > 0]
    full = np.log1p(np.quantile(active, 0.98)) if len(active) else 1.0
    strength = np.where(total > 0, 0.25 + 0.75 * np.minimum(np.log1p(total) / full, 1), 0)[..., None]
    share = (counts[:, 1] / np.maximum(total, 1e-12))[..., None]
    colour = share * np.array(to_rgb(ON)) + (1 - share) * np.array(to_rgb(OFF))
    return 1 - strength * (1 - colour)


def _span(edges: np.ndarray, k: int) -> str:
    a, b = (edges[k : k + 2] - edges[0]) / 1e3
    return f"{a:.0f}–{b:.0f} ms" if edges[-1] - edges[0] >= 5000 * len(edges) else f"{a:.3g}–{b:.3g} ms"
