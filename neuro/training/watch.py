"""A look at every neuron layer during a step of training, cheap enough to be taken often.

Firing rates, neurons that never or always fire, and the gradient that reaches each layer. `neuro.health` looks deeper.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuro.module_paths import module_paths
from neuro.neurons import Neuron, Recurrent
from neuro.state import valid_steps


class Layer(NamedTuple):
    """What one call of one neuron layer did with one batch."""

    name: str  # path of the module; #1, #2 ... where it is called again
    rate: float  # spikes per neuron and step
    silent: float  # share of neurons that never fired, over batch and time
    always: float  # share of neurons that fired at every step of every sample
    gradient: float | None  # norm of the derivative of the loss by its spikes; None without a backward


class Watch:
    """While entered, looks at the output of every neuron layer of a model, and at its gradient in backward.

    >>> import neuro
    >>> lif = neuro.neurons.LIF(decay=0.5)
    >>> with Watch(lif) as watch:
    ...     _ = lif(torch.tensor([[[0.0, 2.0]], [[0.0, 2.0]]]))
    >>> watch.layers()
    [Layer(name='', rate=0.5, silent=0.5, always=0.5, gradient=None)]
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.seen: dict[str, Tensor] = {}  # rate, silent, always
        self.gradients: dict[str, Tensor] = {}
        self.handles: list[Any] = []

    def __enter__(self) -> Watch:
        inner: set[nn.Module] = set()  # the neuron inside a Recurrent is not called
        for module, path in module_paths(self.model).items():
            if isinstance(module, Recurrent):
                inner.add(module.neuron)
            if isinstance(module, (Neuron, Recurrent)) and module not in inner:
                self.handles.append(module.register_forward_hook(self._looking_at(path)))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self.handles:
            self.handles.pop().remove()

    def layers(self) -> list[Layer]:
        """What was seen, in the order of the calls."""
        found = []
        for name, figures in self.seen.items():
            gradient = self.gradients.get(name)
            found.append(Layer(name, *figures.tolist(), None if gradient is None else float(gradient)))
        return found

    def _looking_at(self, path: str) -> Callable[..., None]:
        calls = [0]

        def look(module: nn.Module, inputs: Any, y: Tensor) -> None:
            name = path if not calls[0] else f"{path}#{calls[0]}"
            calls[0] += 1
            self.seen[name] = firing(y.detach(), valid_steps(y))
            if y.requires_grad:
                y.register_hook(lambda grad: self.gradients.__setitem__(name, grad.norm().detach()))

        return look


def firing(y: Tensor, counted: Tensor | None) -> Tensor:
    """Rate, share of silent and share of always-firing neurons [3] of spikes [T, B, *N]; `counted` masks padded steps."""
    fired = y != 0
    steps = torch.tensor(y.shape[0] * y.shape[1], device=y.device)
    if counted is not None:
        fired, steps = fired & counted, counted.sum()
    times = fired.sum((0, 1)).float()
    return torch.stack([times.mean() / steps, (times == 0).float().mean(), (times == steps).float().mean()])

