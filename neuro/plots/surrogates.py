"""Surrogate: the smooth step behind a spike and its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neuro.errors import ShapeError, explain
from neuro.plots.columns import array
from neuro.plots.figure import GRID, PALETTE, legend, new_figure, style

LINES = ("-", "--", "-.", ":")


def surrogate(surrogates: Any, *, reach: float = 2.0) -> Any:
    """Left the spike (grey) and the primitives, right the derivatives that stand in for its gradient.

    Args:
        surrogates: an object of `neuro.surrogate`, or a list of them.
        reach: u = membrane - threshold goes from -reach to reach.
    """
    import torch

    several: Sequence[Any] = list(surrogates) if isinstance(surrogates, (list, tuple)) else [surrogates]
    if not several:
        raise ShapeError(explain("surrogate: there is nothing to draw."))
    u = torch.linspace(-reach, reach, 801, dtype=torch.float64)
    figure = new_figure(2.9 + 0.2 * len(several))
    forward, backward = figure.subplots(1, 2)
    style(forward, title="forward", x="membrane − threshold", y="output", grid="both")
    style(backward, title="derivative", x="membrane − threshold", y="d output / d membrane", grid="both")
    forward.step(array(u), array((u >= 0).double()), color=GRID, linewidth=1.6, where="post", label="spike")
    for k, s in enumerate(several):
        how = {"color": PALETTE[k % len(PALETTE)], "linestyle": LINES[k % len(LINES)], "linewidth": 1.8}
        forward.plot(array(u), array(s.primitive(u)), label=str(s).replace(", strict=False", "").replace("strict=False", ""), **how)
        backward.plot(array(u), array(s.derivative(u)), **how)
    backward.set_ylim(bottom=0)
    handles, labels = forward.get_legend_handles_labels()
    legend(figure, handles, labels, loc="outside lower center", ncols=2 if len(several) == 1 else 1)
    return figure
