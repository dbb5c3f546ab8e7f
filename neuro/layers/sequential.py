"""Layers in a row."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from neuro.layers.folding import Fold
from neuro.layers.fusing import fire, is_pair, is_private, is_three
from neuro.misreaders import misreads_time, refuse_misreaders
from neuro.module_paths import module_paths


class Sequential(nn.Sequential):
    """Layers in a row on [T, B, ...]; plain torch layers that would misread the time axis are wrapped in `Fold`.

    Deeper ones, inside a plain torch.nn.Sequential, are refused. A neuron right behind a `BatchNorm`, or behind its `MaxPool2d`, runs
    with it in one kernel where it can, and a `Linear`, `Conv1d` or `Conv2d` right behind a neuron takes its spikes unseen: see `fire`.

    >>> import neuro
    >>> net = Sequential(nn.Flatten(), nn.Linear(4, 2), neuro.neurons.LIF())
    >>> type(net[0]).__name__
    'Fold'
    """

    def __init__(self, *layers: Any):
        super().__init__(*layers)
        for name, layer in self._modules.items():
            if layer is not None and misreads_time(layer):
                self._modules[name] = Fold(layer)
        refuse_misreaders(module_paths(self), act="Sequential")

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            norm, pool, neuron, layers = _next(layers)
            into = layers[0] if layers and is_private(neuron, layers[0]) else None
            if norm is None and into is None:
                x = neuron(x)
            else:
                x = fire(neuron, norm, x, pool, into)
            layers = layers if into is None else layers[1:]
        return x


def _next(layers: list[nn.Module]) -> tuple[nn.Module | None, nn.Module | None, nn.Module, list[nn.Module]]:
    """Norm, pooling and neuron that run together, None for what is not there, and the layers after them; or one module of any kind."""
    first, *after = layers
    if len(after) >= 2 and is_three(after[1], after[0], first):
        return first, after[0], after[1], after[2:]
    if after and is_pair(after[0], first):
        return first, None, after[0], after[1:]
    return None, None, first, after
