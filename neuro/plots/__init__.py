"""Plots: small functions that each return a matplotlib Figure (or the bytes of a GIF). matplotlib is loaded when one draws."""

from neuro.plots.animations import event_animation
from neuro.plots.changes import quantization_changes
from neuro.plots.curves import learning_curves
from neuro.plots.energies import energy_bars
from neuro.plots.figure import inline, to_png, to_svg
from neuro.plots.layers import firing_rates, layer_health, rate_history
from neuro.plots.matrices import confusion
from neuro.plots.rasters import raster
from neuro.plots.strips import event_strip
from neuro.plots.surrogates import surrogate

__all__ = [
    "confusion", "energy_bars", "event_animation", "event_strip", "firing_rates", "inline", "layer_health", "learning_curves",
    "quantization_changes", "raster", "rate_history", "surrogate", "to_png", "to_svg",
]  # fmt: skip
