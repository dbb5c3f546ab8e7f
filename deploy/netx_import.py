"""Layers of netx as an integer network, with lava-dl's rules: du = iDecay - 1, bias << 6, the last membrane as score."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from neuro.deploy.cells import Cell, RecurrentCell
from neuro.deploy.joins import Flatten, Readout
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.netx_export import EXPONENT, SILENT
from neuro.deploy.netx_file import Layer
from neuro.deploy.netx_weights import problem
from neuro.deploy.nodes import LIF, NAME, Conv, Dense, Input, Node
from neuro.errors import FormatError, explain

CUBA = ("CUBA", "LOIHI")
MOST = 2**24        # values of a layer per step: a shape is a few bytes, what it asks for is not
MISSING = {
    "average": "lava-dl does not read it either.", "pool": "lava-dl does not read it either.",
    "convT": "lava-dl does not read it either.", "unpool": "lava-dl does not read it either.", "concat": "lava-dl does not read it either.",
    "dense_comp": "Complex weights have no node.",
}


class Importer:
    """Builds the nodes; `notes` says where lava-dl would do something else, or leaves something to its caller."""

    def __init__(self, path: Any, layers: list[Layer], document: dict[str, Any], input_shape: tuple[int, ...] | None) -> None:
        self.path, self.layers, self.notes = path, layers, []  # type: ignore[var-annotated]
        self.nodes: list[Node] = []
        self.said = document if document.get("version") == 1 else {}
        self.names = self.said.get("layers")
        if not isinstance(self.names, list) or len(self.names) != len(layers):
            self.names = [[] for _ in layers]
        self.shape: tuple[int, ...] = input_shape or ()
        self.last, self.integrates = "", False

    def refuse(self, i: int, *facts: str, cure: str = "") -> FormatError:
        return FormatError(explain(f"{self.path}: layer {i} ({self.layers[i].kind[:32]!r}) cannot be read.", *facts, cure=cure))

    def name(self, i: int, which: int, default: str) -> str:
        """The name that our own writer kept, else one made of the layer's number."""
        kept = self.names[i]
        name = kept[which] if isinstance(kept, list) and len(kept) > which else None
        return name if isinstance(name, str) and NAME.fullmatch(name) and name not in {n.name for n in self.nodes} else f"layer{i}.{default}"

    def network(self) -> IntegerNetwork:
        for i, layer in enumerate(self.layers):
            if self.integrates:
                raise self.refuse(i, "It follows a layer whose neurons cannot fire.")
            take = {"input": self.input, "conv": self.synapse, "dense": self.synapse, "dense_rec": self.synapse, "flatten": self.flatten}.get(layer.kind)
            if take is None:
                raise self.refuse(i, MISSING.get(layer.kind, "No such type is known."), cure="Read a network of dense, conv and flatten layers.")
            take(i, layer)
            if math.prod(self.shape) > MOST:
                raise self.refuse(i, f"shape {list(self.shape)} is {math.prod(self.shape)} values a step; {MOST} are read.")
        self.readout()
        name = self.said.get("name")
        return IntegerNetwork(self.nodes, name if isinstance(name, str) else "netx")

    def field(self, i: int, name: str) -> np.ndarray:
        if name not in self.layers[i].values:
            raise self.refuse(i, f"{name} is missing.")
        return self.layers[i].values[name]

    def input(self, i: int, layer: Layer) -> None:
        if i or self.nodes:
            raise self.refuse(i, "An input stands only first.")
        self.begin(i, tuple(int(n) for n in self.field(i, "shape").reshape(-1)), 16 if layer.neuron else 1)
        if layer.neuron is None:
            return
        weight, bias = (layer.number(n) if n in layer.values else d for n, d in (("weight", 64), ("bias", 0)))
        self.neurons(i, {**layer.neuron, "iDecay": 4096}, np.zeros((), np.int64), self.name(i, 1, "lif"))      # its values enter as bias, without current
        if (weight, bias) != (1, 0):
            self.notes.append(f"The file's input is transformed: give this network {weight} * x + {bias}, 0..65535.")

    def begin(self, i: int, shape: tuple[int, ...], bits: int) -> None:
        kept = self.said.get("message_bits")
        bits = kept if type(kept) is int and 1 <= kept <= 16 else bits
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            raise self.refuse(i, f"shape {list(shape)}.", cure="One to three positive sizes are needed.")
        self.shape, self.last = shape, self.name(0, 0, "input") if self.layers[0].kind == "input" else "input"
        self.nodes.append(Input(self.last, shape, bits))

    def synapse(self, i: int, layer: Layer) -> None:
        weight = self.field(i, "weight")
        dense = layer.kind != "conv"
        shape = tuple(int(n) for n in self.field(i, "shape").reshape(-1))
        if dense and weight.ndim == 1 and shape and np.prod(shape) > 0 and weight.size % np.prod(shape) == 0:
            weight = weight.reshape(int(np.prod(shape)), -1)
        elif not dense and weight.ndim == 5 and weight.shape[4] == 1:
            weight = weight[..., 0]
        if weight.ndim != (2 if dense else 4):
            raise self.refuse(i, f"weight {list(weight.shape)}, shape {list(shape)}.")
        if not self.nodes:
            self.begin(i, self.shape or ((weight.shape[1],) if dense else self.ask(i)), 1)
        if "delay" in layer.values and layer.values["delay"].any():
            raise self.refuse(i, f"Its delays reach {layer.values['delay'].max()}; a synapse here delivers after one step.", cure="Train without delays.")
        name = self.name(i, 0, layer.kind)
        if dense:
            node: Conv | Dense = Dense(name, self.last, weight)
            looped = layer.kind == "dense_rec"
            both = np.hstack([weight, self.feedback(i, weight)]) if looped else weight
            if fact := problem(both, int(np.abs(both).sum(1).max()), weight.shape[1] if looped else None):
                self.notes.append(f"{name}: {fact}.")
        else:
            pairs = {f: self.pair(i, f) for f in ("stride", "padding", "dilation")}
            node = Conv(name, self.last, weight, **pairs, groups=layer.number("groups") if "groups" in layer.values else 1)
        given, self.shape = shape, node.out_shape(self.shape)
        if given not in (self.shape, (*self.shape, 1, 1)):
            raise self.refuse(i, f"shape {list(given)}, where its weights give {list(self.shape)}.")
        self.nodes.append(node)
        self.last = name
        bias = layer.values.get("bias", np.zeros((), np.int64)).reshape(-1)
        self.ends(i, layer, bias)

    def feedback(self, i: int, weight: np.ndarray) -> np.ndarray:
        found, size = self.field(i, "weight_rec"), weight.shape[0]
        if found.size != size * size:
            raise self.refuse(i, f"weight_rec {list(found.shape)}, where its {size} neurons need {[size, size]}.")
        return found.reshape(size, size)

    def ask(self, i: int) -> tuple[int, ...]:
        raise self.refuse(i, "The file does not say the size of the map that it reads.", cure="Pass input_shape=(C, H, W), or --input-shape [C,H,W] to `neuro lava read`.")

    def pair(self, i: int, name: str) -> tuple[int, int]:
        value = self.layers[i].values.get(name, np.array([0 if name == "padding" else 1])).reshape(-1)
        if value.size > 2:
            raise self.refuse(i, f"{name} {value.tolist()}.", cure="One or two numbers.")
        return int(value[0]), int(value[-1])

    def ends(self, i: int, layer: Layer, bias: np.ndarray) -> None:
        """The neurons of a layer; those that keep everything and cannot fire are read as the scores."""
        n = layer.neuron
        silent = n is None or (n.get("iDecay"), n.get("vDecay"), n.get("vThMant")) == (4096, 0, SILENT) and n["type"] in CUBA
        if silent and layer.kind == "dense" and i + 1 == len(self.layers):
            self.integrates = True
            bias = np.broadcast_to(bias, self.shape) if bias.size in (1, self.shape[0]) else bias
            self.nodes.append(Readout(self.readout_name(), self.last, bias, self.scale()))
            return
        if n is None:
            raise self.refuse(i, "It has no neurons.", cure="Only the last dense layer may leave them out.")
        self.neurons(i, n, bias, self.name(i, 1, "lif"))

    def neurons(self, i: int, n: Any, bias: np.ndarray, name: str) -> None:
        if n["type"] not in CUBA:
            raise self.refuse(i, f"Its neurons are {n['type'][:32]!r}.", cure="CUBA and LOIHI neurons are read.")
        if missing := [f for f in ("iDecay", "vDecay", "vThMant") if f not in n]:
            raise self.refuse(i, f"neuron/{missing[0]} is missing.")
        if n.get("messageBits", 0):
            raise self.refuse(i, f"Its neurons send {n['messageBits']} bits.", cure="Spikes of one bit are read.")
        if n.get("refDelay", 1) != 1:
            self.notes.append(f"{name}: refDelay {n['refDelay']} is not obeyed, nor is it by lava-dl.")
        bias = bias[0] if bias.size == 1 and bias.ndim else bias
        rest = (name, self.last, n["vDecay"], n["vThMant"], bias, EXPONENT if bias.any() else 0, n["iDecay"] - 1)
        if self.layers[i].kind != "dense_rec":
            self.nodes.append(LIF(*rest))
        elif bias.any() and n["iDecay"] != 4096:
            raise self.refuse(i, "It has feedback, a bias and current that lasts.", cure="Leave the bias out, or use iDecay = 4096.")
        else:
            self.nodes.append(RecurrentCell(*rest, weight=self.feedback(i, self.layers[i].values["weight"].reshape(self.shape[0], -1))))
        self.last = name

    def flatten(self, i: int, layer: Layer) -> None:
        if not self.nodes:
            self.begin(i, self.shape or self.ask(i), 1)
        name = self.name(i, 0, "flatten")
        self.nodes.append(Flatten(name, self.last))
        self.shape, self.last = (math.prod(self.shape),), name

    def readout(self) -> None:
        if not any(isinstance(n, LIF | Cell | Readout) for n in self.nodes):
            raise FormatError(explain(f"{self.path}: not a readable netx file.", "It has no neurons."))
        if self.integrates:
            return
        if len(self.shape) != 1:
            self.flatten(len(self.layers) - 1, self.layers[-1])
        self.nodes.append(Readout(self.readout_name(), self.last, np.zeros(self.shape, np.int64), self.scale()))

    def readout_name(self) -> str:
        name = self.said.get("readout")
        taken = {n.name for n in self.nodes}
        return name if isinstance(name, str) and re.fullmatch(NAME, name) and name not in taken else "readout"

    def scale(self) -> float:
        scale = self.said.get("scale")
        return scale if isinstance(scale, float) and 0 < scale < float("inf") else 1.0
