"""Programs as operators of torch, with their gradients.

Eager calls take the shortest way, an autograd function. Under torch.compile and torch.export a scan is one opaque operator,
`neuro::scan`, that carries its program as text, so a compiled or exported graph is complete in itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from neuro.errors import explain
from neuro.kernels import again, backends, batched, calls

ByLoop = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


def run(
    program: str, x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, by_loop: ByLoop,
    after: bool = True,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:  # fmt: skip
    """Outputs [T, B, ...] and, with `after`, the states after the last step; differentiable in inputs, states and parameters.

    `by_loop` gives both from the plain loop: a gradient that is to be differentiated itself is taken from there.
    """
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (*x, *state, *params))
    if torch.compiler.is_compiling():
        keep = keep and not torch.compiler.is_exporting()  # how much is kept depends on T, which an exported graph may leave open; its backward runs forward once more
        results = torch.ops.neuro.scan(list(x), list(state), list(params), lengths, list(numbers), program, keep)
        results = results[: len(results) - backends.count_kept(x[0].device.type, program)] if keep else results
        after = True
    elif not keep:
        results = _backend(x[0]).forward(program, x, state, params, numbers, lengths, False, after=after)
    else:
        results = _Scan.apply(program, (len(x), len(state)), tuple(numbers), lengths, by_loop, after, *x, *state, *params)
    outputs = len(results) - len(state) * after
    return results[:outputs], results[outputs:]


@batched.one_by_one
class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: str, sizes: tuple[int, int], numbers: tuple[float, ...], lengths: Tensor | None, by_loop: ByLoop, after: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        x, state, params = _parts(tensors, sizes)
        results = _backend(x[0]).forward(program, x, state, params, numbers, lengths, True, after=after)
        given = len(results) - backends.count_kept(x[0].device.type, program)
        kept = results[given:]
        ctx.set_materialize_grads(False)
        ctx.program, ctx.sizes, ctx.numbers, ctx.outputs = program, sizes, numbers, given - len(state) * after
        reads = _backend(x[0]).kernels(program).reads
        ctx.like = (x[0].shape, x[0].dtype, x[0].device)
        ctx.save_for_backward(*[v if read else None for v, read in zip(x, reads, strict=True)], *state, *params, *kept, *([] if lengths is None else [lengths]))
        ctx.with_lengths, ctx.by_loop = lengths is not None, by_loop
        return tuple(results[:given])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved = list(ctx.saved_tensors)
        lengths = saved.pop() if ctx.with_lengths else None
        needs, states = ctx.needs_input_grad[6:], ctx.sizes[1]
        kept = saved[len(needs) :]
        x, state, params = _parts(saved[: len(needs)], ctx.sizes)
        if torch.is_grad_enabled():  # create_graph=True
            if any(v is None for v in x):
                raise NotImplementedError(_NOT_TWICE)
            return (*(None,) * 6, *again.gradients(lambda *tensors: ctx.by_loop(*_parts(tensors, ctx.sizes)), (*x, *state, *params), needs, grads))
        x = [_shaped(*ctx.like) if v is None else v for v in x]
        wants = needs[: len(x)] + needs[len(x) + states :]
        wants_state = any(needs[len(x) : len(x) + states])
        found = _backend(x[0]).backward(ctx.program, grads[: ctx.outputs], grads[ctx.outputs :], x, state, params, kept, ctx.numbers, lengths, wants, wants_state)
        return (*(None,) * 6, *_spread_out(found, wants, len(x), states, wants_state))


def run_from_zero(ready: Any, x: Tensor, by_loop: Callable[[Tensor], Tensor]) -> Tensor:
    """Output of a scan that a backend has made ready (`cpu.FromZero`); `by_loop` gives it from the plain loop."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _apply(ready, by_loop, _alive(x))
    return ready.forward(x, False)[0]


@batched.one_by_one
class _FromZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ready: Any, by_loop: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        y, kept = ready.forward(x, True)
        ctx.ready, ctx.by_loop = ready, by_loop
        ctx.save_for_backward(x, *kept)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        x, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            return None, None, torch.autograd.grad(ctx.by_loop(x), x, grad, create_graph=True)[0]
        return None, None, ctx.ready.backward(grad, x, kept)


_apply = super(torch.autograd.Function, _FromZero).apply  # what `Function.apply` comes to where no transform of torch.func is at work, which `scanning` has made sure of
_alive = torch._C._functorch.unwrap_if_dead

_NOT_TWICE = explain(
    "scan: this gradient cannot be differentiated again.",
    "On a GPU the input is not kept where the gradient does not need it.",
    cure="Run the scan inside `with neuro.scanning.plain_loop():`.",
)


_NOT_TWICE_EXPORTED = explain(
    "neuro::scan: the gradient of an exported scan is to be differentiated again (create_graph=True).",
    "An exported graph holds the scan's kernels, whose gradient has no derivative, and not the neuron's step.",
    cure="Differentiate the module that was exported.",
)


def _shaped(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor that nobody reads, of one element's memory."""
    return torch.empty(1, dtype=dtype, device=device).expand(shape)


def _backend(x: Tensor) -> ModuleType:
    found = backends.of(x.device.type)
    if found is None:
        raise NotImplementedError(f"neuro::scan has no kernels for device {x.device}. neuro.scan runs the plain loop there.")
    return found


def _parts(tensors: Sequence[Tensor], sizes: tuple[int, int]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    inputs, states = sizes
    return tensors[:inputs], tensors[inputs : inputs + states], tensors[inputs + states :]


def _spread_out(found: list[Tensor], wants: Sequence[bool], inputs: int, states: int, wants_state: bool = True) -> list[Tensor | None]:
    """One gradient per tensor, None where none was wanted."""
    rest = iter(found)
    grad_x = [next(rest) if want else None for want in wants[:inputs]]
    grad_state = [next(rest) if wants_state else None for _ in range(states)]
    return [*grad_x, *grad_state, *(next(rest) if want else None for want in wants[inputs:])]


_library = torch.library.Library("neuro", "DEF")
_library.define("scan(Tensor[] x, Tensor[] state, Tensor[] params, Tensor? lengths, float[] numbers, str program, bool keep) -> Tensor[]")
_library.define(
    "scan_backward(Tensor?[] grad_y, Tensor?[] grad_state, Tensor[] x, Tensor[] state, Tensor[] params, Tensor[] kept, Tensor? lengths, float[] numbers, str program, bool[] wants) -> Tensor[]"
)


def _scan(x: Any, state: Any, params: Any, lengths: Any, numbers: Any, program: str, keep: bool) -> list[Tensor]:
    return _backend(x[0]).forward(program, x, state, params, numbers, lengths, keep)


def _scan_backward(grad_y: Any, grad_state: Any, x: Any, state: Any, params: Any, kept: Any, lengths: Any, numbers: Any, program: str, wants: Any) -> list[Tensor]:
    return _backend(x[0]).backward(program, grad_y, grad_state, x, state, params, kept, numbers, lengths, wants)


def _scan_shapes(x: Any, state: Any, params: Any, lengths: Any, numbers: Any, program: str, keep: bool) -> list[Tensor]:
    backend = backends.lays_out(x[0].device.type)
    made = backend.kernels(program)
    outputs = [torch.empty_like(x[0], memory_format=torch.contiguous_format) for _ in made.program.outputs]
    ends = [torch.empty_like(s, memory_format=torch.contiguous_format) for s in state]
    if not keep:
        return [*outputs, *ends]
    shape = backend.kept_shape(calls.cut_up(x[0].shape, calls.kinds(x[0].shape, params), lengths is not None))
    return [*outputs, *ends, *(x[0].new_empty(shape, dtype=dtype) for dtype in made.kept)]


def _scan_backward_shapes(grad_y: Any, grad_state: Any, x: Any, state: Any, params: Any, kept: Any, lengths: Any, numbers: Any, program: str, wants: Any) -> list[Tensor]:
    wanted = [v for v, want in zip((*x, *params), wants, strict=True) if want]
    inputs = sum(wants[: len(x)])
    shaped = [torch.empty_like(v, memory_format=torch.contiguous_format) for v in (*wanted[:inputs], *state, *wanted[inputs:])]
    return shaped


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, state, params, lengths, ctx.numbers, program, keep = inputs
    given = len(output) - (backends.count_kept(x[0].device.type, program) if keep else 0)
    ctx.sizes, ctx.outputs, ctx.program = (len(x), len(state)), given - len(state), program
    ctx.wants = [t.requires_grad for t in (*x, *params)]
    kept, ctx.like, ctx.keep = output[given:], (x[0].shape, x[0].dtype, x[0].device), keep
    reads = backends.lays_out(x[0].device.type).kernels(program).reads
    ctx.save_for_backward(*[v if read or not keep else None for v, read in zip(x, reads, strict=True)], *state, *params, *kept, *([] if lengths is None else [lengths]))
    ctx.with_lengths = lengths is not None


def _differentiate(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise NotImplementedError(_NOT_TWICE_EXPORTED)
    saved = list(ctx.saved_tensors)
    lengths = saved.pop() if ctx.with_lengths else None
    inputs, states = ctx.sizes
    given = len(ctx.wants) + states
    kept = saved[given:]
    x, state, params = _parts(saved[:given], ctx.sizes)
    x = [_shaped(*ctx.like) if v is None else v for v in x]
    if not ctx.keep:  # exported from inputs without a gradient, so the graph keeps nothing: forward once more
        kept = torch.ops.neuro.scan(list(x), list(state), list(params), lengths, ctx.numbers, ctx.program, True)[ctx.outputs + states :]
    found = torch.ops.neuro.scan_backward(
        list(grads[: ctx.outputs]), list(grads[ctx.outputs : ctx.outputs + states]), list(x), list(state), list(params), list(kept), lengths, ctx.numbers, ctx.program, ctx.wants
    )
    spread = _spread_out(found, ctx.wants, inputs, states)
    return spread[:inputs], spread[inputs : inputs + states], spread[inputs + states :], None, None if ctx.numbers else [], None, None  # torch wants the empty list as one


for _key in ("CPU", "CUDA", "XPU"):
    _library.impl("scan", _scan, _key)
    _library.impl("scan_backward", _scan_backward, _key)
torch.library.register_fake("neuro::scan", _scan_shapes, lib=_library)
torch.library.register_fake("neuro::scan_backward", _scan_backward_shapes, lib=_library)
torch.library.register_autograd("neuro::scan", _differentiate, setup_context=_remember, lib=_library)
