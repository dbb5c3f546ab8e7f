"""Convolutions on every time step."""

from __future__ import annotations

from torch import Tensor, nn

from neuro.layers.folding import expect, fold, unfold


class Conv1d(nn.Conv1d):
    """Convolution over the last axis of [T, B, C, L] at every step. Arguments as torch.nn.Conv1d."""

    time_aware = True

    def forward(self, x: Tensor) -> Tensor:
        expect("Conv1d", x, "TBCL", C=self.in_channels)
        return unfold(super().forward(fold(x)), x)


class Conv2d(nn.Conv2d):
    """Convolution over the last two axes of [T, B, C, H, W] at every step. Arguments as torch.nn.Conv2d."""

    time_aware = True

    def forward(self, x: Tensor) -> Tensor:
        expect("Conv2d", x, "TBCHW", C=self.in_channels)
        return unfold(super().forward(fold(x)), x)
