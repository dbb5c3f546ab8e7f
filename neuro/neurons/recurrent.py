"""Any neuron with its own spikes fed back."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuro.errors import ShapeError, explain
from neuro.neurons.base import Neuron, as_current
from neuro.scanning import scan
from neuro.state import lengths, recall, remember


class RecurrentParams(NamedTuple):
    weight: Tensor  # [N, N]
    bias: Tensor | None
    inner: Any


@functools.cache
def recurrent_state(inner: type) -> Any:
    """NamedTuple of the last spikes s and the fields of the neuron's own state."""
    state = NamedTuple("RecurrentState", [("s", Tensor), *((field, Tensor) for field in inner._fields)])  # type: ignore[misc]
    state.inner = inner  # type: ignore[attr-defined]
    return state


def recurrent_step(x: Tensor, state: Any, p: RecurrentParams, *, inner_step: Any, **choices: Any) -> tuple[Tensor, Any]:
    """`inner_step(x + W s[t-1] + b, ...)`: the spikes of the last step come back after one step."""
    s, *inner = state
    y, after = inner_step(x + F.linear(s, p.weight, p.bias), type(state).inner(*inner), p.inner, **choices)
    return y, type(state)(y, *after)


def recurrent_scan(x: Tensor, state: Any, p: RecurrentParams, *, lengths: Tensor | None = None, inner_step: Any, **choices: Any) -> tuple[Tensor, Any]:
    """`recurrent_step` over time: the product with W is torch's, the neuron's own step a kernel where it has many neurons."""
    last, *inner = state
    inner, outputs = type(state).inner(*inner), []
    for t, now in enumerate(x.unbind(0)):
        runs = None if lengths is None else lengths > t
        current = (now + F.linear(last, p.weight, p.bias))[None]
        y, inner = scan(inner_step, current, inner, p.inner, lengths=None if runs is None else runs.long(), **choices)
        outputs.append(y[0])
        last = y[0] if runs is None else torch.where(runs.view(-1, *[1] * (last.dim() - 1)), y[0], last)
    return torch.stack(outputs), type(state)(last, *inner)


class Recurrent(nn.Module):
    """Feed a neuron's spikes back through a dense matrix, with one step of delay: `x[t] + W s[t-1] + b`.

    Args:
        neuron: any `Neuron`.
        features: N, the size of the last axis.
        bias: whether b is learned.

    Shapes: x [T, B, N] -> spikes [T, B, N]. State: the spikes of the last step, then the neuron's own fields.
    """

    def __init__(self, neuron: Neuron, features: int, *, bias: bool = False):
        super().__init__()
        self.neuron = neuron
        self.weight = nn.Parameter(torch.empty(features, features))
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None
        nn.init.orthogonal_(self.weight, gain=0.5)
        self._state = recurrent_state(neuron.State)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_state"}  # a class that pickle cannot name

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._state = recurrent_state(self.neuron.State)

    def forward(self, x: Tensor) -> Tensor:
        x_in, x = x, as_current("Recurrent", x)
        x = x if x.dtype == torch.float64 else x.float()
        if x.shape[-1] != self.weight.shape[0]:
            raise ShapeError(
                explain("Recurrent: the last axis does not match.", f"x {list(x.shape)}   features {self.weight.shape[0]}")
            )
        slot, state = recall(self, self._state(torch.zeros_like(x[0]), *self.neuron.initial(x[0])))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        params = RecurrentParams(self.weight.to(x.dtype), bias, self.neuron.params())
        how = {"inner_step": type(self.neuron).step, **self.neuron.choices()}
        y, state = recurrent_scan(x, state, params, lengths=lengths(), **how)
        remember(slot, state)
        return y.to(x_in.dtype) if x_in.is_floating_point() else y
