"""The typed graph between worlds: what `neuro.trace` yields, and all that deployment and interchange read."""

from __future__ import annotations

import html
import numbers
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neuro.errors import GraphError, NeuroError, ShapeError, explain
from neuro.nodes import (
    Add,
    Affine,
    AttentionProduct,
    AvgPool2d,
    BatchNorm,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Input,
    Linear,
    MaxPool2d,
    MeanOverTime,
    MeanOverTokens,
    Neuron,
    Node,
    Recurrent,
    Scale,
    Shape,
    SumOverTime,
    SumPool2d,
    Tokens,
)

__all__ = [
    "Add", "Affine", "AttentionProduct", "AvgPool2d", "BatchNorm", "Conv1d", "Conv2d", "Delay", "Flatten", "Graph", "Input", "Linear", "MaxPool2d",
    "MeanOverTime", "MeanOverTokens", "Neuron", "Node", "Recurrent", "Scale", "Shape", "SumOverTime", "SumPool2d",
    "Tokens", "fold_norms",
]  # fmt: skip


class Graph:
    """Nodes in topological order, the Input first, the output last. Immutable; it can be run as the float reference.

    Args:
        nodes: an input of a node stands before it; every node but the last is read by another.
        removed: (path, kind) of the layers that are the identity in eval mode and were left out on purpose.

    Attributes:
        shapes: per-step shape of every node by name, without T and B. Found by running one step of zeros.

    Raises:
        GraphError: a name that is repeated, unknown or late, shapes that do not fit, an output that nothing reads.

    >>> import torch, neuro
    >>> net = neuro.layers.Sequential(neuro.layers.Linear(3, 2), neuro.neurons.LIF())
    >>> graph = neuro.trace(net, torch.zeros(4, 1, 3))
    >>> [(node.name, node.kind, graph.shapes[node.name]) for node in graph]
    [('input', 'Input', (3,)), ('0', 'Linear', (2,)), ('1', 'Neuron', (2,))]
    """

    def __init__(self, nodes: Iterable[Node], removed: Iterable[tuple[str, str]] = ()) -> None:
        self.nodes = tuple(nodes)
        self.removed = tuple(removed)
        self._by_name: dict[str, Node] = {}
        for node in self.nodes:
            self._enter(node)
        self.shapes = self._shapes()
        for node in self.nodes[:-1]:
            if not self.readers(node.name):
                raise node.refuse("nothing reads its output.", cure="Leave it out of forward, or return what depends on it.")

    def _enter(self, node: Node) -> None:
        if isinstance(node, Input) != (not self._by_name):
            raise GraphError(explain("Graph: one Input is needed, and it stands first.", f"{node.kind} {node.name!r}"))
        if node.name in self._by_name:
            raise node.refuse("the name is taken.")
        for source in node.inputs:
            if source not in self._by_name or not self._by_name[source].timed:
                raise node.refuse(f"it reads {source!r}, which is not a sequence that stands before it.")
        self._by_name[node.name] = node

    def _shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {self.input.name: self.input.shape}
        like = next((v for n in self.nodes for v in vars(n).values() if isinstance(v, Tensor)), torch.zeros(()))
        for node in self.nodes[1:]:
            zeros = [torch.zeros(1, 1, *shapes[s], dtype=like.dtype, device=like.device) for s in node.inputs]
            try:
                with torch.no_grad():
                    y = node.compute(*zeros)
            except (RuntimeError, IndexError, NeuroError) as error:
                facts = [f"input {s} {list(shapes[s])}" for s in node.inputs]
                raise node.refuse("the shapes do not fit.", *facts, str(error).splitlines()[0]) from error
            shapes[node.name] = tuple(y.shape[2 if node.timed else 1 :])
        return shapes

    @property
    def input(self) -> Input:
        return self.nodes[0]  # type: ignore[return-value]

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def readers(self, name: str) -> list[Node]:
        """The nodes that read this one."""
        return [n for n in self.nodes if name in n.inputs]

    def values(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Every node's output for x [T, B, ...], by name, without gradients."""
        if x.dim() < 3 or tuple(x.shape[2:]) != self.input.shape:
            raise ShapeError(explain("Graph: the input does not fit.", f"x {list(x.shape)}   expected [T, B, {str(list(self.input.shape))[1:-1]}]"))
        found = {self.input.name: x}
        with torch.no_grad():
            for node in self.nodes[1:]:
                found[node.name] = node.compute(*(found[s] for s in node.inputs), lengths=lengths)
        return found

    def run(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the model gives for x [T, B, ...] in eval mode. lengths: steps that count per sample [B], None: all."""
        return self.values(x, lengths)[self.output.name]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(name, kind, shape, parameters) of every node."""
        return [
            (n.name, n.kind, "x".join(map(str, self.shapes[n.name])), ", ".join(f"{k}={_shown(v)}" for k, v in n.facts().items() if k != "shape"))
            for n in self.nodes
        ]

    def __repr__(self) -> str:
        head = ("name", "kind", "shape", "parameters")
        rows = [head, *self.rows()]
        widths = [max(len(r[i]) for r in rows) for i in range(3)]
        lines = ["  ".join([*(r[i].ljust(widths[i]) for i in range(3)), r[3]]).rstrip() for r in rows]
        lines.insert(1, "-" * max(map(len, lines)))
        if self.removed:
            lines.append("left out, identity in eval mode: " + ", ".join(f"{path} ({kind})" for path, kind in self.removed))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = ["".join(f"<td>{html.escape(c)}</td>" for c in row) for row in self.rows()]
        return "<table><tr><th>name</th><th>kind</th><th>shape</th><th>parameters</th></tr>" + "".join(f"<tr>{c}</tr>" for c in cells) + "</table>"


def fold_norms(graph: Graph) -> Graph:
    """The same function without norms: each is taken into the convolution or Linear before it, and is an Affine node otherwise.

    `W <- a W`, `b <- a b + shift` per output channel, in float64, rounded once to the weight's dtype. A norm is folded if
    it alone reads the layer and normalises its output channels. The folded layer keeps its own name.
    """
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph:
        node = replace(node, inputs=tuple(renamed.get(s, s) for s in node.inputs))
        if isinstance(node, BatchNorm):
            source = graph[node.inputs[0]] if node.inputs[0] in graph._by_name else None
            a, shift = node.affine()
            if isinstance(source, (Conv1d, Conv2d, Linear)) and source.name in graph[node.name].inputs and _foldable(graph, source, node):
                at = next(i for i, n in enumerate(nodes) if n.name == source.name)
                w = source.weight.double() * a.view(-1, *[1] * (source.weight.dim() - 1))
                b = shift if source.bias is None else a * source.bias.double() + shift
                nodes[at] = replace(nodes[at], weight=w.to(source.weight.dtype), bias=b.to(source.weight.dtype))
                renamed[node.name] = source.name
                continue
            node = Affine(node.name, node.inputs, a.to(node.mean.dtype), shift.to(node.mean.dtype), node.axis)
        nodes.append(node)
    return Graph(nodes, graph.removed)


def _foldable(graph: Graph, source: Node, norm: BatchNorm) -> bool:
    dims = len(graph.shapes[source.name]) + 2
    channels = 2 if isinstance(source, (Conv1d, Conv2d)) else dims - 1
    return norm.axis % dims == channels and len(graph.readers(source.name)) == 1


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.item():.4g}" if value.numel() == 1 else str(list(value.shape))
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, int)):
        return f"{value:.6g}"
    return str(value)
