"""From a step to its program: traced once for each structure of arguments, checked against the loop, remembered.

What a program was made from is part of its key: the step's code, what it captured, the global numbers and functions that it
names, and its choices by value. Where one of these cannot be compared by value (an object that may change), the step is traced
anew at every call, and only the machine code is shared.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuro.kernels import backends, operators
from neuro.kernels.expression import NeedsNumbers, Unsupported
from neuro.kernels.own_builtins import own_builtins
from neuro.kernels.program import Program, flat, trace
from neuro.kernels.reference import loop


class Found(NamedTuple):
    program: str | None  # None: the step has no kernel
    baked: bool = False  # whether its Python numbers are constants of the program
    single: bool = True  # whether the step gives one output rather than a tuple


class _CannotBeCompared(Exception):
    pass


_known: OrderedDict[Hashable, Found] = OrderedDict()
_said: set[str] = set()
_REMEMBERED = 512


def find(step: Callable[..., Any], x: Any, state: Any, params: Any, choices: dict[str, Any], dtype: torch.dtype) -> Found:
    """The program of `step` for arguments of this structure in the precision `dtype`."""
    try:
        how = tuple([(name, _by_value(value)) for name, value in choices.items()])
        key: Any = (_by_value(step), structure(x), structure(state), structure(params), how, dtype)
        found = _known.get(key)
    except (_CannotBeCompared, TypeError):  # not comparable, not hashable
        return _make(step, x, state, params, choices, dtype)
    if found is not None and found.baked:
        key = (key, tuple(numbers(params)))
        found = _known.get(key)
    if found is None:
        found = _make(step, x, state, params, choices, dtype)
        if found.baked:
            _keep(key, found)  # says that the numbers belong to the key
            key = (key, tuple(numbers(params)))
        _keep(key, found)
    return found


def _keep(key: Hashable, found: Found) -> None:
    _known[key] = found
    while len(_known) > _REMEMBERED:
        _known.popitem(last=False)


def _make(step: Callable[..., Any], x: Any, state: Any, params: Any, choices: dict[str, Any], dtype: torch.dtype) -> Found:
    try:
        try:
            program, single = trace(step, x, state, params, choices, dtype, bake=False)
            return Found(program.to_json(), False, single)
        except NeedsNumbers:
            program, single = trace(step, x, state, params, choices, dtype, bake=True)
            return Found(program.to_json(), True, single)
    except Unsupported as reason:
        say(step, f"it uses {reason}")
        return Found(None)


def say(step: Callable[..., Any], reason: str) -> None:
    """Once per reason: this step runs on the plain loop."""
    text = f"The step {_name(step)!r} runs on the plain torch loop, because {reason}. Its results are the same, only slower."
    if text not in _said:
        _said.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=4)


def structure(tree: Any) -> Hashable:
    """Where tensors and numbers stand in nested tuples."""
    if isinstance(tree, Tensor):
        return "tensor"
    if isinstance(tree, tuple):
        return (type(tree), tuple([structure(part) for part in tree]))
    if tree is None:
        return None
    if isinstance(tree, bool):
        return ("bool", tree)
    if isinstance(tree, (int, float)):
        return "number"
    raise _CannotBeCompared


def numbers(params: Any) -> list[float]:
    """The Python numbers among the parameters, in order."""
    return [float(leaf) for leaf in flat(params) if isinstance(leaf, (int, float)) and not isinstance(leaf, bool)]


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in flat(tree) if isinstance(leaf, Tensor)]


_FIXED = ("torch", "neuro", "math", "numpy", "operator", "functools", "builtins", "typing")  # modules that do not change under a step


def _by_value(value: Any, depth: int = 0, names: tuple[str, ...] = ()) -> Hashable:
    """A key that differs whenever the value could make a step compute something else.

    names: what the code that uses the value names, so of a module or class the attributes that matter.
    """
    kind = type(value)
    if kind.__module__.startswith("neuro.") and hasattr(value, "__dataclass_params__") and value.__dataclass_params__.frozen:
        return value  # a surrogate or a reset of ours, compared field by field
    if is_ours(value):
        return value
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype, types.BuiltinFunctionType)):
        return (kind, value)
    if depth > 5:
        raise _CannotBeCompared
    if isinstance(value, (type, types.ModuleType)):
        return (value, _attributes(value, depth, names))
    if isinstance(value, tuple):
        return (kind, tuple(_by_value(v, depth + 1, names) for v in value))
    if dataclasses.is_dataclass(value) and kind.__dataclass_params__.frozen:
        fields = tuple((name, _by_value(v, depth + 1)) for name, v in vars(value).items())
        return (kind, fields, tuple(_methods(kind, depth)))
    if isinstance(value, types.FunctionType):
        return _function_key(value, depth)
    if isinstance(value, functools.partial):
        return (_by_value(value.func, depth + 1), _by_value(value.args, depth + 1), _by_value(tuple(sorted(value.keywords.items())), depth + 1))
    raise _CannotBeCompared


def is_ours(value: Any) -> bool:
    """Whether this is a function of this library's code or torch's that holds nothing besides. `functools.wraps` lends a module's name to others, but not its globals."""
    return isinstance(value, types.FunctionType) and value.__closure__ is None and value.__globals__.get("__name__", "").startswith(("neuro.", "torch."))


def _attributes(value: Any, depth: int, names: tuple[str, ...]) -> Hashable:
    """Those attributes of a module or class that the code names."""
    home = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    if home.split(".")[0] in _FIXED:
        return None
    return tuple((name, _by_value(getattr(value, name), depth + 1, names)) for name in names if hasattr(value, name))


def _methods(kind: type, depth: int) -> Any:
    """What a user's own class does when it is called: a surrogate's derivative may name globals too."""
    for base in kind.__mro__:
        if base.__module__.split(".")[0] not in _FIXED:
            for name, method in vars(base).items():
                if isinstance(method, types.FunctionType) and (name == "__call__" or not name.startswith("__")):
                    yield (name, _function_key(method, depth + 1))


def _function_key(function: types.FunctionType, depth: int) -> Hashable:
    names = _names(function.__code__)
    cells = tuple(_by_value(c.cell_contents, depth + 1, names) for c in function.__closure__ or () if c.cell_contents is not function)
    space = function.__globals__
    named = tuple((name, _by_value(space[name], depth + 1, names)) for name in names if name in space and space[name] is not function)
    defaults = (function.__defaults__ or (), tuple(sorted((function.__kwdefaults__ or {}).items())))
    return (function.__code__, cells, named, _by_value(defaults, depth + 1))


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Globals and attributes that code names, inner functions included."""
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return tuple(dict.fromkeys((*code.co_names, *inner)))


def _name(step: Callable[..., Any]) -> str:
    return getattr(step, "__qualname__", None) or getattr(getattr(step, "func", step), "__qualname__", type(step).__qualname__)


def by_loop(step: Callable[..., Any], x: Any, state: Any, params: Any, lengths: Tensor | None, choices: dict[str, Any]) -> operators.ByLoop:
    """The plain loop as a function of the tensors in these structures, which it does not hold on to: a graph may live on after backward."""
    x, state, params = (_filled(tree, itertools.repeat(_NOTHING)) for tree in (x, state, params))

    def call(xs: Any, states: Any, given: Any) -> list[Tensor]:
        y, after = loop(step, _filled(x, iter(xs)), _filled(state, iter(states)), _filled(params, iter(given)), lengths, choices)
        return [*flat(y), *flat(after)]

    return call


_NOTHING = torch.empty(0)
_checked: dict[Hashable, bool] = {}


def agrees(step: Callable[..., Any], found: Found, x: Any, state: Any, params: Any, lengths: Tensor | None, choices: dict[str, Any], keep: bool, after: bool = True) -> bool:
    """Whether the kernel gives what the loop gives on a small random input; asked once for each program and kind of call.

    after: whether the states afterwards will be asked for.

    A step is read once, with symbols; whatever it does that this reading does not see shows here.
    """
    inputs = x if isinstance(x, tuple) else (x,)
    wants = tuple([keep and t.requires_grad for t in (*inputs, *tensors(params))])
    kinds = tuple([p.numel() == 1 for p in tensors(params)])
    states = tensors(state)
    carried = keep and any([s.requires_grad for s in states])
    steps = backends.of(inputs[0].device.type).steps_like(inputs[0].shape[0], lengths is not None)
    kind = _Kind(steps, bool(states) and all([s.dim() > 0 and not any(s.stride()) for s in states]), lengths is not None, keep, carried, after)
    key = (found.program, backends.of(inputs[0].device.type), inputs[0].dtype, kinds, wants, kind)
    if key not in _checked:
        try:
            with torch.utils._python_dispatch._disable_current_modes(), torch._C.DisableTorchFunction(), torch.enable_grad(), own_builtins(), _unseen():
                wrong = _difference(step, found, x, state, params, choices, wants, kind)
            reason = f"its kernel does not agree with it on a random input ({wrong})" if wrong else ""
        except Unsupported as refused:
            reason = f"its kernel cannot be made here: {refused}"
        if reason:
            say(step, reason)
        _checked[key] = not reason
    return _checked[key]


def _unseen() -> Any:
    """Tensors that the check keeps are not shown to hooks around it: a checkpoint would count them in its first forward and miss them in its second."""
    return torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)


class _Kind(NamedTuple):
    """What makes kernels differ, so that those are asked that will be used."""

    steps: int
    alike: bool  # the states begin with one number for all neurons
    lengths: bool
    keep: bool
    carried: bool  # gradients flow through the states before and after
    after: bool


def _difference(step: Callable[..., Any], found: Found, x: Any, state: Any, params: Any, choices: dict[str, Any], wants: tuple[bool, ...], kind: _Kind) -> str:
    """What differs between kernel and loop on a few steps, 2 samples and 5 neurons; empty if nothing does."""
    T, B, N = kind.steps, 2, 5
    dice = torch.Generator().manual_seed(0)
    inputs = x if isinstance(x, tuple) else (x,)
    device, wide = inputs[0].device, Program.from_json(found.program).dtype  # type: ignore[arg-type]

    def random(*shape: int, dtype: torch.dtype = wide) -> Tensor:
        return (torch.randn(shape, generator=dice, dtype=torch.float64, device="cpu") * 1.5 + 0.5).to(device, dtype)

    def few(p: Tensor) -> Tensor:
        """Values of a parameter itself, for as many neurons as the test has."""
        values = p.detach().reshape(-1)
        return values.clone().reshape(p.shape[:2]) if p.numel() == 1 else values[torch.arange(N, device=device) % p.numel()].clone()

    xs = [random(T, B, N, dtype=v.dtype) for v in inputs]
    states = [random(*(() if kind.alike else (B, N))) for _ in tensors(state)]
    ps = [few(p) for p in tensors(params)]
    lengths = torch.tensor([T, 1], device=device) if kind.lengths else None
    define = by_loop(step, x, state, params, lengths, choices)
    both = []
    for by_kernel in (False, True):
        leaves = [t.clone().requires_grad_(want) for t, want in zip((*xs, *ps), wants, strict=True)]
        leaves += [s.clone().requires_grad_(kind.carried) for s in states]
        begin = [s.expand(B, N) for s in leaves[len(leaves) - len(states) :]]
        now_x, now_p = leaves[: len(xs)], leaves[len(xs) : len(xs) + len(ps)]
        if by_kernel:
            given = [] if found.baked else numbers(params)
            outputs, ends = operators.run(found.program, now_x, begin, now_p, given, lengths, define, kind.after)  # type: ignore[arg-type]
            results = [*outputs, *ends]
        else:
            results = define(now_x, begin, now_p)
            results = results if kind.after else results[: len(results) - len(states)]
        grads: list[Any] = []
        if kind.keep:
            dice_for_grads = torch.Generator().manual_seed(1)
            seeds = [torch.randn(r.shape, generator=dice_for_grads, device="cpu").to(device, r.dtype) for r in results]
            if not by_kernel:  # what has a gradient is for the loop to say: all results of a kernel look as if they had one
                able = [k for k, r in enumerate(results) if r.requires_grad]
                of_outputs = [k for k in able if k < len(results) - len(states) * kind.after]
                asked = able if kind.carried or not of_outputs else of_outputs
            wanted = [t for t in leaves if t.requires_grad]
            # of one number: given gradients of tensors, torch loads its symbolic shapes, half a second of a process that needs them nowhere else
            grads = list(torch.autograd.grad(sum((results[k] * seeds[k]).sum() for k in asked), wanted, allow_unused=True)) if asked else []
        both.append(([r.detach() for r in results], grads))
    (y_loop, g_loop), (y_kernel, g_kernel) = both
    for what, a_list, b_list in (("outputs", y_loop, y_kernel), ("gradients", g_loop, g_kernel)):
        for a, b in zip(a_list, b_list, strict=True):
            a, b = (torch.zeros((), device=device) if v is None else v for v in (a, b))
            if not torch.allclose(a.double(), b.double(), rtol=_TOLERANCE[xs[0].dtype], atol=_TOLERANCE[xs[0].dtype], equal_nan=True):
                return f"{what} differ by up to {(a.double() - b.double()).abs().max():.3g}"
    return ""


_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def _filled(tree: Any, values: Any) -> Any:
    """The structure with its tensors replaced, in order."""
    if isinstance(tree, Tensor):
        return next(values)
    if isinstance(tree, tuple):
        parts = [_filled(part, values) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree
