"""Pooling on every time step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from neuro.errors import ParameterError, explain
from neuro.kernels.max_pooling import Windows, max_pool2d
from neuro.layers.folding import expect, fold, unfold


class MaxPool2d(nn.MaxPool2d):
    """Largest value of each window of [T, B, C, H, W]; on spikes, whether any input fired. Arguments as torch.nn.MaxPool2d."""

    time_aware = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.return_indices:
            raise ParameterError(explain("MaxPool2d: return_indices gives two results.", cure="Use torch.nn.MaxPool2d inside a module of your own."))

    def forward(self, x: Tensor) -> Tensor:
        expect("MaxPool2d", x, "TBCHW")
        windows = self.windows()
        return unfold(super().forward(fold(x)) if windows is None else max_pool2d(fold(x), *windows), x)

    def windows(self) -> Windows | None:
        """What our kernels take; None where the windows are of a kind that only torch has."""
        if self.ceil_mode or _pair(self.dilation) != (1, 1):
            return None
        return Windows(_pair(self.kernel_size), _pair(self.stride), _pair(self.padding))


class AvgPool2d(nn.AvgPool2d):
    """Mean of each window of [T, B, C, H, W]; of spikes, no longer 0 or 1. Arguments as torch.nn.AvgPool2d."""

    time_aware = True

    def forward(self, x: Tensor) -> Tensor:
        expect("AvgPool2d", x, "TBCHW")
        return unfold(super().forward(fold(x)), x)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
