"""What every plot shares: a figure that belongs to nobody's global state, a palette, readable axes, compact output.

Figures are plain `matplotlib.figure.Figure` objects, never pyplot's, so they can be drawn in notebooks, scripts and
threads, and nothing has to be closed. Text is drawn in one colour that the SVG form turns into the page's text colour.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from html import escape
from typing import Any

INK = "#24292f"  # text and axes; becomes `currentColor` in SVG
GRID = "#8c959f"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442",
)  # fmt: skip
PALETTE = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)  # Okabe and Ito's, told apart by colour-blind eyes
NEUTRAL = "#b6bdc5"
WIDTH = 5.6  # inches; at this width 10 points stay readable on a phone


def new_figure(height: float, width: float = WIDTH) -> Any:
    """An empty figure that lays itself out and shows itself in a notebook."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    figure.patch.set_alpha(0)
    figure._repr_html_ = lambda: inline(figure)[0]  # what pyplot would do for figures of its own
    return figure


def style(axes: Any, *, title: str = "", x: str = "", y: str = "", grid: str = "") -> Any:
    """Titles, labels with units, two spines, and a light grid along `grid` ("x", "y", "both" or none)."""
    axes.set_title(title, fontsize=10.5, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_linewidth(0.8)
    if grid:
        axes.grid(axis=grid, color=GRID, alpha=0.35, linewidth=0.6)
        axes.set_axisbelow(True)
    return axes


def legend(target: Any, *args: Any, title: str = "", **how: Any) -> None:
    """A legend without a frame, for axes or a whole figure."""
    made = target.legend(*args, frameon=False, labelcolor=INK, fontsize=9, **how)
    made.set_title(title or None, {"size": 9})
    made.get_title().set_color(INK)


def bar_labels(axes: Any, names: list[str]) -> None:
    """Names of horizontal bars, the first at the top."""
    axes.set_yticks(range(len(names)), [shortened(n) for n in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def shortened(name: str, most: int = 30) -> str:
    """A long layer name with its middle left out: both ends tell where it stands."""
    if len(name) <= most:
        return name
    return f"{name[: most // 3]}…{name[-(most - most // 3 - 1) :]}"


def bars_height(count: int, each: float = 0.27) -> float:
    """Inches for this many horizontal bars, with title and axis."""
    return 1.1 + each * max(count, 2)


def percent_axis(axis: Any) -> None:
    """Label an axis of fractions in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))


def to_svg(figure: Any, prefix: str = "") -> str:
    """The figure as an SVG element for an HTML page: no prolog, no links, page's text colour, ids that start with `prefix`.

    Two figures on one page need different prefixes; the default is a checksum of the figure.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href").replace(INK, "currentColor")
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    return _renamed(svg, prefix or f"f{zlib.crc32(_renamed(svg, 'f').encode()):08x}")


def _renamed(svg: str, prefix: str) -> str:
    """Ids numbered in order behind a prefix, and what refers to them."""
    known: dict[str, str] = {}
    for name in re.findall(r'\sid="([^"]+)"', svg):
        known.setdefault(name, f"{prefix}-{len(known)}")
    svg = re.sub(r'\sid="([^"]+)"', lambda m: f' id="{known[m[1]]}"', svg)
    svg = re.sub(r'"#([^"]+)"', lambda m: f'"#{known.get(m[1], m[1])}"', svg)
    return re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{known.get(m[1], m[1])})", svg).strip()


def to_png(figure: Any) -> bytes:
    """The figure as PNG on white, 144 dots per inch."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=144, facecolor="white", transparent=False)
    return raw.getvalue()


def inline(figure: Any, alt: str = "", prefix: str = "") -> tuple[str, str]:
    """HTML that holds the whole figure, and its kind: "svg" or "png", whichever is smaller."""
    svg = to_svg(figure, prefix)
    label = escape(alt, quote=True)
    if len(svg) > 40_000:
        image = base64.b64encode(to_png(figure)).decode()
        if len(image) < len(svg):
            return f'<img class="png" style="max-width:100%;background:white" alt="{label}" width="{figure.get_size_inches()[0] * 96:.0f}" src="data:image/png;base64,{image}">', "png"
    head = '<svg role="img" style="max-width:100%;height:auto" ' + (f'aria-label="{label}" ' if label else "")
    return svg.replace("<svg ", head, 1), "svg"
