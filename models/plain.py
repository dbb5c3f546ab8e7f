"""Small networks without a paper: convolutions for pictures and event frames, neurons of many time constants for series and text.

Ours, for two CPU cores; the recipes train them. Their fields say everything that distinguishes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from neuro.errors import ParameterError, explain
from neuro.layers import BatchNorm, Conv2d, ExpectFrames, Flatten, Linear, MaxPool2d, MeanOverTime, Sequential
from neuro.models.registry import register
from neuro.neurons import LIF, PLIF
from neuro.surrogate import ATan, Surrogate


def _check(sizes: Any, *names: str) -> None:
    """Sizes from 1, a dropout in 0 .. 1."""
    wrong = [n for n in names if getattr(sizes, n) < 1] + [n for n in ("dropout",) if not 0 <= getattr(sizes, n) <= 1]
    if wrong:
        facts = (f"{n}={getattr(sizes, n)!r}" for n in wrong)
        raise ParameterError(explain(f"{type(sizes).__name__}: sizes are whole numbers from 1, dropout is a share in 0 .. 1.", *facts))


@dataclass(frozen=True)
class Convolutions:
    """Sizes of a `ConvNet`."""

    classes: int
    channels: int
    image: int  # height and width of the frames
    width: int  # channels of the first stage; each further stage doubles them
    depth: int  # stages, each of which halves the map
    dropout: float = 0.0  # of the features before the head
    tau: float = 2.0  # steps
    spike: Surrogate = ATan(2.0, strict=True)

    def __post_init__(self) -> None:
        _check(self, "classes", "channels", "image", "width", "depth")
        if self.image >> self.depth < 1:
            raise ParameterError(explain(f"ConvNet: {self.depth} halvings leave nothing of image={self.image}."))


class ConvNet(nn.Module):
    """Frames [T, B, C, H, W] -> logits [B, classes]: stages of conv 3x3, norm, LIF, max pooling 2x2; a dense head, meant over time."""

    def __init__(self, config: Convolutions):
        super().__init__()
        c = self.config = config
        self.input = ExpectFrames(c.channels, c.image, c.image)
        widths = [c.channels, *(c.width << k for k in range(c.depth))]
        self.stages = Sequential(*(layer for k in range(c.depth) for layer in self.stage(*widths[k : k + 2])))
        side = c.image >> c.depth
        self.head = Sequential(Flatten(), nn.Dropout(c.dropout), Linear(widths[-1] * side * side, c.classes))
        self.readout = MeanOverTime()

    def stage(self, before: int, after: int) -> tuple[nn.Module, ...]:
        c = self.config
        return Conv2d(before, after, 3, padding=1, bias=False), BatchNorm(after), LIF(tau=c.tau, spike=c.spike), MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.head(self.stages(self.input(x))))


@dataclass(frozen=True)
class Series:
    """Sizes of a `SeriesNet`."""

    classes: int
    inputs: int
    width: int  # neurons of each layer
    depth: int  # layers
    every_step: bool = False  # an answer at every step, instead of the mean over time
    dropout: float = 0.0  # of the spikes before the head
    tau: tuple[float, float] = (1.2, 16.0)  # steps; time constants at the start, from the first neuron of a layer to its last
    spike: Surrogate = ATan(2.0, strict=True)

    def __post_init__(self) -> None:
        _check(self, "classes", "inputs", "width", "depth")
        if not 1 < self.tau[0] <= self.tau[1]:
            raise ParameterError(explain("SeriesNet: time constants must lie above 1, the shorter one first.", f"tau={self.tau}"))


class SeriesNet(nn.Module):
    """Series [T, B, inputs] -> logits [B, classes], or [T, B, classes] with `every_step`.

    Layers of dense product, norm, and LIF neurons each of which has its own, learned time constant, at the start spread evenly
    over the logarithm; a dense head. What the network knows of the past is in the membranes alone.
    """

    def __init__(self, config: Series):
        super().__init__()
        c = self.config = config
        sizes = [c.inputs, *[c.width] * c.depth]
        self.layers = Sequential(*(layer for a, b in pairwise(sizes) for layer in self.layer(a, b)))
        self.head = Sequential(nn.Dropout(c.dropout), Linear(c.width, c.classes))
        self.readout = nn.Identity() if c.every_step else MeanOverTime()

    def layer(self, before: int, after: int) -> tuple[nn.Module, ...]:
        neuron = PLIF(shape=(after,), spike=self.config.spike)
        tau = torch.logspace(*(math.log10(t) for t in self.config.tau), after)
        with torch.no_grad():
            neuron.w.copy_(torch.logit(1 / tau))
        return Linear(before, after, bias=False), BatchNorm(after, axis=-1), neuron

    def example_input(self, steps: int, batch: int) -> Tensor:
        """Random spikes [T, B, inputs]."""
        return torch.randint(0, 2, (steps, batch, self.config.inputs)).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.head(self.layers(x)))


_SMALL_CONV = {"width": 8, "image": 16, "depth": 2}
_SMALL_SERIES = {"width": 16}


def _conv(changes: dict[str, Any], **sizes: Any) -> ConvNet:
    return ConvNet(replace(Convolutions(**sizes), **changes))


def _series(changes: dict[str, Any], **sizes: Any) -> SeriesNet:
    return SeriesNet(replace(Series(**sizes), **changes))


@register(parameters=20_538, small=_SMALL_CONV)
def conv_mnist(**changes: Any) -> ConvNet:
    """MNIST, 28x28, the picture at every step. See recipes/conv_mnist.py."""
    return _conv(changes, classes=10, channels=1, image=28, width=16, depth=2)


@register(parameters=113_962, small=_SMALL_CONV)
def conv_cifar10(**changes: Any) -> ConvNet:
    """CIFAR-10, 32x32, the picture at every step. See recipes/conv_cifar10.py."""
    return _conv(changes, classes=10, channels=3, image=32, width=32, depth=3)


@register(parameters=30_727, small=_SMALL_CONV)
def conv_objects(**changes: Any) -> ConvNet:
    """Objects before a DVS128, 32x32 event frames. See recipes/conv_objects.py."""
    return _conv(changes, classes=7, channels=2, image=32, width=16, depth=3)


@register(parameters=23_562, small=_SMALL_SERIES)
def series_digits(**changes: Any) -> SeriesNet:
    """Spoken digits, 40 bands. See recipes/series_digits.py."""
    return _series(changes, classes=10, inputs=40, width=128, depth=2)


@register(parameters=19_591, small=_SMALL_SERIES)
def series_braille(**changes: Any) -> SeriesNet:
    """Braille letters, 12 taxels. See recipes/series_braille.py."""
    return _series(changes, classes=7, inputs=12, width=128, depth=2, tau=(1.2, 32.0))


@register(parameters=19_206, small=_SMALL_SERIES)
def series_activities(**changes: Any) -> SeriesNet:
    """Activities from accelerations, 10 channels. See recipes/series_activities.py."""
    return _series(changes, classes=6, inputs=10, width=128, depth=2, tau=(1.2, 64.0))


@register(parameters=331_841, small=_SMALL_SERIES)
def series_text(**changes: Any) -> SeriesNet:
    """Text, the next of 65 characters at every step. See recipes/series_text.py."""
    return _series(changes, classes=65, inputs=65, width=512, depth=2, every_step=True, tau=(1.1, 32.0))
