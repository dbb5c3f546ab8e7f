"""What is mapped: layers of neurons and the products that feed them, read from the typed graph.

Every product is seen as a convolution of a map [C, H, W]: a Linear as 1x1 on [I, 1, 1], or as wide as the map that was flattened before it, tokens [N, D] as [D, N, 1], a Conv1d as
[C, L, 1]. A layer's neurons are numbered channel by channel, row by row, so a layer is split by ranges of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neuro import graph as g
from neuro.graph import Graph, fold_norms

Map = tuple[int, int, int]
KNOWN = ("LIF", "IF", "PLIF", "CUBALIF", "ALIF")


@dataclass(frozen=True, eq=False)
class Product:
    """Weights from `sources` into a layer. in_map [C, H, W] -> out_map [O, H', W'].

    kind: "conv", "dense", "direct" (events added to the membrane as they are), "attention" (no weights; not counted here).
    sources: layers, or the input, whose events are summed before the weights. held: steps by which a `Delay` holds them back.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    in_map: Map
    out_map: Map
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight: Tensor | None = None
    bias: bool = False
    held: int = 0

    @property
    def weights_per_channel(self) -> int:
        """Weights that one output channel holds; tokens that are averaged share theirs."""
        return self.weight.numel() // self.weight.shape[0] if self.weight is not None else 0


@dataclass(frozen=True)
class Pool:
    """A window over what a layer gives. kind: "max", "avg" or "sum"."""

    name: str
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of neurons with what feeds it.

    role: "neurons", "readout" (an accumulator that never fires) or "relay" (a product that no neuron follows).
    operations: (name of `neuro.deploy.chips.OPERATIONS`, node) of everything in it that a chip may lack.
    pool: what follows it before the next layer. depth: products on the longest way to it. waits: longest delay of its inputs: to align them, and of every `Delay`.
    """

    name: str
    role: str
    map: Map
    products: tuple[Product, ...]
    neuron: g.Neuron | None = None
    operations: tuple[tuple[str, str], ...] = ()
    pool: Pool | None = None
    depth: int = 0
    waits: int = 0

    @property
    def neurons(self) -> int:
        return self.map[0] * self.map[1] * self.map[2]

    @property
    def sources(self) -> tuple[str, ...]:
        """Layers that it reads, each once."""
        return tuple(dict.fromkeys(s for p in self.products for s in p.sources))

    @property
    def states(self) -> int:
        """Words of state per neuron."""
        return len(self.neuron.state._fields) if self.neuron is not None else 1

    @property
    def known(self) -> bool:
        """Whether its neuron is one of ours."""
        return self.neuron is None or self.neuron.model in KNOWN

    @property
    def levels(self) -> int:
        """The largest value that it sends."""
        if self.neuron is None:
            return 1
        spike = self.neuron.choices.get("spike")
        return 1 if spike is None else max(1, int(spike(torch.tensor([1e30])).max()))


@dataclass(frozen=True)
class Network:
    """The layers of a graph in order, and the map that enters."""

    input: str
    input_map: Map
    layers: tuple[Layer, ...]

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def readers(self, name: str) -> list[Layer]:
        """The layers that read this one."""
        return [layer for layer in self.layers if name in layer.sources]


@dataclass(frozen=True)
class _Value:
    """What flows on an edge: events of layers (`sources`), or a current (`products`) that waits for its neuron."""

    sources: tuple[str, ...] = ()
    products: tuple[Product, ...] = ()
    operations: tuple[tuple[str, str], ...] = ()
    window: int = 0  # tokens that are averaged on the way
    flat: Map | None = None  # the map that was flattened
    held: int = 0  # steps of the delays on the way


def layers_of(graph: Graph) -> Network:
    """The layers of a graph, its norms folded away first.

    Raises:
        GraphError: a Linear over the last axis of a map, a sum of values laid out differently.

    >>> import torch, neuro
    >>> net = neuro.layers.Sequential(neuro.layers.Linear(3, 2), neuro.neurons.LIF())
    >>> [(layer.name, layer.neurons, layer.products[0].in_map) for layer in layers_of(neuro.trace(net, torch.zeros(4, 1, 3))).layers]
    [('1', 2, (3, 1, 1))]
    """
    return _Reader(folded(graph)).network()


def folded(graph: Graph) -> Graph:
    """The graph without norms that weights can take in; itself where it has none."""
    return fold_norms(graph) if any(isinstance(n, g.BatchNorm) for n in graph) else graph


def as_map(shape: tuple[int, ...]) -> Map:
    """A per-step shape as a map: [I] -> [I, 1, 1], [N, D] -> [D, N, 1].

    >>> as_map((5,)), as_map((4, 8)), as_map((2, 6, 6))
    ((5, 1, 1), (8, 4, 1), (2, 6, 6))
    """
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return (shape[0], 1, 1) if len(shape) == 1 else (shape[1], shape[0], 1)


def _of_linear(shape: tuple[int, ...], value: _Value) -> tuple[Map, tuple[int, int]]:
    """Map and kernel of a Linear: over the whole map that was flattened before it, over all tokens whose mean it reads, else 1x1."""
    if value.window:
        return (shape[0], value.window, 1), (value.window, 1)
    if value.flat is not None and len(shape) == 1:
        return value.flat, value.flat[1:]
    return as_map(shape), (1, 1)


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layers: dict[str, Layer] = {}
        self.values: dict[str, _Value] = {}
        for node in graph:
            self._read(node)

    def network(self) -> Network:
        out = self.graph.output
        if self.values.get(out.name, _Value()).products:  # ends in a current without a readout node
            self._close(out, "readout", self.values[out.name])
        shape = self.graph.input.shape
        first = next((p.in_map for layer in self.layers.values() for p in layer.products if self.graph.input.name in p.sources), None)
        if not self.layers:
            raise out.refuse("there is no layer to map.", cure="A network has at least one Linear, convolution or neuron.")
        return Network(self.graph.input.name, first or as_map(shape), tuple(self.layers.values()))

    def _read(self, node: g.Node) -> None:
        if isinstance(node, g.Input):
            self.values[node.name] = _Value((node.name,))
        elif isinstance(node, (g.Conv2d, g.Conv1d, g.Linear, g.AttentionProduct)):
            self._product(node)
        elif isinstance(node, (g.Neuron, g.Recurrent)):
            self._neuron(node)
        elif isinstance(node, (g.MaxPool2d, g.AvgPool2d, g.SumPool2d)):
            self._pool(node)
        elif isinstance(node, g.Add):
            self._add(node)
        elif isinstance(node, g.Delay):
            value = self._events(node, 0)
            self.values[node.name] = replace(value, held=value.held + node.steps)
        elif isinstance(node, g.SumOverTime):
            value = self.values[node.inputs[0]]
            if value.products:
                self._close(node, "readout", value)
        elif isinstance(node, g.MeanOverTokens):
            value = self._events(node, 0)
            self.values[node.name] = replace(value, operations=(*value.operations, ("token_mean", node.name)), window=self.graph.shapes[node.inputs[0]][0])
        elif isinstance(node, (g.Tokens, g.Flatten)):
            shape = self.graph.shapes[node.inputs[0]]
            flat = as_map(shape) if isinstance(node, g.Flatten) and len(shape) > 1 else None
            self.values[node.name] = replace(self.values[node.inputs[0]], flat=flat)
        else:  # a norm or a scale that stayed by itself
            value = self.values[node.inputs[0]]
            self.values[node.name] = replace(value, operations=(*value.operations, ("norm", node.name)))

    def _events(self, node: g.Node, which: int) -> _Value:
        """An input as events; a current that arrives without a neuron becomes a relay."""
        name = node.inputs[which]
        value = self.values[name]
        if value.products:
            self._close(self.graph[name], "relay", value, (("relay", name),))
            value = self.values[name] = _Value((name,))
        return value

    def _product(self, node: Any) -> None:
        values = [self._events(node, i) for i in range(len(node.inputs))]
        operations = tuple(dict.fromkeys(o for v in values for o in v.operations))
        sources, held = tuple(s for v in values for s in v.sources), max(v.held for v in values)
        shape, out = self.graph.shapes[node.inputs[0]], self.graph.shapes[node.name]
        if isinstance(node, g.AttentionProduct):
            made = Product(node.name, "attention", sources, as_map(shape), as_map(out), held=held)
            self.values[node.name] = _Value(products=(made,), operations=(*operations, ("attention", node.name)))
            return
        how: dict[str, Any] = {"held": held, "weight": node.weight, "bias": node.bias is not None and bool(node.bias.any())}
        if isinstance(node, g.Linear):
            if len(shape) == 3:
                raise node.refuse("it works on the last axis of a map, which no chip here does.", f"input {list(shape)}", cure="Put Flatten or Tokens before it.")
            in_map, kernel = _of_linear(shape, values[0])
            made = Product(node.name, "dense", sources, in_map, as_map(out), kernel=kernel, **how)
        elif isinstance(node, g.Conv1d):
            how |= {"stride": (node.stride, 1), "padding": (node.padding, 0), "dilation": (node.dilation, 1), "groups": node.groups}
            made = Product(node.name, "conv", sources, (*shape, 1), (*out, 1), kernel=(node.weight.shape[2], 1), **how)
            operations += (("conv1d", node.name),)
        else:
            how |= {"stride": node.stride, "padding": node.padding, "dilation": node.dilation, "groups": node.groups}
            made = Product(node.name, "conv", sources, as_map(shape), as_map(out), kernel=(node.weight.shape[2], node.weight.shape[3]), **how)
        found = [("bias", made.bias), ("groups", made.groups > 1), ("dilation", max(made.dilation) > 1)]
        self.values[node.name] = _Value(products=(made,), operations=(*operations, *((what, node.name) for what, there in found if there)))

    def _neuron(self, node: g.Neuron | g.Recurrent) -> None:
        value = self.values[node.inputs[0]]
        inner = node.neuron if isinstance(node, g.Recurrent) else node
        if value.sources:
            value = self._direct(node, value)
        if isinstance(node, g.Recurrent):
            n = self.graph.shapes[node.name]
            loop = Product(f"{node.name}.recurrent", "dense", (node.name,), as_map(n), as_map(n), weight=node.weight,
                           bias=node.bias is not None and bool(node.bias.any()))  # fmt: skip
            value = replace(value, products=(*value.products, loop), operations=(*value.operations, ("recurrent", node.name)))
        extra = (("adaptive", node.name),) if inner.model == "ALIF" else ()
        self._close(node, "neurons", value, extra, inner)

    def _direct(self, node: g.Node, value: _Value) -> _Value:
        """Events that reach a membrane without weights."""
        shape = self.graph.shapes[node.inputs[0]]
        at = (shape[0], value.window, 1) if value.window else as_map(shape)
        out = (at[0], 1, 1) if value.window else at
        made = Product(f"{node.name}.direct", "direct", value.sources, at, out, kernel=(value.window or 1, 1), groups=at[0], held=value.held)
        return _Value(products=(made,), operations=value.operations)

    def _add(self, node: g.Add) -> None:
        values = [self.values[s] for s in node.inputs]
        operations = (*dict.fromkeys(o for v in values for o in v.operations), ("residual", node.name))
        if any(v.products for v in values):
            values = [v if v.products else self._direct(g.Add(node.name, (s,)), v) for v, s in zip(values, node.inputs, strict=True)]
            products = tuple(p for v in values for p in v.products)
            if len({p.out_map for p in products}) > 1:
                raise node.refuse("its inputs are laid out differently.", *(f"{p.name} {list(p.out_map)}" for p in products), cure="Bring both to one layout.")
            self.values[node.name] = _Value(products=products, operations=operations)
        else:
            window, held = max(v.window for v in values), max(v.held for v in values)
            self.values[node.name] = _Value(tuple(s for v in values for s in v.sources), (), operations, window, held=held)

    def _pool(self, node: Any) -> None:
        value = self._events(node, 0)
        kind = {"MaxPool2d": "max", "AvgPool2d": "avg", "SumPool2d": "sum"}[node.kind]
        operation = ("max_pool" if kind == "max" else "avg_pool", node.name)
        pool = Pool(node.name, kind, node.kernel, node.stride, node.padding)
        (source, *more) = value.sources
        if not more and source in self.layers and self.layers[source].pool is None:
            layer = self.layers[source]
            self.layers[source] = replace(layer, pool=pool, operations=(*layer.operations, operation))
            self.values[node.name] = value
        else:  # of the input, of a sum, or a second one: it belongs to whoever reads it
            self.values[node.name] = replace(value, operations=(*value.operations, operation))

    def _close(self, node: g.Node, role: str, value: _Value, extra: tuple[tuple[str, str], ...] = (), neuron: g.Neuron | None = None) -> None:
        """A layer whose current is complete."""
        if role == "readout":
            extra = (*extra, ("readout", node.name))
        depths = [[self.layers[s].depth if s in self.layers else 0 for s in p.sources if s != node.name] for p in value.products]
        arrivals = [d for row in depths for d in row] or [0]
        self.layers[node.name] = Layer(node.name, role, value.products[0].out_map, value.products, neuron, (*value.operations, *extra),
                                       depth=max(arrivals) + 1, waits=max(arrivals) - min(arrivals) + max(p.held for p in value.products))  # fmt: skip
        if node.timed:
            self.values[node.name] = _Value((node.name,))
