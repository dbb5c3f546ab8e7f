"""The table of a compiled network as it grows: rows, the buffers between them, constants, and the states of nodes.

Maps lie channels last inside. A segment is a run of rows; what goes in and out of it has torch's order of axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro import nodes as g
from neuro.graph import Graph
from neuro.kernels import inference_source as text
from neuro.kernels.table import COLUMNS, FIRST, LOAD, STORE, TURN

_FIELDS = ("kind", "out", "in_", "in_2", "in_3", "size", "stride", "weight", "bias", "state")
LISTED = 32  # rows of an input, as in active_loops, which loads Numba


@dataclass(frozen=True)
class Slot:
    """Where the state of one node lies in the flat state of a sample: fields one after the other from `offset` on."""

    fields: tuple[str, ...]
    shapes: tuple[g.Shape, ...]  # of each field, as torch has it
    last: bool  # whether maps lie channels last
    offset: int

    @property
    def size(self) -> int:
        return sum(count(s) for s in self.shapes)

    def read(self, flat: Tensor) -> list[Tensor]:
        """The fields [B, *shape] as copies, from the flat state [B, S]."""
        found, at = [], self.offset
        for shape in self.shapes:
            part = flat[:, at : at + count(shape)]
            turned = self.last and len(shape) > 1
            found.append((part.reshape(-1, *shape[1:], shape[0]).movedim(-1, 1) if turned else part.reshape(-1, *shape)).clone(memory_format=torch.contiguous_format))
            at += count(shape)
        return found

    def write(self, flat: Tensor, values: Sequence[Tensor]) -> None:
        at = self.offset
        for shape, value in zip(self.shapes, values, strict=True):
            turned = self.last and len(shape) > 1
            flat[:, at : at + count(shape)] = (value.movedim(1, -1) if turned else value).reshape(value.shape[0], count(shape))
            at += count(shape)


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows of the table that run together, and the values of the graph that go in and out, with their elements per step."""

    table: np.ndarray  # int64 [rows, COLUMNS]
    labels: tuple[tuple[str, str], ...]  # node and kind of each row
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    shapes: tuple[tuple[bool, int, g.Shape], ...]  # of what goes out: whether it has a time axis, elements and shape of a step
    room: int  # elements of all buffers, per step
    listed: int  # active inputs listed at a time, at most
    starts: int
    work: int


class ByTorch(Exception):
    """This node has no form in the table; the message says why."""


@dataclass
class Buffer:
    size: int
    born: int
    dies: int
    place: int = -1


@dataclass(frozen=True)
class Value:
    buffer: int
    last: bool  # channels last, for values of two and more axes


@dataclass
class Row:
    label: tuple[str, str]
    fields: dict[str, int]
    sizes: tuple[int, ...] = ()
    reads: tuple[int, ...] = ()  # buffers
    writes: int | None = None


@dataclass
class Open:
    """A segment while it grows."""

    rows: list[Row] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    listed: int = 1
    starts: int = LISTED + 1
    work: int = 1


class Tables:
    """Where values, weights and states lie while the nodes of a graph are lowered one by one."""

    def __init__(self, graph: Graph, torch_nodes: frozenset[str], shown: frozenset[str]):
        self.graph, self.torch_nodes, self.shown = graph, torch_nodes, shown
        self.weights: list[np.ndarray] = []
        self.filled = 0
        self.numbers: list[float] = []
        self.kinds: list[text.NeuronKind] = []
        self.slots: dict[str, Slot] = {}
        self.state = 0
        self.open = Open()

    # What the functions below are written with

    def shape(self, name: str) -> g.Shape:
        return self.graph.shapes[name]

    def constant(self, *arrays: Any) -> int:
        """The place of these values, one after the other, among the weights."""
        at = self.filled
        for array in arrays:
            flat = np.ascontiguousarray(array.detach().numpy() if isinstance(array, Tensor) else array, np.float32).reshape(-1)
            self.weights.append(flat)
            self.filled += flat.size
        return at

    def slot(self, node: g.Node, fields: tuple[str, ...], last: bool) -> Slot:
        shape = self.shape(node.name)
        self.slots[node.name] = Slot(fields, (shape,) * len(fields), last, self.state)
        self.state += self.slots[node.name].size
        return self.slots[node.name]

    def sums(self, node: g.Node) -> Slot:
        shape = self.shape(node.name)
        self.slots[node.name] = Slot(("sum", "count"), (shape, (1,) * len(shape)), False, self.state)
        self.state += self.slots[node.name].size
        return self.slots[node.name]

    def value(self, name: str, last: bool | None = None) -> Value:
        """A value of the graph in this segment, loaded if it comes from outside; in the order of axes that is asked for."""
        here = self.open
        shape = self.shape(name)
        if name not in here.values:
            turned = bool(last) and len(shape) > 1
            channels, pixels = (shape[0], count(shape[1:])) if turned else (1, count(shape))
            here.values[name] = self.row(name, "load", LOAD, count(shape), sizes=(channels, pixels), last=turned, outside=name)
            here.reads.append(name)
        value = here.values[name]
        if last is None or last == value.last or len(shape) < 2 or 1 in (shape[0], count(shape[1:])):
            return value
        channels, pixels = shape[0], count(shape[1:])
        sizes = (channels, pixels) if last else (pixels, channels)
        return self.row(name, "turn", TURN, count(shape), value, sizes=sizes, last=last)

    def row(
        self, name: str, label: str, kind: int, size: int, *values: Value, sizes: tuple[int, ...] = (), last: bool = False, outside: str = "", **fields: int
    ) -> Value:  # fmt: skip
        """Append a row that writes a new buffer of `size` elements per step."""
        here = self.open
        here.buffers.append(Buffer(size, len(here.rows), len(here.rows)))
        made = len(here.buffers) - 1
        stride = here.buffers[values[0].buffer].size if values else size
        here.rows.append(Row((outside or name, label), {"kind": kind, "size": size, "stride": stride, **fields}, sizes, tuple(v.buffer for v in values), made))
        for v in values:
            here.buffers[v.buffer].dies = len(here.rows) - 1
        return Value(made, last)

    def needs(self, listed: int = 0, starts: int = 0, work: int = 0) -> None:
        here = self.open
        here.listed, here.starts, here.work = max(here.listed, listed), max(here.starts, starts), max(here.work, work)

    # Closing a segment

    def closed(self, group: Open) -> Segment:
        self.open = group
        inside = set(group.made)
        final = self.graph.output.name
        writes = [n for n in group.made if n == final or n in self.shown or any(r.name not in inside for r in self.graph.readers(n))]
        writes.sort(key=lambda n: not self.graph[n].timed)  # what has no time axis stands last
        for name in writes:
            if not self.graph[name].timed:
                continue
            value = group.values[name]
            shape = self.shape(self.graph[name].inputs[0] if isinstance(self.graph[name], g.Flatten) else name)
            turned = value.last and len(shape) > 1
            sizes = (count(shape[1:]), shape[0]) if turned else (1, count(shape))
            group.buffers[value.buffer].dies = len(group.rows)
            group.rows.append(Row((name, "store"), {"kind": STORE, "size": count(shape), "stride": count(shape)}, sizes, (value.buffer,)))
        shapes = tuple((self.graph[n].timed, count(self.shape(n)), self.shape(n)) for n in writes)
        room = _placed(group.buffers)
        table = np.zeros((len(group.rows), COLUMNS), np.int64)
        prefix_in, prefix_out = self._prefixes(group.reads), self._prefixes(writes)
        for i, row in enumerate(group.rows):
            places = {"in_": 0, "in_2": 0, "in_3": 0, **dict(zip(("in_", "in_2", "in_3"), (group.buffers[b].place for b in row.reads), strict=False))}
            out = 0 if row.writes is None else group.buffers[row.writes].place
            if row.label[1] == "load":
                places["in_"] = prefix_in[row.label[0]]
            if row.writes is None:
                out = prefix_out[row.label[0]]
            fields = {"out": out, **places, **row.fields}
            table[i, :FIRST] = [fields.get(f, 0) for f in _FIELDS]
            table[i, FIRST : FIRST + len(row.sizes)] = row.sizes
        return Segment(table, tuple(r.label for r in group.rows), tuple(group.reads), tuple(writes), shapes, room, group.listed, group.starts, group.work)

    def _prefixes(self, names: Sequence[str]) -> dict[str, int]:
        """Elements per step and sample that stand before each of these values."""
        found, at = {}, 0
        for name in names:
            found[name] = at
            at += count(self.shape(name))
        return found


def _placed(buffers: list[Buffer]) -> int:
    """Give every buffer a place that no other has while it lives. Returns the elements of all."""
    taken: list[Buffer] = []
    most = 0
    for buffer in buffers:
        taken = sorted((b for b in taken if b.dies >= buffer.born), key=lambda b: b.place)
        at = 0
        for other in taken:
            if other.place - at >= buffer.size:
                break
            at = other.place + other.size
        buffer.place = at
        taken.append(buffer)
        most = max(most, at + buffer.size)
    return most


def count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


