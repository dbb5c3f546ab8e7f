"""Many vectors through one backward: `torch.autograd.grad(is_grads_batched=True)`, `torch.autograd.functional.jacobian(vectorize=True)`, `torch.func.vmap` over `torch.autograd.grad`.

Torch then hands a backward one tensor that stands for many, which has no memory of its own that a kernel could read. It is taken apart, and the
vectors go through one after the other, so each gets what it would get alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from neuro.errors import NeuroError, explain

Function = TypeVar("Function", bound=type[torch.autograd.Function])
Wrap = Callable[[Tensor], Tensor]
_is_of_functorch, _is_of_autograd = torch._C._functorch.is_functorch_wrapped_tensor, torch._C._functorch.is_legacy_batchedtensor


def one_by_one(function: Function) -> Function:
    """An autograd function whose backward is given one vector at a time. It may read `ctx.saved_tensors` once in each call."""
    backward = function.backward

    def each(ctx: Any, *grads: Tensor | None) -> Any:
        for g in grads:
            if g is not None and (_is_of_autograd(g) or _is_of_functorch(g)):
                return _taken_apart(each, ctx, grads)
        return backward(ctx, *grads)

    function.backward = staticmethod(each)  # type: ignore[method-assign]
    return function


def _taken_apart(backward: Callable[..., Any], ctx: Any, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Backward of every vector, and the results made one tensor again each. Those may still stand for many, of an outer vmap."""
    apart, wrap = _of_functorch(grads) if any([g is not None and _is_of_functorch(g) for g in grads]) else _of_autograd(grads)
    sizes, once = {len(g) for g in apart if g is not None}, _Once(ctx)
    vectors = 0 if 0 in sizes else max(sizes)
    apart = [g.new_zeros((1, *g.shape[1:])) if g is not None and not len(g) else g for g in apart]  # no vectors: their gradients still have a shape
    rows = [backward(once, *[g if g is None else g[i if len(g) > 1 else 0] for g in apart]) for i in range(max(1, vectors))]
    return tuple([None if column[0] is None else wrap(torch.stack(column)[:vectors]) for column in zip(*rows, strict=True)])


class _Once:
    """A context whose saved tensors are read once: a checkpoint gives each of them only once."""

    def __init__(self, ctx: Any):
        self._ctx, self.saved_tensors = ctx, ctx.saved_tensors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


def _of_functorch(grads: tuple[Tensor | None, ...]) -> tuple[list[Tensor | None], Wrap]:
    """Gradients [vectors, ...], or [1, ...] of what is one for all, of the innermost vmap; and how to make one such tensor of results."""
    of = torch._C._functorch
    level = max([of.maybe_get_level(g) for g in grads if g is not None])
    apart = []
    for g in grads:
        if g is None or of.maybe_get_level(g) != level:
            apart.append(g if g is None else g[None])
        elif of.is_batchedtensor(g):
            apart.append(of.get_unwrapped(g).movedim(of.maybe_get_bdim(g), 0))
        else:
            raise _not_a_vmap()
    return apart, lambda rows: of._add_batch_dim(rows, 0, level)


def _of_autograd(grads: tuple[Tensor | None, ...]) -> tuple[list[Tensor | None], Wrap]:
    """The same of the vmap that torch.autograd uses."""
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    apart = [None if g is None else torch._remove_batch_dim(g, level, 1, 0) for g in grads]
    return apart, lambda rows: torch._add_batch_dim(rows, 0, level)


def _not_a_vmap() -> NeuroError:
    return NeuroError(
        explain(
            "A gradient by one of the kernels of neuro is asked for inside of torch.func.grad, vjp or jvp, and its scan or product was run outside.",
            "Those follow what is computed inside of them alone.",
            cure="Run the forward inside of the same transform, or use torch.autograd.grad with create_graph=True.",
        )
    )
