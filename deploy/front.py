"""The first layers on the host: where a network's input is no count of events, the chip begins behind its first neurons.

Pictures shown as currents, bands of a spectrogram, accelerations: a chip takes none of them, but it takes the spikes that the first
layer of neurons makes of them. That layer then runs as it was trained, in floating point, on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from neuro.errors import GraphError, explain
from neuro.graph import Graph, Input, Neuron, Node
from neuro.tracing import trace


@dataclass(frozen=True, eq=False)
class Front:
    """A graph in two: what the host computes, the last of it neurons, and what reads their spikes.

    host: the given input -> spikes. chip: these spikes -> the output; its input has the name of the neurons.
    """

    host: Graph
    chip: Graph

    def spikes(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the host sends for x [T, B, ...]: the input of the chip's part, 0 or 1 of a neuron that fires at most once per step."""
        return self.host.run(x, lengths)

    def messages(self, x: Tensor, lengths: Tensor | None = None) -> np.ndarray:
        """The same as int32, as `run_twin` and Lava take it."""
        return self.spikes(x, lengths).round().to(torch.int32).numpy()

    def __str__(self) -> str:
        counts = [sum(p.numel() for n in part for p in vars(n).values() if isinstance(p, Tensor)) for part in (self.host, self.chip)]
        share = counts[0] / max(1, sum(counts))
        return f"on the host: {', '.join(n.name for n in self.host.nodes[1:])} ({share:.1%} of the numbers); on the chip from the spikes of {self.host.output.name!r} on"


def split_front(model: Graph | nn.Module, x: Tensor) -> Front:
    """Cut a network behind the first neurons through which everything passes.

    Args:
        model: a model or its graph. x: [T, B, ...], of which one step of one sample is used to trace a model.

    Raises:
        GraphError: no layer of neurons lies on every way from the input to the output, or nothing comes after it.

    >>> import neuro
    >>> from neuro.layers import Linear, MeanOverTime, Sequential
    >>> net = Sequential(Linear(3, 4), neuro.neurons.LIF(), Linear(4, 2), MeanOverTime())
    >>> print(split_front(net, torch.zeros(1, 1, 3)))
    on the host: 0, 1 (61.5% of the numbers); on the chip from the spikes of '1' on
    """
    graph = model if isinstance(model, Graph) else trace(model, x[:1, :1])
    for node in graph:
        if isinstance(node, Neuron) and node is not graph.output and not bypassed(graph, node):
            return cut(graph, node)
    found = ", ".join(n.name + (" (the output itself)" if n is graph.output else "") for n in graph if isinstance(n, Neuron))
    facts = f"its neurons: {found}" if found else "it has no neurons"
    cure = "Put a neuron between the input and the first branch, a layer behind it, or give event counts and quantise the whole."
    raise GraphError(explain("split_front: no layer of neurons with something behind it lies on every way from the input to the output.", facts, cure=cure))


def ancestors(graph: Graph, node: Node) -> set[str]:
    """The names of the nodes that a node depends on, its own among them."""
    found, waiting = {node.name}, list(node.inputs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name].inputs
    return found


def bypassed(graph: Graph, node: Node) -> bool:
    """Whether something of what the node depends on reaches the output without it."""
    before = ancestors(graph, node)
    return any(set(n.inputs) & (before - {node.name}) for n in graph if n.name not in before)


def cut(graph: Graph, node: Node) -> Front:
    """The two parts on the sides of a node that all ways pass."""
    before = ancestors(graph, node)
    host = Graph(n for n in graph if n.name in before)
    begin = Input(node.name, (), graph.shapes[node.name])
    return Front(host, Graph([begin, *(n for n in graph if n.name not in before)], graph.removed))
