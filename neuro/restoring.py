"""A module that keeps state in itself, put back as it was: for networks whose next call depends on their last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_OWN = frozenset({"_parameters", "_buffers", "_modules"})  # of nn.Module


def keeper(model: nn.Module) -> Callable[[], list[Tensor]]:
    """A function that gives every module the state it has now: buffers, and attributes that are or come to be tensors.

    Attributes may be tensors, or lists, tuples and dicts with tensors in them. Parameters and all else stay as they are. What
    was written in place is written back, what was replaced is put back as the same object, so that what is shared stays shared.
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
    attributes = [(m, {k: (v, _remembered(v)) for k, v in vars(m).items() if k not in _OWN}) for m in model.modules()]
    buffers = [(m, {k: None if b is None else _Kept(b) for k, b in m._buffers.items()}) for m in model.modules()]

    def restore() -> list[Tensor]:
        changed: list[Tensor] = []
        with torch.no_grad():
            for module, held in buffers:
                changed += _put_buffers(module, held)
            for module, before in attributes:
                _put_attributes(module, before)
        return changed

    return restore


class _Kept:
    """A tensor, its values, and how often torch saw it written (of a tensor made in inference mode it keeps no count)."""

    def __init__(self, tensor: Tensor):
        self.tensor, self.values, self.version = tensor, tensor.detach().clone(), _version(tensor)

    def written(self) -> bool:
        return _version(self.tensor) != self.version or not _same(self.tensor, self.values)

    def put(self) -> Tensor:
        if self.written():
            if self.tensor.shape == self.values.shape:
                self.tensor.detach().copy_(self.values)
            else:
                self.tensor.data = self.values.clone()
            self.version = _version(self.tensor)
        return self.tensor


def _put_buffers(module: nn.Module, held: dict[str, _Kept | None]) -> list[Tensor]:
    """Those that had been written or replaced."""
    changed = []
    for name in [n for n in module._buffers if n not in held]:
        del module._buffers[name]
    for name, kept in held.items():
        if kept is not None and (kept.written() or module._buffers.get(name) is not kept.tensor):
            changed.append(kept.tensor)
        module._buffers[name] = None if kept is None else kept.put()
    return changed


def _put_attributes(module: nn.Module, before: dict[str, tuple[Any, Callable[[], Any]]]) -> None:
    now = vars(module)
    for name in [n for n in now if n not in _OWN and n not in before and _has_tensor(now[n])]:
        del now[name]
    for name, (value, put) in before.items():
        if _has_tensor(value) or _has_tensor(now.get(name)):
            now[name] = put()


def _remembered(value: Any) -> Callable[[], Any]:
    """A function that gives this object back as it is now, with the tensors in it; parameters and other values as they are then."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return _Kept(value).put
    if type(value) is dict:
        items = {k: _remembered(v) for k, v in value.items()}

        def put_items() -> Any:
            kept = {k: put() for k, put in items.items()}
            value.clear()
            value.update(kept)
            return value

        return put_items
    if type(value) is list or isinstance(value, tuple):
        parts = [_remembered(v) for v in value]

        def put_parts() -> Any:
            kept = [put() for put in parts]
            if isinstance(value, list):
                value[:] = kept
            return value

        return put_parts
    return lambda: value


def _has_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_tensor(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_tensor(v) for v in value)
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all()))
