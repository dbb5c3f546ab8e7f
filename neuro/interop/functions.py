"""Calls in a forward of one step, as the layers that they are: `torch.flatten(x, 1)`, `x.view(x.size(0), -1)`, `F.max_pool2d(x, 2)`.

A library's network sees one step [B, ...]. Over time the same call would take time for batch; a layer of ours does not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F


def layer_of(node: fx.Node) -> nn.Module | None:
    """The torch layer that a call of one tensor is, or None if it is not known as one."""
    make = _CALLS.get(node.target) if node.op in ("call_function", "call_method") else None  # type: ignore[arg-type]
    if make is None or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    return make(*node.args[1:], **node.kwargs)


def measures(node: fx.Node) -> bool:
    """Whether a call only asks for sizes, as `x.size(0)`, `x.shape[0]`: it goes where the layer in its place no longer reads it."""
    if (node.op, node.target) == ("call_method", "size") or (node.target is getattr and node.args[1:] == ("shape",)):
        return True
    return node.target is operator.getitem and isinstance(node.args[0], fx.Node) and measures(node.args[0])


def _flatten(start_dim: Any = 0, end_dim: Any = -1) -> nn.Module | None:
    return nn.Flatten() if (start_dim, end_dim) == (1, -1) else None


def _view(*sizes: Any, **named: Any) -> nn.Module | None:
    """Of a whole sample as one row: the batch's size, whatever says it, and -1."""
    sizes = (*sizes, *named.values())
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    return nn.Flatten() if len(sizes) == 2 and sizes[1] == -1 and sizes[0] != -1 else None


def _pool(cls: Callable[..., nn.Module]) -> Callable[..., nn.Module | None]:
    def make(kernel_size: Any, stride: Any = None, *args: Any, **how: Any) -> nn.Module | None:
        return None if any(isinstance(a, fx.Node) for a in (kernel_size, stride, *args, *how.values())) else cls(kernel_size, stride, *args, **how)

    return make


def _relu(inplace: bool = False) -> nn.Module:
    return nn.ReLU()


_CALLS: dict[Any, Callable[..., nn.Module | None]] = {
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
    F.max_pool2d: _pool(nn.MaxPool2d),
    torch.max_pool2d: _pool(nn.MaxPool2d),
    F.avg_pool2d: _pool(nn.AvgPool2d),
    F.adaptive_avg_pool2d: lambda output_size: nn.AdaptiveAvgPool2d(output_size),
    F.relu: _relu,
    torch.relu: _relu,
    "relu": _relu,
}
