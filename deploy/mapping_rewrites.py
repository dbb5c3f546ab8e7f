"""Changes of a network that a chip needs and that can be made without training: pools, groups, divisors, rounded weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neuro import graph as g
from neuro.deploy.chips import Chip
from neuro.deploy.mapping_layers import folded
from neuro.graph import Graph
from neuro.neurons import lif_step
from neuro.neurons.lif import LIFParams, LIFState
from neuro.reset import to_zero
from neuro.surrogate import ATan

FEW = 4096  # weights that are looked at before the others


def rewritten(graph: Graph, chip: Chip, bits: Callable[[str], int], without: Graph | None = None, input_bits: int | None = None) -> tuple[Graph, tuple[str, ...]]:
    """The graph as this chip takes it, and what was changed, one line each.

    Norms are folded (`without`: the graph after that, where it is known); then what `REWRITES` can do and the chip asks for; then weights are rounded to `bits(node name)`, one scale per
    layer, the largest weight at the grid's end. What needs training is left as it is.
    """
    changes: list[str] = []
    without = folded(graph) if without is None else without
    left = {n.name for n in without}
    norms = [n.name for n in graph if isinstance(n, g.BatchNorm) and n.name not in left]
    if norms:
        changes.append(f"norms folded into the weights before them (exact): {', '.join(norms)}")
    graph = without
    for operation, rewrite in REWRITES.items():
        if needs(chip, operation):
            graph, made = rewrite(graph, input_bits)
            changes += made
    graph, made = rounded(graph, bits)
    return graph, (*changes, *made)


def needs(chip: Chip, operation: str) -> bool:
    """Whether a rewrite makes this operation possible on the chip."""
    return operation in REWRITES and chip.operations[operation].value not in ("yes", "no")


def rounded(graph: Graph, bits: Callable[[str], int]) -> tuple[Graph, list[str]]:
    """Weights on a symmetric grid of so many bits, `w <- round(w / s) s` with s = max|w| / (2^(bits-1) - 1)."""
    nodes, changes = [], []
    for node in graph:
        if isinstance(node, (g.Conv1d, g.Conv2d, g.Linear, g.Recurrent)) and not bool(node.weight.isfinite().all()):
            raise node.refuse("its weights hold NaN or infinity, which no chip does.", cure="Train anew, or restore an earlier checkpoint.")
        if isinstance(node, (g.Conv1d, g.Conv2d, g.Linear, g.Recurrent)) and not on_grid(node.weight, bits(node.name)):
            w = to_grid(node.weight, bits(node.name))
            off = float((w - node.weight).abs().max())
            changes.append(f"{node.name}: weights rounded to {bits(node.name)} bits, largest change {off:.3g} of {float(node.weight.abs().max()):.3g}")
            node = replace(node, weight=w)
        nodes.append(node)
    return (Graph(nodes, graph.removed) if changes else graph), changes


def to_grid(weight: Tensor, bits: int) -> Tensor:
    """The nearest weights on the grid.

    >>> to_grid(torch.tensor([1.0, 0.7, 0.2]), 2)
    tensor([1., 1., 0.])
    """
    return _rounded(weight, weight.abs().max().double() / max(1, 2 ** (bits - 1) - 1))


def _rounded(weight: Tensor, step: Tensor) -> Tensor:
    """Each weight at the nearest multiple of a step."""
    return weight.clone() if step == 0 else ((weight.double() / step).round() * step).to(weight.dtype)


def on_grid(weight: Tensor, bits: int) -> bool:
    """Whether they stand there already: as `to_grid` leaves them, or as whole multiples of one step within the width, as in an integer network.

    >>> on_grid(torch.tensor([-256.0, 4.0, 254.0]), 8), on_grid(torch.tensor([-256.0, 3.0]), 8)
    (True, False)
    """
    few = weight.flatten()[:FEW]
    step = weight.abs().max().double() / max(1, 2 ** (bits - 1) - 1)
    if not torch.equal(few, few.round()) and not torch.equal(_rounded(few, step), few):  # so nearly every trained layer is told without a copy of it
        return False
    whole = weight.double()
    if torch.equal(whole, whole.round()) and float(whole.abs().max()) < 2**31:
        step = math.gcd(*whole.abs().long().flatten().tolist()) or 1
        if float(whole.max()) / step <= max(1, 2 ** (bits - 1) - 1) and float(whole.min()) / step >= -(2 ** (bits - 1)):
            return True
    return bool(torch.equal(to_grid(weight, bits), weight))


def width_of(weight: Tensor) -> int:
    """Bits of the narrowest grid on which whole numbers stand, as multiples of their common step.

    >>> width_of(torch.tensor([-256.0, 4.0, 254.0])), width_of(torch.tensor([-256.0, 3.0]))
    (8, 9)
    """
    return next((bits for bits in range(1, 64) if on_grid(weight, bits)), 64)


def _or_neurons(graph: Graph, input_bits: int | None = None) -> tuple[Graph, list[str]]:
    """A max pool of binary spikes becomes neurons without memory that fire where any input fires. Exact; one more step of delay."""
    nodes: list[g.Node] = []
    changes: list[str] = []
    for node in graph:
        if isinstance(node, g.MaxPool2d) and binary(graph, node.inputs[0], input_bits):
            C = graph.shapes[node.inputs[0]][0]
            weight = torch.ones(C, 1, *node.kernel)
            conv = g.Conv2d(f"{node.name}.any", node.inputs, weight, None, node.stride, node.padding, (1, 1), C)
            how = {"spike": ATan(), "reset": to_zero}
            nodes += [conv, g.Neuron(node.name, (conv.name,), "LIF", lif_step, LIFState, LIFParams(0.0, 1.0, 0.5), how)]
            changes.append(f"{node.name}: a max pool of spikes becomes {C} x {'x'.join(map(str, graph.shapes[node.name][1:]))} neurons that fire where any input fires (exact)")
        else:
            nodes.append(node)
    return (Graph(nodes, graph.removed) if changes else graph), changes


def _sum_pools(graph: Graph, input_bits: int | None = None) -> tuple[Graph, list[str]]:
    """A mean over windows becomes a sum, its divisor taken into the weights that read it. Exact up to rounding."""
    scale: dict[str, float] = {}  # value of the old graph = scale * value of the new
    nodes: list[g.Node] = []
    changes: list[str] = []
    for node in graph:
        made: g.Node = node
        before = [scale.get(s, 1.0) for s in node.inputs]
        if isinstance(node, g.AvgPool2d) and divisible(graph, node):
            made = g.SumPool2d(node.name, node.inputs, node.kernel, node.stride, node.padding)
            scale[node.name] = before[0] / (node.kernel[0] * node.kernel[1])
            changes.append(f"{node.name}: the mean of {node.kernel[0]}x{node.kernel[1]} becomes a sum, its divisor taken into the weights after it")
        elif before and before[0] != 1.0:
            if isinstance(node, (g.Conv1d, g.Conv2d, g.Linear)):
                made = replace(node, weight=node.weight * before[0])
            elif isinstance(node, (g.Flatten, g.Tokens, g.SumPool2d, g.MaxPool2d)):
                scale[node.name] = before[0]
        nodes.append(made)
    return (Graph(nodes, graph.removed) if changes else graph), changes


def divisible(graph: Graph, node: g.Node) -> bool:
    """Whether all that reads a mean, reshapes looked through, has weights that can take its divisor."""
    if isinstance(node, g.AvgPool2d) and not node.count_include_pad and max(node.padding) > 0:
        return False
    readers = graph.readers(node.name)
    through = (g.Flatten, g.Tokens, g.SumPool2d, g.MaxPool2d)
    return bool(readers) and all(isinstance(r, (g.Conv1d, g.Conv2d, g.Linear)) or (isinstance(r, (*through, g.AvgPool2d)) and divisible(graph, r)) for r in readers)


def _full_kernels(graph: Graph, input_bits: int | None = None) -> tuple[Graph, list[str]]:
    """Grouped convolutions as full ones, zero outside the groups. Exact."""
    nodes: list[g.Node] = []
    changes: list[str] = []
    for node in graph:
        if isinstance(node, (g.Conv1d, g.Conv2d)) and node.groups > 1:
            nodes.append(replace(node, weight=full(node.weight, node.groups), groups=1))
            changes.append(f"{node.name}: {node.groups} groups become one, with zeros (exact)")
        else:
            nodes.append(node)
    return (Graph(nodes, graph.removed) if changes else graph), changes


def full(weight: Tensor, groups: int) -> Tensor:
    """[O, C/groups, ...] -> [O, C, ...] with zeros outside the groups."""
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    whole = weight.new_zeros(weight.shape[0], inputs * groups, *weight.shape[2:])
    for k in range(groups):
        rows = slice(k * outputs, (k + 1) * outputs)
        whole[rows, k * inputs : (k + 1) * inputs] = weight[rows]
    return whole


def binary(graph: Graph, name: str, input_bits: int | None = None) -> bool:
    """Whether a node gives only 0 and 1: a neuron that fires once at most, an input of one bit, also pooled by maximum or reshaped."""
    node = graph[name]
    if isinstance(node, (g.MaxPool2d, g.Flatten, g.Tokens)):
        return binary(graph, node.inputs[0], input_bits)
    if isinstance(node, g.Input):
        return input_bits == 1
    inner: Any = node.neuron if isinstance(node, g.Recurrent) else node
    if not isinstance(inner, g.Neuron) or "spike" not in inner.choices:
        return False
    return set(inner.choices["spike"](torch.tensor([-1e30, 1e30])).tolist()) <= {0.0, 1.0}


REWRITES: dict[str, Callable[[Graph, int | None], tuple[Graph, list[str]]]] = {"max_pool": _or_neurons, "avg_pool": _sum_pools, "groups": _full_kernels}
