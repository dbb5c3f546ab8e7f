"""How each layer becomes its node: one small function per layer, and one dict that finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuro import layers, neurons
from neuro import nodes as g
from neuro.errors import GraphError, explain

Make = Callable[[Any, str, tuple[str, ...]], g.Node]


def builder(module: nn.Module) -> Make | None:
    """How to build the node of this layer: by its class, or by a base whose forward it did not change, nor was it patched."""
    if "forward" in vars(module):
        return None
    if hasattr(type(module), "as_node"):  # a layer that states its own node
        return lambda m, name, inputs: m.as_node(name, inputs)
    if isinstance(module, neurons.Neuron):
        return _neuron if type(module).forward is neurons.Neuron.forward else None
    for cls in type(module).__mro__:
        if cls in _BUILDERS:
            return _BUILDERS[cls] if type(module).forward is cls.forward else None  # type: ignore[attr-defined]
    return None


def _own(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().clone()


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _refuse(name: str, layer: nn.Module, fact: str, cure: str) -> GraphError:
    return GraphError(explain(f"trace: {name!r} is a {type(layer).__name__} that the graph does not hold.", fact, cure=cure))


def _padding(m: nn.Conv1d | nn.Conv2d, name: str) -> tuple[int, ...]:
    """Zeros on either side of each axis, where both sides have as many."""
    if m.padding_mode != "zeros":
        raise _refuse(name, m, f"padding_mode={m.padding_mode!r}", "Pad with zeros.")
    if not isinstance(m.padding, str):
        return tuple(m.padding)
    spare = [d * (k - 1) for d, k in zip(m.dilation, m.kernel_size, strict=True)]
    if m.padding == "same" and any(s % 2 for s in spare):
        raise _refuse(name, m, f"padding='same' with kernel {m.kernel_size} pads one side more.", "Take an odd kernel.")
    return tuple(s // 2 for s in spare) if m.padding == "same" else (0,) * len(spare)


def _conv(m: nn.Conv2d, name: str, inputs: tuple[str, ...]) -> g.Node:
    padding = _pair(_padding(m, name))
    return g.Conv2d(name, inputs, _own(m.weight), _own(m.bias), _pair(m.stride), padding, _pair(m.dilation), m.groups)


def _conv1d(m: nn.Conv1d, name: str, inputs: tuple[str, ...]) -> g.Node:
    return g.Conv1d(name, inputs, _own(m.weight), _own(m.bias), m.stride[0], _padding(m, name)[0], m.dilation[0], m.groups)


def _linear(m: nn.Linear, name: str, inputs: tuple[str, ...]) -> g.Node:
    return g.Linear(name, inputs, _own(m.weight), _own(m.bias))


def _norm(m: layers.BatchNorm, name: str, inputs: tuple[str, ...]) -> g.Node:
    gamma = m.weight * m.scale if m.scale != 1.0 else m.weight
    return g.BatchNorm(name, inputs, _own(m.running_mean), _own(m.running_var), _own(gamma), _own(m.bias), m.eps, m.axis)


def _plain_norm(m: nn.BatchNorm2d, name: str, inputs: tuple[str, ...]) -> g.Node:
    if m.running_mean is None or m.running_var is None:
        raise _refuse(name, m, "track_running_stats=False: its statistics are those of each batch.", "Keep running statistics.")
    one = torch.ones_like(m.running_mean)
    gamma, beta = (one, 0 * one) if m.weight is None else (m.weight, m.bias)
    return g.BatchNorm(name, inputs, _own(m.running_mean), _own(m.running_var), _own(gamma), _own(beta), m.eps, 2)


def _max_pool(m: nn.MaxPool2d, name: str, inputs: tuple[str, ...]) -> g.Node:
    if m.ceil_mode or m.return_indices or _pair(m.dilation) != (1, 1):
        raise _refuse(name, m, f"ceil_mode={m.ceil_mode}, return_indices={m.return_indices}, dilation={m.dilation}", "Leave them at their defaults.")
    return g.MaxPool2d(name, inputs, _pair(m.kernel_size), _pair(m.stride), _pair(m.padding))


def _avg_pool(m: nn.AvgPool2d, name: str, inputs: tuple[str, ...]) -> g.Node:
    if m.ceil_mode or m.divisor_override is not None:
        raise _refuse(name, m, f"ceil_mode={m.ceil_mode}, divisor_override={m.divisor_override}", "Leave them at their defaults.")
    return g.AvgPool2d(name, inputs, _pair(m.kernel_size), _pair(m.stride), _pair(m.padding), m.count_include_pad)


def _neuron(m: neurons.Neuron, name: str, inputs: tuple[str, ...]) -> g.Node:
    if type(m).initial is not neurons.Neuron.initial:
        raise _refuse(name, m, "it starts from a state of its own.", "Start from zeros.")
    p = m.params()
    params = type(p)(*(_own(v) if isinstance(v, Tensor) else v for v in p))
    return g.Neuron(name, inputs, type(m).__name__, type(m).step, m.State, params, m.choices())


def _recurrent(m: neurons.Recurrent, name: str, inputs: tuple[str, ...]) -> g.Node:
    return g.Recurrent(name, inputs, _own(m.weight), _own(m.bias), _neuron(m.neuron, f"{name}.neuron", inputs))  # type: ignore[arg-type]


def _flatten(m: nn.Flatten, name: str, inputs: tuple[str, ...]) -> g.Node:
    if (m.start_dim, m.end_dim) != (1, -1):
        raise _refuse(name, m, f"start_dim={m.start_dim}, end_dim={m.end_dim}", "Use neuro.layers.Flatten().")
    return g.Flatten(name, inputs)


def cure(module: nn.Module) -> str:
    """What to take in place of a layer that the graph does not hold."""
    for cls, way_out in _CURES.items():
        if isinstance(module, cls):
            return way_out
    if "forward" in vars(module) or any(cls in _BUILDERS and type(module).forward is not cls.forward for cls in type(module).__mro__):  # type: ignore[attr-defined]
        return "Its forward is not that of its class. Take the plain layer, and put what is added into one of its own."
    return "Put a neuron in its place (neuro.neurons), or rewrite it from layers that `neuro.trace` lists."


_CURES: dict[type[nn.Module] | tuple[type[nn.Module], ...], str] = {
    layers.LastStep: "The graph sums or averages over time: train with MeanOverTime, or return every step and take the last one outside.",
    neurons.EscapeLIF: "It draws at every step, and a target does not. Put an LIF of the same decay, threshold and reset in its place, its limit for width -> 0.",
    (nn.MaxPool1d, nn.AvgPool1d): "Take a convolution with a stride, or maps of one row: Conv2d and MaxPool2d or AvgPool2d with kernels (1, k).",
    (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d): "Take AvgPool2d or MaxPool2d with the window that it has on your maps.",
    (nn.ConvTranspose1d, nn.ConvTranspose2d): "Take a convolution of more channels, or leave the decoder to the host.",
    (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d): "It needs the statistics of each sample, which a chip has not: train with BatchNorm.",
    (nn.RNNBase, nn.RNNCellBase): "Put a neuron with feedback in its place: neuro.neurons.Recurrent.",
}

_BUILDERS: dict[type[nn.Module], Make] = {
    nn.Conv1d: _conv1d,
    layers.Conv1d: _conv1d,
    nn.Conv2d: _conv,
    layers.Conv2d: _conv,
    nn.Linear: _linear,
    layers.Linear: _linear,
    layers.BatchNorm: _norm,
    nn.BatchNorm1d: _plain_norm,
    nn.BatchNorm2d: _plain_norm,
    nn.MaxPool2d: _max_pool,
    layers.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    layers.AvgPool2d: _avg_pool,
    nn.Flatten: _flatten,
    layers.Flatten: lambda m, name, inputs: g.Flatten(name, inputs),
    layers.AttentionProduct: lambda m, name, inputs: g.AttentionProduct(name, inputs, m.heads, m.scale, m.order),
    layers.Delay: lambda m, name, inputs: g.Delay(name, inputs, m.steps),
    layers.Tokens: lambda m, name, inputs: g.Tokens(name, inputs),
    layers.MeanOverTokens: lambda m, name, inputs: g.MeanOverTokens(name, inputs),
    layers.MeanOverTime: lambda m, name, inputs: g.MeanOverTime(name, inputs),
    layers.SumOverTime: lambda m, name, inputs: g.SumOverTime(name, inputs),
    neurons.Recurrent: _recurrent,
}
