"""Running a program on a GPU: kernels of Triton found, memory made ready, and launched.

`forward` and `backward` take what those of `cpu` take. What `forward` keeps for backward differs: here it is what the minimum
cut asks for, at every step.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro.files import WriteError, replacing
from neuro.kernels import cache, calls
from neuro.kernels.calls import Call
from neuro.kernels.derivative import derive
from neuro.kernels.expression import Node, Unsupported
from neuro.kernels.gpu_source import Layout, backward_source, forward_source, is_small, kept_nodes, numbers_met, reads
from neuro.kernels.operations import OPERATIONS
from neuro.kernels.program import Program
from neuro.kernels.writing import Ends
from neuro.scratch import Scratch

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Products and sums are kept apart (`enable_fp_fusion`): one rounding less could move a membrane across its threshold.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}
_lock = threading.RLock()


class Kernels:
    """The kernels of one program, made as they are called for."""

    def __init__(self, program: Program):
        self.program = program
        self.kept = [torch.int8 if is_small(program.nodes[i]) else program.dtype for i in kept_nodes(program)]
        self.reads = reads(program)
        self._made: dict[Any, Any] = {}

    def forward(self, layout: Layout, keep: bool) -> tuple[_Loaded, tuple[Node, ...]]:
        """The kernel, and the nodes whose numbers it is given."""
        key = (layout, keep)
        if key not in self._made:
            self._made[key] = _function(forward_source(self.program, layout, keep), "forward"), self.program.nodes
        return self._made[key]

    def backward(self, layout: Layout, wants: tuple[bool, ...], ends: Ends) -> tuple[_Loaded, tuple[Node, ...], frozenset[int], tuple[int, ...]]:
        """The kernel, its nodes, and the inputs and parameters whose gradient is not zero everywhere."""
        key = (layout, wants, ends)
        if key not in self._made:
            found = derive(self.program, wants[: self.program.inputs], wants[self.program.inputs :], ends.y)
            kernel = _function(backward_source(self.program, found, layout, ends), "backward")
            inputs = frozenset(k for k, i in enumerate(found.x) if i is not None)
            self._made[key] = kernel, found.nodes, inputs, tuple(k for k, i in enumerate(found.params) if i is not None)
        return self._made[key]


@functools.lru_cache(maxsize=1024)
def kernels(program: str) -> Kernels:
    return Kernels(Program.from_json(program))


def forward(
    program: str, x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, keep: bool,
    *, after: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Outputs [T, B, ...], with `after` states afterwards [B, ...], and with `keep` what backward reads, each [T, R, C].

    Args:
        program: a `Program` as JSON.
        x: inputs [T, B, ...]; float32, float64, bfloat16 or float16, equal in shape and type.
        state, params: in the program's precision. A parameter broadcasts against [B, ...].
        numbers: the step's Python numbers.
        lengths: int64 [B] on the device, or None.

    Raises:
        Unsupported: Triton is not installed, or cannot make the kernel.
    """
    made, first = kernels(program), x[0]
    traced = made.program
    call = calls.of(first.shape, params, lengths)
    kernel, nodes = made.forward(Layout(call.params, lengths is not None), keep)
    outputs = [_fresh(first, first.shape, first.dtype) for _ in traced.outputs]
    ends = [_fresh(first, s.shape, traced.dtype) for s in state]
    kept = [_fresh(first, kept_shape(call), dtype) for dtype in made.kept] if keep else []
    arrays = [*[v.detach().contiguous() for v in x], *_given(state, params, first.shape, lengths, call), *outputs, *ends, *kept]
    _launch(kernel, arrays, _bits(nodes, tuple([float(n) for n in numbers]), traced.dtype), call)
    return [*outputs, *ends[: len(ends) * after], *kept]


def backward(
    program: str, grad_y: Sequence[Tensor | None], grad_state: Sequence[Tensor | None], x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor],
    kept: Sequence[Tensor], numbers: Sequence[float], lengths: Tensor | None, wants: Sequence[bool], wants_state: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Gradients of the inputs and parameters that `wants` names (inputs first); between them, with `wants_state`, those of the states.

    Of an input that `kernels(program).reads` does not name, only shape, type and device matter.
    """
    made, first, wants = kernels(program), x[0], tuple(wants)
    dtype = made.program.dtype
    call = calls.of(first.shape, params, lengths)
    ends = Ends(tuple([g is not None for g in grad_y]), any([g is not None for g in grad_state]), wants_state)
    kernel, nodes, inputs, summed = made.backward(Layout(call.params, lengths is not None), wants, ends)
    grad_x = {k: _fresh(v, v.shape, v.dtype) if k in inputs else torch.zeros_like(v, memory_format=torch.contiguous_format) for k, v in enumerate(x) if wants[k]}
    begins = [_fresh(first, s.shape, dtype) for s in state] if wants_state else []
    sums = {k: _fresh(first, (call.items(_block(call)),) if call.params[k] == "one" else (call.R, call.C), dtype) for k in summed}
    arrays = [v.detach().contiguous() if read else v for v, read in zip(x, made.reads, strict=True)]
    arrays += [*_given(state, params, first.shape, lengths, call), *kept, *[g.contiguous() for g in grad_y if g is not None]]
    if ends.after:
        arrays += [torch.zeros(s.shape, dtype=dtype, device=s.device) if g is None else g.contiguous() for g, s in zip(grad_state, state, strict=True)]
    arrays += [*[grad_x[k] for k in grad_x if k in inputs], *begins, *sums.values()]
    _launch(kernel, arrays, _bits(nodes, tuple([float(n) for n in numbers]), dtype), call)
    wanted = [k for k in range(len(params)) if wants[len(x) + k]]
    return [*grad_x.values(), *begins, *[calls.param_gradient(params[k], sums.get(k), call.params[k], first.shape[1:]) for k in wanted]]


def supports(x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], lengths: Tensor | None) -> bool:
    """Whether these tensors can be given to a GPU kernel: on one device, strided, of one shape, in one precision; fewer than
    2^31 neurons in all samples together, which the kernels count in 32 bits."""
    return calls.fits(x, state, params, lengths, DTYPES) and x[0][0].numel() < 2**31


def steps_like(steps: int, lengths: bool) -> int:
    """A small number of steps for which the same kernel runs as for these."""
    return 3


def kept_shape(call: Call) -> tuple[int, int, int]:
    """Of a tensor kept for backward."""
    return call.T, call.R, call.C


def _fresh(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=like.device)


def _block(call: Call) -> int:
    """Neurons of an instance: more each where there are enough of them to fill a GPU. Fixed by shape, as is the order of every sum."""
    return 512 if call.R * call.C >= 2**18 else 128


def _launch(kernel: _Loaded, arrays: list[Tensor], numbers: tuple[int, ...], call: Call) -> None:
    block, device = _block(call), arrays[0].device
    on: AbstractContextManager[Any] = nullcontext() if device.type == "cpu" else torch.get_device_module(device).device(device)
    kind = (device, *[a.dtype for a in arrays])
    try:
        with on:
            launch = kernel.function[(call.items(block),)]
            launch(*arrays, *numbers, call.T, call.C, call.R * call.C, BLOCK=block, **OPTIONS)
    except Exception as wrong:  # compilers and drivers fail in many ways
        if kind in kernel.ran:
            raise
        raise Unsupported(f"Triton cannot run it on {device} ({type(wrong).__name__}: {wrong})") from wrong
    kernel.ran.add(kind)


def _given(state: Sequence[Tensor], params: Sequence[Tensor], shape: torch.Size, lengths: Tensor | None, call: Call) -> list[Tensor]:
    """The tensors that both kernels take after the inputs [T, B, ...]."""
    found = [s.detach().contiguous() for s in state]
    found += [calls.param_values(p, kind, shape[1:]) for p, kind in zip(params, call.params, strict=True)]
    return found if lengths is None else [*found, lengths.contiguous()]


@functools.lru_cache(maxsize=1024)
def _bits(nodes: tuple[Node, ...], numbers: tuple[float, ...], dtype: torch.dtype) -> tuple[int, ...]:
    """Values of the plain nodes that meet an element: computed in double, rounded once."""
    real, whole = (np.float64, np.int64) if dtype == torch.float64 else (np.float32, np.int32)
    with np.errstate(all="ignore"):
        return tuple([int(real(_value(nodes, index, numbers)).view(whole)) for index in numbers_met(nodes)])


def _value(nodes: tuple[Node, ...], index: int, numbers: tuple[float, ...]) -> np.float64:
    node = nodes[index]
    if node.op == "constant":
        return np.float64(node.value)
    if node.op == "number":
        return np.float64(numbers[int(node.value)])  # type: ignore[arg-type]
    given = {f"v{k}": _value(nodes, a, numbers) for k, a in enumerate(node.args)}
    return eval(OPERATIONS[node.op].plain.format(*given), {"fabs": abs, **given})  # type: ignore[union-attr]


class _Loaded:
    """A kernel, and the devices and types that it ran with."""

    def __init__(self, function: Any):
        self.function = function
        self.ran: set[tuple[Any, ...]] = set()


@functools.lru_cache(maxsize=4096)
def _function(source: str, name: str) -> _Loaded:
    """The kernel `name` of `source`. Triton reads the text of a function from its file, so it is written to one."""
    if importlib.util.find_spec("triton") is None:
        raise Unsupported("Triton is not installed (pip install 'neuro-snn[gpu]')")
    with _lock:
        file = f"triton_{hashlib.sha256(source.encode()).hexdigest()}.py"
        path = _written(cache.folder() / file, source)
        spec = importlib.util.spec_from_file_location(f"neuro_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        return _Loaded(getattr(module, name))


@functools.cache
def _own_folder() -> Scratch:
    """Of this process, where the cache cannot be written."""
    return Scratch("neuro-kernels")


def _written(path: Path, source: str) -> Path:
    """A file that holds exactly this text."""
    if path.is_file() and path.read_bytes() == source.encode():
        return path
    try:
        with replacing(path) as file:
            path.parent.chmod(0o700)
            file.write(source.encode())
    except WriteError as refused:
        warnings.warn(f"Compiled kernels are not kept, so every process compiles them anew. {refused}", RuntimeWarning, stacklevel=2)
        path = _own_folder().path / path.name
        path.write_bytes(source.encode())
    return path
