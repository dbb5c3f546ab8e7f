"""From an integer network back to the typed graph, for whatever reads graphs: mapping, pictures, exchange.

The graph works in the integers' units: weights as they are, thresholds of vth, biases divided by 64, class scores `acc / T` (of a network that
answers at every step `acc`) without the readout's scale. What float neurons cannot say is lost: the truncation of the leak, the clipping of
the membrane, and the first steps of a bias beside a current with memory (it comes on with the current's time constant). So the spikes are
nearly the twin's. With `exact` they are the twin's: the same nodes, and neurons that run as integers whenever the graph is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro import graph as g
from neuro.deploy import network as ints
from neuro.deploy.differentiable import run_whole
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.quantize import input_bits
from neuro.errors import GraphError, explain
from neuro.graph import Graph
from neuro.neurons import (
    ALIFParams,
    ALIFState,
    CUBAParams,
    CUBAState,
    LIFParams,
    LIFState,
    alif_step,
    cuba_step,
    lif_step,
)
from neuro.reset import RULES
from neuro.surrogate import ATan, Levels, Surrogate


def graph_of(network: IntegerNetwork, exact: bool = False) -> Graph:
    """The typed graph of an integer network, with its names.

    Args:
        exact: whether neurons fire as the chip's when the graph is run. A graph that is made of its nodes, and a file in an exchange
            format, holds float neurons again.

    Raises:
        GraphError: a neuron that no float neuron of ours is, by its name.

    >>> from neuro.deploy.network import LIF, Dense, Input, Readout
    >>> nodes = [Input("input", (3,)), Dense("a", "input", np.full((2, 3), 4)), LIF("b", "a", 2048, 6), Dense("c", "b", np.eye(2, dtype=int))]
    >>> graph = graph_of(IntegerNetwork([*nodes, Readout("out", "c", np.zeros(2, int))]))
    >>> graph.run(torch.ones(4, 1, 3)).tolist()
    [[1.0, 1.0]]
    """
    nodes = _Restorer(network).nodes
    return IntegerGraph(nodes, network) if exact else Graph(nodes)


class IntegerGraph(Graph):
    """A graph whose neurons are computed in the chip's integers, from the network that it was made of."""

    def __init__(self, nodes: Iterable[g.Node], network: IntegerNetwork) -> None:
        super().__init__(nodes)
        self.network = network

    def values(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """As of a Graph, the spikes equal to the twin's. Raises GraphError: x holds no counts, or larger ones than the network takes."""
        if tuple(x.shape[2:]) != self.input.shape:
            return super().values(x, lengths)  # which says what does not fit
        input_bits(self, x, self.network.input.message_bits)
        whole, found = run_whole(self.network, x, lengths), {self.input.name: x}
        with torch.no_grad():
            for node in self.nodes[1:]:
                spikes = isinstance(node, (g.Neuron, g.Recurrent))
                found[node.name] = whole[node.name].to(x.dtype) if spikes else node.compute(*(found[s] for s in node.inputs), lengths=lengths)
        return found


class _Restorer:
    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self.nodes: list[g.Node] = []
        self.factor: dict[str, float] = {}  # integer value = factor * the graph's
        self.names: dict[str, str] = {}  # integer node -> the graph's node, where the last of several has another name
        self.at: dict[str, int] = {}
        for node in network.nodes:
            self._restore(node)

    def _put(self, node: g.Node, of: str, factor: float = 1.0) -> None:
        self.at[node.name] = len(self.nodes)
        self.nodes.append(node)
        self.names[of], self.factor[of] = node.name, factor

    def _restore(self, node: ints.Node) -> None:
        sources = tuple(self.names[s] for s in node.inputs)
        before = self.factor[node.inputs[0]] if node.inputs else 1.0
        match node:
            case ints.Input():
                made: g.Node = g.Input(node.name, (), node.shape)
            case ints.Conv():
                made = g.Conv2d(node.name, sources, _float(node.weight * before), None, *_how(node))
                before = 1.0
            case ints.Dense():
                made, before = g.Linear(node.name, sources, _float(node.weight * before), None), 1.0
            case ints.Attention():
                made = g.AttentionProduct(node.name, sources, node.heads, float(node.weight))
            case ints.MaxPool():
                made = g.MaxPool2d(node.name, sources, *_window(node))
            case ints.SumPool():
                made = g.SumPool2d(node.name, sources, *_window(node))
            case ints.Tokens():
                made = g.Tokens(node.name, sources)
            case ints.Flatten():
                made = g.Flatten(node.name, sources)
            case ints.TokenSum():
                made, before = g.MeanOverTokens(node.name, sources), before * self.network.shapes[node.input][0]
            case ints.Delay():
                made = g.Delay(node.name, sources, node.steps)
            case ints.Add():
                self._add(node)
                return
            case ints.Readout():
                self._readout(node)
                return
            case _:
                self._neuron(node)  # type: ignore[arg-type]
                return
        self._put(made, node.name, before)

    def _add(self, node: ints.Add) -> None:
        """A sum of several as sums of two."""
        factors = [self.factor[s] for s in node.inputs]
        if len(set(factors)) > 1:
            raise _refused(node, "its inputs have different units.", f"factors {factors}")
        total = self.names[node.inputs[0]]
        for k, source in enumerate(node.inputs[1:], 1):
            name = node.name if k == len(node.inputs) - 1 else f"{node.name}.{k}"
            self._put(g.Add(name, (total, self.names[source])), node.name, factors[0])
            total = name

    def _biased(self, of: str, bias: np.ndarray) -> None:
        """A bias for what a neuron or the readout reads: of the layer before it, else by itself."""
        if not bias.any():
            return
        channels = self.network.shapes[of][0] if len(self.network.shapes[of]) == 3 else self.network.shapes[of][-1]
        bias = np.broadcast_to(bias, (channels,)).copy()
        source = self.nodes[self.at[self.names[of]]]
        while isinstance(source, g.Add):
            source = self.nodes[self.at[source.inputs[0]]]
        alone = all(sum(name in n.inputs for n in self.network.nodes) == 1 for name in (of, source.name))
        if isinstance(source, (g.Conv2d, g.Linear)) and alone:
            bias = bias / self.factor[of]
            self.nodes[self.at[source.name]] = type(source)(**{**vars(source), "bias": _float(bias)})
            return
        axis = 2 if len(self.network.shapes[of]) == 3 else -1
        self._put(g.Affine(f"{self.names[of]}.bias", (self.names[of],), torch.full((channels,), self.factor[of]), _float(bias), axis), of)

    def _readout(self, node: ints.Readout) -> None:
        self._biased(node.input, node.bias * 1.0)
        if (unit := self.factor[node.input]) != 1:  # a sum over tokens, of which the graph has the mean
            self._put(g.Scale(f"{self.names[node.input]}.sum", (self.names[node.input],), torch.tensor(unit)), node.input)
        if isinstance(node, ints.StepReadout):
            return  # the graph ends with what it reads
        self._put((g.SumOverTime if isinstance(node, ints.SumReadout) else g.MeanOverTime)(node.name, (self.names[node.input],)), node.name)

    def _neuron(self, node: ints.LIF | ints.Cell) -> None:
        shape = self.network.shapes[node.name]
        channels = shape[0] if len(shape) == 3 else shape[-1]
        if isinstance(node, ints.Cell):
            dv, vth, du, bias, dh, jump = node.constants(channels)
            reset, levels = node.reset, node.levels
        else:
            dv, vth, du, bias, dh, jump = (np.broadcast_to(x, (channels,)) for x in (node.dv, node.vth, node.du, node.bias(channels), 4096, 0))
            reset, levels = "zero", 1
        memory = bool((du != 4095).any())
        if levels > 1 and reset == "zero" and bool((dv != 4096).any()):
            raise _refused(node, f"it has {levels} levels and a hard reset: {RULES[reset]} is for spikes of 0 and 1.", cure="Run it in the twin.")
        if memory and jump.any():
            raise _refused(node, "it has a current's memory and a threshold that adapts.", cure="Map the model that it was made of.")
        passes_by = isinstance(node, ints.LIF) and memory  # Lava's bias is not part of the current: a constant current's end value is
        self._biased(node.input, bias / 64 * ((du + 1) / 4096 if passes_by else 1.0))
        factor = self.factor[node.input]
        decay, gain, threshold = _even(1 - dv / 4096, shape), factor, _even(vth.astype(float), shape)
        how: dict[str, Any] = {"spike": self._spike(node, vth, levels), "reset": RULES[reset]}
        source = (self.names[node.input],)
        made: g.Neuron
        if jump.any():
            made = g.Neuron(node.name, source, "ALIF", alif_step, ALIFState, ALIFParams(decay, gain, threshold, _even(1 - dh / 4096, shape), _even(jump / 64, shape)), how)
        elif memory:
            made = g.Neuron(node.name, source, "CUBALIF", cuba_step, CUBAState, CUBAParams(_even(1 - (du + 1) / 4096, shape), decay, gain, threshold), how)
        else:
            made = g.Neuron(node.name, source, "LIF", lif_step, LIFState, LIFParams(decay, gain, threshold), how)
        if isinstance(node, ints.RecurrentCell):
            inner = g.Neuron(f"{node.name}.neuron", made.inputs, made.model, made.step, made.state, made.params, made.choices)
            self._put(g.Recurrent(node.name, source, _float(node.weight / factor), None, inner), node.name)
        else:
            self._put(made, node.name)

    def _spike(self, node: Any, vth: np.ndarray, levels: int) -> Surrogate:
        if levels == 1:
            return ATan(strict=True)
        if vth.min() != vth.max() or np.any(getattr(node, "jump", 0)):
            raise _refused(node, f"it has {levels} levels, and a threshold that differs between channels or adapts.", cure="Map the model that it was made of.")
        return Levels(levels, unit=float(vth[0]), strict=True)


def _refused(node: ints.Node, *facts: str, cure: str = "") -> GraphError:
    return GraphError(explain(f"{type(node).__name__} {node.name!r} has no counterpart among float layers: {facts[0]}", *facts[1:], cure=cure))


def _float(array: np.ndarray) -> Tensor:
    return torch.tensor(np.asarray(array, np.float64), dtype=torch.float32)


def _even(values: np.ndarray, shape: tuple[int, ...]) -> Tensor | float:
    """One number, or one per channel in the shape that meets one step."""
    if values.min() == values.max():
        return float(values[0])
    return _float(values).view(-1, 1, 1) if len(shape) == 3 else _float(values)


def _how(node: ints.Conv) -> tuple[Any, ...]:
    return node.stride, node.padding, node.dilation, node.groups


def _window(node: ints.MaxPool | ints.SumPool) -> tuple[Any, ...]:
    return node.kernel, node.stride, node.padding
