"""What one step computes, as a graph: a step is called once with symbols in place of tensors.

A symbol stands for one element, because a step is elementwise. Torch's functions and operators on symbols append nodes; a
surrogate becomes one node that keeps its own derivative. Three kinds are told apart, since they round differently:
`real` (an element of a tensor, in the tensor's precision), `bool` (a comparison), and `plain` (a Python number that is a
parameter: computed in double, rounded where it meets a tensor, as torch does).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Unsupported(Exception):
    """The step does something that no kernel is made for; the message names it."""


class NeedsNumbers(Unsupported):
    """The step reads the value of a Python number in its parameters: it compiles once the number is a constant."""


class Node(NamedTuple):
    op: str
    args: tuple[int, ...]
    value: float | int | None  # of a constant its value, of a leaf its position
    kind: str  # real, bool or plain


class Graph:
    """Nodes in the order of evaluation, equal ones shared."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.nodes: list[Node] = []
        self._index: dict[Node, int] = {}

    def add(self, op: str, args: tuple[int, ...] = (), value: float | int | None = None, kind: str = "real") -> int:
        node = Node(op, args, value, kind)
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
        return self._index[node]

    def symbol(self, op: str, args: tuple[int, ...] = (), value: float | int | None = None, kind: str = "real") -> Symbol:
        return Symbol(self, self.add(op, args, value, kind))

    def constant(self, value: float) -> Symbol:
        return self.symbol("constant", (), float(value), "plain")

    def lift(self, value: Any) -> Symbol:
        """A symbol for a symbol of this graph, a number, or a tensor of one element."""
        if isinstance(value, Symbol):
            return value
        if isinstance(value, (bool, int, float)):
            return self.constant(value)
        if isinstance(value, Tensor) and value.dim() == 0 and not value.requires_grad:
            return self.constant(value.item())
        raise Unsupported(f"a {type(value).__name__} among numbers")

    def reals(self, *values: Any) -> list[Symbol]:
        """Operands of arithmetic: a comparison counts as 0 or 1 beside a real."""
        found = [self.lift(v) for v in values]
        kinds = {s.kind for s in found}
        if "bool" in kinds:
            if kinds == {"bool"}:
                raise Unsupported("arithmetic on comparisons alone; say .float() first")
            found = [s.as_real() for s in found]
        return found

    def arithmetic(self, op: str, *values: Any) -> Symbol:
        found = self.reals(*values)
        kind = "plain" if all(s.kind == "plain" for s in found) else "real"
        return self.symbol(op, tuple(s.index for s in found), kind=kind)

    def compare(self, op: str, a: Any, b: Any) -> Symbol:
        found = self.reals(a, b)
        if all(s.kind == "plain" for s in found):
            raise NeedsNumbers(f"the comparison {op} of two numbers")
        return self.symbol(op, tuple(s.index for s in found), kind="bool")

    def logic(self, op: str, *values: Any) -> Symbol:
        found = [self.lift(v) for v in values]
        if any(s.kind != "bool" for s in found):
            raise Unsupported(f"{op} of numbers")
        return self.symbol(op, tuple(s.index for s in found), kind="bool")

    def where(self, condition: Any, a: Any, b: Any) -> Symbol:
        chosen = self.lift(condition)
        if chosen.kind != "bool":
            raise Unsupported("where on a condition that is no comparison")
        a, b = self.lift(a), self.lift(b)
        if a.kind == b.kind == "bool":
            raise Unsupported("where between comparisons")
        return self.symbol("where", (chosen.index, a.as_real().index, b.as_real().index))


class Symbol:
    """One element of a tensor while a step is traced."""

    __slots__ = ("graph", "index")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, graph: Graph, index: int):
        self.graph, self.index = graph, index

    @property
    def kind(self) -> str:
        return self.graph.nodes[self.index].kind

    @property
    def dtype(self) -> torch.dtype:
        return torch.bool if self.kind == "bool" else self.graph.dtype

    def as_real(self) -> Symbol:
        return self.graph.symbol("cast", (self.index,)) if self.kind == "bool" else self

    def fired_by(self, surrogate: Any) -> Symbol:
        """1 where the surrogate's comparison holds, with `surrogate.derivative` for its derivative."""
        slope = self.graph.lift(surrogate.derivative(self)).as_real()
        return self.graph.symbol("fire_strict" if surrogate.strict else "fire", (self.index, slope.index))

    def __bool__(self) -> bool:
        raise (NeedsNumbers if self.kind == "plain" else Unsupported)("a branch of Python on a value")

    def __float__(self) -> float:
        raise (NeedsNumbers if self.kind == "plain" else Unsupported)("float() of a value")

    __int__ = __index__ = __float__  # type: ignore[assignment]

    def __iter__(self) -> Any:
        raise Unsupported("iterating over a tensor")

    def __getitem__(self, key: Any) -> Any:
        raise Unsupported("indexing a tensor")

    def __getattr__(self, name: str) -> Any:
        known = METHODS.get(name)
        if known is None:
            raise Unsupported(f"Tensor.{name}")
        return lambda *args, **kwargs: _called(self.graph, f"Tensor.{name}", known, (self, *args), kwargs)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        graph = next(a.graph for a in _flat((args, kwargs or {})) if isinstance(a, Symbol))
        name = getattr(func, "__name__", str(func))
        known = FUNCTIONS.get(func) or METHODS.get(name.removeprefix("__").removesuffix("__"))
        if known is None:
            raise Unsupported(f"torch.{name}")
        return _called(graph, f"torch.{name}", known, args, kwargs or {})

    def __add__(self, other: Any) -> Symbol:
        return self.graph.arithmetic("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.graph.arithmetic("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.graph.arithmetic("sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.graph.arithmetic("sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.graph.arithmetic("mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.graph.arithmetic("mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.graph.arithmetic("div", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        if self.kind == "plain":
            return self.graph.arithmetic("div", other, self)
        return self.graph.arithmetic("reciprocal", self) * other  # what torch does with a number over a tensor

    def __pow__(self, exponent: Any) -> Symbol:
        return _power(self.graph, self, exponent)

    def __rpow__(self, base: Any) -> Symbol:
        return self.graph.arithmetic("pow", base, self)

    def __neg__(self) -> Symbol:
        return self.graph.arithmetic("neg", self)

    def __pos__(self) -> Symbol:
        return self

    def __abs__(self) -> Symbol:
        return self.graph.arithmetic("abs", self)

    def __invert__(self) -> Symbol:
        return self.graph.logic("not", self)

    def __and__(self, other: Any) -> Symbol:
        return self.graph.logic("and", self, other)

    def __or__(self, other: Any) -> Symbol:
        return self.graph.logic("or", self, other)

    def __xor__(self, other: Any) -> Symbol:
        return self.graph.logic("xor", self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def _no_operator(sign: str) -> Any:  # type: ignore[misc]
        def refuse(self: Symbol, other: Any) -> Any:
            raise (NeedsNumbers if self.kind == "plain" else Unsupported)(f"the operator {sign}")

        return refuse

    __mod__ = __rmod__ = _no_operator("%")
    __floordiv__ = __rfloordiv__ = _no_operator("//")
    __matmul__ = __rmatmul__ = _no_operator("@")
    __lshift__ = __rlshift__ = _no_operator("<<")
    __rshift__ = __rrshift__ = _no_operator(">>")

    def __gt__(self, other: Any) -> Symbol:
        return self.graph.compare("gt", self, other)

    def __ge__(self, other: Any) -> Symbol:
        return self.graph.compare("ge", self, other)

    def __lt__(self, other: Any) -> Symbol:
        return self.graph.compare("lt", self, other)

    def __le__(self, other: Any) -> Symbol:
        return self.graph.compare("le", self, other)

    def __eq__(self, other: Any) -> Symbol:  # type: ignore[override]
        return self.graph.compare("eq", self, other)

    def __ne__(self, other: Any) -> Symbol:  # type: ignore[override]
        return self.graph.compare("ne", self, other)


def _flat(tree: Any) -> Any:
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _flat(part)
    elif isinstance(tree, dict):
        yield from _flat(tuple(tree.values()))
    else:
        yield tree


def _called(graph: Graph, name: str, known: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        return known(graph, *args, **kwargs)
    except TypeError as wrong:
        raise Unsupported(f"{name} with these arguments ({wrong})") from wrong


def _power(g: Graph, a: Any, exponent: Any) -> Symbol:
    special = {2: "square", 0.5: "sqrt", -1: "reciprocal", -0.5: "rsqrt"}
    a = g.lift(a)
    if a.kind != "plain" and isinstance(exponent, (int, float)) and exponent in special:
        return g.arithmetic(special[exponent], a)
    return g.arithmetic("pow", a, exponent)


def _to(g: Graph, a: Symbol, dtype: Any = None, **other: Any) -> Symbol:
    if other or not isinstance(dtype, (torch.dtype, Symbol)):
        raise Unsupported(f"Tensor.to({dtype!r})")
    dtype = dtype.dtype if isinstance(dtype, Symbol) else dtype
    if dtype == torch.bool:
        return a if a.kind == "bool" else g.compare("ne", a, 0.0)
    if dtype != g.dtype:
        raise Unsupported(f"a change to {dtype}")
    return a.as_real()


def _clamp(g: Graph, a: Symbol, min: Any = None, max: Any = None) -> Symbol:
    a = g.reals(a)[0]
    if min is not None:
        a = g.arithmetic("at_least", a, min)
    return a if max is None else g.arithmetic("at_most", a, max)


def _relu(g: Graph, a: Symbol, inplace: bool = False) -> Symbol:
    return g.where(g.compare("gt", a, 0.0), a, 0.0)


def _scaled(op: str) -> Callable[..., Symbol]:
    def call(g: Graph, a: Any, b: Any, *, alpha: Any = 1) -> Symbol:
        return g.arithmetic(op, a, b if isinstance(alpha, int) and alpha == 1 else g.arithmetic("mul", b, alpha))

    return call


def _arithmetic(op: str) -> Callable[..., Symbol]:
    arity = 1 if op in UNARY else 2

    def call(g: Graph, *args: Any) -> Symbol:
        if len(args) != arity:
            raise Unsupported(f"{op} of {len(args)} arguments")
        return g.arithmetic(op, *args)

    return call


def _detach(g: Graph, a: Symbol) -> Symbol:
    return g.symbol("detach", (a.index,)) if a.kind == "real" else a


def _like(value: float | None) -> Callable[..., Symbol]:
    def call(g: Graph, a: Symbol, fill: Any = None) -> Symbol:
        return g.symbol("real", (g.lift(fill if value is None else value).index,))

    return call


def _where(g: Graph, a: Any, b: Any, c: Any) -> Symbol:
    return g.where(a, b, c)


UNARY = (
    "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "sqrt", "rsqrt", "abs", "neg", "reciprocal", "sin", "cos", "atan",
    "floor", "ceil", "round", "trunc", "sign", "square",
)  # fmt: skip
COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")
METHODS: dict[str, Callable[..., Any]] = {
    **{op: _arithmetic(op) for op in (*UNARY, "mul", "div", "maximum", "minimum")},
    **{op: lambda g, a, b, op=op: g.compare(op, a, b) for op in COMPARISONS},
    **{name: lambda g, *a, op=op: g.logic(op, *a) for name, op in (("logical_and", "and"), ("logical_or", "or"), ("logical_xor", "xor"), ("logical_not", "not"))},
    "add": _scaled("add"), "sub": _scaled("sub"), "rsub": lambda g, a, b: g.arithmetic("sub", b, a), "subtract": _scaled("sub"),
    "multiply": _arithmetic("mul"), "true_divide": _arithmetic("div"), "truediv": _arithmetic("div"), "negative": _arithmetic("neg"), "arctan": _arithmetic("atan"),
    "rmul": lambda g, a, b: g.arithmetic("mul", b, a), "radd": lambda g, a, b: g.arithmetic("add", b, a), "rtruediv": lambda g, a, b: g.arithmetic("reciprocal", a) * b,
    "rdiv": lambda g, a, b: g.arithmetic("reciprocal", a) * b, "rpow": lambda g, a, b: g.arithmetic("pow", b, a),
    "and": lambda g, a, b: g.logic("and", a, b), "or": lambda g, a, b: g.logic("or", a, b), "invert": lambda g, a: g.logic("not", a),
    "pow": _power, "clamp": _clamp, "clip": _clamp, "clamp_min": lambda g, a, m: _clamp(g, a, min=m), "clamp_max": lambda g, a, m: _clamp(g, a, max=m),
    "relu": _relu, "detach": _detach, "to": _to, "type_as": _to, "float": lambda g, a: _to(g, a, torch.float32),
    "double": lambda g, a: _to(g, a, torch.float64), "bool": lambda g, a: _to(g, a, torch.bool), "clone": lambda g, a: a,
    "where": lambda g, a, c, b: g.where(c, a, b) if a.kind != "bool" else g.where(a, c, b),
    "zeros_like": _like(0.0), "ones_like": _like(1.0), "full_like": _like(None),
}  # fmt: skip
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.where: _where,
    F.relu: _relu,
    operator.abs: METHODS["abs"],
    **{getattr(torch, name): call for name, call in METHODS.items() if name not in ("where", "and", "or", "to", "float", "double", "bool", "invert") and hasattr(torch, name)},
    torch.max: METHODS["maximum"],
    torch.min: METHODS["minimum"],
    F.sigmoid: METHODS["sigmoid"],
    F.tanh: METHODS["tanh"],
}
