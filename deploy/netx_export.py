"""An integer network as layers of netx: a chain of convolutions and dense layers, each with its neurons.

    Conv, LIF -> conv        Dense, LIF -> dense        Dense, RecurrentCell -> dense_rec        Flatten -> flatten
    Dense, Readout -> dense, read from its membrane

A readout becomes what lava-dl's own PilotNet ends with: a neuron that keeps everything and cannot fire (vDecay 0,
vThMant 131071), whose membrane is 64 times the score. A Readout of spikes is left to who counts them.
What the format has no layer for is refused by name; `expanded` replaces what has an exact form in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuro.deploy.cells import Cell, RecurrentCell
from neuro.deploy.joins import KIND_OF, Flatten, Readout
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.netx_file import Layer
from neuro.deploy.netx_weights import problem
from neuro.deploy.nodes import LIF, Conv, Dense, Input, MaxPool, Node
from neuro.errors import GraphError, explain

SILENT = 131071     # vThMant of a neuron that is read from its membrane
MOST_MANT = 4095
EXPONENT = 6        # lava-dl gives every bias this exponent

REMEDIES = {
    "maxpool": ("netx has no pooling.", "Pass expand=True (--expand true): it becomes a Conv and a LIF with the same spikes, one step later."),
    "add": ("netx is a chain and has no sums.", "Train without the residual branch, or give the network file to `neuro lava script`."),
    "attention": ("netx has no attention.", "Give the network file to `neuro lava script`."),
    "tokens": ("netx has no tokens.", "Use 1x1 convolutions on the map instead of products on tokens."),
    "sumpool": ("netx has no pooling.", "Use a Conv with a stride, or give the network file to `neuro lava script`."),
    "delay": ("netx has delays per synapse only, which lava-dl does not clear between recordings.", "Give the network file to `neuro lava script`."),
    "tokensum": ("netx has no sum over tokens.", "Use Flatten and a Dense, or a Conv as large as the map."),
    "sumreadout": ("the scores of a netx file are means over a recording.", "Train with MeanOverTime: it chooses the same class."),
    "stepreadout": ("the answer of a netx file is a membrane that sums up a recording, not an answer at every step.", "Give the network file to `neuro lava script`."),
}


@dataclass(frozen=True)
class Chain:
    """Layers of a network, what we add to the file, and the most steps for which its scores fit the last membrane (None: any)."""

    layers: tuple[Layer, ...]
    document: dict[str, Any]
    most_steps: int | None
    notes: tuple[str, ...]


def refuse(node: Node, *facts: str, cure: str = "") -> GraphError:
    return GraphError(explain(f"{type(node).__name__} {node.name!r} cannot be written as netx.", *facts, cure=cure))


def expanded(network: IntegerNetwork) -> tuple[IntegerNetwork, list[str]]:
    """Pools of spikes as depthwise convolutions into neurons without memory: the same spikes. The second value says which.

    A window holds a spike where 2 * (its spikes) > 1, and that is what a neuron with dv = 4096 and vth = 1 fires for.
    """
    nodes, notes = [], []
    for node in network.nodes:
        if not isinstance(node, MaxPool):
            nodes.append(node)
            continue
        if not network.binary(node.input):
            raise refuse(node, f"Its input reaches {network.ranges[node.input]}; only a pool of spikes is a convolution.", cure="Give the network file to `neuro lava script`.")
        channels = network.shapes[node.input][0]
        weight = np.full((channels, 1, *node.kernel), 2, np.int32)
        window = f"{node.name}.window"
        nodes += [Conv(window, node.input, weight, node.stride, node.padding, 1, channels), LIF(node.name, window, 4096, 1)]
        notes.append(f"{node.name}: the pool became a depthwise convolution and {channels} x neurons; everything behind it is one step later.")
    return (IntegerNetwork(nodes, network.name), notes) if notes else (network, [])


def rounded(network: IntegerNetwork) -> tuple[IntegerNetwork, list[str]]:
    """Biases of neurons to the nearest multiple of 64 that netx holds. The second value says by how much they moved."""
    nodes, notes = [], []
    for node in network.nodes:
        if isinstance(node, LIF | Cell):
            bias = node.bias_mant.astype(np.int64) << node.bias_exp
            mant = np.clip(np.round(bias / 2**EXPONENT), -MOST_MANT, MOST_MANT).astype(np.int64)
            moved = np.abs((mant << EXPONENT) - bias)
            if moved.max():
                notes.append(f"{node.name}: {np.count_nonzero(moved)} of {moved.size} biases moved, by at most {moved.max() / (int(np.min(node.vth)) << 6):.3%} of the threshold.")
                node = replace(node, bias_mant=mant, bias_exp=EXPONENT)
        nodes.append(node)
    return (IntegerNetwork(nodes, network.name), notes) if notes else (network, [])


def to_layers(network: IntegerNetwork) -> Chain:
    """The layers of a network that netx can hold.

    Raises:
        GraphError: the first node that it cannot hold, with a way out; a weight that the chip cannot hold.
    """
    network.check()
    writer = _Writer(network)
    writer.refuse_kinds()
    for node in network.nodes:
        writer.take(node)
    return writer.chain()


class _Writer:
    """Walks the chain; a synapse waits until its neuron has come."""

    def __init__(self, network: IntegerNetwork) -> None:
        self.network, self.layers, self.names, self.notes = network, [], [], []  # type: ignore[var-annotated]
        self.last, self.waiting = network.input.name, None  # type: ignore[var-annotated]
        self.most_steps: int | None = None
        self.forms: dict[type[Node], Callable[[Any], None]] = {
            Input: self.input, Conv: self.synapse, Dense: self.synapse, LIF: self.neurons, Cell: self.cell, RecurrentCell: self.cell,
            Flatten: self.flatten, Readout: self.readout}

    def refuse_kinds(self) -> None:
        """Name every node of a kind that netx does not have; the remedy is for the first, a pool only where nothing else is left."""
        bad = sorted((n for n in self.network.nodes if type(n) not in self.forms), key=lambda n: isinstance(n, MaxPool))
        if bad:
            fact, cure = REMEDIES.get(KIND_OF[type(bad[0])], ("netx has no such layer.", "Give the network file to `neuro lava script`."))
            more = f"Nor can {', '.join(f'{type(n).__name__} {n.name!r}' for n in bad[1:6])}{' ...' if len(bad) > 6 else ''}." if bad[1:] else ""
            raise refuse(bad[0], fact, more, cure=cure)

    def take(self, node: Node) -> None:
        if node.inputs not in ((), (self.last,)):
            raise refuse(node, f"It reads {node.inputs[0]!r}; before it stands {self.last!r}.", "netx is a chain: each layer reads the one before it.",
                         cure="Give the network file to `neuro lava script`.")
        self.forms[type(node)](node)
        self.last = node.name

    def add(self, kind: str, shape: tuple[int, ...], names: list[str], values: dict[str, Any] | None = None, neuron: dict[str, Any] | None = None) -> None:
        arrays = {"shape": np.array(shape, np.int64), **{k: np.asarray(v) for k, v in (values or {}).items()}}
        self.layers.append(Layer(kind, arrays, neuron))
        self.names.append(names)

    def input(self, node: Input) -> None:
        self.add("input", node.shape, [node.name])

    def synapse(self, node: Conv | Dense) -> None:
        shape = self.network.shapes[node.inputs[0]]
        if self.waiting is not None:
            raise refuse(node, f"It reads the currents of {self.waiting.name!r}.", cure="netx has neurons behind every synapse: put a LIF between them.")
        if isinstance(node, Dense):
            if len(shape) != 1:
                raise refuse(node, f"Its input {list(shape)} is a product for each token.", cure=REMEDIES["tokens"][1])
            low, high = self.network.ranges[node.name]
            looped = any(isinstance(n, RecurrentCell) and n.input == node.name for n in self.network.nodes)     # it is looked at together with the loop
            if not looped and (fact := problem(node.weight, max(-low, high))):
                raise refuse(node, fact, cure="Quantise this layer with another scale, or give the network file to `neuro lava script`.")
        self.waiting = node

    def cell(self, node: Cell) -> None:
        """A Cell that does no more than Lava's LIF, and a RecurrentCell behind a Dense."""
        numbers = [np.unique(getattr(node, f)) for f in ("dv", "vth", "du")]
        more = [f for f, bad in (("reset", node.reset != "zero"), ("levels", node.levels > 1), ("jump", np.any(node.jump)),
                                 ("constants per channel", any(n.size > 1 for n in numbers)), ("a bias through its current", numbers[2].min() < 4095 and np.any(node.bias_mant))) if bad]
        if more:
            raise refuse(node, f"netx holds Lava's LIF, and this one has {', '.join(more)} beyond it.", cure="Give the network file to `neuro lava script`.")
        dv, vth, du = (int(n[0]) for n in numbers)
        plain = LIF(node.name, node.input, dv, vth, node.bias_mant, node.bias_exp, du)
        if not isinstance(node, RecurrentCell):
            self.neurons(plain)
            return
        synapse = self.waiting
        if not isinstance(synapse, Dense):
            raise refuse(node, f"It reads {self.last!r}.", cure="Put a Dense before it.")
        low, high = self.network.ranges[synapse.name]
        back = node.feedback_range()
        if fact := problem(np.hstack([synapse.weight, node.weight]), max(-low, high, -back[0], back[1]), synapse.weight.shape[1]):
            raise refuse(node, fact, cure="Quantise this layer with another scale, or give the network file to `neuro lava script`.")
        self.neurons(plain)
        layer = self.layers[-1]
        self.layers[-1] = replace(layer, kind="dense_rec", values={**layer.values, "weight_rec": node.weight.astype(np.float32)})
        self.notes.append(f"{node.name}: lava-dl does not clear feedback between recordings; run each in a network of its own.")

    def neurons(self, node: LIF) -> None:
        bias = node.bias_mant.astype(np.int64) << node.bias_exp
        mant = bias >> EXPONENT
        if ((mant << EXPONENT) != bias).any() or np.abs(mant).max() > MOST_MANT:
            bad = int(np.count_nonzero(((mant << EXPONENT) != bias) | (np.abs(mant) > MOST_MANT)))
            raise refuse(node, f"{bad} of {bias.size} biases are no multiples of 64 within 64 * 4095, all that netx holds; they lie in {bias.min()}..{bias.max()}.",
                         cure="Pass round_bias=True (--round-bias true): they are moved to the nearest, and the report says how far.")
        if self.waiting is None and self.last != self.network.input.name:
            raise refuse(node, f"It reads {self.last!r} without a synapse between them.", cure="Put a Conv or Dense before it.")
        if self.waiting is None and (mant.any() or node.du != 4095):
            raise refuse(node, "It reads the input itself, which in netx enters as its bias, without current.", cure="Use du = 4095 and no bias there, or put a synapse before it.")
        values = {"iDecay": node.du + 1, "vDecay": node.dv, "vThMant": node.vth}
        self.layer(node, mant, values)

    def layer(self, node: LIF | Readout, mant: np.ndarray, values: dict[str, int]) -> None:
        """The waiting synapse with these neurons, or the neurons of the input."""
        shape, synapse = self.network.shapes[node.name], self.waiting
        neuron = {"type": "CUBA", **values, "refDelay": 1, "gradedSpike": False}
        self.waiting = None
        if synapse is None:
            self.layers[0] = replace(self.layers[0], values={**self.layers[0].values, "weight": np.int64(1), "bias": np.int64(0)}, neuron=neuron)
            self.names[0].append(node.name)
            self.notes.append(f"{node.name}: lava-dl leaves the input of these neurons to you: set net.in_layer.neuron.bias_mant in every step.")
            return
        fields: dict[str, Any] = {"weight": synapse.weight.astype(np.float32)}      # as lava-dl stores them
        if mant.any():
            fields["bias"] = np.broadcast_to(mant, (shape[0],)).astype(np.float32)
        if isinstance(synapse, Conv):
            outputs, per_group, *kernel = synapse.weight.shape
            fields |= {"inChannels": per_group * synapse.groups, "outChannels": outputs, "kernelSize": kernel, "stride": synapse.stride,
                       "padding": synapse.padding, "dilation": synapse.dilation, "groups": synapse.groups}
        else:
            fields |= {"inFeatures": synapse.weight.shape[1], "outFeatures": synapse.weight.shape[0]}
        self.add("conv" if isinstance(synapse, Conv) else "dense", shape, [synapse.name, node.name], fields, neuron)

    def flatten(self, node: Flatten) -> None:
        if self.waiting is not None:
            raise refuse(node, f"It reads the currents of {self.waiting.name!r}.", cure="Put the LIF before it.")
        if len(self.layers) == 1 and self.layers[0].neuron is None:
            self.notes.append(f"{node.name}: it stands before the first layer, where lava-dl leaves flattening, in the order C, H, W, to you.")
        self.add("flatten", self.network.shapes[node.name], [node.name])

    def readout(self, node: Readout) -> None:
        if self.waiting is None:
            source = self.network[self.last]
            source = self.network[source.input] if isinstance(source, Flatten) else source
            if not isinstance(source, LIF | Cell) or node.bias.any():
                raise refuse(node, f"It reads {self.last!r} with biases {node.bias.min()}..{node.bias.max()}.", cure="A Readout of spikes has no bias; else put a Dense before it.")
            if isinstance(source, LIF) and (source.vth, source.dv, source.du) == (SILENT, 0, 4095):
                raise refuse(node, f"The neurons {source.name!r} before it look like a readout themselves.", cure="Use a vth below 131071.")
            return
        if np.abs(node.bias).max() > MOST_MANT:
            raise refuse(node, f"biases {node.bias.min()}..{node.bias.max()} pass {MOST_MANT}.", cure="Use smaller weights and biases in the head.")
        low, high = self.network.ranges[node.name]
        self.most_steps = SILENT // max(1, -low, high)
        if not self.most_steps:
            raise refuse(node, f"One step can add {max(-low, high)}; the membrane that holds its score ends at {SILENT}.", cure="Use smaller weights in the head.")
        self.layer(node, np.asarray(node.bias), {"iDecay": 4096, "vDecay": 0, "vThMant": SILENT})

    def chain(self) -> Chain:
        last, first = self.network.readout, self.network.input
        driven = self.layers[0].neuron is not None      # its offsets count from the input's neurons, or one step too early
        arguments = "reset_interval=T" + ("" if driven else ", reset_offset=1")
        arguments += f", input_message_bits={first.message_bits}" if first.message_bits > 1 and not driven else ""
        self.notes.append(f"In lava-dl, with recordings of T steps: netx.hdf5.Network(file, {arguments})")
        document = {"version": 1, "name": self.network.name, "message_bits": first.message_bits, "scale": float(last.scale), "readout": last.name, "layers": self.names}
        return Chain(tuple(self.layers), document, self.most_steps, tuple(self.notes))
