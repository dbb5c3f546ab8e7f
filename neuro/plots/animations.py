"""Event animation: frames as a small GIF."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from neuro.errors import ParameterError, ShapeError, explain
from neuro.plots.columns import array
from neuro.plots.strips import coloured


def event_animation(frames: Any, *, seconds_per_frame: float = 0.1, pixels: int = 192) -> bytes:
    """GIF of frames, looping, in the colours of `event_strip`.

    Args:
        frames: counts [T, 2, H, W] (0 OFF, 1 ON), or [T, 1, 2, H, W] of one sample.
        seconds_per_frame: at least 0.02, which is what viewers honour.
        pixels: small frames are enlarged by a whole factor up to about this width.
    """
    from PIL import Image

    frames = array(frames)
    if frames.ndim == 5 and frames.shape[1] == 1:
        frames = frames[:, 0]
    if frames.ndim != 4 or frames.shape[1] != 2 or 0 in frames.shape:
        cure = "Give [T, 2, H, W] of one sample: x[:, b]."
        raise ShapeError(explain("event_animation: these are not frames of two polarities.", f"shape {list(frames.shape)}", cure=cure))
    if not seconds_per_frame >= 0.02:
        raise ParameterError(explain(f"event_animation: seconds_per_frame={seconds_per_frame} must be at least 0.02."))
    factor = max(1, pixels // frames.shape[-1])
    pictures = (coloured(frames) * 255).round().astype(np.uint8).repeat(factor, 1).repeat(factor, 2)
    images = [Image.fromarray(p).quantize(64) for p in pictures]
    raw = io.BytesIO()
    how = {"append_images": images[1:], "duration": round(seconds_per_frame * 1000), "loop": 0, "disposal": 1}
    images[0].save(raw, format="GIF", save_all=True, **how)
    return raw.getvalue()
