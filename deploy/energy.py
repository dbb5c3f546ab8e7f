"""Energy from counts: a price list applied to `neuro.deploy.work`, for a spiking network and for the same network as an ANN.

Following Lemaire et al. 2022, "An Analytical Estimation of Spiking Neural Networks Energy Efficiency", with the operations that
were counted where the formulas have an upper bound. One recording, no reuse in registers on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from neuro.deploy.agreement import html_table, table
from neuro.deploy.elementwise import RULE, Elementwise, elementwise_work, statement
from neuro.deploy.profiles import (
    PROFILES,
    Chip,
    Profile,
    access,
    fp32,
    int8,
    int8_narrow,
    int8_shared,
    loihi1,
    spinnaker2,
    with_activations,
)
from neuro.deploy.traffic import Kind, Traffic, accesses, ann_traffic, shared_bytes, spiking_traffic, traffic
from neuro.deploy.work import SecondState, Work, ann_once_work, ann_work, firing_rate, from_activity, from_twin
from neuro.errors import ParameterError, explain

__all__ = ["PROFILES", "Chip", "EnergyComparison", "EnergyReport", "LayerEnergy", "Profile", "SecondState", "Traffic", "Work", "access", "accesses", "ann_once_work", "ann_work", "break_even_rate",
           "compare_energy", "elementwise_work", "estimate", "firing_rate", "fp32", "from_activity", "from_twin", "int8", "int8_narrow", "int8_shared", "loihi1", "spinnaker2", "traffic", "with_activations"]  # fmt: skip

CONVENTIONS = (
    "An estimate from counts, not a measurement. A spiking layer: one accumulation per operation on +-1, one MAC on another value; per update",
    "a leak MAC where it leaks, a bias addition and a comparison, and a subtraction per spike; addressing 2 MACs per event and one addition per operation;",
    "a second state word (current of a CUBALIF, adaptation of an ALIF) with its own leak MAC, additions, read and write per update;",
    "memory: a weight per operation, a state read and write per operation and per update, a bias per update, an event per input and per spike.",
    "ANN, run once per time step: a MAC, a weight read and an input read per operation, a bias addition and a comparison per output, written once;",
    "dense: all operations; sparse: those on nonzero activations, which alone are written. Words cost their share of a 64-bit SRAM access",
    "(10 pJ at 8 KB, 20 at 32 KB, 100 at 1 MB, interpolated), the memory as large as the layer, or as the network where it is shared.",
    "Pooling, residual sums, scaling and means are in no row, on neither side (neuro.deploy.elementwise counts them on both); batch norms are folded away.",
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
    price, shared = _spiking if kind == "snn" else _ann, shared_bytes(work, profile)
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


@dataclass(frozen=True)
class EnergyComparison:
    """A spiking network and its ANN over several profiles: (snn, dense, sparse, break-even against each) by profile name.

    silent: layers whose neurons never fired. once: the ANN of matched bits that is run once, and the rate that breaks even with
    it, by profile; empty where it was not given. elementwise: what lies between layers, by side; empty likewise.
    """

    reports: dict[str, tuple[EnergyReport, EnergyReport | None, EnergyReport | None, float | None, float | None]]
    rate: float
    silent: tuple[str, ...] = ()
    once: dict[str, tuple[EnergyReport, float | None]] = field(default_factory=dict)
    elementwise: dict[str, list[Elementwise]] = field(default_factory=dict)

    HEAD = ("profile", "SNN µJ", "compute", "memory", "ANN dense µJ", "ANN sparse µJ", "SNN/dense", "SNN/sparse", "break-even dense", "break-even sparse")

    def range(self, kind: Kind = "sparse") -> tuple[float, float]:
        """Smallest and largest ratio of the spiking network to the ANN over the profiles."""
        ratios = [r[0].total / r[1 if kind == "dense" else 2].total for r in self.reports.values() if r[1] and r[2]]  # type: ignore[union-attr]
        return min(ratios), max(ratios)

    def rows(self) -> list[tuple[str, ...]]:
        found = []
        for name, (snn, dense, sparse, even_dense, even_sparse) in self.reports.items():
            row = [name, f"{snn.total:.4g}", f"{snn.compute:.4g}", f"{snn.memory:.4g}" if isinstance(snn.profile, Profile) else "incl."]
            if dense is None or sparse is None:
                found.append((*row, *["-"] * 6))
                continue
            ratios = (f"{dense.total:.4g}", f"{sparse.total:.4g}", f"{snn.total / dense.total:.3f}", f"{snn.total / sparse.total:.3f}")
            found.append((*row, *ratios, *("never" if e is None else f"{e:.4f}" for e in (even_dense, even_sparse))))
        return found

    def notes(self) -> list[str]:
        dense, sparse = self.range("dense"), self.range("sparse")
        said = [
            f"SNN/ANN over the profiles: {dense[0]:.2f} to {dense[1]:.2f} of the dense ANN, {sparse[0]:.2f} to {sparse[1]:.2f} of the sparse one.",
            f"Measured rate {self.rate:.4f} spikes per neuron and step; break-even is the rate at which both cost the same, 'never' if none is.",
        ]
        if self.silent:
            said.append(f"SILENT, so that what they drive cost nothing, and a break-even rate says nothing of them: {', '.join(self.silent)}.")
        for name, (ann, even) in self.once.items():
            rate = "never" if even is None else f"{even:.4f}"
            said.append(f"Run once with matched bits, {ann.profile.name}: {ann.total:.4g} µJ, SNN/ANN {self.reports[name][0].total / ann.total:.3f}, break-even {rate}.")
        return [*said, *self._between(), *(f"{n}: {r[0].profile.source}" for n, r in self.reports.items()), *CONVENTIONS]

    def _between(self) -> list[str]:
        """What lies between layers, by profile, and the operators for which there is no rule."""
        if not self.elementwise:
            return []
        said = []
        for name, reports in self.reports.items():
            if isinstance(reports[0].profile, Profile):
                totals = {side: r.total for side, r in zip(("snn", "dense", "sparse"), reports, strict=False) if r is not None}
                if name in self.once:
                    totals["once"] = self.once[name][0].total
                said.append(statement(self.elementwise, reports[0].profile, totals))  # type: ignore[arg-type]
        missed = [f"NOT COUNTED: {w.kind} {w.name}, {w.elements:.6g} elements" for w in self.elementwise["snn"] if not w.understood]
        return [*said, *missed, *RULE]

    def __repr__(self) -> str:
        return "\n".join([*table(self.HEAD, self.rows()), *self.notes()])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), self.notes())


def compare_energy(
    work: Sequence[Work], dense: Sequence[Work], sparse: Sequence[Work], profiles: Sequence[Any] = PROFILES, *,
    once: tuple[Sequence[Work], int] | None = None, elementwise: dict[str, list[Elementwise]] | None = None,
) -> EnergyComparison:  # fmt: skip
    """Price a spiking network and its two ANNs (`ann_work`) in every profile, so that a range is seen and never one bare number.

    once: of `ann_once_work`, the ANN of matched bits that is run once; None: left out.
    elementwise: of `elementwise_work`, what lies between layers, stated apart; None: left out.
    """
    reports, single = {}, {}
    for p in profiles:
        snn = estimate(work, p)
        if isinstance(p, Chip):
            reports[p.name] = (snn, None, None, None, None)
            continue
        ann = estimate(dense, p, "dense"), estimate(sparse, p, "sparse")
        reports[p.name] = (snn, *ann, *(break_even_rate(work, a) for a in ann))
        if once is not None:
            matched = estimate(once[0], with_activations(p, min(once[1], p.activation_bits)), "sparse")
            single[p.name] = matched, break_even_rate(work, matched, profile=p)
    return EnergyComparison(reports, firing_rate(work), tuple(w.name for w in work if w.fires and not w.spikes), single, elementwise or {})
