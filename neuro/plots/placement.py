"""Placement: a chip's cores as a grid, each filled as far as it is, in the colours of the layers that it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from neuro.errors import ParameterError, ShapeError, explain
from neuro.plots.figure import GRID, INK, legend, new_figure, shortened, style

NAMED = 14  # layers that a legend still tells apart
DARK = "#0b2a45"
LARGEST = 1.5  # inches of a core's side


def placement(cores: int, parts: Sequence[tuple[int, str, float]], *, title: str = "", totals: Mapping[str, float] | None = None) -> Any:
    """A square per core, tinted by its layers and filled from below by what they take of the resource that is scarcest there.

    Args:
        cores: number of the chip's cores, numbered row by row.
        parts: (core, layer, share of the core in 0 .. 1) in order of layers; the shares of a core add up to 1 at most.
        totals: resource -> share of the whole chip, drawn as bars below.

    Raises:
        ShapeError: a core that there is not. ParameterError: a core filled beyond 1.
    """
    if cores < 1 or any(not 0 <= core < cores for core, _, _ in parts):
        raise ShapeError(explain("placement: a part is on a core that there is not.", f"cores 0..{cores - 1}", f"parts on {sorted({c for c, _, _ in parts})}"))
    layers = list(dict.fromkeys(layer for _, layer, _ in parts))
    colours = dict(zip(layers, _colours(len(layers)), strict=True))
    across = cores if cores <= 10 else math.ceil(math.sqrt(cores * 1.9))
    down = math.ceil(cores / across)
    bars = len(totals or {})
    rows = math.ceil(min(len(layers), NAMED + 1) / 2)
    side = min(5.4 / across, LARGEST)
    tall = max(0.5, down * side)
    figure = new_figure(tall + 0.75 + 0.24 * rows + (0.55 + 0.3 * bars if bars else 0))
    heights = [tall + 0.4] + ([0.5 + 0.3 * bars] if bars else [])
    axes, *more = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    style(axes, title=title or f"{len({c for c, _, _ in parts})} of {cores} cores")
    _grid(axes, cores, across, parts, colours)
    if more:
        _totals(more[0], totals or {})
    _legend(figure, layers, colours, parts)
    return figure


def _grid(axes: Any, cores: int, across: int, parts: Sequence[tuple[int, str, float]], colours: Mapping[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    filled = [0.0] * cores
    held: dict[int, list[str]] = {}
    for core, layer, _ in parts:
        held.setdefault(core, []).append(layer)
    for core, names in held.items():  # a tint from top to bottom says whose core it is, however little is filled
        y, x = divmod(core, across)
        for k, layer in enumerate(names):
            wide = 0.88 / len(names)
            axes.add_patch(Rectangle((x + 0.06 + k * wide, y + 0.06), wide, 0.88, color=_pale(colours[layer]), linewidth=0))
    for core, layer, share in parts:
        y, x = divmod(core, across)
        drawn = max(share, 0.02)  # what is nearly nothing is still seen
        axes.add_patch(Rectangle((x + 0.06, y + 0.94 - 0.88 * min(1.0, filled[core] + drawn)), 0.88, 0.88 * min(drawn, 1.0 - filled[core]), color=colours[layer], linewidth=0))
        filled[core] += share
        if filled[core] > 1 + 1e-9:
            raise ParameterError(explain("placement: a core is filled beyond its limit.", f"core {core}   {filled[core]:.4g}"))
    for core in range(cores):
        y, x = divmod(core, across)
        axes.add_patch(Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, fill=False, edgecolor=GRID, linewidth=0.7))
        if across <= 20 and filled[core]:
            axes.text(x + 0.5, y + 0.5, str(core), ha="center", va="center", fontsize=min(8.0, 110 / across), color=_readable(core, parts, colours))
    axes.set_xlim(0, across)
    axes.set_ylim(math.ceil(cores / across), 0)
    axes.set_aspect("equal", anchor="NW")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _totals(axes: Any, totals: Mapping[str, float]) -> None:
    style(axes, x="share of the whole chip", grid="x")
    axes.barh(range(len(totals)), list(totals.values()), height=0.6, color=GRID)
    axes.set_yticks(range(len(totals)), list(totals))
    axes.set_ylim(len(totals) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    for k, share in enumerate(totals.values()):
        axes.text(min(share + 0.01, 0.88), k, f"{share:.1%}" if share >= 0.0005 or not share else "< 0.1%", va="center", fontsize=8.5, color=INK)
    from matplotlib.ticker import PercentFormatter

    axes.set_xticks([k / 5 for k in range(6)])
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.get_xticklabels()[-1].set_horizontalalignment("right")  # it would stand over the picture's edge


def _readable(core: int, parts: Sequence[tuple[int, str, float]], colours: Mapping[str, Any]) -> str:
    """Dark or white, whichever stands out from what the middle of the core is filled with."""
    from matplotlib.colors import to_rgb

    below = 0.0
    for _, layer, share in (part for part in parts if part[0] == core):
        below += share
        if below >= 0.5:
            r, g, b = to_rgb(colours[layer])
            return "white" if 0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2 < 0.18 else DARK
    return DARK


def _pale(colour: Any) -> tuple[float, ...]:
    """The colour mixed with white, opaque, so that dark figures on it are read on any page."""
    from matplotlib.colors import to_rgb

    return tuple(0.25 * c + 0.75 for c in to_rgb(colour))


def _colours(count: int) -> list[Any]:
    """Colours of layers in order: neighbours differ, few of them by hue, many by position along a map."""
    from matplotlib import colormaps

    if count <= 6:
        return ["#56b4e9", "#e69f00", "#4dbd97", "#e58a4d", "#cc79a7", "#f0e442"][:count]
    return [colormaps["viridis"](0.25 + 0.75 * k / (count - 1)) if k % 2 else colormaps["plasma"](0.35 + 0.6 * k / (count - 1)) for k in range(count)]


def _legend(figure: Any, layers: Sequence[str], colours: Mapping[str, Any], parts: Sequence[tuple[int, str, float]]) -> None:
    from matplotlib.patches import Patch

    count = {layer: len({core for core, name, _ in parts if name == layer}) for layer in layers}
    named = [*layers[: NAMED - 1], layers[-1]] if len(layers) > NAMED else list(layers)
    handles = [Patch(color=colours[layer], label=f"{shortened(layer, 32)}: {count[layer]}") for layer in named]
    if len(layers) > NAMED:
        handles.insert(-1, Patch(color="none", label=f"... {len(layers) - NAMED} more"))
    legend(figure, handles=handles, loc="outside lower left", ncols=2, title="layer: cores", alignment="left")
