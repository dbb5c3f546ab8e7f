"""The loops of a CPU kernel over a block of neurons: what they read and write, and how several steps share one of them.

The variables and parameters of a block lie in one array `work` at fixed distances. Reads and writes go through the words `peek` and `poke`, which
tell the compiler which groups of memory do not overlap: `work`, what is read only, and rows that are written side by side. So it needs no comparison of addresses at run time to
make vector instructions, however many arrays there are.

Where a step is short, and the number of steps even, the inner loop holds two or four of them: the state passes from one to the next in registers, and is read from and written
to `work` once for all. The rows of these steps are read side by side, which also keeps more of the memory's traffic under way. Where these are all the steps that there are, one loop holds
a neuron's whole life, forward and back, and nothing of it goes through memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from neuro.kernels.expression import Node
from neuro.kernels.operations import OPERATIONS, operands
from neuro.kernels.writing import Text

BLOCK = 16384  # neurons of one item, at most
PITCH = BLOCK + 272  # numbers from one variable to the next: at a power of two all would fall on the same few lines of the first cache
SHORT = {4: 32, 2: 64}  # nodes up to which one loop holds so many steps
WHOLE = 12  # steps, and nodes of all of them together, up to which one loop holds them: beyond, more rows are read side by side than a processor foresees
WHOLE_NODES = 288
SINGLE = ("one", "row")  # parameters that are one number for all neurons of an item
WORK, READ = 1, 2  # groups of memory, bits of a number: `work`, all that is read only,
KEPT = range(2, 10)  # rows that backward writes and reads again,
WRITTEN = range(10, 30)  # rows that are written and never read
ANYWHERE = (1 << 30) - 1  # whatever may overlap with anything

HEADER = """import numpy as np
from neuro.kernels.words import *

F, Whole = np.{dtype}, np.int32
ZERO, ONE = F(0.0), F(1.0)
HALF_ZERO, HALF_ONE = np.uint16(0x0000), np.uint16(0x3F80)
INFINITE, NAN = np.float64("inf"), np.float64("nan")
"""


@dataclass(frozen=True)
class Layout:
    """What the arrays of a call look like.

    half: inputs and outputs are bfloat16, given as uint16. params: "one" value, one for each "row" (rows beyond the values given begin
    again with the first), a "column" [C] over the neurons of a row, or
    "each" neuron of every sample [R, C]. lengths: samples have their own number of steps. alike: a state begins with one number for all neurons,
    and that alone is given. copies: steps that one loop may hold; divides their number. whole: how many steps there are, where these are few enough for one loop; else 0.
    """

    half: bool
    params: tuple[str, ...]
    lengths: bool
    alike: bool = False
    copies: int = 1
    whole: int = 0


class Carried(NamedTuple):
    """A variable that passes from step to step."""

    name: str  # in `work`
    leaf: int | None  # the node that stands for it in a step
    after: str  # what it becomes; `@12` is node 12 of the step, `$` its value before


class Row(NamedTuple):
    """What a step reads or writes for each neuron of the block."""

    name: str
    place: str  # `row(x0, {t}, r, left)`
    node: int  # that is read here, or whose value is written here
    half: bool = False  # bfloat16, in 16 bits
    kept: bool = False  # written and read by the same kernel


class Block:
    """Text of one kernel, and where its variables lie in `work`."""

    def __init__(self, nodes: Sequence[Node], layout: Layout):
        self.nodes, self.layout = nodes, layout
        self.text = Text()
        self.places: dict[str, int] = {}

    def at(self, name: str) -> str:
        """Where a variable of the block begins in `work`."""
        return str(self.places.setdefault(name, len(self.places)) * PITCH)

    def number(self, index: int) -> str:
        """A Python number of the step, in double."""
        node = self.nodes[index]
        if node.op == "constant":
            return in_double(float(node.value))  # type: ignore[arg-type]
        if node.op == "number":
            return f"numbers[{node.value}]"
        return OPERATIONS[node.op].plain.format(*(self.number(a) for a in node.args))  # type: ignore[union-attr]

    def rounded_numbers(self) -> None:
        """`f7 = F(...)` for every number that meets an element: computed in double and rounded once, as torch does."""
        for index, node in enumerate(self.nodes):
            if node.kind == "plain" and any(index in n.args and n.kind != "plain" for n in self.nodes):
                self.text(f"f{index} = F({self.number(index)})")

    def fill(self, name: str, value: str) -> None:
        """A variable of the block, from an expression of the neuron's number i."""
        with self.text.block("for i in range(n):"):
            self.text(f"poke(work, {self.at(name)} + i, {value}, {WORK})")

    def store(self, place: str, name: str) -> None:
        """A variable of the block into a row of memory."""
        self.text(f"{name}_out = {place}")
        with self.text.block("for i in range(n):"):
            self.text(f"poke({name}_out, i, peek(work, {self.at(name)} + i, {WORK}), {1 << WRITTEN[0]})")

    def load(self, place: str, name: str) -> None:
        """The other way round."""
        self.text(f"{name}_given = {place}")
        self.fill(name, f"peek({name}_given, i, {READ})")

    def silence(self, place: str) -> None:
        """Zeros into a row of an input's or output's type."""
        self.text(f"silent = {place}")
        with self.text.block("for i in range(n):"):
            self.text(f"poke(silent, i, {'HALF_ZERO' if self.layout.half else 'ZERO'}, {1 << WRITTEN[0]})")

    @contextmanager
    def items(self) -> Iterator[None]:
        """Over the blocks of neurons, and what belongs to a block.

        Where parameters vary over the neurons of a row, the same block of all rows comes first: its parameters stay in `work`.
        """
        text, columns = self.text, "column" in self.layout.params
        text("rows = x0.shape[1]")
        text("blocks = (C + block - 1) // block")
        with text.block("for item in shared(counter, items, chunk):"):
            text("r = item % rows" if columns else "r = item // blocks")
            text("left = item // rows * block" if columns else "left = (item - r * blocks) * block")
            text("n = min(block, C - left)")
            text("steps = min(max(lengths[r], 0), T)" if self.layout.lengths else "steps = T")
            for k, kind in enumerate(self.layout.params):
                if kind == "each":
                    self.load(f"row(p{k}, r, left)", f"p{k}")
                elif kind != "column":
                    text(f"p{k}r = p{k}[0]" if kind == "one" else f"p{k}r = p{k}[r % len(p{k})]")
            if columns:
                with text.block("if (r == 0) | (item == low):"):
                    for k, kind in enumerate(self.layout.params):
                        if kind == "column":
                            self.load(f"row(p{k}, left)", f"p{k}")
            yield

    def copies(self, order: Sequence[int]) -> int:
        """Steps that one loop holds."""
        nodes = sum(self.nodes[i].kind != "plain" for i in order)
        return max([1, *(copies for copies, most in SHORT.items() if nodes <= most and self.layout.copies % copies == 0)])

    def is_whole(self, order: Sequence[int]) -> bool:
        """Whether one loop holds all steps, of these nodes each."""
        steps = self.layout.whole
        return steps > 0 and steps * sum(self.nodes[i].kind != "plain" for i in order) <= WHOLE_NODES

    def steps(self, copies: int, sign: str, order: Sequence[int], reads: Sequence[Row], writes: Sequence[Row], carried: Sequence[Carried]) -> None:
        """The inner loop: steps t, t + 1, ... (sign "+") or t, t - 1, ... ("-") of every neuron of the block."""
        text = self.text
        for u in range(copies):
            self.rows(u, f"t {sign} {u}", (*reads, *writes))
        with text.block("for i in range(n):"):
            for c in carried:
                text(f"{c.name} = peek(work, {self.at(c.name)} + i, {WORK})")
            self.params(order)
            for u in range(copies):
                self.step(u, order, reads, carried)
                self.write(u, writes, u, copies)
                self.carry(u, carried)
            for c in carried:
                text(f"poke(work, {self.at(c.name)} + i, {c.name}, {WORK})")

    def rows(self, u: int, t: str, rows: Iterable[Row]) -> None:
        """Where step u, of the number t, reads and writes."""
        for row in rows:
            self.text(f"{row.name}_{u} = {row.place.format(t=t)}")

    def params(self, order: Iterable[int]) -> None:
        """A neuron's parameters."""
        kinds = self.layout.params
        for i in order:
            if self.nodes[i].op == "param":
                k = int(self.nodes[i].value)  # type: ignore[arg-type]
                self.text(f"m{i} = " + (f"p{k}r" if kinds[k] in SINGLE else f"peek(work, {self.at(f'p{k}')} + i, {WORK})"))

    def step(self, u: int, order: Iterable[int], reads: Sequence[Row], carried: Sequence[Carried]) -> None:
        """What a neuron computes in step u."""
        given = {row.node: row for row in reads}
        enters = {c.leaf: c for c in carried}
        for i in order:
            node = self.nodes[i]
            if i in enters:
                self.text(f"n{i}_{u} = {enters[i].name}")
            elif i in given:
                groups = sum(1 << k for k in KEPT) if given[i].kept else READ
                value = f"peek({given[i].name}_{u}, i, {groups})"
                self.text(f"n{i}_{u} = " + (f"widen({value})" if given[i].half else value))
            elif node.op != "param" and node.kind != "plain":
                self.text(f"n{i}_{u} = {self._expression(node, u)}")

    def write(self, u: int, writes: Sequence[Row], turn: int, turns: int) -> None:
        """Its results of step u, which are written in turn."""
        for k, row in enumerate(writes):
            value = self._name(row.node, u)
            if row.half:
                value = f"where({value} != ZERO, HALF_ONE, HALF_ZERO)" if self.nodes[row.node].op.startswith("fire") else f"narrow({value})"
            self.text(f"poke({row.name}_{u}, i, {value}, {self.written(k * turns + turn, KEPT if row.kept else WRITTEN)})")

    def written(self, k: int, groups: Sequence[int] = WRITTEN) -> int:
        """The group of memory of the k-th row that is written beside others."""
        return 1 << groups[k % len(groups)]

    def carry(self, u: int, carried: Sequence[Carried]) -> None:
        """What passes from step u to the next one."""
        for c in carried:
            self.text(f"{c.name} = {self._after(c, u)}")

    def _name(self, index: int, u: int) -> str:
        node = self.nodes[index]
        return f"f{index}" if node.kind == "plain" else f"m{index}" if node.op == "param" else f"n{index}_{u}"

    def _after(self, c: Carried, u: int) -> str:
        words = c.after.replace("$", c.name).split("@")
        return words[0] + "".join(self._name(int(w), u) for w in words[1:])

    def _expression(self, node: Node, u: int) -> str:
        return OPERATIONS[node.op].source.format(*(self._name(a, u) for a in operands(node.op, node.args)))

    def source(self) -> str:
        return "\n".join(self.text.lines).replace("WORK", str(max(1, len(self.places)) * PITCH)) + "\n"


def in_double(value: float) -> str:
    """A number as one operand in double."""
    return f"({value!r})".replace("inf", "INFINITE").replace("nan", "NAN")
