"""Currents on their way to a neuron: the layers that they come from, through sums and pools of them.

A neuron takes the bias of its layers itself, and one scale serves all of them. Both pass what lies between: `max(a + b) = max(a) + b`, and a
mean of n currents is their sum at weights of 1/n.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from neuro import graph as g
from neuro.graph import Graph

LAYERS = (g.Conv2d, g.Linear)
BETWEEN = (g.Add, g.MaxPool2d, g.AvgPool2d)


def leaves(graph: Graph, node: g.Node, values: Container[str]) -> list[g.Conv2d | g.Linear]:
    """The layers whose currents make up what a node gives; none if it gives a value.

    Args:
        values: names of the nodes that give values: events, spikes, and sums of them.
    """
    if node.name in values:
        return []
    if isinstance(node, BETWEEN):
        return [leaf for name in node.inputs for leaf in leaves(graph, graph[name], values)]
    return [node] if isinstance(node, LAYERS) else []


def between(graph: Graph, node: g.Node) -> Iterator[g.Node]:
    """The sums and pools behind these layers, each after what it reads; the last is the node itself, if it is one."""
    if isinstance(node, BETWEEN):
        for name in node.inputs:
            yield from between(graph, graph[name])
        yield node


def areas(graph: Graph, node: g.Node, area: int = 1) -> Iterator[tuple[str, int]]:
    """(layer, over how many of its currents a mean is taken before the neuron)."""
    if isinstance(node, LAYERS):
        yield node.name, area
    if isinstance(node, BETWEEN):
        own = node.kernel[0] * node.kernel[1] if isinstance(node, g.AvgPool2d) else 1
        for name in node.inputs:
            yield from areas(graph, graph[name], area * own)
