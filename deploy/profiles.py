"""Energy per operation and per memory access: named constants with their sources, in pJ. Data, no code but the interpolations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from neuro.errors import ParameterError, explain

HOROWITZ = "Horowitz, ISSCC 2014, 45 nm, 0.9 V"
SRAM = ((8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0))  # bytes -> pJ per 64-bit access, Horowitz


@dataclass(frozen=True)
class Profile:
    """A technology for which both a spiking network and an ANN can be priced.

    add, mul: pJ of an accumulation and of a multiplication. weight_bits, activation_bits, state_bits, event_bits: widths of the
    words that are moved. shared_memory: whether all layers sit in one memory, or each in its own as large as it needs.
    """

    name: str
    source: str
    add: float
    mul: float
    weight_bits: int
    activation_bits: int
    state_bits: int = 32
    event_bits: int = 16
    shared_memory: bool = False

    @property
    def mac(self) -> float:
        return self.add + self.mul


@dataclass(frozen=True)
class Chip:
    """A neuromorphic chip with published figures, memory included. An ANN cannot be priced on it.

    synapse: pJ per synaptic operation; active, silent: per neuron update with and without a spike; spike: per spike sent.
    """

    name: str
    source: str
    synapse: float
    active: float
    silent: float
    spike: float


int8 = Profile("int8_45nm", f"{HOROWITZ}: multiply INT8 0.2 pJ, accumulate INT32 0.1 pJ", 0.1, 0.2, 8, 8)
int8_shared = Profile("int8_45nm_shared", f"{HOROWITZ}: as int8_45nm, all layers in one memory", 0.1, 0.2, 8, 8, shared_memory=True)
int8_narrow = Profile("int8_45nm_narrow", f"{HOROWITZ}: as int8_45nm, but every addition at INT8's 0.03 pJ and state 24 bit, a lower bound", 0.03, 0.2, 8, 8, state_bits=24)
fp32 = Profile("fp32_45nm", f"{HOROWITZ}: add FP32 0.9 pJ, multiply FP32 3.7 pJ", 0.9, 3.7, 32, 32)
loihi1 = Chip(
    "loihi1", "Davies et al. 2018, Loihi, 0.75 V, pre-silicon estimates, minima: synaptic operation 23.6, update 81 active, 52 silent, spike in a tile 1.7",
    23.6, 81.0, 52.0, 1.7,
)  # fmt: skip

spinnaker2 = Chip(
    "spinnaker2", "figures that software estimators use for SpiNNaker 2, not measured again: synaptic event 450, neuron update 2190, with or without a spike",
    450.0, 2190.0, 2190.0, 0.0,
)  # fmt: skip

PROFILES: tuple[Profile | Chip, ...] = (int8, int8_shared, int8_narrow, fp32, loihi1, spinnaker2)


def with_activations(profile: Profile, bits: int) -> Profile:
    """The profile with activations of so many bits.

    An integer multiplication is priced in proportion to its bits: Horowitz's INT32 takes 15.5 times as much as INT8, for 16
    times the product of the widths. Floating point keeps its price, only what is moved shrinks.

    >>> p = with_activations(int8, 4)
    >>> p.mul, p.activation_bits, p.name
    (0.1, 4, 'int8_45nm_a4')
    """
    if not 1 <= bits <= profile.activation_bits:
        raise ParameterError(explain(f"with_activations: {profile.name} has activations of 1 to {profile.activation_bits} bits.", f"bits {bits}"))
    mul = profile.mul * bits / profile.activation_bits if profile.weight_bits < 32 else profile.mul
    return replace(profile, name=f"{profile.name}_a{bits}", source=f"{profile.source}; activations {bits} bit, multiplications in proportion", mul=mul, activation_bits=bits)


def access(bits: float, size: float) -> float:
    """pJ to read or write a word of `bits` in a memory of `size` bytes.

    Horowitz's energies per 64-bit access, interpolated on logarithmic axes between 8 KB, 32 KB and 1 MB; 10 pJ below, the
    last slope above (about the root of the size). A word takes its share of the 64 bits.

    >>> [access(64, kb * 1024) for kb in (1, 8, 32, 1024)]
    [10.0, 10.0, 20.0, 100.0]
    """
    (s0, e0), (s1, e1), (s2, e2) = SRAM
    if size <= s0:
        return e0 * bits / 64
    low, high = ((s0, e0), (s1, e1)) if size <= s1 else ((s1, e1), (s2, e2))
    if size in (s1, s2):
        return (e1 if size == s1 else e2) * bits / 64
    slope = math.log(high[1] / low[1]) / math.log(high[0] / low[0])
    return low[1] * (size / low[0]) ** slope * bits / 64
