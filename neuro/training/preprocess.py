"""From the events of one recording, or from one array, to the input of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """Events to the frames of one sample [T, 1, C, H, W], float32: what `model(...)` takes.

    Args:
        frames: `(events, sensor) -> [T, C, H, W]`, such as `neuro.datasets.Frames`.
        sensor: `neuro.datasets.Sensor` of the recordings; a call may name another.
    """

    frames: Callable[..., np.ndarray]
    sensor: Any

    def __call__(self, events: np.ndarray, sensor: Any = None) -> Tensor:
        frames = self.frames(events, sensor or self.sensor)
        return torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32))[:, None]


@dataclass(frozen=True)
class PreprocessArray:
    """An array to the input of one sample [T, 1, ...], float32.

    Args:
        encode: `(x, rng) -> [T, ...]`, one of `neuro.datasets.encoding`; no generator is given.
    """

    encode: Callable[..., np.ndarray]

    def __call__(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.encode(x, None), dtype=np.float32))[:, None]
