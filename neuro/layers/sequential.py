"""Layers in a row."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from neuro.layers.folding import Fold
from neuro.layers.fusing import fire, is_pair, is_three
from neuro.state import misreads_time, module_paths, refuse_misreaders


class Sequential(nn.Sequential):
    """Layers in a row on [T, B, ...]; plain torch layers that would misread the time axis are wrapped in `Fold`.

    Deeper ones, inside a plain torch.nn.Sequential, are refused. A neuron right behind a `BatchNorm`, or behind its `MaxPool2d`, runs
    with it in one kernel where it can: see `fire`.

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
            first, *after = layers
            if len(after) >= 2 and is_three(after[1], after[0], first):
                x, layers = fire(after[1], first, x, after[0]), after[2:]
            elif after and is_pair(after[0], first):
                x, layers = fire(after[0], first, x), after[1:]
            else:
                x, layers = first(x), after
        return x
