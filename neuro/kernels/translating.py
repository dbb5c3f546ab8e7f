"""Generated loops in LLVM's language, without Numba's inference of types. Loaded by the kernels' cache alone, because it loads Numba.

Numba's way from Python to LLVM is general, and takes most of the time of a small kernel's compilation. A text written for it to be simple, marked
`@translated`, needs little of that: each name is bound before it is read, and a name bound in a loop or branch ends with it, so nothing
passes from one round of a loop to the next but memory. The types follow from the arguments line by line. What an operator or function does to
numbers is still Numba's to say, asked once for each combination of types; the result is the body of an ordinary Numba function.

The language: `name = ...`, `if`, `else`, `for ... in range(...)` with a step that is written out, `for ... in shared(counter, items, chunk)`, and calls, of functions of numbers and of

    scratch(N)               memory for N numbers F, or with scratch(N, v) of the type of v; freed at the end
    row(a, i, j, k)          where a[i, j, k:] of a contiguous array begins; of memory, the address i numbers on
    peek(p, i, groups)       p[i], which lies in one of the groups of memory whose bits make up a number; what has none in common lies elsewhere
    poke(p, i, v, groups)    p[i] = v
    a[i], a.shape[0], len(a) of an array; min and max of two whole numbers

`shared` gives the items 0 .. items to all threads that run the same call, a chunk at a time to whoever asks next; `counter` is an array of one whole number, 0 before the call, and
`low` the first item of the chunk.
"""

from __future__ import annotations

import ast
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neuro.kernels import words

GROUPS = 30  # of memory that `peek` and `poke` tell apart
ALIGNED = 64  # bytes: memory begins with a line of the cache

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.USub: operator.neg, ast.Not: operator.not_,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_known: dict[Any, tuple[Any, Any]] = {}  # what Numba said about a function and types: signature, and what writes it


class Value(NamedTuple):
    type: Any  # Numba's; memory is a CPointer
    ir: Any


class Array(NamedTuple):
    type: Any
    data: Any
    shape: tuple[Any, ...]


def function(source: str, name: str, space: dict[str, Any]) -> Callable[..., None]:
    """A marked function as the body of one called `name`, for Numba to compile. `space` holds the names that the lines before it made."""
    (definition,) = ast.parse(source).body
    names = [argument.arg for argument in definition.args.args]  # type: ignore[attr-defined]
    given = ", ".join(names)

    def write(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        _Translator(context, builder, space).function(definition, dict(zip(names, zip(signature.args, args, strict=True), strict=True)))  # type: ignore[arg-type]
        return context.get_dummy_value()

    made: dict[str, Any] = {"typed": lambda *args: (types.void(*args), write), "__name__": space["__name__"]}
    exec(f"def translated(context, {given}):\n    return typed({given})\ndef {name}({given}):\n    translated({given})\n", made)
    made["translated"] = intrinsic(made["translated"])
    return made[name]


@functools.cache
def _definition(called: Callable[..., Any]) -> ast.FunctionDef:
    return ast.parse(inspect.getsource(called)).body[0]  # type: ignore[return-value]


class _Translator:
    """Writes statements one after the other behind what the builder has written."""

    def __init__(self, context: Any, builder: Any, space: dict[str, Any]):
        self.context, self.builder, self.space = context, builder, space
        self.names: dict[str, Any] = {}
        self.outside: set[str] = set()
        self.memory: list[Any] = []
        self.notes: dict[int, tuple[Any, Any]] = {}
        self.contract = False  # products and sums

    def function(self, definition: ast.FunctionDef, args: dict[str, tuple[Any, Any]]) -> None:
        for name, (kind, value) in args.items():
            self.names[name] = self._array(kind, value) if isinstance(kind, types.Array) else Value(kind, value)
        self.statements(definition.body)
        for data in self.memory:
            self.context.nrt.free(self.builder, data)

    def _array(self, kind: Any, value: Any) -> Array:
        if kind.layout != "C":
            raise TypeError(f"a translated kernel takes contiguous arrays, and not {kind}")
        model = self.context.data_model_manager[kind]
        data, shape = (self.builder.extract_value(value, model.get_field_position(field)) for field in ("data", "shape"))
        return Array(kind, data, tuple([self.builder.extract_value(shape, k) for k in range(kind.ndim)]))

    def statements(self, lines: Sequence[ast.stmt]) -> None:
        for line in lines:
            match line:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    if name in self.outside:
                        raise NotImplementedError(f"{name} is bound outside of the loop or branch that binds it again: {ast.unparse(line)}")
                    self.names[name] = self.value(value)
                case ast.Expr(value=ast.Call(func=ast.Name(id="poke"), args=args)):
                    self.poke(*args)
                case ast.If():
                    self.branch(line)
                case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=args)):
                    self.loop(name, args, line.body)
                case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="shared"), args=args)):
                    self.shared(name, *[self.value(a) for a in args], line.body)
                case _:
                    raise NotImplementedError(f"no translation of `{ast.unparse(line)}`")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What is bound here ends here."""
        names, outside = self.names, self.outside
        self.names, self.outside = dict(names), set(names)
        yield
        self.names, self.outside = names, outside

    def branch(self, line: ast.If) -> None:
        condition = self.value(line.test).ir
        with self.builder.if_else(condition) as (then, otherwise):
            with then, self.inside():
                self.statements(line.body)
            with otherwise, self.inside():
                self.statements(line.orelse)

    def loop(self, name: str, limits: Sequence[ast.expr], body: Sequence[ast.stmt]) -> None:
        step = ast.literal_eval(limits[2]) if len(limits) == 3 else 1
        start = self.value(limits[0]).ir if len(limits) > 1 else ir.Constant(cgutils.intp_t, 0)
        stop = self.value(limits[min(1, len(limits) - 1)]).ir
        self.rounds(name, start, stop, step, body)

    def rounds(self, name: str, start: Any, stop: Any, step: int, body: Sequence[ast.stmt]) -> None:
        builder = self.builder
        compare = "<" if step > 0 else ">"
        before, inner, behind = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("behind")
        builder.cbranch(builder.icmp_signed(compare, start, stop), inner, behind)
        builder.position_at_end(inner)
        counter = builder.phi(cgutils.intp_t, name)
        counter.add_incoming(start, before)
        with self.inside():
            self.names[name] = Value(types.intp, counter)
            self.statements(body)
        following = builder.add(counter, ir.Constant(cgutils.intp_t, step), flags=["nsw"])
        counter.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed(compare, following, stop), inner, behind)
        builder.position_at_end(behind)

    def shared(self, name: str, counter: Array, items: Value, chunk: Value, body: Sequence[ast.stmt]) -> None:
        builder = self.builder
        asking, doing, behind = (builder.append_basic_block(what) for what in ("asking", "doing", "behind"))
        builder.branch(asking)
        builder.position_at_end(asking)
        low = builder.atomic_rmw("add", counter.data, chunk.ir, "monotonic")
        builder.cbranch(builder.icmp_signed("<", low, items.ir), doing, behind)
        builder.position_at_end(doing)
        high = builder.add(low, chunk.ir)
        high = builder.select(builder.icmp_signed("<", high, items.ir), high, items.ir)
        with self.inside():
            self.names["low"] = Value(types.intp, low)
            self.rounds(name, low, high, 1, body)
        builder.branch(asking)
        builder.position_at_end(behind)

    def value(self, line: ast.expr) -> Any:
        match line:
            case ast.Name(id=name):
                return self.names[name] if name in self.names else self.constant(self.space[name])
            case ast.Constant(value=value):
                return self.constant(value)
            case ast.BinOp(left=a, op=op, right=b) | ast.Compare(left=a, ops=[op], comparators=[b]):
                return self.call(_OPERATORS[type(op)], self.value(a), self.value(b))
            case ast.UnaryOp(op=op, operand=a):
                return self.call(_OPERATORS[type(op)], self.value(a))
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id=name), attr="shape"), slice=ast.Constant(value=k)):
                return Value(types.intp, self.names[name].shape[k])
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                kind, data = self.row(self.names[name], [self.value(index)])
                return Value(kind.dtype, self.builder.load(data))
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
                return Value(types.intp, self.names[name].shape[0])
            case ast.Call(func=ast.Name(id="row"), args=[begin, *indices]):
                return self.row(self.value(begin), [self.value(k) for k in indices])
            case ast.Call(func=ast.Name(id="peek"), args=args):
                return self.peek(*args)
            case ast.Call(func=ast.Name(id="scratch"), args=[ast.Constant(value=size), *like]):
                return self.scratch(size, self.value(like[0] if like else ast.Name("ZERO")).type)
            case ast.Call(func=ast.Name(id="min" | "max" as name), args=args):
                a, b = (self.value(v) for v in args)
                first = self.builder.icmp_signed("<" if name == "min" else ">", a.ir, b.ir)
                return Value(a.type, self.builder.select(first, a.ir, b.ir))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self.call(self.space[name], *[self.value(a) for a in args])
        raise NotImplementedError(f"no translation of `{ast.unparse(line)}`")

    def constant(self, number: Any) -> Value:
        kind = self.context.typing_context.resolve_value_type(number)
        kind = types.intp if isinstance(kind, types.Integer) and type(number) is int else types.unliteral(kind)
        return Value(kind, self.context.get_constant(kind, number))

    def call(self, called: Any, *values: Value) -> Value:
        """What Numba makes of an operator or a function of numbers; some of the words are written out here."""
        kinds = tuple([v.type for v in values])
        if (called, *kinds) in words.WRITTEN_OUT:
            return self.written_out(*words.WRITTEN_OUT[(called, *kinds)], values)
        if (called, kinds) not in _known:
            typing = self.context.typing_context
            kind = typing.resolve_value_type(called)
            signature = typing.resolve_function_type(kind, kinds, {})
            _known[called, kinds] = signature, self.context.get_function(kind, signature)
        signature, write = _known[called, kinds]
        args = [self.context.cast(self.builder, v.ir, v.type, kind) for v, kind in zip(values, signature.args, strict=True)]
        found = write(self.builder, args)
        if self.contract and getattr(found, "opname", None) in ("fadd", "fsub", "fmul"):
            found.flags.append("contract")
        return Value(signature.return_type, found)

    def written_out(self, called: Callable[..., Any], contract: bool, values: Sequence[Value]) -> Value:
        """The lines of a function that binds names and returns one value, with these for its arguments."""
        definition = _definition(called)
        before = self.names, self.outside, self.space, self.contract
        self.names, self.outside = dict(zip([a.arg for a in definition.args.args], values, strict=True)), set()
        self.space, self.contract = vars(words), contract
        *lines, end = definition.body
        self.statements(lines)
        found = self.value(end.value)  # type: ignore[attr-defined]
        self.names, self.outside, self.space, self.contract = before
        return found

    def scratch(self, size: int, kind: Any) -> Value:
        number = self.context.get_value_type(kind)
        builder = self.builder
        room = ir.Constant(cgutils.intp_t, size * self.context.get_abi_sizeof(number) + ALIGNED)
        given = self.context.nrt.allocate(builder, room)
        with builder.if_then(cgutils.is_null(builder, given), likely=False):
            self.context.call_conv.return_user_exc(builder, MemoryError, (f"a kernel's {size} numbers",))
        self.memory.append(given)
        address = builder.add(builder.ptrtoint(given, cgutils.intp_t), ir.Constant(cgutils.intp_t, ALIGNED - 1))
        address = builder.and_(address, ir.Constant(cgutils.intp_t, -ALIGNED))
        return Value(types.CPointer(kind), builder.inttoptr(address, number.as_pointer()))

    def row(self, begin: Value | Array, indices: Sequence[Value]) -> Value:
        builder, offset = self.builder, indices[0].ir
        if isinstance(begin, Value):
            return Value(begin.type, builder.gep(begin.ir, [offset], inbounds=True))
        for size, index in zip(begin.shape[1:], indices[1:], strict=True):
            offset = builder.add(builder.mul(offset, size, flags=["nsw"]), index.ir, flags=["nsw"])
        return Value(types.CPointer(begin.type.dtype), builder.gep(begin.data, [offset], inbounds=True))

    def peek(self, begin: ast.expr, index: ast.expr, groups: ast.expr) -> Value:
        kind, place = self.row(self.value(begin), [self.value(index)])
        return Value(kind.dtype, self.lies_in(groups, self.builder.load(place)))

    def poke(self, begin: ast.expr, index: ast.expr, value: ast.expr, groups: ast.expr) -> None:
        kind, place = self.row(self.value(begin), [self.value(index)])
        written = self.value(value)
        self.lies_in(groups, self.builder.store(self.context.cast(self.builder, written.ir, written.type, kind.dtype), place))

    def lies_in(self, groups: ast.expr, access: Any) -> Any:
        """LLVM's notes on what an access may overlap with."""
        bits = ast.literal_eval(groups)
        if bits not in self.notes:
            note = self.builder.module.add_metadata
            domain = note(["neuro"])
            scopes = [note([f"neuro {k}", domain]) for k in range(GROUPS)]
            self.notes[bits] = note([s for k, s in enumerate(scopes) if bits >> k & 1]), note([s for k, s in enumerate(scopes) if not bits >> k & 1])
        for name, found in zip(("alias.scope", "noalias"), self.notes[bits], strict=True):
            access.set_metadata(name, found)
        return access
