"""Running a program on the CPU: arrays made ready, kernels found and spread over threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuro.kernels import cache
from neuro.kernels.cpu_source import BLOCK, HEADER, SEGMENT, Layout, backward_source, forward_source
from neuro.kernels.derivative import derive
from neuro.kernels.operations import OPERATIONS
from neuro.kernels.pool import spread
from neuro.kernels.program import Program

_SECONDS_PER_NODE = 0.1e-9  # of one element; only decides how many threads are worth waking


class Call(NamedTuple):
    """A call's shapes: T steps, R rows (samples) of C neurons; without lengths and per-neuron parameters, one row of all."""

    T: int
    R: int
    C: int
    params: tuple[str, ...]

    @property
    def block(self) -> int:
        """Neurons of an item: many where there are many, since memory is read best in long rows (16384 against 512: 1.4 times
        as fast from memory, the same from the cache). Fixed by the shape alone, as is the order of every sum."""
        return BLOCK if self.R * self.C >= 16 * BLOCK else 2048

    @property
    def items(self) -> int:
        return self.R * ((self.C + self.block - 1) // self.block)


def forward(program: str, x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, keep: bool) -> list[Tensor]:
    """Outputs [T, B, ...], states afterwards [B, ...], and with `keep` the states that backward starts from [segments - 1, R, C].

    Args:
        program: a `Program` as JSON.
        x: inputs [T, B, ...]; float32, float64 or bfloat16, equal in shape and type.
        state, params: in the program's precision. A parameter broadcasts against [B, ...].
        numbers: the step's Python numbers.
        lengths: int64 [B] or None.
    """
    traced = Program.from_json(program)
    x = [v.contiguous() for v in x]
    shape = x[0].shape
    call = shapes(shape, params, lengths)
    kernel, _ = _forward_kernel(program, Layout(x[0].dtype == torch.bfloat16, call.params, lengths is not None), keep)
    outputs = [_fresh(shape, x[0].dtype) for _ in traced.outputs]
    ends = [torch.empty(shape[1:], dtype=traced.dtype) for _ in state]
    segments = max(0, (call.T + SEGMENT - 1) // SEGMENT - 1)
    kept = [torch.empty((segments, call.R, call.C), dtype=traced.dtype) for _ in state] if keep else []
    arrays = [*_steps(x, call), *_rows(state, call), *_params(params, call, shape[1:]), np.asarray(numbers, np.float64)]
    arrays += [] if lengths is None else [lengths.numpy()]
    arrays += [*_steps(outputs, call), *_rows(ends, call), *(k.numpy() for k in kept)]
    spread(lambda low, high: kernel(*arrays, call.T, call.C, call.block, low, high), call.items, cost=_cost(traced, call))
    return [*outputs, *ends, *kept]


def backward(
    program: str, grad_y: Sequence[Tensor | None], grad_state: Sequence[Tensor | None], x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor],
    kept: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, wants: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    """Gradients of the inputs and parameters that `wants` names (inputs first), with those of the states between them."""
    traced = Program.from_json(program)
    x = [v.contiguous() for v in x]
    shape = x[0].shape
    call = shapes(shape, params, lengths)
    wants, has_y = tuple(wants), tuple(g is not None for g in grad_y)
    layout = Layout(x[0].dtype == torch.bfloat16, call.params, lengths is not None)
    kernel, summed = _backward_kernel(program, layout, wants, has_y)
    given = [g.contiguous() for g in grad_y if g is not None]
    grad_x = [_fresh(shape, v.dtype) if k in summed.inputs else torch.zeros_like(v) for k, v in enumerate(x) if wants[k]]
    written = [g for g, k in zip(grad_x, (k for k in range(len(x)) if wants[k]), strict=True) if k in summed.inputs]
    ends = [torch.zeros_like(s, memory_format=torch.contiguous_format) if g is None else g.contiguous() for g, s in zip(grad_state, state, strict=True)]
    begins = [torch.empty_like(e) for e in ends]
    sums = [torch.empty(call.items, dtype=torch.float64) if call.params[k] == "one" else torch.empty((call.R, call.C), dtype=traced.dtype) for k in summed.params]
    arrays = [*_steps(x, call), *_rows(state, call), *_params(params, call, shape[1:]), np.asarray(numbers, np.float64)]
    arrays += [] if lengths is None else [lengths.numpy()]
    arrays += [*(k.numpy() for k in kept), *_steps(given, call), *_rows(ends, call), *_steps(written, call), *_rows(begins, call), *(s.numpy() for s in sums)]
    spread(lambda low, high: kernel(*arrays, call.T, call.C, call.block, low, high), call.items, cost=2 * _cost(traced, call))
    found = dict(zip(summed.params, sums, strict=True))
    wanted = [k for k in range(len(params)) if wants[len(x) + k]]
    return [*grad_x, *begins, *(_param_gradient(params[k], found.get(k), call.params[k], shape[1:]) for k in wanted)]


class _Summed(NamedTuple):
    inputs: frozenset[int]  # with a gradient that is not zero everywhere
    params: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _forward_kernel(program: str, layout: Layout, keep: bool) -> tuple[Callable[..., Any], list[str]]:
    traced = Program.from_json(program)
    source, arguments = forward_source(traced, layout, keep)
    return cache.function(_header(traced) + source, "forward"), arguments


@functools.lru_cache(maxsize=1024)
def _backward_kernel(program: str, layout: Layout, wants: tuple[bool, ...], has_y: tuple[bool, ...]) -> tuple[Callable[..., Any], _Summed]:
    traced = Program.from_json(program)
    found = derive(traced, wants[: traced.inputs], wants[traced.inputs :], has_y)
    source, _ = backward_source(traced, found, layout, has_y)
    summed = _Summed(frozenset(k for k, i in enumerate(found.x) if i is not None), tuple(k for k, i in enumerate(found.params) if i is not None))
    return cache.function(_header(traced) + source, "backward"), summed


def _header(program: Program) -> str:
    return HEADER.format(dtype=str(program.dtype).removeprefix("torch."))


def shapes(shape: torch.Size, params: Sequence[Tensor], lengths: Tensor | None) -> Call:
    batch, neurons = shape[1:2].numel(), shape[2:].numel()
    kinds = tuple("one" if p.numel() == 1 else "each" if p.dim() == len(shape) - 1 and p.shape[0] != 1 else "column" for p in params)
    if lengths is None and all(kind == "one" for kind in kinds):
        batch, neurons = 1, batch * neurons
    return Call(shape[0], batch, neurons, kinds)


def _fresh(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor. A large one is allocated by NumPy, which asks the system for large pages: touching new memory page by
    page took three times as long as the kernel that fills it."""
    if shape.numel() * dtype.itemsize < 1 << 22:
        return torch.empty(shape, dtype=dtype)
    held = np.empty(tuple(shape), np.uint16 if dtype == torch.bfloat16 else str(dtype).removeprefix("torch."))
    tensor = torch.from_numpy(held)
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _steps(tensors: Sequence[Tensor], call: Call) -> list[np.ndarray]:
    return [_array(t.detach().view(call.T, call.R, call.C)) for t in tensors]


def _rows(tensors: Sequence[Tensor], call: Call) -> list[np.ndarray]:
    return [t.detach().contiguous().view(call.R, call.C).numpy() for t in tensors]


def _params(params: Sequence[Tensor], call: Call, shape: torch.Size) -> list[np.ndarray]:
    found = []
    for p, kind in zip(params, call.params, strict=True):
        whole = p.detach().reshape(1) if kind == "one" else p.detach().expand(shape).reshape(call.R, call.C) if kind == "each" else _column(p.detach(), shape)
        found.append(whole.contiguous().numpy())
    return found


def _column(param: Tensor, shape: torch.Size) -> Tensor:
    inner = param.reshape(param.shape[1:]) if param.dim() == len(shape) else param
    return inner.expand(shape[1:]).reshape(-1)


def _param_gradient(param: Tensor, summed: Tensor | None, kind: str, shape: torch.Size) -> Tensor:
    if summed is None:
        return torch.zeros_like(param)
    if kind == "one":
        return summed.sum().to(param.dtype).reshape(param.shape)
    return summed.view(shape).sum_to_size(param.shape)


def _cost(program: Program, call: Call) -> float:
    costly = sum(node.op in OPERATIONS and OPERATIONS[node.op].costly for node in program.nodes)
    return max(1, call.T) * min(call.block, call.C) * (len(program.nodes) + 20 * costly) * _SECONDS_PER_NODE


def supports(x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], lengths: Tensor | None) -> bool:
    """Whether these tensors can be given to a CPU kernel: on the CPU, plain and strided, of one shape, in one precision."""
    first, dtype = x[0], precision(x[0])
    if first.dim() < 2 or first.dtype not in (torch.float32, torch.float64, torch.bfloat16) or first.numel() == 0:
        return False
    if any(v.shape != first.shape or v.dtype != first.dtype for v in x):
        return False
    if any(s.shape != first.shape[1:] or s.dtype != dtype for s in state) or any(p.dtype != dtype for p in params):
        return False
    if any(not _broadcasts(p.shape, first.shape[1:]) for p in params):
        return False
    plain = all(t.device.type == "cpu" and t.layout == torch.strided for t in (*x, *state, *params))
    return plain and (lengths is None or (lengths.dtype == torch.int64 and lengths.device.type == "cpu"))


def precision(x: Tensor) -> torch.dtype:
    """The precision of a step: double for double inputs, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))
