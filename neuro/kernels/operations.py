"""What each node of a step's graph means: how it is written in a kernel, and its derivative.

`source` is the expression of a scalar, in the words that both kernel writers share: `{0}` `{1}` `{2}` are the operands, `ZERO`
and `ONE` the constants in the kernel's precision, and functions are written `exp(...)`, `where(c, a, b)`; each writer has
its own spelling of those. `gradient(g, out, *operands)` gives the derivative with respect to each operand, None for none,
written with symbols, so it may use every operation again. Ties and edges follow torch: a clamp passes the gradient at its
bounds, `abs` and `sign` give 0 at 0, `maximum` splits it between equal operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from neuro.kernels.expression import Symbol

Gradient = Callable[..., tuple[Any, ...]]


class Operation(NamedTuple):
    source: str
    gradient: Gradient | None = None  # None: no gradient passes
    plain: str | None = None  # the same for Python numbers, where a step may do arithmetic with its parameters
    costly: bool = False  # a call of the mathematical library rather than an instruction


def _where(g: Symbol, condition: Symbol) -> Symbol:
    return g.graph.where(condition, g, 0.0)


def _largest(g: Symbol, a: Symbol, b: Symbol) -> tuple[Symbol, Symbol]:
    """To a where a > b, to b where b > a, half to each where they are equal. With a and b swapped: the same for the smaller one."""
    half = g.graph.where(a == b, g * 0.5, 0.0)
    return g.graph.where(a > b, g, half), g.graph.where(b > a, g, half)


def _power(g: Symbol, out: Symbol, a: Symbol, b: Symbol) -> tuple[Symbol, Symbol | None]:
    graph = g.graph
    by_base = g * (graph.arithmetic("pow", a, b - 1.0) * b)
    if b.kind == "plain":
        return by_base, None
    base = a if a.kind != "plain" else graph.symbol("real", (a.index,))
    return by_base, graph.where(base == 0.0, 0.0, g * (out * graph.arithmetic("log", base)))


def _through(name: str) -> Callable[[Symbol], Symbol]:
    return lambda a: a.graph.arithmetic(name, a)


_sin, _cos, _sign, _reciprocal = (_through(n) for n in ("sin", "cos", "sign", "reciprocal"))

OPERATIONS: dict[str, Operation] = {
    "add": Operation("({0} + {1})", lambda g, out, a, b: (g, g), "({0} + {1})"),
    "sub": Operation("({0} - {1})", lambda g, out, a, b: (g, -g), "({0} - {1})"),
    "mul": Operation("({0} * {1})", lambda g, out, a, b: (g * b, g * a), "({0} * {1})"),
    "div": Operation("({0} / {1})", lambda g, out, a, b: (g / b, -g * (out / b)), "({0} / {1})"),
    "neg": Operation("(-{0})", lambda g, out, a: (-g,), "(-{0})"),
    "pow": Operation("pow({0}, {1})", _power, "({0} ** {1})", costly=True),
    "reciprocal": Operation("(ONE / {0})", lambda g, out, a: (-g * out * out,)),
    "square": Operation("({0} * {0})", lambda g, out, a: (g * (a * 2.0),)),
    "sqrt": Operation("sqrt({0})", lambda g, out, a: (g / (out * 2.0),)),
    "rsqrt": Operation("(ONE / sqrt({0}))", lambda g, out, a: (g * -0.5 * (out * out * out),)),
    "exp": Operation("exp({0})", lambda g, out, a: (g * out,), costly=True),
    "expm1": Operation("expm1({0})", lambda g, out, a: (g * (out + 1.0),), costly=True),
    "log": Operation("log({0})", lambda g, out, a: (g / a,), costly=True),
    "log1p": Operation("log1p({0})", lambda g, out, a: (g / (a + 1.0),), costly=True),
    "tanh": Operation("tanh({0})", lambda g, out, a: (g * (1.0 - out * out),), costly=True),
    "sigmoid": Operation("(ONE / (ONE + exp(-{0})))", lambda g, out, a: (g * ((1.0 - out) * out),), costly=True),
    "sin": Operation("sin({0})", lambda g, out, a: (g * _cos(a),), costly=True),
    "cos": Operation("cos({0})", lambda g, out, a: (-g * _sin(a),), costly=True),
    "atan": Operation("atan({0})", lambda g, out, a: (g * _reciprocal(a * a + 1.0),), costly=True),
    "abs": Operation("fabs({0})", lambda g, out, a: (g * _sign(a),), "fabs({0})"),
    "sign": Operation("where({0} > ZERO, ONE, where({0} < ZERO, -ONE, ZERO))"),
    "floor": Operation("floor({0})"),
    "ceil": Operation("ceil({0})"),
    "round": Operation("rint({0})"),
    "trunc": Operation("trunc({0})"),
    "maximum": Operation("where(({0} > {1}) | ({0} != {0}), {0}, {1})", lambda g, out, a, b: _largest(g, a, b)),
    "minimum": Operation("where(({0} < {1}) | ({0} != {0}), {0}, {1})", lambda g, out, a, b: _largest(g, b, a)),
    "at_least": Operation("where({0} < {1}, {1}, {0})", lambda g, out, a, b: (_where(g, a >= b), _where(g, a < b))),
    "at_most": Operation("where({0} > {1}, {1}, {0})", lambda g, out, a, b: (_where(g, a <= b), _where(g, a > b))),
    "gt": Operation("({0} > {1})"),
    "ge": Operation("({0} >= {1})"),
    "lt": Operation("({0} < {1})"),
    "le": Operation("({0} <= {1})"),
    "eq": Operation("({0} == {1})"),
    "ne": Operation("({0} != {1})"),
    "and": Operation("({0} & {1})"),
    "or": Operation("({0} | {1})"),
    "xor": Operation("({0} ^ {1})"),
    "not": Operation("(not {0})"),
    "where": Operation("where({0}, {1}, {2})", lambda g, out, c, a, b: (None, _where(g, c), g.graph.where(c, 0.0, g))),
    "cast": Operation("where({0}, ONE, ZERO)"),
    "real": Operation("{0}"),
    "detach": Operation("{0}"),
    "fire": Operation("where({0} >= ZERO, ONE, ZERO)", lambda g, out, u, slope: (g * slope, None)),
    "fire_strict": Operation("where({0} > ZERO, ONE, ZERO)", lambda g, out, u, slope: (g * slope, None)),
}


def operands(op: str, args: tuple[int, ...]) -> tuple[int, ...]:
    """What a node reads when it is evaluated: a spike carries its slope along for the derivative only."""
    return args[:1] if op.startswith("fire") else args
