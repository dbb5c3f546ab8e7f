"""Finding a program while torch.compile or torch.export reads the code.

The compiler runs this file's first function itself, on real objects, and takes its result as a constant. What it is given must be
constants too: structures, classes, numbers. A choice is therefore taken apart into its class and fields and put together again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from neuro.kernels import calls, programs
from neuro.kernels.programs import Found


def _constant(
    step: Callable[..., Any], layouts: tuple[Any, ...], values: tuple[float, ...], several: tuple[bool, ...], wants: tuple[bool, ...], lengths: bool,
    names: tuple[str, ...], parts: tuple[Any, ...], double: bool, dtype: torch.dtype, keep: bool, device: torch.device,
) -> tuple[str, bool, bool]:  # fmt: skip
    with torch.utils._python_dispatch._disable_current_modes():
        return _real(step, layouts, values, several, wants, lengths, names, parts, double, dtype, keep, device)


_constant._dynamo_marked_constant = True  # torch.compiler.assume_constant_result, which would load the compiler here


def _real(
    step: Callable[..., Any], layouts: tuple[Any, ...], values: tuple[float, ...], several: tuple[bool, ...], wants: tuple[bool, ...], lengths: bool,
    names: tuple[str, ...], parts: tuple[Any, ...], double: bool, dtype: torch.dtype, keep: bool, device: torch.device,
) -> tuple[str, bool, bool]:  # fmt: skip
    x, state, params = (_stand_ins(layout, iter(values) if values else itertools.repeat(0.5)) for layout in layouts)
    wanted = iter(wants)
    for t in programs.tensors(x):
        t.data = t.data.to(device, dtype)
        t.requires_grad_(next(wanted))
    for t, more in zip(programs.tensors(params), several, strict=True):
        t.data = torch.full((5 if more else 1,), 0.5, dtype=torch.float64 if double else torch.float32, device=device)
        t.requires_grad_(next(wanted))
    choices = {name: _together(part) for name, part in zip(names, parts, strict=True)}
    found = programs.find(step, x, state, params, choices, torch.float64 if double else torch.float32)
    if found.program is None or not programs.agrees(step, found, x, state, params, torch.tensor([1]) if lengths else None, choices, keep):
        return "", False, True
    return found.program, found.baked, found.single


def found(step: Callable[..., Any], x: Any, state: Any, params: Any, lengths: bool, choices: dict[str, Any], keep: bool) -> Found | None:
    """As `programs.find` and `programs.agrees`, or None where a choice is not made of constants."""
    if not all(_is_constant(value) for value in choices.values()):
        return None
    inputs, given = programs.tensors(x), programs.tensors(params)
    layouts = (programs.structure(x), programs.structure(state), programs.structure(params))
    parts = tuple([_apart(value) for value in choices.values()])
    wants = tuple([t.requires_grad for t in (*inputs, *given)])
    several = tuple([p.numel() > 1 for p in given])
    double = calls.precision(inputs[0]) == torch.float64
    rest = (several, wants, lengths, tuple(choices), parts, double, inputs[0].dtype, keep, inputs[0].device)
    program, baked, single = _constant(step, layouts, (), *rest)
    if baked:  # only then do the values of the Python numbers matter, which the compiler may hold as symbols
        program, baked, single = _constant(step, layouts, tuple([_fixed(v) for v in programs.numbers(params)]), *rest)
    return Found(program or None, baked, single)


def _is_constant(value: Any) -> bool:
    return hasattr(type(value), "__dataclass_fields__") or callable(value) or isinstance(value, (bool, int, float, str)) or value is None


def _apart(value: Any) -> Any:
    if not hasattr(type(value), "__dataclass_fields__"):
        return (None, _fixed(value))
    held = [name for name in type(value).__dataclass_fields__ if name in vars(value)]
    return (type(value), tuple([(name, _fixed(getattr(value, name))) for name in held]))


def _fixed(value: Any) -> Any:
    """A float that the compiler holds as a symbol, as the number that it is now."""
    return value.__float__() if isinstance(value, float) else value


def _together(part: Any) -> Any:
    kind, fields = part
    if kind is None:
        return fields
    made = object.__new__(kind)
    for name, value in fields:
        object.__setattr__(made, name, value)
    return made


def _stand_ins(layout: Any, values: Any) -> Any:
    """A tree of this structure, with tensors of one element and the given numbers."""
    if layout == "tensor":
        return torch.zeros(1)
    if layout == "number":
        return next(values)
    if layout is None:
        return None
    kind, parts = layout
    if kind == "bool":
        return parts
    made = [_stand_ins(part, values) for part in parts]
    return kind(*made) if hasattr(kind, "_fields") else tuple(made)
