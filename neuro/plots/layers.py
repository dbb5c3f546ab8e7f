"""Layers side by side: how often they fire, how many neurons never or always do, how far membranes are from firing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuro.errors import ShapeError, explain
from neuro.plots.columns import columns, number, numbers
from neuro.plots.figure import (
    BLUE,
    GREEN,
    INK,
    NEUTRAL,
    PURPLE,
    RED,
    SKY,
    bar_labels,
    bars_height,
    legend,
    new_figure,
    percent_axis,
    shortened,
    style,
)  # fmt: skip

Shares = Mapping[str, float] | None


def firing_rates(rates: Mapping[str, float], silent: Shares = None, always: Shares = None) -> Any:
    """Per layer: spikes per neuron and step; beside it the shares of neurons that never and that always fire.

    Args:
        rates: layer -> mean spikes per neuron and step.
        silent, always: layer -> share in 0 .. 1, or None to leave the second panel out.
    """
    names = _names("firing_rates", rates)
    shares = silent is not None or always is not None
    figure = new_figure(bars_height(len(names)) + 0.35 * shares)
    panels = figure.subplots(1, 1 + shares, squeeze=False, sharey=True)[0]
    rate_panel(panels[0], [number(rates[n]) for n in names])
    bar_labels(panels[0], names)
    if shares:
        share_panel(panels[1], *([number((s or {}).get(n, 0)) for n in names] for s in (silent, always)))
        legend(figure, handles=panels[1].containers, loc="outside lower right", ncols=3)
    return figure


def layer_health(layers: Sequence[Any]) -> Any:
    """Firing, silent and saturated shares, membrane against threshold, and gradients of the layers of a `Health`.

    layers: objects with `layer`, `rate`, `silent`, `always`, `membrane` (5, 25, 50, 75 and 95 % quantiles or None) and
        `gradient` (or None). Panels that no layer has figures for are left out.
    """
    names = _names("layer_health", {layer.layer: 0 for layer in layers})
    membrane = any(layer.membrane is not None for layer in layers)
    gradient = any(layer.gradient is not None for layer in layers)
    count = 2 + membrane + gradient
    figure = new_figure(bars_height(len(names)) + 0.6, 1.9 + 2.0 * count)
    figure.get_layout_engine().set(w_pad=0.09)
    panels = list(figure.subplots(1, count, squeeze=False, sharey=True)[0])
    rate_panel(panels[0], [layer.rate for layer in layers])
    bar_labels(panels[0], names)
    share_panel(panels[1], [layer.silent for layer in layers], [layer.always for layer in layers])
    legend(figure, handles=panels[1].containers, title="neurons that fire", loc="outside lower center", ncols=3)
    if membrane:
        membrane_panel(panels[2], [layer.membrane for layer in layers])
    if gradient:
        gradient_panel(panels[-1], [number(layer.gradient) for layer in layers])
    for axes in panels[1:]:
        axes.tick_params(axis="y", left=False)
    return figure


def rate_history(rows: Any, value: str = "rate") -> Any:
    """How a figure of every layer went during training: layers downward, training steps to the right.

    Args:
        rows: table with `step`, `layer` and `value`, such as a run's layers.csv.
        value: a fraction, `rate`, `silent` or `always`.
    """
    table = columns(rows)
    missing = [name for name in ("step", "layer", value) if name not in table]
    if missing or not table["layer"]:
        raise ShapeError(explain("rate_history: the table cannot be drawn.", f"missing: {', '.join(missing) or 'rows'}"))
    names, steps = list(dict.fromkeys(map(str, table["layer"]))), sorted(set(numbers(table["step"]).tolist()))
    grid = np.full((len(names), len(steps)), np.nan)
    for name, step, v in zip(table["layer"], numbers(table["step"]), numbers(table[value]), strict=True):
        grid[names.index(str(name)), steps.index(step)] = v
    figure = new_figure(bars_height(len(names), 0.24))
    axes = style(figure.subplots(), x="training step")
    image = axes.imshow(grid, aspect="auto", cmap="cividis", vmin=0, vmax=max(float(np.nanmax(grid, initial=0)), 1e-3), interpolation="nearest")
    axes.set_yticks(range(len(names)), [shortened(n) for n in names])
    shown = range(0, len(steps), -(-len(steps) // 6))
    axes.set_xticks(shown, [f"{steps[k]:.0f}" for k in shown])
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    words = {"rate": "spikes per neuron and step", "silent": "share never firing", "always": "share always firing"}
    bar.set_label(words.get(value, value), fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8.5, colors=INK)
    bar.outline.set_visible(False)
    return figure


def rate_panel(axes: Any, rates: Sequence[float]) -> None:
    """Bars of spikes per neuron and step, each with its figure."""
    style(axes, title="firing rate", x="spikes per neuron\nand step", grid="x")
    axes.barh(range(len(rates)), np.nan_to_num(rates), color=BLUE, height=0.7)
    top = max([0.02, *np.nan_to_num(rates)])
    axes.set_xlim(0, top * 1.32)
    axes.xaxis.get_major_locator().set_params(nbins=4)
    for k, rate in enumerate(rates):
        axes.text((rate if np.isfinite(rate) else 0) + top * 0.03, k, f"{rate:.3f}", va="center", fontsize=8, color=INK)


def share_panel(axes: Any, silent: Sequence[float], always: Sequence[float]) -> None:
    """Stacked bars to 100 %: never firing, sometimes, always."""
    style(axes, title="neurons that fire", x="share of neurons")
    never, ever = np.nan_to_num(silent), np.nan_to_num(always)
    parts = [("never", never, NEUTRAL), ("sometimes", np.clip(1 - never - ever, 0, 1), SKY), ("always", ever, RED)]
    left = np.zeros(len(never))
    for label, width, colour in parts:
        axes.barh(range(len(never)), width, left=left, color=colour, height=0.7, label=label)
        left = left + width
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    percent_axis(axes.xaxis)


def membrane_panel(axes: Any, quantiles: Sequence[Sequence[float] | None]) -> None:
    """Box from the 25 to the 75 % quantile of membrane / threshold, line from 5 to 95 %, firing at 1."""
    style(axes, title="membrane", x="membrane / threshold\n(5 to 95 %)", grid="x")
    known = [q for q in quantiles if q is not None]
    low, high = min((q[0] for q in known), default=0.0), max([1.0, *(q[4] for q in known)])
    axes.set_xlim(low - 0.08 * (high - low), high + 0.2 * (high - low))
    for k, q in enumerate(quantiles):
        if q is None:
            continue
        axes.plot([q[0], q[4]], [k, k], color=GREEN, linewidth=1.2)
        axes.barh(k, q[3] - q[1], left=q[1], color=GREEN, height=0.5)
        axes.plot(q[2], k, "o", color="white", markeredgecolor=GREEN, markersize=4)
    axes.axvline(1, color=RED, linestyle="--", linewidth=1.2)
    axes.text(1, 1.0, "fires", color=RED, fontsize=8.5, ha="center", va="bottom", transform=axes.get_xaxis_transform())
    axes.xaxis.get_major_locator().set_params(nbins=5)


def gradient_panel(axes: Any, norms: Sequence[float]) -> None:
    """Dots on a logarithmic axis; a zero is a cross at the left edge."""
    style(axes, title="gradient", x="norm over the\nlayer's parameters", grid="x")
    norms = np.asarray(norms, dtype=float)
    good = np.isfinite(norms) & (norms > 0)
    axes.set_xscale("log")
    if good.any():
        low, high = norms[good].min() / 3, norms[good].max() * 3
        axes.set_xlim(low, high)
        rows = np.arange(len(norms))
        axes.hlines(rows[good], low, norms[good], color=PURPLE, linewidth=1, alpha=0.6)
        axes.plot(norms[good], rows[good], "o", color=PURPLE, markersize=5)
        axes.plot(np.full((norms == 0).sum(), low * 1.2), rows[norms == 0], "x", color=RED, markersize=6)


def _names(act: str, layers: Mapping[str, Any]) -> list[str]:
    if not layers:
        raise ShapeError(explain(f"{act}: there is no layer to draw."))
    return [str(name) for name in layers]
