"""Layers that NIR knows and `neuro.layers` does not: sums of windows, products with a constant, delays of their own for every neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuro import nodes as g
from neuro.errors import ParameterError, explain
from neuro.layers.folding import expect, fold, unfold
from neuro.state import lengths, recall, remember


class SumPool2d(nn.Module):
    """Sum of each window of [T, B, C, H, W]."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int] = (0, 0)):
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        expect("SumPool2d", x, "TBCHW")
        return unfold(F.avg_pool2d(fold(x), self.kernel, self.stride, self.padding, divisor_override=1), x)

    def as_node(self, name: str, inputs: tuple[str, ...]) -> g.Node:
        return g.SumPool2d(name, inputs, self.kernel, self.stride, self.padding)


class Scale(nn.Module):
    """Product with a constant per element: [T, B, *N] -> [T, B, *N]."""

    def __init__(self, scale: Tensor):
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def as_node(self, name: str, inputs: tuple[str, ...]) -> g.Node:
        return g.Scale(name, inputs, self.scale.detach().clone())


class DelayState(NamedTuple):
    past: Tensor  # the last steps [B, longest delay, *N], the oldest first


@dataclass(frozen=True, eq=False)
class Delays(g.Node):
    """`y[t, n] = x[t - steps[n], n]`, zero before the first step. steps [*N], whole numbers of 0 or more."""

    steps: Tensor

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        return _delayed(torch.cat([x.new_zeros(int(self.steps.max()), *x.shape[1:]), x]), self.steps, len(x))


def _delayed(line: Tensor, steps: Tensor, count: int) -> Tensor:
    """The last `count` steps of a line [longest + count, B, *N], each element its own number of steps late."""
    at = torch.arange(len(line) - count, len(line)).view(-1, *[1] * (line.dim() - 1)) - steps
    return line.gather(0, at.expand(count, *line.shape[1:]))


class Delay(nn.Module):
    """`y[t] = x[t - steps]`, zero before the first step; steps of whole numbers, one or one per element [*N].

    `neuro.layers.Delay` is the one where all are alike.
    """

    time_aware = True

    def __init__(self, steps: Tensor):
        super().__init__()
        self.register_buffer("steps", steps)
        self.longest = int(steps.max())

    def forward(self, x: Tensor) -> Tensor:
        if self.longest == 0:
            return x
        if lengths() is not None:
            raise ParameterError(explain("Delay: recordings of unlike length cannot be delayed.", cure="Run them one by one, without lengths."))
        slot, state = recall(self, DelayState(x.new_zeros(x.shape[1], self.longest, *x.shape[2:])))
        line = torch.cat([state.past.transpose(0, 1), x])
        remember(slot, DelayState(line[-self.longest :].transpose(0, 1)))
        return _delayed(line, self.steps, len(x))

    def as_node(self, name: str, inputs: tuple[str, ...]) -> g.Node:
        return Delays(name, inputs, self.steps.clone())
