"""The same layers as an ordinary network, on the same recordings: the opponents of a spiking one, and their work."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuro import graph as g
from neuro.counting import Counter
from neuro.deploy.work import SYNAPSES, Work, driven_by_none, inputs_per_step, reads_input, weights_held
from neuro.errors import ShapeError, explain
from neuro.graph import Graph, fold_norms


def recording_steps(x: Tensor, lengths: Tensor | None) -> list[int]:
    """Steps of each recording of x [T, B, ...]: all T, or those that `lengths` [B] tells.

    Raises:
        ShapeError: no recordings, no steps, or lengths that do not fit.
    """
    if x.dim() < 2 or 0 in x.shape[:2]:
        raise ShapeError(explain("Energy: there are no recordings.", f"x {list(x.shape)}", cure="Give at least one step of one, [T, B, ...]."))
    if lengths is None:
        return [x.shape[0]] * x.shape[1]
    found = torch.as_tensor(lengths)
    whole = found.shape == (x.shape[1],) and not found.is_floating_point() and not found.is_complex() and found.dtype != torch.bool
    if not whole or found.min() < 1 or found.max() > x.shape[0]:
        raise ShapeError(explain("Energy: the lengths do not fit the recordings.", f"x {list(x.shape)}   lengths {found.tolist()}", cure="One whole number in 1 .. T for each."))
    return found.tolist()


def ann_work(graph: Graph, x: Tensor, lengths: Tensor | None = None) -> tuple[list[Work], list[Work]]:
    """(dense, sparse): the same layers as an ANN that is run once per time step, with ReLU in place of the neurons.

    dense: every multiplication. sparse: those with a nonzero input (of an attention product: two), where an activation is
    `relu(a)` of the spiking network's own input current a on the same recordings.

    Args:
        x: recordings [T, B, ...]; lengths: steps of each [B], None: all.
    """
    return _ann(graph, x, lengths, None)


def ann_once_work(graph: Graph, x: Tensor, lengths: Tensor | None = None) -> tuple[list[Work], int]:
    """The ANN that says as much in one pass, and the bits of its activations: `ceil(log2(T + 1))` for T steps.

    It reads the mean of the recording over its steps and is run once. An activation is `relu` of the mean of the spiking
    network's own input current, rounded to T levels below the largest of its layer; those that round to zero are skipped.
    A neuron that fires at most once a step can tell T + 1 values apart, so that the opponent is given no more (Yan et al. 2024,
    arXiv:2409.08290).

    Args:
        x: recordings [T, B, ...]; lengths: steps of each [B], None: all.
    """
    most = max(recording_steps(x, lengths))
    return _ann(graph, x, lengths, most)[1], most.bit_length()


def _ann(graph: Graph, x: Tensor, lengths: Tensor | None, levels: int | None) -> tuple[list[Work], list[Work]]:
    graph = fold_norms(graph)
    steps = recording_steps(x, lengths)
    weights = [v for node in graph for v in vars(node).values() if isinstance(v, Tensor)]
    names = [n.name for n in graph if isinstance(n, SYNAPSES) or driven_by_none(graph, n)]
    totals = {name: np.zeros(5) for name in names}
    for b, n in enumerate(steps):
        _add_ann(graph, x[:n, b : b + 1], weights, totals, levels)
    dense, sparse = [], []
    for name in names:
        all_, effective, events, outputs, active = totals[name] / len(steps)
        node = graph[name]
        common = (weights_held(node), float(np.prod(graph.shapes[name])), outputs)
        width, first = inputs_per_step(graph, node), reads_input(graph, node)
        dense.append(Work(name, 0.0, all_, width * outputs / common[1] if all_ else 0.0, *common, outputs, False, first, width, outputs))
        sparse.append(Work(name, 0.0, effective, events, *common, active, False, first, width, outputs))
    return dense, sparse


def ann_values(graph: Graph, x: Tensor, levels: int | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(values of the spiking network, values of its ANN) by node, for one recording [T, 1, ...] of a graph with folded norms.

    In the ANN a neuron gives relu of its current, and a layer with products the spiking network's own current.
    levels: of the activations of an ANN that is run once, on means over time; None: run in every step, not rounded.
    """
    values = graph.values(x)
    if levels is not None:
        values = {name: v.mean(0, keepdim=True) if v.dim() == len(graph.shapes[name]) + 2 else v for name, v in values.items()}
        x = values[graph.input.name]
    shadow = {graph.input.name: x}
    for node in graph.nodes[1:]:
        if isinstance(node, g.Recurrent):
            raise node.refuse("an ANN without time has no such layer.", cure="Compare feed-forward networks.")
        if isinstance(node, g.Neuron):
            shadow[node.name] = _levels(values[node.inputs[0]].relu(), levels)
        elif isinstance(node, g.Delay) and levels is not None:  # a mean over time is the same, late or not
            shadow[node.name] = shadow[node.inputs[0]]
        else:
            shadow[node.name] = values[node.name] if isinstance(node, SYNAPSES) else node.compute(*(shadow[s] for s in node.inputs))
    return values, shadow


def _add_ann(graph: Graph, x: Tensor, weights: list[Tensor], totals: dict[str, np.ndarray], levels: int | None) -> None:
    """Walk one recording; products are counted on what an ANN would feed them."""
    with torch.no_grad():
        values, shadow = ann_values(graph, x, levels)
        for node in graph.nodes[1:]:
            if isinstance(node, g.Neuron) and node.name in totals:
                totals[node.name] += (0, 0, 0, shadow[node.name].numel(), int(shadow[node.name].count_nonzero()))
            if not isinstance(node, SYNAPSES):
                continue
            with Counter(lambda name=node.name: (name, False), weights) as counter:
                node.compute(*(shadow[s] for s in node.inputs))
            p, y = counter.tally.products[node.name], values[node.name]
            events = sum(int(shadow[s].count_nonzero()) for s in node.inputs)
            totals[node.name] += (p.dense, p.ac + p.graded + p.mac, events, y.numel(), int((y > 0).sum()))


def _levels(x: Tensor, levels: int | None) -> Tensor:
    """x in 0 .. max, rounded to so many steps of the largest."""
    top = x.max() if x.numel() else x.sum()
    return x if levels is None or top == 0 else (x / top * levels).round() * (top / levels)
