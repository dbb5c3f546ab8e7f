"""Running a program on the CPU: arrays made ready, kernels found and spread over threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro.kernels import cache, calls
from neuro.kernels.calls import Call
from neuro.kernels.cpu_block import BLOCK, HEADER, SINGLE, WHOLE, Layout
from neuro.kernels.cpu_source import SEGMENT, backward_source, forward_source
from neuro.kernels.derivative import derive
from neuro.kernels.memory import fresh, fresh_with_array, numpy_dtype
from neuro.kernels.operations import OPERATIONS
from neuro.kernels.pool import share
from neuro.kernels.program import Program
from neuro.kernels.writing import Ends

_SECONDS, _PER_NODE, _PER_COSTLY = 0.12e-9, 0.005e-9, 1e-9  # of one element; they only decide how many threads are worth waking
_COLUMNS = 1536  # neurons of an item whose parameters vary over a row
_ASKS = 20e-6  # seconds of work after which a thread asks for more
_CACHED = 300_000  # numbers that a core holds close to it
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


class Kernels:
    """The kernels of one program, made as they are called for."""

    def __init__(self, program: Program):
        self.program = program
        self.header = HEADER.format(dtype=str(program.dtype).removeprefix("torch."))
        costly = sum(node.op in OPERATIONS and OPERATIONS[node.op].costly for node in program.nodes)
        self.seconds = _SECONDS + len(program.nodes) * _PER_NODE + costly * _PER_COSTLY  # of one element
        self.kept = [self.program.dtype] * self.program.states  # a state every SEGMENT steps
        self.reads = (True,) * self.program.inputs  # backward runs forward again
        self._made: dict[Any, Any] = {}

    def forward(self, layout: Layout, keep: bool, after: bool = True) -> tuple[Callable[..., Any], int]:
        """The kernel, and how many neurons it may take at once."""
        key = (layout, keep, after)
        if key not in self._made:
            source, held = forward_source(self.program, layout, keep, after)
            self._made[key] = (cache.function(self.header + source, "forward"), _most(held))
        return self._made[key]

    def backward(self, layout: Layout, wants: tuple[bool, ...], ends: Ends) -> tuple[Callable[..., Any], int, frozenset[int], tuple[int, ...]]:
        """The kernel, how many neurons it may take at once, and the inputs and parameters whose gradient is not zero everywhere."""
        key = (layout, wants, ends)
        if key not in self._made:
            found = derive(self.program, wants[: self.program.inputs], wants[self.program.inputs :], ends.y)
            source, held = backward_source(self.program, found, layout, ends)
            inputs = frozenset(k for k, i in enumerate(found.x) if i is not None)
            self._made[key] = (cache.function(self.header + source, "backward"), _most(held), inputs, tuple(k for k, i in enumerate(found.params) if i is not None))
        return self._made[key]


def _most(held: int) -> int:
    """Neurons whose working memory fits into the second cache: a power of two up to BLOCK."""
    most = BLOCK
    while most > 256 and most * held > _CACHED:
        most //= 2
    return most


@functools.lru_cache(maxsize=1024)
def kernels(program: str) -> Kernels:
    return Kernels(Program.from_json(program))


def forward(
    program: str, x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, keep: bool,
    *, call: Call | None = None, after: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Outputs [T, B, ...], states afterwards [B, ...], and with `keep` the states that backward starts from [segments, R, C].

    Args:
        program: a `Program` as JSON.
        x: inputs [T, B, ...]; float32, float64 or bfloat16, equal in shape and type.
        state, params: in the program's precision. A parameter broadcasts against [B, ...].
        numbers: the step's Python numbers.
        lengths: int64 [B] or None.
        call: how tensors of the shape [T, R, C] are cut up, where parameters vary in a way that their shapes do not say.
        after: whether the states afterwards are wanted.
    """
    made = kernels(program)
    traced, first = made.program, x[0]
    call = call or calls.of(first.shape, params, lengths)
    outputs = [fresh(first.shape, first.dtype) for _ in traced.outputs]
    ends = [fresh(s.shape, traced.dtype) for s in state] if after else []
    kept = [fresh(kept_shape(call), dtype) for dtype in made.kept] if keep else []
    steps, rows = (call.T, call.R, call.C), (call.R, call.C)
    arrays = _given(x, state, params, numbers, lengths, call)
    arrays += [_array(y).reshape(steps) for y in outputs]
    arrays += [e.numpy().reshape(rows) for e in ends]
    arrays += [k.numpy() for k in kept]
    kernel, most = made.forward(_layout(first, state, lengths, call), keep, after)
    block = _block(call, most)
    _spread(kernel, arrays, call, block, _cost(call, block, made))
    return [*outputs, *ends, *kept]


def backward(
    program: str, grad_y: Sequence[Tensor | None], grad_state: Sequence[Tensor | None], x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor],
    kept: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, wants: Sequence[bool], wants_state: bool = True,
    *, call: Call | None = None,
) -> list[Tensor]:  # fmt: skip
    """Gradients of the inputs and parameters that `wants` names (inputs first); between them, with `wants_state`, those of the states."""
    made = kernels(program)
    dtype, first = made.program.dtype, x[0]
    call = call or calls.of(first.shape, params, lengths)
    steps, rows = (call.T, call.R, call.C), (call.R, call.C)
    wants = tuple(wants)
    ends = Ends(tuple([g is not None for g in grad_y]), any([g is not None for g in grad_state]), wants_state)
    kernel, most, inputs, summed = made.backward(_layout(first, state, lengths, call), wants, ends)
    grad_x = {k: (fresh(v.shape, v.dtype) if k in inputs else torch.zeros_like(v, memory_format=torch.contiguous_format)) for k, v in enumerate(x) if wants[k]}
    block = _block(call, most)
    begins = [fresh(s.shape, dtype) for s in state] if wants_state else []
    sums = [torch.empty(call.items(block), dtype=torch.float64, device="cpu") if call.params[k] in SINGLE else torch.empty(rows, dtype=dtype, device="cpu") for k in summed]
    arrays = _given(x, state, params, numbers, lengths, call)
    arrays += [k.numpy() for k in kept]
    arrays += [_array(g).reshape(steps) for g in grad_y if g is not None]
    if ends.after:
        arrays += [np.zeros(rows, numpy_dtype(dtype)) if g is None else _array(g).reshape(rows) for g in grad_state]
    arrays += [_array(grad_x[k]).reshape(steps) for k in grad_x if k in inputs]
    arrays += [b.numpy().reshape(rows) for b in begins]
    arrays += [s.numpy() for s in sums]
    _spread(kernel, arrays, call, block, 2 * _cost(call, block, made))
    found = dict(zip(summed, sums, strict=True))
    wanted = [k for k in range(len(params)) if wants[len(x) + k]]
    return [*grad_x.values(), *begins, *[calls.param_gradient(params[k], found.get(k), call.params[k], first.shape[1:]) for k in wanted]]


class FromZero:
    """A scan of one input from states of zero, without parameters that are tensors: whatever such calls have in common, made once.

    `forward` and `backward` as above, without the states afterwards. A short scan takes less time than all that has to be found out about it.
    """

    def __init__(self, program: str, numbers: Sequence[float], shape: torch.Size, dtype: torch.dtype):
        self.made = kernels(program)
        self.shape, self.dtype = shape, dtype
        self.call = calls.of(shape, (), None)
        self.steps = (self.call.T, self.call.R, self.call.C)
        self.layout = Layout(dtype == torch.bfloat16, (), False, True, *_held(self.call.T, None))
        self.given = [*[np.zeros(1, numpy_dtype(self.made.program.dtype)) for _ in range(self.made.program.states)], np.array(numbers, np.float64)]
        self.segments = kept_shape(self.call)
        self.nothing = [np.empty((0, 1, 1), numpy_dtype(dtype)) for dtype in self.made.kept]
        self.found: dict[bool | str, Any] = {}

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, list[Tensor]]:
        """Output, and with `keep` the states that backward starts from; none where there is but one segment."""
        if keep not in self.found:
            self.found[keep] = self._cut_up(*self.made.forward(self.layout, keep, False))
        kernel, block, cost = self.found[keep]
        y, bare = fresh_with_array(self.shape, self.dtype)
        kept = [fresh_with_array(self.segments, dtype) for dtype in self.made.kept] if keep and self.segments[0] else []
        ends = () if not keep else [k for _, k in kept] or self.nothing
        _spread(kernel, (_array(x).reshape(self.steps), *self.given, bare.reshape(self.steps), *ends), self.call, block, cost)
        return y, [k for k, _ in kept]

    def backward(self, grad: Tensor, x: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """The input's gradient."""
        if "backward" not in self.found:
            kernel, most, inputs, _ = self.made.backward(self.layout, (True,), Ends((True,), False, False))
            self.found["backward"] = (*self._cut_up(kernel, most), bool(inputs))
        kernel, block, cost, passes = self.found["backward"]
        if not passes:
            return torch.zeros(self.shape, dtype=self.dtype, device="cpu")
        to_x, bare = fresh_with_array(self.shape, self.dtype)
        begin = [k.numpy() for k in kept] or self.nothing
        arrays = (_array(x).reshape(self.steps), *self.given, *begin, _array(grad).reshape(self.steps), bare.reshape(self.steps))
        _spread(kernel, arrays, self.call, block, 2 * cost)
        return to_x

    def _cut_up(self, kernel: Callable[..., Any], most: int) -> tuple[Callable[..., Any], int, float]:
        """The kernel, neurons of an item, and seconds of one."""
        block = _block(self.call, most)
        return kernel, block, _cost(self.call, block, self.made)


def kept_shape(call: Call) -> tuple[int, int, int]:
    """Of a state kept for backward: none at the beginning, which is given."""
    return (call.T + SEGMENT - 1) // SEGMENT - 1, call.R, call.C


def _block(call: Call, most: int) -> int:
    """Neurons of an item: many where there are many, since memory is read best in long rows (16384 against 512: 1.4 times as
    fast from memory, the same from the cache); but so few that the parameters of a row's neurons stay in the first cache. Fixed by shape
    and kernel, as is the order of every sum."""
    if "column" in call.params:
        pieces = (call.C + _COLUMNS - 1) // _COLUMNS
        return min(most, max(1, (call.C + pieces - 1) // pieces))
    return most if call.R * call.C >= 16 * most else min(most, 2048)


def _cost(call: Call, block: int, made: Kernels) -> float:
    """Estimated seconds of an item, forward."""
    return max(1, call.T) * min(block, call.C) * made.seconds


def _spread(kernel: Callable[..., Any], arrays: Sequence[np.ndarray], call: Call, block: int, cost: float) -> None:
    items = call.items(block)
    arguments = (*arrays, call.T, call.C, block, np.zeros(1, np.int64), items, max(1, int(_ASKS / cost)))
    share(lambda: kernel(*arguments), items, cost=cost)


def _given(x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, call: Call) -> list[Any]:
    """The arrays that both kernels begin with."""
    arrays = [_array(v).reshape(call.T, call.R, call.C) for v in x]
    arrays += [_array(s[(0,) * s.dim()].view(1)) for s in state] if _alike(state) else [_array(s).reshape(call.R, call.C) for s in state]
    sizes = {"one": (1,), "row": (-1,), "column": (call.C,), "each": (call.R, call.C)}
    arrays += [_array(calls.param_values(p, kind, x[0].shape[1:])).reshape(sizes[kind]) for p, kind in zip(params, call.params, strict=True)]
    arrays.append(np.array(numbers, np.float64))
    if lengths is not None:
        arrays.append(_array(lengths))
    return arrays


def _layout(x: Tensor, state: Sequence[Tensor], lengths: Tensor | None, call: Call) -> Layout:
    return Layout(x.dtype == torch.bfloat16, call.params, lengths is not None, _alike(state), *_held(call.T, lengths))


def _held(steps: int, lengths: Tensor | None) -> tuple[int, int]:
    """Steps that a kernel may take at a time, and all where they are few."""
    copies = 1 if lengths is not None else 4 if steps % 4 == 0 else 2 if steps % 2 == 0 else 1
    return copies, steps if lengths is None and steps <= WHOLE else 0


def steps_like(steps: int, lengths: bool) -> int:
    """A small number of steps for which the same kernel runs as for these."""
    return 3 if lengths else steps if steps <= WHOLE else WHOLE + 1 + (steps - WHOLE - 1) % 4


def _alike(state: Sequence[Tensor]) -> bool:
    """Whether each state is one number, expanded to the shape of the neurons."""
    return bool(state) and all([s.dim() > 0 and s.numel() > 0 and not any(s.stride()) for s in state])


def _array(tensor: Tensor) -> np.ndarray:
    """Its values as a contiguous array; bfloat16 as its bits."""
    tensor = tensor.detach().contiguous()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def supports(x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], lengths: Tensor | None) -> bool:
    """Whether these tensors can be given to a CPU kernel: on the CPU, strided, of one shape, in one precision."""
    return x[0].device.type == "cpu" and calls.fits(x, state, params, lengths, DTYPES)
