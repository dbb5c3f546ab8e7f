"""Quantisation-aware training: a network that computes, while it is trained, with the integers that will run on the chip.

    aware = QuantizationAware(model, x, weight_bits=4)      # norms folded in, weights of their own
    scores = aware(x)                                       # train it as any module
    network, report = quantize(aware, x)                    # the network that was trained, spike for spike
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from neuro import graph as g
from neuro import state
from neuro.deploy import network as ints
from neuro.deploy.constants import constants
from neuro.deploy.differentiable import Soft, instead, run_torch
from neuro.deploy.emitting import Emitter
from neuro.deploy.grid import Grid, rows
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.quantize import input_bits
from neuro.errors import ParameterError, ShapeError, explain
from neuro.graph import Graph, fold_norms
from neuro.tracing import trace

WEIGHTED = (g.Conv2d, g.Linear, g.Recurrent)


class QuantizationAware(nn.Module):
    """A spiking network whose forward is its integer network's, and whose gradients are the float network's.

    In every forward the weights are rounded anew as `neuro.deploy.quantize.quantize` would round them, with scale, threshold and
    biases; gradients go straight through. So the spikes equal those of `run_twin` at every step, and quantising changes nothing.

    Args:
        model: what `quantize` takes; it is traced once and left alone. Its norms are folded in with the statistics they have,
            so train it in floats first. Decays, gains and thresholds stay as they are; weights and biases are trained.
        x: recordings [T, B, ...], event counts: their largest count is what the input must hold.
        message_bits, weight_bits, clip, per_channel: as for `quantize`.

    Shapes: x [T, B, ...] counts -> scores [B, classes], or [T, B, classes] of a network that answers at every step, float32. `neuro.run(aware, x, lengths=...)` leaves out padded steps.

    Raises:
        GraphError: as `quantize`.   ParameterError: weight_bits out of range, or weights that are no longer finite.

    Source: straight-through rounding, Bengio et al. 2013, arXiv:1308.3432.

    >>> import neuro
    >>> from neuro.layers import Linear, MeanOverTime, Sequential
    >>> net = Sequential(Linear(3, 4), neuro.neurons.LIF(), Linear(4, 2), MeanOverTime())
    >>> x = torch.ones(5, 1, 3)
    >>> QuantizationAware(net, x, weight_bits=4)(x).shape
    torch.Size([1, 2])
    """

    def __init__(
        self, model: Graph | nn.Module, x: Tensor, *, message_bits: int | None = 8, weight_bits: int = 8, clip: bool = False, per_channel: bool = False
    ) -> None:
        super().__init__()
        self.grid = Grid(weight_bits, clip, per_channel)
        graph = model if isinstance(model, Graph) else trace(model, x[:, :1])
        self.message_bits, self.weight_bits = input_bits(graph, x, message_bits), weight_bits
        self._folded = fold_norms(graph)
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        for node in self._folded:
            if isinstance(node, WEIGHTED):
                self.weights[key(node.name)] = node.weight.detach().clone()
                if node.bias is not None:
                    self.biases[key(node.name)] = node.bias.detach().clone()
        self.network().check()  # what cannot be held is refused here, not in the first step of training

    def graph(self) -> Graph:
        """The float network with the present weights, detached."""
        return Graph([self._with_weights(node) for node in self._folded], self._folded.removed)

    def _with_weights(self, node: g.Node) -> g.Node:
        if not isinstance(node, WEIGHTED):
            return node
        weight, bias = self.weights[key(node.name)].detach(), self._bias(node.name)
        found = [weight] if bias is None else [weight, bias.detach()]
        if not all(torch.isfinite(x).all() for x in found):
            raise ParameterError(explain(f"QuantizationAware: weights of {node.name!r} are not finite.", cure="Lower the learning rate."))
        return type(node)(**{**vars(node), "weight": weight, "bias": None if bias is None else bias.detach()})

    def _bias(self, name: str) -> Tensor | None:
        return self.biases[key(name)] if key(name) in self.biases else None

    def emitter(self) -> Emitter:
        """The present weights on the chip's grid."""
        return Emitter(self.graph(), self.message_bits, self.grid)

    def network(self, name: str = "network") -> IntegerNetwork:
        """The integer network of the present weights."""
        return self.emitter().network(name)

    def values(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Every node's output, by the integer network's names: integers, spikes, and the scores of the last. Raises ShapeError, GraphError: no counts."""
        if x.dim() < 3 or tuple(x.shape[2:]) != self._folded.input.shape:
            raise ShapeError(explain("QuantizationAware: the input does not fit.", f"x {list(x.shape)}   expected [T, B, {str(list(self._folded.input.shape))[1:-1]}]"))
        if lengths is not None and (lengths.shape != x.shape[1:2] or int(lengths.min()) < 1 or int(lengths.max()) > len(x)):
            raise ShapeError(explain("QuantizationAware: the lengths do not fit.", f"x {list(x.shape)}   lengths {lengths.tolist()}", cure="One number in 1 .. T for each recording."))
        input_bits(self._folded, x, self.message_bits)
        emitter = self.emitter()
        network = emitter.network("network")
        weights: dict[str, Tensor] = {}
        biases: dict[str, Tensor] = {}
        for taker, placed in emitter.placed.items():
            scale = np.asarray(placed.scale)
            for name in placed.sources:
                weight = self.weights[key(name)]
                factor = like(rows(scale * emitter.unit(self._folded[name]), network[name].weight), weight)
                weights[name] = instead(like(network[name].weight, weight), factor * weight)
            if isinstance(network[taker], ints.RecurrentCell):
                weight = self.weights[key(taker)]
                weights[taker] = instead(like(network[taker].weight, weight), like(rows(scale, network[taker].weight), weight) * weight)
            biases[taker] = self._whole_bias(placed.sources, network[taker], scale)
        soft = {}
        for node in network.lifs:
            biases.setdefault(node.name, like(whole_bias(node), x))
            neuron = getattr(self._folded[node.name], "neuron", self._folded[node.name])
            threshold = constants(neuron, self._folded.shapes[node.name]).threshold
            soft[node.name] = Soft(neuron.choices["spike"], like(threshold, x), neuron.reset.detach)
        biases.setdefault(network.readout.name, like(network.readout.bias, x))
        return run_torch(network, x, weights, biases, soft, lengths)

    def _whole_bias(self, sources: tuple[str, ...], taker: ints.Node, scale: np.ndarray) -> Tensor:
        """The integer bias of a neuron or readout, with the gradient of the float ones that it sums up."""
        found = [self._bias(name) for name in (*sources, taker.name)]
        biases = [b for b in found if b is not None]
        whole = whole_bias(taker)
        if not biases:
            return like(whole, self.weights[key(sources[0])])
        total = sum(b.double() for b in biases) * like(scale if isinstance(taker, ints.Readout) else 64 * scale, biases[0])
        return instead(like(np.broadcast_to(whole, total.shape), biases[0]), total)

    def run(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores of x [T, B, ...]; lengths: steps that count for each recording."""
        *_, scores = self.values(x, lengths).values()
        return scores.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, state.lengths())


def whole_bias(node: ints.Node) -> np.ndarray:
    """What a neuron or readout adds in every step, one number or one per channel."""
    return node.bias if isinstance(node, ints.Readout) else np.asarray(node.bias_mant << node.bias_exp)  # type: ignore[attr-defined]


def key(name: str) -> str:
    """A module path as the name of a parameter."""
    return name.replace(".", "/")


def like(array: np.ndarray, tensor: Tensor) -> Tensor:
    """Integers as a tensor in float64 on the device of another."""
    return torch.tensor(np.asarray(array), dtype=torch.float64, device=tensor.device)
