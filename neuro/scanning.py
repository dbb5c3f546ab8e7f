"""`scan`: one pure step, repeated along axis 0, by a kernel made from the step or by the plain loop that defines it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from neuro.errors import ParameterError, ShapeError, explain
from neuro.kernels import backends, calls, compiling, operators, programs
from neuro.kernels.reference import loop

State = TypeVar("State")
_here = threading.local()


def scan(
    step: Callable[..., tuple[Any, State]],
    x: Any,
    state: State,
    params: Any,
    *,
    lengths: Tensor | None = None,
    **choices: Any,
) -> tuple[Any, State]:
    """Run `y[t], state = step(x[t], state, params, **choices)` for t = 0 .. T-1.

    On the CPU, and on GPUs that Triton knows ("cuda", "xpu"), a kernel is generated from the step, with its gradients, at the
    first call; its outputs are those of the plain loop up to the last bits of exponentials and the like, and its gradients up to
    the order of sums. A step that no kernel covers takes the plain loop, and is named once in a warning. Tensors on other devices
    take the plain loop.

    Args:
        step: pure and elementwise over neurons, in plain torch. Everything that may need a gradient is in `params`;
            `choices` are objects without tensors, such as a surrogate and a reset rule.
        x: input [T, B, ...], T >= 1, or a tuple of inputs of one shape. Of 16 bits, it enters the step as float32.
        state: NamedTuple (or any tuple) of tensors with batch on axis 0.
        params: NamedTuple of floats and tensors that broadcast against `x[t]`.
        lengths: steps that count for each sample [B]. After its last step a sample holds still: its state is kept and
            its output is zero, so a padded sample equals the same sample alone.

    Returns:
        outputs [T, B, ...] (a tuple of them where the step gives one) and the state after the last step.

    Raises:
        ParameterError: `step` captured a tensor or a module by closure, whose gradient a compiled kernel would lose.
        ShapeError: `x` has no time steps.

    >>> import torch
    >>> total = lambda x, s, p: (s[0] + x, (s[0] + x,))
    >>> y, _ = scan(total, torch.ones(3, 1, 2), (torch.zeros(1, 2),), None)
    >>> y[:, 0, 0].tolist()
    [1.0, 2.0, 3.0]
    """
    return scanned(step, x, state, params, lengths, choices)


def scanned(step: Callable[..., tuple[Any, State]], x: Any, state: State, params: Any, lengths: Tensor | None, choices: dict[str, Any], *, after: bool = True) -> tuple[Any, State | None]:
    """`scan`, its choices as a dict. after: whether the state after the last step is wanted; if not, no kernel writes it, and it is None."""
    _refuse_captured_tensors(step)
    first = x[0] if isinstance(x, tuple) else x
    if first.dim() == 0 or first.shape[0] == 0:
        raise ShapeError(explain("scan: there is no time step to run.", f"x {list(first.shape)}", cure="Time is axis 0: [T, B, ...], T >= 1."))
    found = _by_kernel(step, x, state, params, lengths, choices, after)
    y, end = loop(step, x, state, params, lengths, choices) if found is None else found
    return y, end if after else None


@contextmanager
def plain_loop() -> Iterator[None]:
    """Every scan of this thread runs the plain torch loop: the definition, to compare with and to step through in a debugger.

    >>> import torch, neuro
    >>> x = torch.randn(4, 2, 3)
    >>> with plain_loop():
    ...     slow = neuro.neurons.LIF()(x)
    >>> torch.equal(slow, neuro.neurons.LIF()(x))
    True
    """
    before = getattr(_here, "plain", False)
    _here.plain = True
    try:
        yield
    finally:
        _here.plain = before


def from_zero(step: Callable[..., Any], state: type, x: Tensor, params: Any, choices: dict[str, Any]) -> Tensor:
    """Outputs of `scan` from a state of zeros; what has to be found out for it is remembered by shape, numbers and choices.

    Only for steps of this library, whose code does not change. state: its NamedTuple.
    """
    key = None if torch.compiler.is_compiling() else _key(step, state, x, params, choices)
    if key is None:
        return scanned(step, x, zeros(state, x), params, None, choices, after=False)[0]
    found = _ready.get(key)
    if found is None:  # made before the first call: a checkpoint's second forward must keep what its first kept
        if len(_ready) >= _REMEMBERED:
            _ready.clear()
        found = _ready[key] = _made_ready(step, state, x, params, choices), choices
    ready, _ = found
    if ready is None:
        return scanned(step, x, zeros(state, x), params, None, choices, after=False)[0]
    return operators.run_from_zero(ready, x, lambda x: loop(step, x, zeros(state, x), params, None, choices)[0])


_ready: dict[Any, tuple[Any, dict[str, Any]]] = {}  # with the choices: what they are told apart by, their identity, lasts as long as they
_REMEMBERED = 512
_NUMBERS = frozenset({float})


def _key(step: Callable[..., Any], state: type, x: Tensor, params: Any, choices: dict[str, Any]) -> Any:
    """What decides how a scan from zero runs; None where that cannot be told by comparing. Short, since every call asks."""
    device = x.device.type
    # Asked of the backend each time: tests run those of GPUs on the CPU.
    if not hasattr(backends.of(device), "FromZero") or not isinstance(params, tuple) or not _NUMBERS.issuperset(map(type, params)) or getattr(_here, "plain", False) or _watched((x,)):
        return None
    return step, state, type(params), params, *choices, *map(id, choices.values()), x.shape, x.dtype, device, x.layout, x.requires_grad and torch.is_grad_enabled()


def _made_ready(step: Callable[..., Any], state: type, x: Tensor, params: Any, choices: dict[str, Any]) -> Any:
    """What runs these scans, or None where no kernel does, or where code or choices are a user's, which may change."""
    if not programs.is_ours(step) or not all([type(c).__module__.startswith("neuro.") for c in choices.values()]):
        return None
    start, backend = zeros(state, x), backends.of(x.device.type)
    keep = x.requires_grad and torch.is_grad_enabled()
    if not _worth_it(x) or not backend.supports((x,), start, [], None):
        return None
    found = programs.find(step, x, start, params, choices, calls.precision(x))
    if found.program is None or found.baked or not found.single or not programs.agrees(step, found, x, start, params, None, choices, keep, False):
        return None
    return backend.FromZero(found.program, programs.numbers(params), x.shape, x.dtype)


def zeros(state: type, x: Tensor) -> Any:
    """The state [B, ...] before an input [T, B, ...]: one zero stands for all."""
    zero = x.new_zeros((), dtype=calls.precision(x)).expand(x.shape[1:])
    return state(*[zero for _ in state._fields])


def _by_kernel(step: Callable[..., Any], x: Any, state: Any, params: Any, lengths: Tensor | None, choices: dict[str, Any], after: bool) -> tuple[Any, Any] | None:
    """Outputs and, with `after`, state by a generated kernel, or None where the loop is to be taken."""
    inputs = x if isinstance(x, tuple) else (x,)
    if getattr(_here, "plain", False) or not isinstance(state, tuple):
        return None
    backend = backends.of(inputs[0].device.type)
    if backend is None:
        return None
    if inputs[0].dtype == torch.float16 and torch.float16 not in backend.DTYPES:  # no such type; float32 holds each of its values
        wide = type(x)(*[v.float() for v in x]) if hasattr(x, "_fields") else tuple([v.float() for v in x]) if isinstance(x, tuple) else x.float()
        found = _by_kernel(step, wide, state, params, lengths, choices, after)
        return None if found is None else (_halved(found[0]), found[1])
    states, given = programs.tensors(state), programs.tensors(params)
    if not backend.supports(inputs, states, given, lengths):
        return None
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (*inputs, *states, *given))
    if torch.compiler.is_compiling():
        found = compiling.found(step, x, state, params, lengths is not None, choices, keep)
    elif not _worth_it(inputs[0]) or _watched((*inputs, *states, *given)):
        return None
    else:
        found = programs.find(step, x, state, params, choices, calls.precision(inputs[0]))
        if found.program is not None and not programs.agrees(step, found, x, state, params, lengths, choices, keep, after):
            return None
    if found is None or found.program is None:
        return None
    numbers = [] if found.baked else programs.numbers(params)
    define = programs.by_loop(step, x, state, params, lengths, choices)
    outputs, ends = operators.run(found.program, inputs, states, given, numbers, lengths, define, after)
    y = outputs[0] if found.single else tuple(outputs)
    return y, None if not after else type(state)(*ends) if hasattr(state, "_fields") else tuple(ends)


def _halved(y: Any) -> Any:
    return tuple([v.half() for v in y]) if isinstance(y, tuple) else y.half()


def takes_kernels(tensors: tuple[Tensor, ...]) -> bool:
    """Whether this thread may run kernels on these tensors: no `plain_loop`, and nothing that looks at the loop's operators."""
    return not getattr(_here, "plain", False) and not _watched(tensors)


def _worth_it(x: Tensor) -> bool:
    """One step of few neurons is done sooner than a kernel is called."""
    return x.shape[0] > 1 or x.numel() > 4096


def _watched(tensors: tuple[Tensor, ...]) -> bool:
    """Whether something looks at the operators of the loop, which a kernel would hide: torch.func, a dispatch mode, forward-mode
    derivatives, torch.jit, tensors of other classes."""
    for t in tensors:
        if type(t) is not Tensor and type(t) is not nn.Parameter:
            return True
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


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
