"""A program written out as serial Numba kernels over a range of neurons.

A kernel works through items: blocks of neighbouring neurons of one sample (a row). For one block it runs all T steps, so
the state stays in the cache, and the inner loop over the block is plain arithmetic on neighbouring numbers, which
becomes vector instructions. Backward runs a block forward again from a kept state, every `SEGMENT` steps one, puts what the
minimum cut asks for into a buffer that stays in the cache, and goes back through the steps: nothing but the input and those
few states is kept in memory.

The variables and parameters of a block lie in one array `work` at fixed distances, so that the compiler sees that they do not overlap. Other
arrays it compares at run time, up to a limit; beyond it they are copied through `work` ("staged").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from neuro.kernels.cut import minimum_cut
from neuro.kernels.derivative import Backward
from neuro.kernels.expression import Node
from neuro.kernels.operations import OPERATIONS, operands
from neuro.kernels.program import Program, needed

BLOCK = 16384  # neurons of one item, at most
SEGMENT = 16  # steps between kept states
SINGLE = ("one", "row")  # parameters that are one number for all neurons of an item
CHECKS = 8  # pairs of arrays that LLVM compares at run time before it gives up on vector instructions

HEADER = """import numpy as np
from neuro.kernels.words import *

F = np.{dtype}
ZERO, ONE = F(0.0), F(1.0)
"""


@dataclass(frozen=True)
class Layout:
    """What the arrays of a call look like.

    half: inputs and outputs are bfloat16, given as uint16. params: "one" value, one for each "row" (rows beyond the values given begin
    again with the first), a "column" [C] over the neurons of a row, or
    "each" neuron of every sample [R, C]. lengths: samples have their own number of steps. alike: a state begins with one number for all neurons,
    and that alone is given.
    """

    half: bool
    params: tuple[str, ...]
    lengths: bool
    alike: bool = False


class Ends(NamedTuple):
    """Which gradients a backward call is given and asked for.

    y: outputs with a gradient. after: whether the states afterwards have one (else it is zero). before: whether that of the states before
    is asked for.
    """

    y: tuple[bool, ...]
    after: bool
    before: bool


class Text:
    """Lines of Python with their indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self(head)
        self.depth += 1
        yield
        self.depth -= 1


class Kernel:
    """Text of one kernel, and where its variables lie in `work`."""

    def __init__(self, nodes: Sequence[Node], layout: Layout):
        self.nodes, self.layout = nodes, layout
        self.text = Text()
        self.places: dict[str, int] = {}

    def at(self, name: str) -> str:
        """Element i of a variable of the block."""
        return f"work[{self.places.setdefault(name, len(self.places)) * BLOCK} + i]"

    def number(self, index: int) -> str:
        """A Python number of the step, in double."""
        node = self.nodes[index]
        if node.op == "constant":
            return _double(node.value)
        if node.op == "number":
            return f"numbers[{node.value}]"
        return OPERATIONS[node.op].plain.format(*(self.number(a) for a in node.args))  # type: ignore[union-attr]

    def rounded_numbers(self) -> None:
        """`f7 = F(...)` for every number that meets an element: computed in double and rounded once, as torch does."""
        for index, node in enumerate(self.nodes):
            if node.kind == "plain" and any(index in n.args and n.kind != "plain" for n in self.nodes):
                self.text(f"f{index} = F({self.number(index)})")

    def rows(self, prefix: str, count: int, at: str) -> None:
        for k in range(count):
            self.text(f"{prefix}{k}r = {prefix}{k}[{at}]")

    @contextmanager
    def items(self) -> Iterator[None]:
        """Over the blocks of neurons, and what belongs to a block.

        Where parameters vary over the neurons of a row, the same block of all rows comes first: its parameters stay in `work`.
        """
        text, columns = self.text, "column" in self.layout.params
        text("rows, blocks = x0.shape[1], (C + block - 1) // block")
        with text.block("for item in range(low, high):"):
            text("row = item % rows" if columns else "row = item // blocks")
            text("left = item // rows * block" if columns else "left = (item - row * blocks) * block")
            text("n = min(block, C - left)")
            text("right = left + n")
            text("steps = min(max(lengths[row], 0), T)" if self.layout.lengths else "steps = T")
            for k, kind in enumerate(self.layout.params):
                if kind != "column":
                    text({"one": f"p{k}r = p{k}[0]", "row": f"p{k}r = p{k}[row % len(p{k})]", "each": f"p{k}r = p{k}[row, left:right]"}[kind])
                if kind == "each":
                    with text.block("for i in range(n):"):
                        text(f"{self.at(f'p{k}')} = p{k}r[i]")
            if columns:
                with text.block("if row == 0 or item == low:"):
                    for k, kind in enumerate(self.layout.params):
                        if kind == "column":
                            text(f"p{k}r = p{k}[left:right]")
                            with text.block("for i in range(n):"):
                                text(f"{self.at(f'p{k}')} = p{k}r[i]")
            yield

    def loop(self, order: Sequence[int], leaves: dict[int, str], writes: Sequence[tuple[str, str]]) -> None:
        """The inner loop: nodes in order, then `target = value`; `value` may name a node as `n12`."""
        with self.text.block("for i in range(n):"):
            for index in order:
                node = self.nodes[index]
                if index in leaves:
                    self.text(f"n{index} = {leaves[index]}")
                elif node.op == "param":
                    self.text(f"n{index} = " + (f"p{node.value}r" if self.layout.params[int(node.value)] in SINGLE else self.at(f"p{node.value}")))  # type: ignore[arg-type]
                elif node.kind != "plain":
                    self.text(f"n{index} = {self.expression(node)}")
            for target, value in writes:
                self.text(f"{target} = {value}")

    def expression(self, node: Node) -> str:
        names = [(f"f{a}" if self.nodes[a].kind == "plain" else f"n{a}") for a in operands(node.op, node.args)]
        return OPERATIONS[node.op].source.format(*names)

    def copy_in(self, names: Sequence[str]) -> None:
        for name in names:
            with self.text.block("for i in range(n):"):
                self.text(f"{self.at(name + ' staged')} = {self.loaded(name)}")

    def copy_out(self, names: Sequence[str]) -> None:
        for name in names:
            with self.text.block("for i in range(n):"):
                self.text(self.stored(name, self.at(name + " staged")))

    def loaded(self, name: str) -> str:
        return f"widen({name}r[i])" if self.layout.half else f"{name}r[i]"

    def stored(self, name: str, value: str) -> str:
        return f"{name}r[i] = " + (f"narrow({value})" if self.layout.half else value)

    def source(self) -> str:
        return "\n".join(self.text.lines).replace("WORK", str(max(1, len(self.places)) * BLOCK)) + "\n"

    def is_staged(self, read: int, written: int) -> bool:
        """Whether there are too many arrays beside `work` for run-time comparison."""
        return (written + 1) * read + (written + 1) * written // 2 > CHECKS


def _double(value: float | int | None) -> str:
    text = repr(float(value))  # type: ignore[arg-type]
    return f'np.float64("{text}")' if text in ("inf", "-inf", "nan") else text


def forward_source(program: Program, layout: Layout, keep: bool, after: bool = True) -> tuple[str, int]:
    """Source of `forward`, and how many numbers it holds for one neuron.

    keep: it writes the states that backward starts from. after: it writes the states afterwards.
    """
    states = range(program.states)
    arguments = [f"x{k}" for k in range(program.inputs)] + [f"s{k}" for k in states] + [f"p{k}" for k in range(program.params)] + ["numbers"]
    arguments += ["lengths"] * layout.lengths + [f"y{k}" for k in range(len(program.outputs))] + [f"e{k}" for k in states] * after
    arguments += [f"c{k}" for k in states] * keep + ["T", "C", "block", "low", "high"]
    kernel = Kernel(program.nodes, layout)
    text = kernel.text
    order = needed(program.nodes, (*program.outputs, *program.after))
    xs, ys = [f"x{k}" for k in range(program.inputs)], [f"y{k}" for k in range(len(program.outputs))]
    staged = kernel.is_staged(len(xs), len(ys))
    with text.block(f"def forward({', '.join(arguments)}):"):
        text("work = np.empty(WORK, F)")
        kernel.rounded_numbers()
        with kernel.items():
            _begin(kernel, program)
            with text.block("for t in range(steps):"):
                if keep:
                    with text.block(f"if t > 0 and t % {SEGMENT} == 0:"):
                        for k in states:
                            text(f"c{k}r = c{k}[t // {SEGMENT} - 1, row, left:right]")
                            with text.block("for i in range(n):"):
                                text(f"c{k}r[i] = {kernel.at(f's{k}')}")
                kernel.rows("x", len(xs), "t, row, left:right")
                kernel.rows("y", len(ys), "t, row, left:right")
                leaves = _forward_leaves(kernel, order, staged)
                carried = [(kernel.at(f"s{k}"), f"n{i}") for k, i in enumerate(program.after)]
                if staged:
                    kernel.copy_in(xs)
                    kernel.loop(order, leaves, [(kernel.at(f"y{k} staged"), f"n{i}") for k, i in enumerate(program.outputs)] + carried)
                    kernel.copy_out(ys)
                else:
                    out = [kernel.stored(f"y{k}", f"n{i}").split(" = ", 1) for k, i in enumerate(program.outputs)]
                    kernel.loop(order, leaves, [(a, b) for a, b in out] + carried)
            if layout.lengths:
                with text.block("for t in range(steps, T):"):
                    for y in ys:
                        text(f"{y}[t, row, left:right] = 0")
            for k in states if after else ():
                text(f"e{k}r = e{k}[row, left:right]")
                with text.block("for i in range(n):"):
                    text(f"e{k}r[i] = {kernel.at(f's{k}')}")
    return kernel.source(), len(kernel.places)


def backward_source(program: Program, backward: Backward, layout: Layout, ends: Ends) -> tuple[str, int]:
    """Source of `backward`, and how many numbers it holds for one neuron."""
    states, nodes = range(program.states), backward.nodes
    forward = nodes[: backward.forward]
    cut = [i for i in minimum_cut(forward, backward.reads, x_cost=0.5, width=4, spike_cost=4) if nodes[i].op != "x"]
    order = needed(nodes, backward.roots(), given=cut)
    inputs = sorted({int(nodes[i].value) for i in order if nodes[i].op == "x"})  # type: ignore[arg-type]
    kernel = Kernel(nodes, layout)
    text = kernel.text
    gys = [f"g{k}" for k, has in enumerate(ends.y) if has]
    gxs = [f"h{k}" for k, i in enumerate(backward.x) if i is not None]
    summed = [k for k, i in enumerate(backward.params) if i is not None]
    arguments = [f"x{k}" for k in range(program.inputs)] + [f"s{k}" for k in states] + [f"p{k}" for k in range(program.params)] + ["numbers"]
    arguments += ["lengths"] * layout.lengths + [f"c{k}" for k in states] + gys + [f"d{k}" for k in states] * ends.after + gxs + [f"b{k}" for k in states] * ends.before
    arguments += [f"q{k}" for k in summed] + ["T", "C", "block", "low", "high"]
    staged = kernel.is_staged(len(inputs) + len(gys) + bool(cut), len(gxs))
    with text.block(f"def backward({', '.join(arguments)}):"):
        text("work = np.empty(WORK, F)")
        if cut:
            text(f"buffer = np.empty(({SEGMENT}, {len(cut)}, {BLOCK}), F)")
        kernel.rounded_numbers()
        with kernel.items():
            for k in states:
                if ends.after:
                    text(f"d{k}r = d{k}[row, left:right]")
                with text.block("for i in range(n):"):
                    text(f"{kernel.at(f'd{k}')} = " + (f"d{k}r[i]" if ends.after else "ZERO"))
            for k in summed:
                with text.block("for i in range(n):"):
                    text(f"{kernel.at(f'q{k}')} = ZERO")
            for h in gxs if layout.lengths else ():
                with text.block("for t in range(steps, T):"):
                    text(f"{h}[t, row, left:right] = 0")
            with text.block(f"for segment in range((steps + {SEGMENT - 1}) // {SEGMENT} - 1, -1, -1):"):
                text(f"first = segment * {SEGMENT}")
                text(f"last = min(first + {SEGMENT}, steps)")
                if cut:
                    _again(kernel, program, cut, forward)
                _back(kernel, backward, order, cut, inputs, gys, gxs, summed, staged)
            for k in states if ends.before else ():
                text(f"b{k}r = b{k}[row, left:right]")
                with text.block("for i in range(n):"):
                    text(f"b{k}r[i] = {kernel.at(f'd{k}')}")
            for k in summed:
                _sum_up(kernel, k)
    return kernel.source(), len(kernel.places) + SEGMENT * len(cut)


def _forward_leaves(kernel: Kernel, order: Sequence[int], staged: bool) -> dict[int, str]:
    leaves = {}
    for i in order:
        node = kernel.nodes[i]
        if node.op == "x":
            leaves[i] = kernel.at(f"x{node.value} staged") if staged else kernel.loaded(f"x{node.value}")
        elif node.op == "state":
            leaves[i] = kernel.at(f"s{node.value}")
    return leaves


def _begin(kernel: Kernel, program: Program) -> None:
    """The states before the first step."""
    if not kernel.layout.alike:
        _load_states(kernel, program, "s{k}[row, left:right]")
        return
    for k in range(program.states):
        kernel.text(f"s{k}r = s{k}[0]")
        with kernel.text.block("for i in range(n):"):
            kernel.text(f"{kernel.at(f's{k}')} = s{k}r")


def _load_states(kernel: Kernel, program: Program, source: str) -> None:
    for k in range(program.states):
        kernel.text(f"s{k}r = {source.format(k=k)}")
        with kernel.text.block("for i in range(n):"):
            kernel.text(f"{kernel.at(f's{k}')} = s{k}r[i]")


def _again(kernel: Kernel, program: Program, cut: Sequence[int], forward: Sequence[Node]) -> None:
    """Run the steps of a segment forward and put what the cut asks for into the buffer."""
    text = kernel.text
    order = needed(forward, (*cut, *program.after))
    inputs = [f"x{k}" for k in range(program.inputs)]
    staged = kernel.is_staged(len(inputs), 1)
    with text.block("if segment == 0:"):
        _begin(kernel, program)
    with text.block("else:"):
        _load_states(kernel, program, "c{k}[segment - 1, row, left:right]")
    with text.block("for t in range(first, last):"):
        text("kept = buffer[t - first]")
        kernel.rows("x", len(inputs), "t, row, left:right")
        if staged:
            kernel.copy_in(inputs)
        writes = [(f"kept[{j}, i]", f"n{i}") for j, i in enumerate(cut)]
        kernel.loop(order, _forward_leaves(kernel, order, staged), writes + [(kernel.at(f"s{k}"), f"n{i}") for k, i in enumerate(program.after)])


def _back(kernel: Kernel, backward: Backward, order: Sequence[int], cut: Sequence[int], inputs: Sequence[int], gys: Sequence[str], gxs: Sequence[str], summed: Sequence[int], staged: bool) -> None:
    """Go back through the steps of a segment."""
    text, nodes = kernel.text, backward.nodes
    read = [f"x{k}" for k in inputs] + list(gys)
    leaves = {i: f"kept[{j}, i]" for j, i in enumerate(cut)}
    for i in order:
        node = nodes[i]
        if node.op in ("x", "grad_y"):
            name = f"{'x' if node.op == 'x' else 'g'}{node.value}"
            leaves[i] = kernel.at(f"{name} staged") if staged else kernel.loaded(name)
        elif node.op == "grad_state":
            leaves[i] = kernel.at(f"d{node.value}")
    used = [i for i in cut if any(i in nodes[j].args for j in order) or i in backward.roots()]

    def value(index: int | None) -> str:
        return "ZERO" if index is None else f"n{index}"

    with text.block("for t in range(last - 1, first - 1, -1):"):
        if cut:
            text("kept = buffer[t - first]")
        for name in (*read, *gxs):
            text(f"{name}r = {name}[t, row, left:right]")
        carried = [(kernel.at(f"d{k}"), value(i)) for k, i in enumerate(backward.state)]
        carried += [(kernel.at(f"q{k}"), f"{kernel.at(f'q{k}')} + n{backward.params[k]}") for k in summed]
        ends = {h: f"n{backward.x[int(h[1:])]}" for h in gxs}
        if staged:
            kernel.copy_in(read)
            kernel.loop([*used, *order], leaves, [(kernel.at(f"{h} staged"), n) for h, n in ends.items()] + carried)
            kernel.copy_out(gxs)
        else:
            out = [tuple(kernel.stored(h, n).split(" = ", 1)) for h, n in ends.items()]
            kernel.loop([*used, *order], leaves, [(a, b) for a, b in out] + carried)


def _sum_up(kernel: Kernel, k: int) -> None:
    """A parameter's gradient over the steps of this block: its sum, or one value per neuron."""
    text = kernel.text
    if kernel.layout.params[k] in SINGLE:
        begin = kernel.at(f"q{k}").removeprefix("work[").removesuffix(" + i]")
        text(f"q{k}[item] = total(work[{begin} : {begin} + n])")
    else:
        text(f"q{k}r = q{k}[row, left:right]")
        with text.block("for i in range(n):"):
            text(f"q{k}r[i] = {kernel.at(f'q{k}')}")
