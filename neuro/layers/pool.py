"""Pooling on every time step."""

from __future__ import annotations

from torch import Tensor, nn

from neuro.layers.folding import expect, fold, unfold


class MaxPool2d(nn.MaxPool2d):
    """Largest value of each window of [T, B, C, H, W]; on spikes, whether any input fired. Arguments as torch.nn.MaxPool2d."""

    time_aware = True

    def forward(self, x: Tensor) -> Tensor:
        expect("MaxPool2d", x, "TBCHW")
        return unfold(super().forward(fold(x)), x)


class AvgPool2d(nn.AvgPool2d):
    """Mean of each window of [T, B, C, H, W]; of spikes, no longer 0 or 1. Arguments as torch.nn.AvgPool2d."""

    time_aware = True

    def forward(self, x: Tensor) -> Tensor:
        expect("AvgPool2d", x, "TBCHW")
        return unfold(super().forward(fold(x)), x)
