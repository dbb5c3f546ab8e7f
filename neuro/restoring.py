"""A module that keeps state in itself, put back as it was: for networks whose next call depends on their last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_OWN = frozenset({"_parameters", "_buffers", "_modules"})  # of nn.Module


def keeper(model: nn.Module) -> Callable[[], list[Tensor]]:
    """A function that gives every module the state it has now: buffers, and attributes that are or come to be tensors.

    Attributes may be tensors, or lists, tuples and dicts with tensors in them. Parameters and all else stay as they are.
    The function returns the buffers that had been written or replaced, if only with what they held: they are state, and no weights.

    >>> class Adds(nn.Module):
    ...     total = 0
    ...     def forward(self, x):
    ...         self.total = self.total + x
    ...         return self.total
    >>> net = Adds()
    >>> restore = keeper(net)
    >>> first, changed, again = net(torch.ones(1)), restore(), net(torch.ones(1))
    >>> first.item(), again.item(), changed
    (1.0, 1.0, [])
    """
    before = [(m, _attributes(m), {k: [b, None if b is None else b.detach().clone(), _version(b)] for k, b in m._buffers.items()}) for m in model.modules()]

    def restore() -> list[Tensor]:
        changed = []
        with torch.no_grad():
            for module, attributes, buffers in before:
                _put_attributes(module, attributes)
                for name in [n for n in module._buffers if n not in buffers]:
                    del module._buffers[name]
                for name, (buffer, values, version) in buffers.items():
                    if buffer is not None and (module._buffers.get(name) is not buffer or _version(buffer) != version or not _same(buffer, values)):
                        changed.append(buffer)
                        buffer.resize_(values.shape).copy_(values)
                        buffers[name][2] = _version(buffer)
                    module._buffers[name] = buffer
        return changed

    return restore


def _version(buffer: Tensor | None) -> int:
    """How often torch saw it written; not told of tensors made in inference mode, which are compared by value alone."""
    return 0 if buffer is None or buffer.is_inference() else buffer._version


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {k: _copied(v) for k, v in vars(module).items() if k not in _OWN}


def _put_attributes(module: nn.Module, before: dict[str, Any]) -> None:
    for name in [n for n in vars(module) if n not in _OWN]:
        now = vars(module)[name]
        if name not in before:
            if _has_tensor(now):
                del vars(module)[name]
        elif _has_tensor(now) or _has_tensor(before[name]):
            vars(module)[name] = _copied(before[name])
    for name, value in before.items():
        if name not in vars(module) and _has_tensor(value):
            vars(module)[name] = _copied(value)


def _copied(value: Any) -> Any:
    """Tensors and what holds them, copied; parameters and other values as they are."""
    if isinstance(value, Tensor):
        return value if isinstance(value, nn.Parameter) else value.detach().clone()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_copied(v) for v in value))
    if type(value) in (list, tuple):
        return type(value)(_copied(v) for v in value)
    return {k: _copied(v) for k, v in value.items()} if type(value) is dict else value


def _has_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_tensor(v) for v in value.values())
    return any(_has_tensor(v) for v in value) if isinstance(value, (list, tuple)) else isinstance(value, Tensor)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all()))
