"""The nodes of a traced network: frozen, each with its float computation on [T, B, ...].

A node names its inputs, holds its own copy of the weights, and computes exactly what the layer it came from computes in
eval mode, by the same torch operators. Shapes are per step, without T and B.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from neuro.errors import GraphError, explain
from neuro.layers.attention import AttentionProduct as _Product
from neuro.layers.folding import fold, unfold
from neuro.neurons.recurrent import RecurrentParams, recurrent_scan, recurrent_state
from neuro.reset import charge
from neuro.scanning import scan

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """Base: `name` is the dotted module path, `inputs` the names of the nodes it reads."""

    name: str
    inputs: tuple[str, ...]
    timed: ClassVar[bool] = True  # whether the output still has its time axis

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[T, B, ...] -> [T, B, ...], or [B, ...] for a readout."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        return type(self).__name__

    def facts(self) -> dict[str, Any]:
        """What a table shows: every field but name and inputs; tensors by their shape."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "inputs")}

    def refuse(self, *facts: str, cure: str = "") -> GraphError:
        """An error that names this node."""
        return GraphError(explain(f"{self.kind} {self.name!r}: {facts[0]}", *facts[1:], cure=cure))


@dataclass(frozen=True, eq=False)
class Input(Node):
    """What enters the network, one step [*shape]."""

    shape: Shape

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        raise AssertionError("an input is given, not computed")


@dataclass(frozen=True, eq=False)
class Conv2d(Node):
    """Cross-correlation on every step: [C, H, W] -> [O, H', W']. weight [O, C/groups, kh, kw], bias [O] or None."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        return unfold(F.conv2d(fold(x), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups), x)


@dataclass(frozen=True, eq=False)
class Conv1d(Node):
    """Cross-correlation on every step: [C, L] -> [O, L']. weight [O, C/groups, k], bias [O] or None."""

    weight: Tensor
    bias: Tensor | None
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        return unfold(F.conv1d(fold(x), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups), x)


@dataclass(frozen=True, eq=False)
class Linear(Node):
    """`x W^T + b` on the last axis: [..., I] -> [..., O]. weight [O, I], bias [O] or None."""

    weight: Tensor
    bias: Tensor | None

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return F.linear(xs[0], self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class BatchNorm(Node):
    """`gamma * (x - mean) / sqrt(var + eps) + beta` with running statistics [C]; `axis` of C in [T, B, ...], -1: the last."""

    mean: Tensor
    var: Tensor
    gamma: Tensor
    beta: Tensor
    eps: float
    axis: int

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        last = self.axis % x.dim() == x.dim() - 1
        y = F.batch_norm(x.flatten(0, -2) if last else fold(x), self.mean, self.var, self.gamma, self.beta, False, 0.0, self.eps)
        return y.view(x.shape) if last else unfold(y, x)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale a and shift b [C] in float64: `y = a*x + b`."""
        a = self.gamma.double() / (self.var.double() + self.eps).sqrt()
        return a, self.beta.double() - a * self.mean.double()


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """`scale * x + shift` per channel [C] on `axis`: a norm that no layer could take in."""

    scale: Tensor
    shift: Tensor
    axis: int

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        shape = [1] * x.dim()
        shape[self.axis] = -1
        return x * self.scale.view(shape) + self.shift.view(shape)


@dataclass(frozen=True, eq=False)
class Scale(Node):
    """Product with a constant that broadcasts against one step [*N]."""

    scale: Tensor

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return xs[0] * self.scale


@dataclass(frozen=True, eq=False)
class Neuron(Node):
    """A neuron layer: `step` scanned over time from a zero state.

    `model` is the class it came from (LIF, IF, PLIF, CUBALIF, ALIF or one of the user's), `params` its NamedTuple of numbers and
    tensors, `choices` its spike and reset objects.
    """

    model: str
    step: Any
    state: type
    params: Any
    choices: dict[str, Any]

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        x_in, x = x, x if x.dtype == torch.float64 else x.float()
        zero = self.state(*(torch.zeros_like(x[0]) for _ in self.state._fields))
        return scan(self.step, x, zero, self.params, lengths=lengths, **self.choices)[0].to(x_in.dtype)

    def membrane(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is held against the threshold at every step [T, B, ...], before the reset; LIF, IF and PLIF only."""
        if self.state._fields != ("v",):
            raise self.refuse("its membrane is not known.", f"it is a {self.model}", cure="LIF, IF and PLIF are understood.")

        def step(x: Tensor, state: Any, p: Any, *, spike: Any, reset: Any) -> tuple[Tensor, Any]:
            v = charge(state.v, p.gain * x, p.decay, p.threshold, spike=spike, reset=reset)
            return v, type(state)(v if reset.delayed else reset(v, spike(v - p.threshold), p.threshold))

        x = x if x.dtype == torch.float64 else x.float()
        return scan(step, x, self.state(torch.zeros_like(x[0])), self.params, lengths=lengths, **self.choices)[0]

    @property
    def comparison(self) -> str:
        return getattr(self.choices.get("spike"), "comparison", "?")

    @property
    def reset(self) -> Any:
        return self.choices.get("reset")

    def facts(self) -> dict[str, Any]:
        return {"model": self.model, **self.params._asdict(), "fires": f"v {self.comparison} threshold", "reset": self.reset}


@dataclass(frozen=True, eq=False)
class Recurrent(Node):
    """A neuron whose spikes of the last step come back through weight [N, N] and bias [N] or None."""

    weight: Tensor
    bias: Tensor | None
    neuron: Neuron

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        x_in, x = x, x if x.dtype == torch.float64 else x.float()
        state = recurrent_state(self.neuron.state)
        zero = state(*(torch.zeros_like(x[0]) for _ in state._fields))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        params = RecurrentParams(self.weight.to(x.dtype), bias, self.neuron.params)
        how = {"inner_step": self.neuron.step, **self.neuron.choices}
        return recurrent_scan(x, zero, params, lengths=lengths, **how)[0].to(x_in.dtype)

    def facts(self) -> dict[str, Any]:
        return {"weight": self.weight, "bias": self.bias, **self.neuron.facts()}


@dataclass(frozen=True, eq=False)
class MaxPool2d(Node):
    """Largest value of each window of [C, H, W]."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return unfold(F.max_pool2d(fold(xs[0]), self.kernel, self.stride, self.padding), xs[0])


@dataclass(frozen=True, eq=False)
class AvgPool2d(Node):
    """Mean of each window of [C, H, W]."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    count_include_pad: bool = True

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = F.avg_pool2d(fold(xs[0]), self.kernel, self.stride, self.padding, count_include_pad=self.count_include_pad)
        return unfold(y, xs[0])


@dataclass(frozen=True, eq=False)
class SumPool2d(Node):
    """Sum of each window of [C, H, W]."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return unfold(F.avg_pool2d(fold(xs[0]), self.kernel, self.stride, self.padding, divisor_override=1), xs[0])


@dataclass(frozen=True, eq=False)
class Add(Node):
    """Sum of two inputs of one shape: a residual join."""

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if xs[0].shape != xs[1].shape:
            raise self.refuse("the inputs differ in shape.", f"{list(xs[0].shape)} and {list(xs[1].shape)}", cure="Give both one shape.")
        return xs[0] + xs[1]


@dataclass(frozen=True, eq=False)
class AttentionProduct(Node):
    """`scale * (q k^T) v` per head and step; q, k, v [N, D]."""

    heads: int
    scale: float
    order: str = "cheapest"

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return _Product(self.heads, self.scale, self.order)(*xs)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Tokens(Node):
    """[C, H, W] -> [H*W, C], row by row."""

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return xs[0].flatten(3).transpose(2, 3)


@dataclass(frozen=True, eq=False)
class Flatten(Node):
    """One step -> one vector, channel first."""

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return xs[0].flatten(2)


@dataclass(frozen=True, eq=False)
class MeanOverTokens(Node):
    """[N, C] -> [C]."""

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return xs[0].mean(2)


@dataclass(frozen=True, eq=False)
class Delay(Node):
    """`y[t] = x[t - steps]`, zero before the first step."""

    steps: int

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        (x,) = xs
        return torch.cat([torch.zeros_like(x[: self.steps]), x[: max(0, len(x) - self.steps)]])


@dataclass(frozen=True, eq=False)
class SumOverTime(Node):
    """Sum over the steps that count: [T, B, ...] -> [B, ...]."""

    timed: ClassVar[bool] = False

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = xs[0]
        if lengths is None:
            return x.sum(0)
        mask = torch.arange(x.shape[0], device=x.device)[:, None] < lengths[None, :]
        return torch.where(mask.view(*mask.shape, *[1] * (x.dim() - 2)), x, 0).sum(0)


@dataclass(frozen=True, eq=False)
class MeanOverTime(SumOverTime):
    """Mean over the steps that count: [T, B, ...] -> [B, ...]."""

    def compute(self, *xs: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = xs[0]
        steps = x.shape[0] if lengths is None else lengths.to(x.dtype).view(-1, *[1] * (x.dim() - 2))
        return super().compute(x, lengths=lengths) / steps
