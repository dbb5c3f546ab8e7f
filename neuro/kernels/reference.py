"""The plain torch loop over time: the definition of every neuron, and what every kernel is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def loop(step: Callable[..., Any], x: Any, state: Any, params: Any, lengths: Tensor | None, choices: dict[str, Any]) -> tuple[Any, Any]:
    """`y[t], state = step(x[t], state, params, **choices)`; inputs of 16 bits enter the step as float32, outputs have the input's type.

    `x` is a tensor or a tuple of them, and so is y.
    """
    several = isinstance(x, tuple)
    inputs = x if several else (x,)
    half = inputs[0].dtype in (torch.bfloat16, torch.float16)
    outputs = []
    for t, now in enumerate(zip(*(v.unbind(0) for v in inputs), strict=True)):
        now = tuple(v.float() for v in now) if half else now
        y, after = step(_like(inputs, now) if several else now[0], state, params, **choices)
        if lengths is not None:
            y, after = _hold_still(t < lengths, y, after, state)
        state = after
        outputs.append(y if isinstance(y, tuple) else (y,))
    stacked = [torch.stack(column) for column in zip(*outputs, strict=True)]
    stacked = [v.to(inputs[0].dtype) for v in stacked] if half else stacked
    return (_like(y, stacked) if isinstance(y, tuple) else stacked[0]), state


def _hold_still(running: Tensor, y: Any, after: Any, before: Any) -> tuple[Any, Any]:
    """Samples past their end give zeros and keep their state."""

    def over_batch(z: Tensor) -> Tensor:
        return running.view(-1, *[1] * (z.dim() - 1))

    def silenced(z: Tensor) -> Tensor:
        return torch.where(over_batch(z), z, 0)

    kept = [torch.where(over_batch(new), new, old) for new, old in zip(after, before, strict=True)]
    return _like(y, [silenced(z) for z in y]) if isinstance(y, tuple) else silenced(y), _like(after, kept)


def _like(pattern: tuple[Any, ...], values: Any) -> Any:
    return type(pattern)(*values) if hasattr(pattern, "_fields") else tuple(values)
