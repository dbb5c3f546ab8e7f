"""From the float graph to integer nodes of the same names: each layer is written when its neuron is, because they share a scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro import graph as g
from neuro.deploy import network as ints
from neuro.deploy.agreement import LayerReport
from neuro.deploy.constants import Constants, constants, notes
from neuro.deploy.currents import areas, between, leaves
from neuro.deploy.grid import Grid, fit_layer, fit_product, rows, to_grid, widest
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.nodes import Range, scaled
from neuro.errors import GraphError
from neuro.graph import Graph

_REFUSED = {  # kind: (fact, cure)
    "Conv1d": ("the chip's convolutions are of maps.", "Take Conv2d with kernels (1, k) on maps of one row: x.unsqueeze(3), [T, B, C, 1, L]."),
    "Affine": ("no layer can take this norm in.", "Put it right after the one Conv2d or Linear that it normalises."),
}


@dataclass(frozen=True, eq=False)
class Placed:
    """Layers that feed one neuron or the readout, and the scale that they share: one number, or one per channel."""

    sources: tuple[str, ...]
    scale: float | np.ndarray


class Emitter:
    """Walks the folded graph and writes integer nodes of the same names."""

    def __init__(self, graph: Graph, bits: int, grid: Grid = Grid()):
        self.graph, self.bits, self.grid = graph, bits, grid
        self.nodes: list[ints.Node] = []
        self.factor: dict[str, float] = {}  # float value = factor * integer value
        self.layers: list[LayerReport] = []
        self.notes: list[str] = []
        self.ranges: dict[str, Range] = {}
        self.placed: dict[str, Placed] = {}  # what feeds a neuron or the readout, by its name
        self.area: dict[str, int] = {}  # of layers whose currents are averaged: over how many
        for node in graph:
            self._emit(node)
        if not isinstance(graph.output, g.SumOverTime):  # or MeanOverTime, which is one
            self._answers(graph.output)

    def network(self, name: str) -> IntegerNetwork:
        return IntegerNetwork(self.nodes, name)

    def _emit(self, node: g.Node) -> None:
        if node.kind in _REFUSED:
            fact, cure = _REFUSED[node.kind]
            raise node.refuse(fact, cure=cure)
        make = {
            g.Conv2d: self._current, g.Linear: self._current, g.AttentionProduct: self._current, g.Neuron: self._neuron,
            g.Recurrent: self._recurrent, g.MaxPool2d: self._maxpool, g.AvgPool2d: self._sumpool, g.SumPool2d: self._sumpool, g.Tokens: self._tokens, g.Flatten: self._flatten, g.Delay: self._delay, g.Add: self._sum,
            g.MeanOverTokens: self._mean_over_tokens, g.MeanOverTime: self._readout, g.SumOverTime: self._readout, g.Input: self._input,
        }.get(type(node))  # fmt: skip
        if make is None:
            raise node.refuse("the integer network has no such node.", cure="Rewrite it from the layers that quantize lists.")
        make(node)  # type: ignore[operator]

    def _input(self, node: g.Input) -> None:
        self._add(ints.Input(node.name, node.shape, self.bits), 1.0)

    def _add(self, node: ints.Node, factor: float) -> None:
        self.nodes.append(node)
        self.factor[node.name] = factor
        shapes = tuple(self.graph.shapes[s] for s in node.inputs)
        self.ranges[node.name] = node.out_range(shapes, tuple(self.ranges[s] for s in node.inputs))

    def _source(self, node: g.Node, which: int = 0) -> str:
        """The input of a node, which must already be a value: events, not a current that waits for its neuron."""
        name = node.inputs[which]
        if name not in self.factor:
            source = self.graph[name]
            cure = "Put a LIF right after it, or a sum or a pool and then a LIF."
            raise node.refuse(f"it reads the current of {source.kind} {name!r}.", "Only a neuron, or the readout, can take a current.", cure=cure)
        return name

    def _current(self, node: g.Node) -> None:
        """A product: written when its neuron is, because the two share one scale."""
        self._alone(node)
        for which in range(len(node.inputs)):
            self._source(node, which)

    def _alone(self, node: g.Node) -> None:
        readers = self.graph.readers(node.name)
        if len(readers) > 1:
            names = ", ".join(n.name for n in readers)
            raise node.refuse(f"{len(readers)} layers read its current.", f"they are {names}", cure="Give each its own layer.")

    def _maxpool(self, node: g.MaxPool2d) -> None:
        if self._leaves(node):  # max(a + b) = max(a) + b: of currents it is written when their neuron is, which takes the bias
            self._alone(node)
            return
        source = self._source(node)
        self._add(ints.MaxPool(node.name, source, node.kernel, node.stride, node.padding), self.factor[source])

    def _sumpool(self, node: g.AvgPool2d | g.SumPool2d) -> None:
        """An average is a sum whose 1/area is part of the next weights, or of those before it if it is one of currents."""
        if isinstance(node, g.AvgPool2d):
            currents = self._leaves(node)
            if max(node.padding) > 0 and not node.count_include_pad:
                raise node.refuse("its windows at the border divide by another number.", cure="Use count_include_pad=True, or no padding.")
            if max(node.padding) > 0 and any(layer.bias is not None for layer in currents):
                raise node.refuse("its windows at the border hold less of the bias.", cure="Use no padding, or a layer without bias and norm before it.")
            if currents:
                self._alone(node)
                return
        source, area = self._source(node), node.kernel[0] * node.kernel[1] if isinstance(node, g.AvgPool2d) else 1
        self._add(ints.SumPool(node.name, source, node.kernel, node.stride, node.padding), self.factor[source] / area)

    def _tokens(self, node: g.Tokens) -> None:
        self._add(ints.Tokens(node.name, self._source(node)), self.factor[node.inputs[0]])

    def _flatten(self, node: g.Flatten) -> None:
        self._add(ints.Flatten(node.name, self._source(node)), self.factor[node.inputs[0]])

    def _delay(self, node: g.Delay) -> None:
        source = self._source(node)
        if node.steps > 62:
            raise node.refuse(f"a delay of {node.steps} steps; 62 are possible.", cure="Chain several, with a neuron between them, or delay less.")
        self._add(ints.Delay(node.name, source, node.steps), self.factor[source])

    def _mean_over_tokens(self, node: g.MeanOverTokens) -> None:
        source = self._source(node)
        self._add(ints.TokenSum(node.name, source), self.factor[source] / self.graph.shapes[source][0])

    def _sum(self, node: g.Add) -> None:
        if all(self._leaves(self.graph[name]) for name in node.inputs):  # of currents: written when their neuron is
            self._alone(node)
            if len(set(node.inputs)) < len(node.inputs):
                raise node.refuse("it adds a current to itself.", cure="Double the weights of that layer.")
            return
        factors = {self.factor[self._source(node, i)] for i in range(len(node.inputs))}
        if len(factors) > 1:
            raise node.refuse("its inputs have different units.", f"factors {sorted(factors)}", cure="Add spikes to spikes.")
        self._add(ints.Add(node.name, node.inputs), factors.pop())

    def _neuron(self, node: g.Neuron) -> None:
        """Lava's LIF where it is one, else a Cell."""
        found = constants(node, self.graph.shapes[node.name])
        self._drive(node, node, found, self.graph[node.inputs[0]])

    def _recurrent(self, node: g.Recurrent) -> None:
        neuron = replace(node.neuron, name=node.name, inputs=node.inputs)
        source = self.graph[node.inputs[0]]
        if source.name in self.factor or isinstance(source, g.AttentionProduct):
            raise node.refuse("its feedback needs the scale of a layer.", f"it reads {source.kind} {source.name!r}", cure="Put a Linear before it.")
        if len(self.graph.shapes[node.name]) != 1:
            raise node.refuse("feedback is for vectors.", f"step {list(self.graph.shapes[node.name])}", cure="Put Flatten before it.")
        self._drive(node, neuron, constants(neuron, self.graph.shapes[node.name]), source)

    def _drive(self, node: g.Neuron | g.Recurrent, neuron: g.Neuron, found: Constants, source: g.Node) -> None:
        """A neuron with what feeds it: layers that share one scale, an attention product, or values."""
        layers = self._leaves(source)
        if found.offset.any() and not layers:
            raise node.refuse("its levels are not multiples of its threshold, and no layer before it has a bias to mend that.", cure="Put a Linear or Conv2d before it, or train with Levels(unit=threshold).")
        if layers:
            self._fitted(node, neuron, found, layers, source)
            return
        if isinstance(source, g.AttentionProduct):
            vth = self._attention(node, found, source)
        else:
            ratio = found.threshold / (found.gain * self.factor[source.name])
            if (ratio != np.round(ratio)).any():
                cure = "Put a Linear or Conv2d before it."
                raise node.refuse("it reads events directly, and its threshold is no whole number of them.", f"{ratio.min():.6g}", cure=cure)
            vth = ratio.astype(np.int64) if ratio.ndim else int(ratio)
            self.layers.append(LayerReport(source.name, node.name, 1.0, int(np.mean(vth))))
        self._place(neuron, found, source.name, vth)

    def _attention(self, node: g.Node, found: Constants, source: g.AttentionProduct) -> int:
        """The product at the largest weight that its worst case leaves room for; the threshold of its neuron."""
        threshold, gain = self._even(node, found)
        unit = float(source.scale) * math.prod(self.factor[name] for name in source.inputs)
        shapes, ranges = ([of[name] for name in source.inputs] for of in (self.graph.shapes, self.ranges))
        made = ints.Attention(source.name, *source.inputs, source.heads, 1)
        most = max(map(abs, made.out_range(tuple(shapes), tuple(ranges))))
        try:
            weight, vth, exact = fit_product(threshold, gain, unit, most)
        except GraphError as error:
            levels = " x ".join(str(high) for _, high in ranges)
            raise source.refuse(f"q, k and v reach {levels}; {error}", cure="Fewer tokens, narrower heads, or spikes of fewer levels: the bound grows with the product of all.") from error
        self._add(replace(made, weight=weight), 1.0)
        self.layers.append(LayerReport(source.name, node.name, weight / unit, vth))
        if not exact:
            self.notes.append(f"{source.name}: its threshold is {vth}, rounded from {weight * threshold / (gain * unit):.6g}.")
        return vth

    def _even(self, node: g.Node, found: Constants) -> tuple[float, float]:
        if found.threshold.ndim or found.gain.ndim:
            raise node.refuse("its threshold or gain differs between channels of an attention product.", cure="Use one per layer: PLIF(shape=()).")
        return float(found.threshold), float(found.gain)

    def _leaves(self, source: g.Node) -> list[Any]:
        """The layers whose currents reach a neuron: one, or those of a sum or a pool of currents; none if it is a value."""
        return leaves(self.graph, source, self.factor)

    def _fitted(self, node: g.Neuron | g.Recurrent, neuron: g.Neuron, found: Constants, layers: list[Any], source: g.Node) -> None:
        self.area |= dict(areas(self.graph, source))
        parts = [(self._weight(layer), scaled(self.ranges[layer.inputs[0]], self.area.get(layer.name, 1))) for layer in layers]
        biases = [layer.bias for layer in layers if layer.bias is not None]
        if isinstance(node, g.Recurrent):
            parts.append((_double(node.weight), (0, found.levels)))
            biases += [] if node.bias is None else [node.bias]
        if found.offset.any():
            biases.append(torch.from_numpy(np.broadcast_to(found.offset / found.gain, parts[0][0].shape[:1]).copy()))
        bias = sum(_double(b) for b in biases) if biases else None
        cell = isinstance(node, g.Recurrent) or self.grid.per_channel or not found.plain(bias is not None and bool(np.any(bias)))
        fit = fit_layer(layers[0].name, parts, bias, found.demand(cell), self.grid)
        for layer, weight in zip(layers, fit.weights, strict=False):
            self._product(layer, weight)
            self._report(layer, node.name if layer is layers[0] else "", fit.scale, fit.vth, weight)
        self._joined(source)
        if isinstance(node, g.Recurrent):
            self._report(node, "", fit.scale, fit.vth, fit.weights[-1])
        self.placed[node.name] = Placed(tuple(layer.name for layer in layers), fit.scale)
        self._place(neuron, found, source.name, fit.vth, fit.bias_mant, fit.bias_exp, cell, fit.weights[-1] if isinstance(node, g.Recurrent) else None)

    def _joined(self, source: g.Node) -> None:
        """The sums and pools of currents on the way to a neuron."""
        for node in between(self.graph, source):
            if isinstance(node, g.Add):
                self._add(ints.Add(node.name, node.inputs), 1.0)
            else:
                kind = ints.MaxPool if isinstance(node, g.MaxPool2d) else ints.SumPool
                self._add(kind(node.name, node.inputs[0], node.kernel, node.stride, node.padding), 1.0)  # type: ignore[attr-defined]

    def _place(self, node: g.Neuron, found: Constants, source: str, vth: Any, mant: Any = 0, exp: int = 0, cell: bool | None = None, weight: np.ndarray | None = None) -> None:
        cell = not found.plain(False) if cell is None else cell
        made: ints.LIF | ints.Cell = ints.LIF(node.name, source, int(found.dv.flat[0]), int(np.max(vth)), mant, exp, int(found.du.flat[0])) if not cell else self._cell(node, found, source, vth, mant, exp, weight)
        self.notes += notes(node, found, made if cell else None)
        self._add(made, 1.0)

    def _cell(self, node: g.Neuron, found: Constants, source: str, vth: Any, mant: Any, exp: int, weight: np.ndarray | None) -> ints.Cell:
        dh, jump = 4096, np.array(0)
        if found.adapt:
            dh, jump = found.adapt[0], np.round(found.adapt[1] * 64 * np.asarray(vth) / found.threshold).astype(np.int64)
        values = (node.name, source, found.dv, vth, mant, exp, found.du, found.reset, found.levels, dh, jump)
        return ints.Cell(*values) if weight is None else ints.RecurrentCell(*values, weight)

    def _weight(self, source: Any) -> np.ndarray:
        """Weights per integer of the input, in float64."""
        return _double(source.weight) * self.unit(source)

    def unit(self, source: Any) -> float:
        """What a weight is multiplied by before it is rounded at its scale."""
        return self.factor[source.inputs[0]] / self.area.get(source.name, 1)

    def _report(self, source: Any, neuron: str, scale: float | np.ndarray, vth: Any, whole: np.ndarray) -> None:
        weight = _double(source.weight) if isinstance(source, g.Recurrent) else self._weight(source)
        error = np.abs(whole / rows(np.asarray(scale), whole) - weight)
        sizes = float(error.max()), float(np.sqrt((error**2).mean())), float(np.sqrt((weight**2).mean()))
        self.layers.append(LayerReport(source.name, neuron, float(np.mean(scale)), int(np.mean(vth)), *sizes))

    def _product(self, source: Any, weight: np.ndarray) -> None:
        (x,) = source.inputs
        if isinstance(source, g.Conv2d):
            self._add(ints.Conv(source.name, x, weight, source.stride, source.padding, source.dilation, source.groups), 1.0)
        else:
            self._add(ints.Dense(source.name, x, weight), 1.0)

    def _readout(self, node: g.SumOverTime) -> None:
        self._read(node, self.graph[node.inputs[0]], node.name, ints.Readout if isinstance(node, g.MeanOverTime) else ints.SumReadout)

    def _answers(self, last: g.Node) -> None:
        """The readout of a network that answers at every step; nothing in the graph has its name."""
        name = f"{last.name}.answers"
        while name in self.graph.shapes:
            name += "_"
        self._read(last, last, name, ints.StepReadout)

    def _read(self, node: g.Node, source: g.Node, name: str, kind: type[ints.Readout]) -> None:
        """A readout of values, or of the currents of layers, which share one scale. node: which an error names."""
        shape, layers = self.graph.shapes[source.name], self._leaves(source)
        if len(shape) != 1:
            raise node.refuse("the chip's answers are vectors.", f"{source.kind} {source.name!r} gives {list(shape)} per step", cure="Put MeanOverTokens, or Flatten and Linear, before the end.")
        if not layers:
            if source.name not in self.factor:
                raise node.refuse(f"it reads the current of {source.kind} {source.name!r}.", cure="Put a Linear or a neuron between them.")
            self._add(kind(name, source.name, np.zeros(shape[0], np.int64), self.factor[source.name]), 1.0)
            return
        weights, biases = [self._weight(layer) for layer in layers], [_double(layer.bias) for layer in layers if layer.bias is not None]
        bias = sum(biases) if biases else np.zeros(shape)
        scale = min(widest(w, self.grid.bits, self.grid.clip) for w in weights)
        if scale == float("inf"):  # no weights: the bias alone decides, and has room for 20 bits
            scale = 2**20 / float(np.abs(bias).max()) if np.any(bias) else 1.0
        for layer, weight in zip(layers, weights, strict=True):
            whole = to_grid(weight, scale, self.grid.bits)
            self._product(layer, whole)
            self._report(layer, "", scale, 0, whole)
        self._joined(source)
        self.placed[name] = Placed(tuple(layer.name for layer in layers), scale)
        self._add(kind(name, source.name, np.round(bias * scale).astype(np.int64), 1 / scale), 1.0)


def _double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
