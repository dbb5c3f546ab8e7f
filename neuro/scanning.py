"""`scan`: one pure step, repeated along axis 0. This loop is the definition of every neuron."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neuro.errors import ParameterError, ShapeError, explain

State = TypeVar("State")


def scan(
    step: Callable[..., tuple[Tensor, State]],
    x: Tensor,
    state: State,
    params: Any,
    *,
    lengths: Tensor | None = None,
    **choices: Any,
) -> tuple[Tensor, State]:
    """Run `y[t], state = step(x[t], state, params, **choices)` for t = 0 .. T-1.

    Args:
        step: pure and elementwise over neurons, in plain torch. Everything that may need a gradient is in `params`;
            `choices` are objects without tensors, such as a surrogate and a reset rule.
        x: input [T, B, ...], T >= 1.
        state: NamedTuple (or any tuple) of tensors with batch on axis 0.
        params: NamedTuple of floats and tensors that broadcast against `x[t]`.
        lengths: steps that count for each sample [B]. After its last step a sample holds still: its state is kept and
            its output is zero, so a padded sample equals the same sample alone.

    Returns:
        outputs [T, B, ...] and the state after the last step.

    Raises:
        ParameterError: `step` captured a tensor or a module by closure, whose gradient a compiled kernel would lose.
        ShapeError: `x` has no time steps.

    >>> import torch
    >>> total = lambda x, s, p: (s[0] + x, (s[0] + x,))
    >>> y, _ = scan(total, torch.ones(3, 1, 2), (torch.zeros(1, 2),), None)
    >>> y[:, 0, 0].tolist()
    [1.0, 2.0, 3.0]
    """
    _refuse_captured_tensors(step)
    if x.dim() == 0 or x.shape[0] == 0:
        raise ShapeError(explain("scan: there is no time step to run.", f"x {list(x.shape)}", cure="Time is axis 0: [T, B, ...], T >= 1."))
    outputs = []
    for t, x_t in enumerate(x.unbind(0)):
        y, after = step(x_t, state, params, **choices)
        if lengths is not None:
            y, after = _hold_still(t < lengths, y, after, state)
        state = after
        outputs.append(y)
    return torch.stack(outputs), state


def _hold_still(running: Tensor, y: Tensor, after: Any, before: Any) -> tuple[Tensor, Any]:
    """Samples past their end give zeros and keep their state."""

    def over_batch(z: Tensor) -> Tensor:
        return running.view(-1, *[1] * (z.dim() - 1))

    kept = [torch.where(over_batch(new), new, old) for new, old in zip(after, before, strict=True)]
    return torch.where(over_batch(y), y, 0), type(after)(*kept) if hasattr(after, "_fields") else tuple(kept)


def _refuse_captured_tensors(step: Callable[..., Any]) -> None:
    if torch.compiler.is_compiling():
        return
    while isinstance(step, functools.partial):
        held = [*step.args, *step.keywords.values()]
        _refuse(step.func, held)
        step = step.func
    cells = getattr(step, "__closure__", None) or ()
    _refuse(step, [c.cell_contents for c in cells if c.cell_contents is not step] + list(getattr(step, "__defaults__", None) or ()))


def _refuse(step: Callable[..., Any], held: list[Any]) -> None:
    for value in held:
        if isinstance(value, (Tensor, nn.Module)):
            what = f"a {type(value).__name__} {list(value.shape)}" if isinstance(value, Tensor) else f"the module {type(value).__name__}"
            raise ParameterError(
                explain(
                    f"scan: the step {getattr(step, '__name__', step)!r} captured {what}.",
                    "A step is compiled from its arguments alone; what it captures would get no gradient.",
                    cure="Pass it in params.",
                )
            )
