"""From a graph to the table of a compiled network: where each value, weight and state lies, and what is done in which order.

Maps lie channels last inside. What a node is lowered to is one small function per node, in one dict; a node that has none, or whose
step has no kernel, is left to torch, and the table is cut there into segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro import nodes as g
from neuro.errors import GraphError, explain
from neuro.graph import Graph
from neuro.kernels import inference_source as text
from neuro.kernels import programs
from neuro.kernels.program import Program

LINEAR, CONV, DEPTHWISE, POOL, ADD, ATTENTION, TURN, MEAN_TOKENS, AFFINE, LOAD, STORE, OVER_TIME = range(12)  # as in inference_loops,
NEURON, FIRST, COLUMNS = 16, 10, 28  # which loads Numba
_FIELDS = ("kind", "out", "in_", "in_2", "in_3", "size", "stride", "weight", "bias", "state")
_LISTED = 32
_STATELESS = (
    g.Conv2d, g.Conv1d, g.Linear, g.BatchNorm, g.Affine, g.Scale, g.MaxPool2d, g.AvgPool2d, g.SumPool2d, g.Add, g.AttentionProduct,
    g.Tokens, g.Flatten, g.MeanOverTokens,
)  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """Where the state of one node lies in the flat state of a sample: fields one after the other from `offset` on."""

    fields: tuple[str, ...]
    shapes: tuple[g.Shape, ...]  # of each field, as torch has it
    last: bool  # whether maps lie channels last
    offset: int

    @property
    def size(self) -> int:
        return sum(_count(s) for s in self.shapes)

    def read(self, flat: Tensor) -> list[Tensor]:
        """The fields [B, *shape] as copies, from the flat state [B, S]."""
        found, at = [], self.offset
        for shape in self.shapes:
            part = flat[:, at : at + _count(shape)]
            turned = self.last and len(shape) > 1
            found.append((part.reshape(-1, *shape[1:], shape[0]).movedim(-1, 1) if turned else part.reshape(-1, *shape)).clone(memory_format=torch.contiguous_format))
            at += _count(shape)
        return found

    def write(self, flat: Tensor, values: Sequence[Tensor]) -> None:
        at = self.offset
        for shape, value in zip(self.shapes, values, strict=True):
            turned = self.last and len(shape) > 1
            flat[:, at : at + _count(shape)] = (value.movedim(1, -1) if turned else value).reshape(value.shape[0], _count(shape))
            at += _count(shape)


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


@dataclass(frozen=True, eq=False)
class Lowered:
    """A network made ready: segments and, between them, names of the nodes that torch runs."""

    steps: tuple[Segment | str, ...]
    slots: dict[str, Slot]
    state: int  # elements of a sample's state
    weights: np.ndarray  # float32
    numbers: np.ndarray  # float64
    kinds: tuple[text.NeuronKind, ...]
    reasons: dict[str, str]  # why a node is left to torch


def lower(graph: Graph, torch_nodes: frozenset[str] = frozenset(), shown: frozenset[str] = frozenset()) -> Lowered:
    """The table of a graph whose norms are folded. `torch_nodes`: left to torch in any case; `shown`: values that go out beside the last.

    Raises:
        GraphError: a node of which it is not known what it remembers.
    """
    return _Lowering(graph, torch_nodes, shown).lowered()


class _ByTorch(Exception):
    """This node has no form in the table; the message says why."""


@dataclass
class _Buffer:
    size: int
    born: int
    dies: int
    place: int = -1


@dataclass(frozen=True)
class _Value:
    buffer: int
    last: bool  # channels last, for values of two and more axes


@dataclass
class _Row:
    label: tuple[str, str]
    fields: dict[str, int]
    sizes: tuple[int, ...] = ()
    reads: tuple[int, ...] = ()  # buffers
    writes: int | None = None


@dataclass
class _Open:
    """A segment while it grows."""

    rows: list[_Row] = field(default_factory=list)
    buffers: list[_Buffer] = field(default_factory=list)
    values: dict[str, _Value] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    listed: int = 1
    starts: int = _LISTED + 1
    work: int = 1


class _Lowering:
    def __init__(self, graph: Graph, torch_nodes: frozenset[str], shown: frozenset[str]):
        self.graph, self.torch_nodes, self.shown = graph, torch_nodes, shown
        self.weights: list[np.ndarray] = []
        self.filled = 0
        self.numbers: list[float] = []
        self.kinds: list[text.NeuronKind] = []
        self.slots: dict[str, Slot] = {}
        self.state = 0
        self.open = _Open()

    def lowered(self) -> Lowered:
        groups: list[_Open | str] = [self.open]
        reasons: dict[str, str] = {}
        for node in self.graph.nodes[1:]:
            try:
                if node.name in self.torch_nodes:
                    raise _ByTorch("it was asked for")
                self.node(node)
            except _ByTorch as reason:
                reasons[node.name] = str(reason)
                self._remembers(node)
                self.open = _Open()
                groups += [node.name, self.open]
        steps = [s if isinstance(s, str) else self._closed(s) for s in groups if isinstance(s, str) or s.made]
        weights = np.concatenate(self.weights) if self.weights else np.zeros(1, np.float32)
        numbers = np.array(self.numbers or [0.0], np.float64)
        return Lowered(tuple(steps), self.slots, self.state, weights, numbers, tuple(self.kinds), reasons)

    def node(self, node: g.Node) -> None:
        make = _LOWER.get(type(node))
        if make is None:
            raise _ByTorch("it has no form of its own")
        make(self, node)
        self.open.made.append(node.name)

    def _remembers(self, node: g.Node) -> None:
        """Make room for the state of a node that torch runs."""
        if node.name in self.slots or isinstance(node, _STATELESS):
            return
        if isinstance(node, g.Neuron):
            self.slot(node, node.state._fields, False)
        elif isinstance(node, g.Recurrent):
            self.slot(node, ("s", *node.neuron.state._fields), False)
        elif isinstance(node, g.SumOverTime):
            self._sums(node)
        else:
            raise GraphError(
                explain(
                    f"compile_inference: {node.name!r} is a {node.kind}.",
                    "It is not known what it remembers from one step to the next.",
                    cure="Run the model itself.",
                )
            )

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

    def _sums(self, node: g.Node) -> Slot:
        shape = self.shape(node.name)
        self.slots[node.name] = Slot(("sum", "count"), (shape, (1,) * len(shape)), False, self.state)
        self.state += self.slots[node.name].size
        return self.slots[node.name]

    def value(self, name: str, last: bool | None = None) -> _Value:
        """A value of the graph in this segment, loaded if it comes from outside; in the order of axes that is asked for."""
        here = self.open
        shape = self.shape(name)
        if name not in here.values:
            turned = bool(last) and len(shape) > 1
            channels, pixels = (shape[0], _count(shape[1:])) if turned else (1, _count(shape))
            here.values[name] = self.row(name, "load", LOAD, _count(shape), sizes=(channels, pixels), last=turned, outside=name)
            here.reads.append(name)
        value = here.values[name]
        if last is None or last == value.last or len(shape) < 2 or 1 in (shape[0], _count(shape[1:])):
            return value
        channels, pixels = shape[0], _count(shape[1:])
        sizes = (channels, pixels) if last else (pixels, channels)
        return self.row(name, "turn", TURN, _count(shape), value, sizes=sizes, last=last)

    def row(
        self, name: str, label: str, kind: int, size: int, *values: _Value, sizes: tuple[int, ...] = (), last: bool = False, outside: str = "", **fields: int
    ) -> _Value:  # fmt: skip
        """Append a row that writes a new buffer of `size` elements per step."""
        here = self.open
        here.buffers.append(_Buffer(size, len(here.rows), len(here.rows)))
        made = len(here.buffers) - 1
        stride = here.buffers[values[0].buffer].size if values else size
        here.rows.append(_Row((outside or name, label), {"kind": kind, "size": size, "stride": stride, **fields}, sizes, tuple(v.buffer for v in values), made))
        for v in values:
            here.buffers[v.buffer].dies = len(here.rows) - 1
        return _Value(made, last)

    def needs(self, listed: int = 0, starts: int = 0, work: int = 0) -> None:
        here = self.open
        here.listed, here.starts, here.work = max(here.listed, listed), max(here.starts, starts), max(here.work, work)

    # Closing a segment

    def _closed(self, group: _Open) -> Segment:
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
            sizes = (_count(shape[1:]), shape[0]) if turned else (1, _count(shape))
            group.buffers[value.buffer].dies = len(group.rows)
            group.rows.append(_Row((name, "store"), {"kind": STORE, "size": _count(shape), "stride": _count(shape)}, sizes, (value.buffer,)))
        shapes = tuple((self.graph[n].timed, _count(self.shape(n)), self.shape(n)) for n in writes)
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
            at += _count(self.shape(name))
        return found


def _placed(buffers: list[_Buffer]) -> int:
    """Give every buffer a place that no other has while it lives. Returns the elements of all."""
    taken: list[_Buffer] = []
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


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


# One function per node


def _linear(low: _Lowering, node: g.Linear) -> None:
    source, (outputs, inputs) = node.inputs[0], node.weight.shape
    shape, weight = low.shape(source), node.weight.detach()
    before = low.graph[source]
    value = low.open.values.get(source)
    if isinstance(before, g.Flatten) and value is not None and value.last:  # a flattened map lies channels last; so do these columns
        C, *rest = low.shape(before.inputs[0])
        weight = weight.view(outputs, C, -1).transpose(1, 2).reshape(outputs, inputs)
    else:
        value = low.value(source, False)
    rows = _count(shape[:-1])
    low.needs(_LISTED * inputs)
    bias = np.zeros(outputs, np.float32) if node.bias is None else node.bias
    places = {"weight": low.constant(weight.t()), "bias": low.constant(bias)}
    low.open.values[node.name] = low.row(node.name, node.kind, LINEAR, rows * outputs, value, sizes=(rows, inputs, outputs), **places)


def _conv(low: _Lowering, node: g.Conv2d | g.Conv1d) -> None:
    source = node.inputs[0]
    flat = isinstance(node, g.Conv1d)
    (C, H, W), (_, H_out, W_out) = ((s[0], 1, s[1]) if flat else s for s in (low.shape(source), low.shape(node.name)))
    stride, padding, dilation = ((int(k != 1), v) if flat else v for k, v in enumerate((node.stride, node.padding, node.dilation)))
    weight = node.weight.detach()[:, :, None] if flat else node.weight.detach()
    outputs, share, K_h, K_w = weight.shape
    D, groups = outputs // node.groups, node.groups
    depthwise = share == D == 1 and groups > 1
    turned = -1
    if stride == dilation == (1, 1) and groups == 1:
        turned = low.constant(weight.flip(3).permute(2, 1, 3, 0))
    if depthwise:
        place = low.constant(weight.permute(2, 3, 1, 0))
    else:
        place = low.constant(weight.unflatten(0, (groups, D)).permute(0, 3, 4, 2, 1))
    low.needs(H * W * C, H * (W * groups + 1))
    sizes = (share, H, W, D, H_out, W_out, K_h, K_w, *stride, *padding, *dilation, groups, turned)
    bias = low.constant(np.zeros(outputs, np.float32) if node.bias is None else node.bias)
    kind = DEPTHWISE if depthwise else CONV
    value = low.value(source, True)
    low.open.values[node.name] = low.row(node.name, node.kind, kind, outputs * H_out * W_out, value, sizes=sizes, last=True, weight=place, bias=bias)


def _pool(low: _Lowering, node: Any) -> None:
    C, H, W = low.shape(node.inputs[0])
    _, H_out, W_out = low.shape(node.name)
    how = {g.MaxPool2d: 0, g.SumPool2d: 3}.get(type(node), 1 if getattr(node, "count_include_pad", True) else 2)
    low.needs(work=W * C)
    sizes = (C, H, W, H_out, W_out, *node.kernel, *node.stride, *node.padding, how)
    low.open.values[node.name] = low.row(node.name, node.kind, POOL, C * H_out * W_out, low.value(node.inputs[0], True), sizes=sizes, last=True)


def _add(low: _Lowering, node: g.Add) -> None:
    a = low.value(node.inputs[0])
    b = low.value(node.inputs[1], a.last)
    low.open.values[node.name] = low.row(node.name, node.kind, ADD, _count(low.shape(node.name)), a, b, last=a.last)


def _attention(low: _Lowering, node: g.AttentionProduct) -> None:
    N, D = low.shape(node.name)
    d = D // node.heads
    qk_first = node.order == "qk_first" or (node.order == "cheapest" and N <= d)
    most = max(N, d)
    low.needs(_LISTED * most, work=d * N + most * most)
    low.numbers.append(node.scale)
    sizes, at = (N, D, node.heads, int(qk_first)), len(low.numbers) - 1
    values = [low.value(s, False) for s in node.inputs]
    low.open.values[node.name] = low.row(node.name, node.kind, ATTENTION, N * D, *values, sizes=sizes, weight=at)


def _tokens(low: _Lowering, node: g.Tokens) -> None:
    low.open.values[node.name] = _Value(low.value(node.inputs[0], True).buffer, False)


def _flatten(low: _Lowering, node: g.Flatten) -> None:
    """A map that only Linears read stays channels last; they take their columns in that order."""
    source, readers = low.value(node.inputs[0]), low.graph.readers(node.name)
    if source.last and readers and all(isinstance(r, g.Linear) and r.name not in low.torch_nodes for r in readers):
        low.open.values[node.name] = _Value(source.buffer, True)
    else:
        low.open.values[node.name] = _Value(low.value(node.inputs[0], False).buffer, False)


def _mean_over_tokens(low: _Lowering, node: g.MeanOverTokens) -> None:
    N, C = low.shape(node.inputs[0])
    low.open.values[node.name] = low.row(node.name, node.kind, MEAN_TOKENS, C, low.value(node.inputs[0], False), sizes=(N,))


def _affine(low: _Lowering, node: g.Affine | g.Scale) -> None:
    shape, value = low.shape(node.name), low.value(node.inputs[0])
    if isinstance(node, g.Affine):
        axes = [1] * (len(shape) + 2)
        axes[node.axis] = -1
        scale, shift = node.scale.view(axes)[0, 0], node.shift.view(axes)[0, 0]
    else:
        scale, shift = node.scale, torch.zeros(())
    places = {"weight": low.constant(_each(scale, shape, value.last)), "bias": low.constant(_each(shift, shape, value.last))}
    low.open.values[node.name] = low.row(node.name, node.kind, AFFINE, _count(shape), value, last=value.last, **places)


def _each(x: Tensor, shape: g.Shape, last: bool) -> Tensor:
    """One value for each element of a step, in the order that they lie in."""
    full = x.detach().expand(shape)
    return full.movedim(0, -1) if last and len(shape) > 1 else full


def _over_time(low: _Lowering, node: g.SumOverTime) -> None:
    value, slot = low.value(node.inputs[0], False), low._sums(node)
    here, size = low.open, _count(low.shape(node.name))
    here.buffers[value.buffer].dies = len(here.rows)
    fields = {"kind": OVER_TIME, "size": size, "stride": size, "state": slot.offset}
    here.rows.append(_Row((node.name, node.kind), fields, (int(isinstance(node, g.MeanOverTime)),), (value.buffer,)))


def _neuron(low: _Lowering, node: g.Neuron, around: g.Recurrent | None = None) -> None:
    me = around or node
    shape = low.shape(me.name)
    found, params = _program(node), programs.tensors(node.params)
    kind = text.NeuronKind(found.program or "", tuple(p.numel() == 1 for p in params))
    value = low.value(me.inputs[0], None if around is None else False)
    if kind not in low.kinds:
        low.kinds.append(kind)
    slot = low.slot(me, (*(("s",) if around else ()), *node.state._fields), value.last)
    fields = {"state": slot.offset, "bias": len(low.numbers)}
    low.numbers += [] if found.baked else programs.numbers(node.params)
    fields["weight"] = low.constant(*(p.reshape(()) if p.numel() == 1 else _each(_of_sample(p, shape), shape, value.last) for p in params))
    sizes: tuple[int, ...] = (-1, 0, 0)
    if around is not None:
        N = _count(shape)
        low.needs(_LISTED * N, work=N)
        fields["state"] += N
        bias = np.zeros(N, np.float32) if around.bias is None else around.bias
        sizes = (low.constant(around.weight.detach().t()), low.constant(bias), slot.offset)
    low.open.values[me.name] = low.row(me.name, me.kind, NEURON + low.kinds.index(kind), _count(shape), value, sizes=sizes, last=value.last, **fields)


def _recurrent(low: _Lowering, node: g.Recurrent) -> None:
    if len(low.shape(node.name)) != 1:
        raise _ByTorch("it feeds back more than one vector")
    _neuron(low, node.neuron, node)


def _of_sample(p: Tensor, shape: g.Shape) -> Tensor:
    return p.reshape(p.shape[1:]) if p.dim() == len(shape) + 1 else p


def _program(node: g.Neuron) -> programs.Found:
    """The step's program, once its kernel has agreed with the plain loop."""
    x = torch.zeros(1, 1, 1)
    state = node.state(*(torch.zeros(1, 1) for _ in node.state._fields))
    found = programs.find(node.step, x, state, node.params, node.choices, torch.float32)
    if found.program is None or not found.single:
        raise _ByTorch("its step has no kernel")
    if not programs.agrees(node.step, found, x, state, node.params, None, node.choices, False):
        raise _ByTorch("its kernel does not agree with its step")
    if Program.from_json(found.program).inputs != 1:
        raise _ByTorch("its step takes more than one input")
    return found


_LOWER: dict[type[g.Node], Callable[[_Lowering, Any], None]] = {
    g.Linear: _linear,
    g.Conv2d: _conv,
    g.Conv1d: _conv,
    g.MaxPool2d: _pool,
    g.AvgPool2d: _pool,
    g.SumPool2d: _pool,
    g.Add: _add,
    g.AttentionProduct: _attention,
    g.Tokens: _tokens,
    g.Flatten: _flatten,
    g.MeanOverTokens: _mean_over_tokens,
    g.Affine: _affine,
    g.Scale: _affine,
    g.Neuron: _neuron,
    g.Recurrent: _recurrent,
    g.SumOverTime: _over_time,
    g.MeanOverTime: _over_time,
}
