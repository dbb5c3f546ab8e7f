"""Prices applied to counts: what a network of `neuro.deploy.work` costs in one profile, spiking or as an ANN, and where both cost the same.

Following Lemaire et al. 2022, "An Analytical Estimation of Spiking Neural Networks Energy Efficiency", with the operations that
were counted where the formulas have an upper bound. One recording, no reuse in registers on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from neuro.deploy.agreement import html_table, table
from neuro.deploy.profiles import Chip, Profile
from neuro.deploy.traffic import Kind, ann_traffic, shared_bytes, spiking_traffic
from neuro.deploy.work import SecondState, Work, firing_rate
from neuro.errors import ParameterError, explain

CONVENTIONS = (
    "An estimate from counts, not a measurement. A spiking layer: one accumulation per operation on +-1, one MAC on another value; per update",
    "a leak MAC where it leaks, a bias addition and a comparison, and a subtraction per spike; addressing 2 MACs per event and one addition per operation;",
    "a second state word (current of a CUBALIF, adaptation of an ALIF) with its own leak MAC, additions, read and write per update;",
    "memory: a weight per operation, a state read and write per operation and per update, a bias per update, an event per input and per spike.",
    "ANN, run once per time step: a MAC, a weight read and an input read per operation, a bias addition and a comparison per output, written once;",
    "dense: all operations; sparse: those on nonzero activations, which alone are written. Words cost their share of a 64-bit SRAM access",
    "(10 pJ at 8 KB, 20 at 32 KB, 100 at 1 MB, interpolated), the memory as large as the layer, or as the network where it is shared.",
    "Pooling, residual sums, scaling, means and delays are in no row, on neither side: elementwise work, stated apart for both; batch norms are folded away.",
)
PARTS = ("synapse", "neuron", "addressing", "memory")


@dataclass(frozen=True)
class LayerEnergy:
    """pJ per recording of one layer. synapse, neuron and addressing are compute; a chip's figures include its memory."""

    name: str
    synapse: float
    neuron: float
    addressing: float
    memory: float

    @property
    def compute(self) -> float:
        return self.synapse + self.neuron + self.addressing

    @property
    def total(self) -> float:
        return self.compute + self.memory


@dataclass(frozen=True)
class EnergyReport:
    """Energy of one network in one profile. `kind`: snn, dense or sparse (the last two an ANN)."""

    layers: tuple[LayerEnergy, ...]
    profile: Profile | Chip
    kind: Kind

    HEAD = ("layer", "synapse nJ", "neuron nJ", "addressing nJ", "compute nJ", "memory nJ", "total nJ")

    def part(self, name: str) -> float:
        """µJ per recording of synapse, neuron, addressing, memory, compute or total, over all layers."""
        return sum(getattr(layer, name) for layer in self.layers) * 1e-6

    @property
    def compute(self) -> float:
        """µJ per recording."""
        return self.part("compute")

    @property
    def memory(self) -> float:
        """µJ per recording."""
        return self.part("memory")

    @property
    def total(self) -> float:
        """µJ per recording."""
        return self.part("total")

    def rows(self) -> list[tuple[str, ...]]:
        names = (*PARTS[:3], "compute", "memory", "total")
        found = [(layer.name, *(f"{getattr(layer, n) * 1e-3:.4g}" for n in names)) for layer in self.layers]
        return [*found, ("sum", *(f"{self.part(n) * 1e3:.4g}" for n in names))]

    def notes(self) -> list[str]:
        first = f"{self.kind} in {self.profile.name} ({self.profile.source}): {self.total:.4g} µJ per recording"
        return [f"{first}, compute {self.compute:.4g}, memory {self.memory:.4g}.", *CONVENTIONS]

    def __repr__(self) -> str:
        return "\n".join([*table(self.HEAD, self.rows()), *self.notes()])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), self.notes())


def estimate(work: Sequence[Work], profile: Profile | Chip, kind: Kind = "snn") -> EnergyReport:
    """Price counted work.

    Args:
        work: from `from_activity` or `from_twin` (kind "snn"), or from `ann_work` (kinds "dense" and "sparse").
        profile: of `neuro.deploy.profiles`.

    Raises:
        ParameterError: an ANN on a neuromorphic chip, for which there are no figures.
    """
    if isinstance(profile, Chip):
        if kind != "snn":
            raise ParameterError(explain(f"estimate: {profile.name} has no figures for an ANN.", f"kind {kind!r}", cure="Price it in a Profile, such as int8."))
        return EnergyReport(tuple(_on_chip(w, profile) for w in work), profile, kind)
    price, shared = _spiking if kind == "snn" else _ann, shared_bytes(work, profile, kind)
    return EnergyReport(tuple(price(w, profile, shared) for w in work), profile, kind)


def _spiking(w: Work, p: Profile, shared: float) -> LayerEnergy:
    second = w.second or SecondState(False)
    leaks = w.leaky + second.leaky
    return LayerEnergy(
        w.name,
        synapse=w.adds * p.add + w.multiplies * p.mac,
        neuron=w.updates * (leaks * p.mac + (2 + second.adds) * p.add) + w.spikes * (1 + second.spike_adds) * p.add,
        addressing=w.operations * p.add + w.events * 2 * p.mac,
        memory=sum(t.energy for t in spiking_traffic(w, p, shared)),
    )


def _ann(w: Work, p: Profile, shared: float) -> LayerEnergy:
    return LayerEnergy(
        w.name,
        synapse=w.operations * p.mac,
        neuron=w.outputs * 2 * p.add,
        addressing=(w.events + w.outputs) * p.add,
        memory=sum(t.energy for t in ann_traffic(w, p, shared)),
    )


def _on_chip(w: Work, chip: Chip) -> LayerEnergy:
    """`synapse * operations + active * spikes + silent * (updates - spikes) + spike * spikes`."""
    neuron = chip.active * w.spikes + chip.silent * (w.updates - w.spikes) + chip.spike * w.spikes
    return LayerEnergy(w.name, chip.synapse * w.operations, neuron, 0.0, 0.0)


def break_even_rate(work: Sequence[Work], ann: EnergyReport, parts: Sequence[str] = PARTS, *, profile: Profile | Chip | None = None) -> float | None:
    """Spikes per neuron and step at which the spiking network would cost what the ANN costs; None if no rate is low enough.

    Spikes, events and operations between layers are scaled by one factor, and what remains without them (updates, the first
    layer's events, which are the recording's) stays. Energy is linear in the factor; attention products, whose operations
    grow faster, are taken as linear too.

    Args:
        work: of the spiking network.  ann: what it is held against, in a Profile.
        parts: the parts of the energy that count, of `PARTS`; ("synapse",) compares operations only.
        profile: in which the spiking network is priced; None: that of the ANN.
    """
    profile = profile or ann.profile
    if not isinstance(profile, Profile):
        raise ParameterError(explain("break_even_rate: both must be priced in a Profile."))

    def cost(factor: float) -> float:
        report = estimate([_scaled(w, factor) for w in work], profile)
        return sum(report.part(p) for p in parts)

    fixed = cost(0.0)
    slope = cost(1.0) - fixed
    target = sum(ann.part(p) for p in parts)
    if slope <= 0 or target < fixed:
        return None
    return (target - fixed) / slope * firing_rate(work)


def _scaled(w: Work, factor: float) -> Work:
    values = {f.name: getattr(w, f.name) for f in fields(w)}
    names = ("spikes",) if w.from_input else ("spikes", "adds", "multiplies", "events")
    return Work(**values | {n: values[n] * factor for n in names})
