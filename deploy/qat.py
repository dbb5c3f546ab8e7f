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
from neuro.deploy.differentiable import Soft, instead, run_torch
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.quantize import Emitter, input_bits
from neuro.errors import ParameterError, explain
from neuro.graph import Graph, fold_norms
from neuro.tracing import trace


class QuantizationAware(nn.Module):
    """A spiking network whose forward is its integer network's, and whose gradients are the float network's.

    In every forward the weights are rounded anew as `neuro.deploy.quantize.quantize` would round them, with scale, threshold and
    biases; gradients go straight through. So the spikes equal those of `run_twin` at every step, and quantising changes nothing.

    Args:
        model: what `quantize` takes; it is traced once and left alone. Its norms are folded in with the statistics they have,
            so train it in floats first. Decays, gains and thresholds stay as they are; weights and biases are trained.
        x: recordings [T, B, ...], event counts: their largest count is what the input must hold.
        message_bits, weight_bits, clip: as for `quantize`.

    Shapes: x [T, B, ...] counts -> scores [B, classes], float32. `neuro.run(aware, x, lengths=...)` leaves out padded steps.

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

    def __init__(self, model: Graph | nn.Module, x: Tensor, *, message_bits: int | None = 8, weight_bits: int = 8, clip: bool = False) -> None:
        super().__init__()
        if not 2 <= weight_bits <= 8:
            raise ParameterError(explain(f"QuantizationAware: weight_bits is {weight_bits}.", cure="Give 2 to 8."))
        graph = model if isinstance(model, Graph) else trace(model, x[:, :1])
        self.message_bits, self.weight_bits, self.clip = input_bits(graph, x, message_bits), weight_bits, clip
        self._folded = fold_norms(graph)
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        for node in self._folded:
            if isinstance(node, (g.Conv2d, g.Linear)):
                self.weights[key(node.name)] = node.weight.detach().clone()
                if node.bias is not None:
                    self.biases[key(node.name)] = node.bias.detach().clone()
        self.network()  # what cannot be held is refused here, not in the first step of training

    def graph(self) -> Graph:
        """The float network with the present weights, detached."""
        return Graph([self._with_weights(node) for node in self._folded], self._folded.removed)

    def _with_weights(self, node: g.Node) -> g.Node:
        if not isinstance(node, (g.Conv2d, g.Linear)):
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
        return Emitter(self.graph(), self.message_bits, self.weight_bits, self.clip)

    def network(self, name: str = "network") -> IntegerNetwork:
        """The integer network of the present weights."""
        return self.emitter().network(name)

    def values(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Every node's output, by name: integers, spikes, and the scores of the last."""
        emitter = self.emitter()
        network = emitter.network("network")
        weights, biases, soft = {}, {}, {}
        for layer in emitter.layers:
            source = self._folded[layer.layer]
            if isinstance(source, (g.Conv2d, g.Linear)):
                factor = layer.scale * emitter.factor[source.inputs[0]]
                weight = self.weights[key(source.name)]
                weights[source.name] = instead(like(network[source.name].weight, weight), factor * weight)
                taker = layer.neuron or network.readout.name
                biases[taker] = self._whole_bias(source.name, network[taker], layer.scale)
        for node in network.lifs:
            biases.setdefault(node.name, like(node.bias_mant << node.bias_exp, x).double())
            neuron = self._folded[node.name]
            threshold = float(torch.as_tensor(neuron.params.threshold).flatten()[0])
            soft[node.name] = Soft(neuron.choices["spike"], threshold, neuron.reset.detach)
        biases.setdefault(network.readout.name, like(network.readout.bias, x).double())
        return run_torch(network, x, weights, biases, soft, lengths)

    def _whole_bias(self, source: str, taker: ints.Node, scale: float) -> Tensor:
        """The integer bias of a neuron or readout, with the gradient of the float one."""
        readout = isinstance(taker, ints.Readout)
        whole = taker.bias if readout else np.asarray(taker.bias_mant << taker.bias_exp)  # type: ignore[attr-defined]
        bias = self._bias(source)
        if bias is None:
            return like(whole, self.weights[key(source)]).double()
        whole = np.broadcast_to(whole, bias.shape)
        return instead(like(whole, bias).double(), bias.double() * (scale if readout else 64 * scale))

    def run(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores [B, classes] of x [T, B, ...]; lengths: steps that count for each recording."""
        return self.values(x, lengths)[self._folded.output.name].float()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, state.lengths())


def key(name: str) -> str:
    """A module path as the name of a parameter."""
    return name.replace(".", "/")


def like(array: np.ndarray, tensor: Tensor) -> Tensor:
    """Integers as a tensor in float64 on the device of another."""
    return torch.tensor(np.asarray(array), dtype=torch.float64, device=tensor.device)
