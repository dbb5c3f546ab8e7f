"""Calibration: biases moved so that, on sample recordings, rounding the weights leaves the mean current of every channel alone.

Rounding changes the current of output o by `sum_i (W_int / s - W)[o, i] x_i`. Its mean over recordings and steps is known from the mean
of each input, so the bias can take it back: `b[o] <- b[o] - sum_i (W_int / s - W)[o, i] E[x_i]`. Only the scatter stays.
Nagel et al. 2019, arXiv:1906.04721, section 4.2, from data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neuro import graph as g
from neuro.deploy.currents import between
from neuro.deploy.emitting import Emitter
from neuro.deploy.grid import rows
from neuro.graph import Graph

MOST = 64  # recordings that are looked at


def calibrated(graph: Graph, emitter: Emitter, x: Tensor, lengths: Tensor | None = None) -> Graph:
    """The folded graph with corrected biases.

    Layers that feed a neuron with a current of its own (CUBALIF) and have no bias stay as they are: a bias would make another neuron
    of it. So do layers whose currents are max-pooled.

    Args:
        graph: with norms folded in.   emitter: its integers.
        x: sample recordings [T, B, ...]; lengths: steps that count [B]. The first 64 are used.
    """
    values = graph.values(x[:, :MOST], None if lengths is None else lengths[:MOST])
    network = emitter.network("calibration")
    changed: dict[str, Tensor] = {}
    for taker, placed in emitter.placed.items():
        for name in placed.sources:
            layer = graph[name]
            if layer.bias is None and taker in graph.shapes and _has_memory(graph[taker]):  # the readout of every step is no node of the graph
                continue
            if taker in graph.shapes and any(isinstance(node, g.MaxPool2d) for node in between(graph, graph[graph[taker].inputs[0]])):
                continue  # the mean of a maximum does not follow from that of the inputs
            scale = np.asarray(placed.scale) * emitter.unit(layer)
            whole = network[name].weight
            error = torch.from_numpy(whole / rows(scale, whole)) - layer.weight.double()
            bias = torch.zeros(len(whole), dtype=torch.float64) if layer.bias is None else layer.bias.double()
            changed[name] = (bias - _mean_effect(layer, error, values[layer.inputs[0]], lengths)).to(layer.weight.dtype)
    return Graph([replace(n, bias=changed[n.name]) if n.name in changed else n for n in graph], graph.removed)


def _has_memory(taker: Any) -> bool:
    return "current_decay" in getattr(getattr(taker, "params", None), "_fields", ())


def _mean_effect(layer: Any, error: Tensor, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean over steps, recordings and places of the error's product with x [T, B, ...]: [O]."""
    steps = torch.full((x.shape[1],), len(x)) if lengths is None else lengths[: x.shape[1]]
    counts = (torch.arange(len(x))[:, None] < steps).double()
    mean = torch.einsum("tb,tb...->...", counts, x.double()) / counts.sum()
    if isinstance(layer, g.Conv2d):  # linear, so the mean input's product is the product's mean, borders included
        return F.conv2d(mean[None], error, None, layer.stride, layer.padding, layer.dilation, layer.groups).mean((0, 2, 3))
    return F.linear(mean, error).reshape(-1, len(error)).mean(0)
