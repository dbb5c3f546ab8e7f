"""Memory of a layer: which words it reads and writes, of which width, in memories of which size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neuro.deploy.profiles import Profile, access
from neuro.deploy.work import Work
from neuro.errors import ParameterError, explain

Kind = Literal["snn", "dense", "sparse"]


def accesses(w: Work) -> dict[str, float]:
    """Words that a spiking layer moves: inputs, weights, biases, potentials (reads; as many writes), outputs."""
    return {"inputs": w.events, "weights": w.operations, "biases": w.updates, "potentials": w.operations + w.words * w.updates, "outputs": w.spikes}


def _state_words(w: Work) -> float:
    return w.neurons * w.words


@dataclass(frozen=True)
class Traffic:
    """Words of one kind that a layer reads or writes, per recording: their bits, and the memory [bytes] that prices them (0: the least)."""

    layer: str
    what: str
    words: float
    bits: float
    size: float

    @property
    def energy(self) -> float:
        """pJ."""
        return self.words * access(self.bits, self.size)


def traffic(work: Sequence[Work], profile: Profile, kind: Kind = "snn") -> list[Traffic]:
    """Every read and write that `estimate` prices, by layer and kind of word; their energies add up to its memory.

    >>> from neuro.deploy.profiles import int8
    >>> w = Work("fc", 6.0, 0.0, 3.0, 8, 2, 4.0, 1.0, True, False, 4, 4.0)
    >>> [(t.what, t.words, t.bits) for t in traffic([w], int8)][:3]
    [('weights read', 6.0, 8), ('biases read', 4.0, 32), ('states read', 10.0, 32)]
    """
    if not isinstance(profile, Profile):
        raise ParameterError(explain(f"traffic: {profile.name}'s figures include its memory.", cure="Take a Profile, such as int8."))
    shared = shared_bytes(work, profile, kind)
    return [t for w in work for t in (spiking_traffic if kind == "snn" else ann_traffic)(w, profile, shared)]


def shared_bytes(work: Sequence[Work], p: Profile, kind: Kind = "snn") -> float:
    """Bytes of the one memory that all layers share; 0 where each has its own. A loop's states are held by the row before it.

    Besides weights a spiking network holds states, and an ANN activations.
    """
    if not p.shared_memory:
        return 0.0
    held = ((_state_words(w) if w.updates else 0.0) * p.state_bits if kind == "snn" else w.neurons * p.activation_bits for w in work)
    return (sum(held) + sum(w.weights for w in work) * p.weight_bits) / 8


def spiking_traffic(w: Work, p: Profile, shared: float) -> list[Traffic]:
    moved = accesses(w)
    weights, states = shared or w.weights * p.weight_bits / 8, shared or _state_words(w) * p.state_bits / 8
    return [
        Traffic(w.name, "weights read", moved["weights"], p.weight_bits, weights if w.weights else states),
        Traffic(w.name, "biases read", moved["biases"], p.state_bits, weights),
        Traffic(w.name, "states read", moved["potentials"], p.state_bits, states),
        Traffic(w.name, "states written", moved["potentials"], p.state_bits, states),
        Traffic(w.name, "events read", moved["inputs"], p.event_bits, shared),
        Traffic(w.name, "spikes written", moved["outputs"], p.event_bits, shared),
    ]


def ann_traffic(w: Work, p: Profile, shared: float) -> list[Traffic]:
    weights, inputs = shared or w.weights * p.weight_bits / 8, shared or w.inputs * p.activation_bits / 8
    return [
        Traffic(w.name, "weights read", w.operations, p.weight_bits, weights if w.weights else inputs),
        Traffic(w.name, "inputs read", w.operations, p.activation_bits, inputs),
        Traffic(w.name, "biases read", w.outputs, p.state_bits, weights),
        Traffic(w.name, "activations written", w.spikes, p.activation_bits, shared or w.neurons * p.activation_bits / 8),
    ]
