"""Gradients that are to be differentiated themselves (`create_graph=True`): those of torch's own operations, from inputs that know where they came from.

What a product keeps of its input are bits, which have no history. `history` keeps that without the values, and `with_history` joins the two again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def gradients(define: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor], needs: Sequence[bool], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """One gradient with a history of its own for each of `tensors`, None where none is needed.

    Args:
        define: gives the results from the tensors by torch's own operations; of those beyond the last of `grads`, no gradient came.
    """
    tensors = [t.view_as(t) if need else t for t, need in zip(tensors, needs, strict=True)]  # one may be made from another, whose gradient is then not for that way
    results = define(*tensors)[: len(grads)]
    used = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None and r.requires_grad]
    wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
    found = iter(torch.autograd.grad([r for r, _ in used], wanted, [g for _, g in used], create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needs]


def history(x: Tensor) -> Tensor | None:
    """A tensor of x's shape and history in one element's memory, whose values nobody reads; None where x has no history. To be called in an autograd function's forward.

    It is kept on the context itself: what a checkpoint or an offloading of saved tensors has to look after is values.
    """
    if not x.requires_grad:
        return None
    with torch.enable_grad():
        return _With.apply(x, torch.empty(1, dtype=x.dtype, device=x.device).expand(x.shape))


def with_history(past: Tensor | None, values: Tensor) -> Tensor:
    """These values with the history that `history` gave."""
    return values if past is None else _With.apply(past, values)


class _With(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, past: Tensor, values: Tensor) -> Tensor:
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
