"""Patch stems: from frames to spiking feature maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from neuro.layers.conv import Conv2d
from neuro.layers.fusing import fire, is_watched
from neuro.layers.norm import BatchNorm
from neuro.layers.pool import MaxPool2d

NeuronMaker = Callable[[float], nn.Module]


class ConvNormLIF(nn.Module):
    """LIF(BN(Conv(x))), or LIF(pool(BN(Conv(x)))): [T, B, C, H, W] -> spikes [T, B, C', H', W']."""

    def __init__(self, c_in: int, c_out: int, neuron: NeuronMaker, *, kernel: int = 3, stride: int = 1, padding: int = 1):
        super().__init__()
        self.conv = Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.norm = BatchNorm(c_out)
        self.lif = neuron(1.0)

    def forward(self, x: Tensor, pool: nn.Module | None = None) -> Tensor:
        return fire(self.lif, self.norm, self.conv(x), pool)


def in_a_row(x: Tensor, stages: Sequence[ConvNormLIF], pool: nn.Module | None = None) -> Tensor:
    """Stages one after the other, the last with `pool`; spikes between two that nobody watches go from neuron to convolution unseen (see `fire`)."""
    if type(x) is not Tensor or torch.compiler.is_compiling() or any(type(stage) is not ConvNormLIF or is_watched(stage) for stage in stages):
        for stage in stages[:-1]:
            x = stage(x)
        return stages[-1](x, pool)
    x = stages[0].conv(x)
    for stage, after in pairwise(stages):
        x = fire(stage.lif, stage.norm, x, into=after.conv)
    return fire(stages[-1].lif, stages[-1].norm, x, pool)


class PatchSplitting(nn.Module):
    """Spiking patch splitting (SPS): four stages Conv3x3-BN-LIF[-MaxPool 3x3/2], then `x + LIF(BN(Conv3x3(x)))` for position.

    Widths D/8, D/4, D/2, D. The output holds 0, 1 and 2.

    Args:
        channels: C of the frames; dim: D, a multiple of 8; neuron: makes a neuron from its threshold;
        pools: after which of the four stages the map is halved;
        cml: pool before the neuron, Conv3x3-BN[-MaxPool 3x3/2]-LIF. Of spikes, the gradient goes to the first that fired in a window;
            of what the neuron would have taken, to the largest.

    Shapes: [T, B, C, H, W] -> [T, B, D, H', W'].

    Source: Zhou et al. 2023, arXiv:2209.15425, section 3.2; ConvBN-MaxPooling-LIF (CML): Zhou et al. 2023, arXiv:2305.05954.
    """

    def __init__(self, channels: int, dim: int, neuron: NeuronMaker, pools: Sequence[bool] = (True,) * 4, *, cml: bool = False):
        super().__init__()
        self.cml = cml
        widths = [channels, dim // 8, dim // 4, dim // 2, dim]
        self.stages = nn.ModuleList(ConvNormLIF(a, b, neuron) for a, b in zip(widths, widths[1:], strict=False))
        self.pools = nn.ModuleList(MaxPool2d(3, 2, 1) if pool else nn.Identity() for pool in pools)
        self.position = ConvNormLIF(dim, dim, neuron)

    def forward(self, x: Tensor) -> Tensor:
        row: list[ConvNormLIF] = []  # of stages without pooling between them
        for stage, pool in zip(self.stages, self.pools, strict=True):
            row.append(stage)
            if type(pool) is nn.Identity and not is_watched(pool) and stage is not self.stages[-1]:
                continue
            x = in_a_row(x, row, pool) if self.cml else pool(in_a_row(x, row))
            row = []
        return x + self.position(x)


class ConvStage(nn.Module):
    """One stage of the spiking convolutional stem: halve by Conv2x2/2, then a residual block C -> 4C -> C of 3x3 convs."""

    def __init__(self, c_in: int, c_out: int, neuron: NeuronMaker, expansion: int = 4):
        super().__init__()
        self.down = ConvNormLIF(c_in, c_out, neuron, kernel=2, stride=2, padding=0)
        self.expand = ConvNormLIF(c_out, expansion * c_out, neuron)
        self.reduce = ConvNormLIF(expansion * c_out, c_out, neuron)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + in_a_row(x, (self.expand, self.reduce))


class ConvStem(nn.Module):
    """Spiking convolutional stem (SCS) of Spikformer V2: four `ConvStage`s, no pooling of spikes, map divided by 16.

    The exact layers were never released; this form gives the published sizes to 0.01 M parameters.

    Args: as `PatchSplitting`. Shapes: [T, B, C, H, W] -> [T, B, D, H/16, W/16].

    Source: Zhou et al. 2024, Spikformer V2, arXiv:2401.02020, section 4.
    """

    def __init__(self, channels: int, dim: int, neuron: NeuronMaker):
        super().__init__()
        widths = [channels, dim // 8, dim // 4, dim // 2, dim]
        self.stages = nn.Sequential(*(ConvStage(a, b, neuron) for a, b in zip(widths, widths[1:], strict=False)))

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)
