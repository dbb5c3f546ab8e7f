"""From the typed graph to an integer network by the chip's rules; what cannot be held is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuro import graph as g
from neuro.deploy import network as ints
from neuro.deploy.agreement import LayerReport, QuantizationReport, compare
from neuro.deploy.grid import fit, fit_product, to_grid, widest
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.nodes import Range
from neuro.errors import GraphError, ParameterError, explain
from neuro.graph import Graph, fold_norms
from neuro.neurons import cuba_step, lif_step
from neuro.tracing import trace


def quantize(
    model: Graph | nn.Module,
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    message_bits: int | None = 8,
    weight_bits: int | None = None,
    clip: bool = False,
    name: str = "network",
) -> tuple[IntegerNetwork, QuantizationReport]:
    """The integer network of a spiking network, and what changed; of a `neuro.deploy.qat.QuantizationAware`, the one it trained as.

    Weights are rounded to 8 bits per layer with norms folded in, by `neuro.deploy.grid`. Neurons follow the chip: strict
    threshold, truncated leak, hard reset. The mean over tokens becomes a sum, its 1/N part of the next weights.

    Args:
        model: a model or its graph: Conv2d, Linear, norms after them, LIF/IF/PLIF/CUBALIF with hard reset, MaxPool2d of spikes,
            sums of spikes, AttentionProduct, Tokens, Flatten, MeanOverTokens, and a MeanOverTime that ends it.
        x: recordings [T, B, ...], event counts, on which float and integer spikes are compared; lengths: steps of each [B].
        message_bits: of the input's counts, 1 .. 16; None: the fewest that hold x. Fewer bits leave more for the weights.
            A QuantizationAware keeps its own message_bits and clip.
        weight_bits: 2 .. 8, None: 8; fewer are a coarser grid within the chip's 8 bits. clip: cut off outliers where that lowers the
            mean square error of the weights.
        name: of the network.

    Raises:
        GraphError: a node that the chip cannot hold, by its name, with a way out; inputs that are not counts.
        ParameterError: weight_bits out of range, or others than a QuantizationAware was trained for.
    """
    from neuro.deploy.qat import QuantizationAware  # it quantises in every forward, so it stands above this file

    if isinstance(model, QuantizationAware):
        if weight_bits not in (None, model.weight_bits):
            raise ParameterError(explain(f"quantize: weight_bits is {weight_bits}, but the model was trained for {model.weight_bits}.", cure="Leave it out."))
        input_bits(model.graph(), x, model.message_bits)
        emitter = model.emitter()
        network = emitter.network(name)
        network.check()
        return network, compare(model, network, x, lengths, emitter.layers, emitter.notes)
    weight_bits = 8 if weight_bits is None else weight_bits
    if not 2 <= weight_bits <= 8:
        raise ParameterError(explain(f"quantize: weight_bits is {weight_bits}.", cure="Give 2 to 8."))
    graph = model if isinstance(model, Graph) else trace(model, x[:, :1])
    bits = input_bits(graph, x, message_bits)
    emitter = Emitter(fold_norms(graph), bits, weight_bits, clip)
    network = emitter.network(name)
    network.check()
    return network, compare(graph, network, x, lengths, emitter.layers, emitter.notes)


def input_bits(graph: Graph, x: Tensor, message_bits: int | None) -> int:
    low, high = float(x.min()), float(x.max())
    facts = f"values {low:g} .. {high:g}"
    if low < 0 or not torch.equal(x, x.round()):
        cure = "Give event counts: integers from 0, as neuro.datasets.transforms makes them, without normalising."
        raise graph.input.refuse("the chip takes event counts, and these are not.", facts, cure=cure)
    if message_bits is None:
        return max(1, int(high).bit_length())
    if high >= 2**message_bits:
        raise graph.input.refuse(f"the counts pass {message_bits} bits.", facts, cure="Raise message_bits, or clip the counts.")
    return message_bits


_REFUSED = {  # kind: (fact, cure)
    "AvgPool2d": ("averages of spikes are not integers.", "Use MaxPool2d, or a Conv2d with a stride."),
    "Affine": ("no layer can take this norm in.", "Put it right after the one Conv2d or Linear that it normalises."),
    "Recurrent": ("the integer network has no loops.", "Use a layer without feedback."),
    "SumOverTime": ("the readout is a mean.", "Use MeanOverTime: it chooses the same class."),
}


class Emitter:
    """Walks the folded graph and writes integer nodes of the same names."""

    def __init__(self, graph: Graph, bits: int, weight_bits: int = 8, clip: bool = False):
        self.graph, self.bits, self.weight_bits, self.clip = graph, bits, weight_bits, clip
        self.nodes: list[ints.Node] = []
        self.factor: dict[str, float] = {}  # float value = factor * integer value
        self.layers: list[LayerReport] = []
        self.notes: list[str] = []
        self.ranges: dict[str, Range] = {}
        for node in graph:
            self._emit(node)

    def network(self, name: str) -> IntegerNetwork:
        last = self.graph.output
        if not isinstance(last, g.MeanOverTime):
            raise last.refuse("the network must end with MeanOverTime.", f"it ends with {last.kind}", cure="Add neuro.layers.MeanOverTime().")
        return IntegerNetwork(self.nodes, name)

    def _emit(self, node: g.Node) -> None:
        if node.kind in _REFUSED:
            fact, cure = _REFUSED[node.kind]
            raise node.refuse(fact, cure=cure)
        make = {
            g.Conv2d: self._current, g.Linear: self._current, g.AttentionProduct: self._current, g.Neuron: self._neuron,
            g.MaxPool2d: self._maxpool, g.Tokens: self._tokens, g.Flatten: self._flatten, g.Add: self._sum,
            g.MeanOverTokens: self._mean_over_tokens, g.MeanOverTime: self._readout, g.Input: self._input,
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
            cure = "Put a LIF right after it; sums and pools are of spikes."
            raise node.refuse(f"it reads the current of {source.kind} {name!r}.", "Only a neuron, or the readout, can take a current.", cure=cure)
        return name

    def _current(self, node: g.Node) -> None:
        """A product: written when its neuron is, because the two share one scale."""
        readers = self.graph.readers(node.name)
        if len(readers) != 1:
            names = ", ".join(n.name for n in readers)
            raise node.refuse(f"{len(readers)} layers read its current.", f"they are {names}", cure="Give each its own layer.")
        for which in range(len(node.inputs)):
            self._source(node, which)

    def _maxpool(self, node: g.MaxPool2d) -> None:
        source = self._source(node)
        self._add(ints.MaxPool(node.name, source, node.kernel, node.stride, node.padding), self.factor[source])

    def _tokens(self, node: g.Tokens) -> None:
        self._add(ints.Tokens(node.name, self._source(node)), self.factor[node.inputs[0]])

    def _flatten(self, node: g.Flatten) -> None:
        self._add(ints.Flatten(node.name, self._source(node)), self.factor[node.inputs[0]])

    def _mean_over_tokens(self, node: g.MeanOverTokens) -> None:
        source = self._source(node)
        self._add(ints.TokenSum(node.name, source), self.factor[source] / self.graph.shapes[source][0])

    def _sum(self, node: g.Add) -> None:
        factors = {self.factor[self._source(node, i)] for i in range(len(node.inputs))}
        if len(factors) > 1:
            raise node.refuse("its inputs have different units.", f"factors {sorted(factors)}", cure="Add spikes to spikes.")
        self._add(ints.Add(node.name, node.inputs), factors.pop())

    def _neuron(self, node: g.Neuron) -> None:
        decay, gain, threshold, du = _constants(node)
        source = self.graph[node.inputs[0]]
        dv = round(4096 * (1 - decay))
        if dv != 4096 * (1 - decay):
            self.notes.append(f"{node.name}: decay {decay:.6g} becomes {1 - dv / 4096:.6g}, the nearest 1/4096.")
        if node.step is cuba_step and du + 1 != 4096 * (1 - float(node.params.current_decay)):
            self.notes.append(f"{node.name}: current_decay {float(node.params.current_decay):.6g} becomes {1 - (du + 1) / 4096:.6g}, the nearest 1/4096.")
        if node.comparison == ">=":
            self.notes.append(f"{node.name}: fires at v >= threshold, the chip at v > threshold; see the column 'at threshold'.")
        if isinstance(source, (g.Conv2d, g.Linear)):
            weight, bias = self._float(source)
            if du != 4095 and bias is not None and np.any(bias):
                raise source.refuse("a bias goes past the current's memory on the chip.", f"neuron {node.name}", cure="Leave out bias and norm before a CUBALIF.")
            found = fit(source.name, weight, bias, threshold, gain, self.ranges[source.inputs[0]], du, self.weight_bits, self.clip)
            self._product(source, found.weight)
            lif = ints.LIF(node.name, source.name, dv, found.vth, found.bias_mant, found.bias_exp, du)
            self.layers.append(LayerReport(source.name, node.name, found.scale, found.vth, found.max_error, found.rms_error, float(np.sqrt((weight**2).mean()))))
        elif isinstance(source, g.AttentionProduct):
            most = self.graph.shapes[source.name][0] * (self.graph.shapes[source.name][1] // source.heads)
            weight, vth, exact = fit_product(threshold, gain, source.scale, most)
            self._add(ints.Attention(source.name, *source.inputs, source.heads, weight), 1.0)
            lif = ints.LIF(node.name, source.name, dv, vth, du=du)
            self.layers.append(LayerReport(source.name, node.name, weight / source.scale, vth))
            if not exact:
                self.notes.append(f"{source.name}: its threshold is {vth}, rounded from {weight * threshold / (gain * source.scale):.6g}.")
        else:
            vth = threshold / (gain * self.factor[source.name])
            if vth != round(vth):
                cure = "Put a Linear or Conv2d before it."
                raise node.refuse("it reads events directly, and its threshold is no whole number of them.", f"{vth:.6g}", cure=cure)
            lif = ints.LIF(node.name, source.name, dv, int(vth), du=du)
            self.layers.append(LayerReport(source.name, node.name, 1.0, int(vth)))
        self._add(lif, 1.0)

    def _float(self, source: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights per integer of the input, and bias, in float64."""
        weight = source.weight.detach().cpu().double().numpy() * self.factor[source.inputs[0]]
        return weight, None if source.bias is None else source.bias.detach().cpu().double().numpy()

    def _product(self, source: Any, weight: np.ndarray) -> None:
        (x,) = source.inputs
        if isinstance(source, g.Conv2d):
            self._add(ints.Conv(source.name, x, weight, source.stride, source.padding, source.dilation, source.groups), 1.0)
        else:
            self._add(ints.Dense(source.name, x, weight), 1.0)

    def _readout(self, node: g.MeanOverTime) -> None:
        source = self.graph[node.inputs[0]]
        if not isinstance(source, g.Linear):
            classes = self.graph.shapes[self._source(node)][-1]
            self._add(ints.Readout(node.name, source.name, np.zeros(classes, np.int64), self.factor[source.name]), 1.0)
            return
        weight, bias = self._float(source)
        scale = widest(weight, self.weight_bits, self.clip)
        if scale == float("inf"):  # no weights: the bias alone decides, and has room for 20 bits
            scale = 1.0 if bias is None or not np.any(bias) else 2**20 / float(np.abs(bias).max())
        whole = to_grid(weight, scale, self.weight_bits)
        self._product(source, whole)
        offset = np.zeros(len(whole), np.int64) if bias is None else np.round(bias * scale).astype(np.int64)
        error = np.abs(whole / scale - weight)
        self.layers.append(LayerReport(source.name, "", scale, 0, float(error.max()), float(np.sqrt((error**2).mean())), float(np.sqrt((weight**2).mean()))))
        self._add(ints.Readout(node.name, source.name, offset, 1 / scale), 1.0)


def _refuse_rules(node: g.Neuron) -> None:
    """A spike or reset object of any class is judged by what it does, not by what it says."""
    v, s = torch.tensor([-9.0, -0.5, 0.5, 9.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    rule, spike = node.reset, node.choices["spike"]
    if not rule.hard or not torch.equal(rule(v, s, 1.0), v * (1 - s)):
        raise node.refuse("the chip resets to zero.", f"reset {rule}", cure="Train with reset=neuro.reset.to_zero.")
    if not torch.equal(spike(v), s):
        raise node.refuse("the chip's spikes are 0 or 1, from the threshold on.", f"spike {spike}", cure="Train with a surrogate of neuro.surrogate.")


def _constants(node: g.Neuron) -> tuple[float, float, float, int]:
    """(decay, gain, threshold, du) as numbers; refuses what the chip's neuron is not."""
    p = node.params
    if node.step not in (lif_step, cuba_step):
        raise node.refuse(f"the chip has no {node.model}.", cure="Use LIF, IF, PLIF or CUBALIF.")
    _refuse_rules(node)
    found = []
    for field in ("decay", "gain", "threshold"):
        value = torch.as_tensor(getattr(p, field)).double()
        if value.numel() > 1 and value.min() != value.max():
            raise node.refuse(f"its {field} differs between neurons.", f"{value.min():.4g} .. {value.max():.4g}", cure="Use one per layer: PLIF(shape=()).")
        found.append(float(value.flatten()[0]))
    decay, gain, threshold = found
    du = 4095
    if node.step is cuba_step:
        du = round(4096 * (1 - float(p.current_decay))) - 1
        if du < 0:
            raise node.refuse("its current never decays, so its input has no bound.", f"current_decay {float(p.current_decay):.6g}", cure="Take a current_decay below 1.")
    if gain <= 0:
        raise GraphError(explain(f"Neuron {node.name!r}: gain {gain} is not positive."))
    return decay, gain, threshold, du
