"""What is known of a chip: every figure with where it stands. A table; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

STANDINGS = ("documented", "secondary", "recalled", "inferred", "unknown")
RESOURCES = ("neurons", "in_axons", "synapse_bits", "memory_bits", "kernel_words", "neuron_words", "bias_words")


@dataclass(frozen=True)
class Fact:
    """A figure and where it stands.

    value: None where it is unknown. standing: documented (vendor's documents or published source code), secondary (a paper's
    abstract, others' tables), recalled (not looked up again: verify before use), inferred (from other figures here), unknown.
    """

    value: Any
    source: str
    standing: str = "documented"

    def __post_init__(self) -> None:
        assert self.standing in STANDINGS and self.source and (self.value is None) == (self.standing == "unknown"), self

    def __str__(self) -> str:
        shown = "unknown" if self.value is None else f"{self.value:,}" if isinstance(self.value, int) else str(self.value)
        return f"{shown} [{self.standing}: {self.source}]"


def unknown(why: str) -> Fact:
    """A figure that nobody has published, or that was not found."""
    return Fact(None, why, "unknown")


NOT_FOUND = unknown("no public figure was found")
NONE: Mapping[str, Fact] = MappingProxyType({})


@dataclass(frozen=True)
class Shapes:
    """Which shapes a kind of layer may have. A Fact of None: no limit is known, and none is applied.

    kernels: sizes of square kernels. strides: kernel -> strides, under 0 for all others. padding: "same", or the largest number.
    filters: (input channels, kernel) -> most filters. channels, inputs, outputs: the most. in_size, out_size: of a map's side.
    max_pools, sum_pools: (size, stride) that may follow; () for none. after_pool: the kind of layer that must read a pool.
    """

    kernels: Fact = NOT_FOUND
    strides: Fact = NOT_FOUND
    padding: Fact = NOT_FOUND
    filters: Fact = NOT_FOUND
    channels: Fact = NOT_FOUND
    inputs: Fact = NOT_FOUND
    outputs: Fact = NOT_FOUND
    in_size: Fact = NOT_FOUND
    out_size: Fact = NOT_FOUND
    max_pools: Fact = NOT_FOUND
    sum_pools: Fact = NOT_FOUND
    after_pool: Fact = NOT_FOUND


@dataclass(frozen=True)
class Chip:
    """A chip's limits.

    Args:
        memory: how a core stores a layer, by the name of a formula in `neuro.deploy.placement`: "synapses" (one entry per
            connection), "kernels" (each weight once, and the state), "words" (powers of two, as DYNAP-CNN addresses them).
        cores: number of them. core: resource (RESOURCES) -> what one core holds; a tuple where cores differ.
        whole: "neurons", "synapses", "inputs", "hidden", "outputs" of the whole chip.
        shares_cores: whether two layers may sit on one core. splits: whether a layer may span cores.
        first, conv, dense: shapes of the layer that reads the input, of convolutions, of dense layers; None: there is no such layer.
        weight_bits: widths that weights may have; first_weight_bits: in the layer that reads the input, where they differ.
        input_bits: of an input value; spike_bits: of a message between neurons; state_bits: of a membrane. fan_out: cores that one
            core may send to. delays: longest, in steps. steps: "clocked", "none" (events as they come), or "one" (one pass, no time).
        leak, current: whether a membrane may leak, and may have a second state that holds current. resets: "zero", "subtract".
        decays: "shift": a leak is one of 1 - 2^-dash (`neuro.deploy.shift_decay`); unknown: any is taken for possible.
        one_spike: whether an event triggers one spike of a neuron at most, and what is above the threshold waits for the next.
        operations: name -> "yes", "no", or the change by which it is possible, for those in OPERATIONS.
        energy: "synapse_pj", "active_pj", "silent_pj", "spike_pj", "synapse_ns", "active_ns", "silent_ns" per operation; "power_mw"
            as (low, high) of the whole chip or board; "latency_ms" as (low, high) reported for other networks.
        learning: "any" layer, "last binary dense", or "none". lacks: what these data do not hold.
    """

    name: str
    title: str
    memory: str
    cores: Fact
    core: Mapping[str, Fact]
    whole: Mapping[str, Fact]
    splits: Fact
    shares_cores: Fact
    first: Shapes | None
    conv: Shapes | None
    dense: Shapes | None
    weight_bits: Fact
    input_bits: Fact
    spike_bits: Fact
    state_bits: Fact
    delays: Fact
    steps: Fact
    leak: Fact
    current: Fact
    resets: Fact
    operations: Mapping[str, Fact]
    learning: Fact
    lacks: tuple[str, ...]
    fan_out: Fact = NOT_FOUND
    decays: Fact = NOT_FOUND
    one_spike: Fact = NOT_FOUND
    first_weight_bits: Fact | None = None
    energy: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table in ("core", "whole", "operations", "energy"):
            object.__setattr__(self, table, MappingProxyType(dict(getattr(self, table))))
        assert set(self.core) <= set(RESOURCES) and set(self.operations) == set(OPERATIONS), self.name
        assert self.lacks and self.memory in ("synapses", "kernels", "words"), self.name


OPERATIONS = ("bias", "residual", "attention", "recurrent", "max_pool", "avg_pool", "groups", "dilation", "conv1d", "token_mean", "readout", "adaptive", "relay", "norm")
