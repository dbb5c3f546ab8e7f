"""Convolutions on every time step. Spikes may be multiplied by events: see `neuro.kernels.spike_conv`."""

from __future__ import annotations

from torch import Tensor, nn

from neuro.kernels.gating import Gate
from neuro.kernels.spike_conv import spike_conv1d, spike_conv2d
from neuro.layers.folding import expect, fold, unfold


class Conv1d(nn.Conv1d):
    """Convolution over the last axis of [T, B, C, L] at every step. Arguments as torch.nn.Conv1d; `neuro.layers.fire` gives `gate`."""

    time_aware = True

    def forward(self, x: Tensor, gate: Gate | None = None) -> Tensor:
        expect("Conv1d", x, "TBCL", C=self.in_channels)
        return unfold(super().forward(fold(x)) if gate is None else self._conv_forward(fold(x), self.weight, self.bias, gate), x)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None, gate: Gate | None = None) -> Tensor:
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super()._conv_forward(input, weight, bias)
        return spike_conv1d(input, weight, bias, self.stride[0], self.padding[0], self.dilation[0], self.groups, gate)


class Conv2d(nn.Conv2d):
    """Convolution over the last two axes of [T, B, C, H, W] at every step. Arguments as torch.nn.Conv2d; `neuro.layers.fire` gives `gate`."""

    time_aware = True

    def forward(self, x: Tensor, gate: Gate | None = None) -> Tensor:
        expect("Conv2d", x, "TBCHW", C=self.in_channels)
        return unfold(super().forward(fold(x)) if gate is None else self._conv_forward(fold(x), self.weight, self.bias, gate), x)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None, gate: Gate | None = None) -> Tensor:
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super()._conv_forward(input, weight, bias)
        return spike_conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups, gate)  # type: ignore[arg-type]
