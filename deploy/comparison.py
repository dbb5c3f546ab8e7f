"""A spiking network beside its ANNs in every price list, so that a range is seen and never one bare number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from neuro.deploy.agreement import html_table, table
from neuro.deploy.elementwise import RULE, Elementwise, elementwise_work, parts, statement
from neuro.deploy.opponents import ann_once_work, ann_work
from neuro.deploy.pricing import CONVENTIONS, EnergyReport, break_even_rate, estimate
from neuro.deploy.profiles import PROFILES, Chip, Profile, with_activations
from neuro.deploy.traffic import Kind, shared_bytes
from neuro.deploy.work import Work, firing_rate
from neuro.errors import ParameterError, explain
from neuro.graph import Graph, Recurrent


@dataclass(frozen=True)
class EnergyComparison:
    """A spiking network and its ANN over several profiles: (snn, dense, sparse, break-even against each) by profile name.

    silent: layers whose neurons never fired. once: the ANN of matched bits that is run once, and the rate that breaks even with
    it, by profile; empty where it was not given. elementwise: what lies between layers, by side; between: its µJ (arithmetic,
    memory) by profile and side; empty likewise.
    """

    reports: dict[str, tuple[EnergyReport, EnergyReport | None, EnergyReport | None, float | None, float | None]]
    rate: float
    silent: tuple[str, ...] = ()
    once: dict[str, tuple[EnergyReport, float | None]] = field(default_factory=dict)
    elementwise: dict[str, list[Elementwise]] = field(default_factory=dict)
    between: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    HEAD = ("profile", "SNN µJ", "compute", "memory", "ANN dense µJ", "ANN sparse µJ", "SNN/dense", "SNN/sparse", "break-even dense", "break-even sparse")

    def range(self, kind: Kind = "sparse") -> tuple[float, float]:
        """Smallest and largest ratio of the spiking network to the ANN over the profiles.

        Raises:
            ParameterError: there is no ANN in any of them.
        """
        ratios = [r[0].total / r[1 if kind == "dense" else 2].total for r in self.reports.values() if r[1] and r[2]]  # type: ignore[union-attr]
        if not ratios:
            raise ParameterError(explain("EnergyComparison.range: there is no ANN to compare with.", f"price lists {', '.join(self.reports)}"))
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

    def layers(self, profile: str) -> dict[str, float]:
        """µJ per recording by side (snn, dense, sparse, once) in a profile, without elementwise work: the sums of the table."""
        reports = dict(zip(("snn", "dense", "sparse"), self.reports[profile], strict=False))
        if profile in self.once:
            reports["once"] = self.once[profile][0]
        return {side: r.total for side, r in reports.items() if r is not None}  # type: ignore[union-attr]

    def whole(self, profile: str) -> dict[str, float]:
        """The same with elementwise work, arithmetic and memory; empty where it was not given, or has no price."""
        found = self.layers(profile)
        return {side: found[side] + sum(e) for side, e in self.between.get(profile, {}).items()}

    def notes(self) -> list[str]:
        said = ["NO ANN beside it: a network with feedback has none of the same layers that could be run in every step without time, or once."]
        if any(r[1] for r in self.reports.values()):
            dense, sparse = self.range("dense"), self.range("sparse")
            said = [f"SNN/ANN over the profiles: {dense[0]:.2f} to {dense[1]:.2f} of the dense ANN, {sparse[0]:.2f} to {sparse[1]:.2f} of the sparse one."]
        said.append(f"Measured rate {self.rate:.4f} spikes per neuron and step; break-even is the rate at which both cost the same, 'never' if none is.")
        if self.silent:
            said.append(f"SILENT, so that what they drive cost nothing, and a break-even rate says nothing of them: {', '.join(self.silent)}.")
        for name, (ann, even) in self.once.items():
            rate = "never" if even is None else f"{even:.4f}"
            said.append(f"Run once with matched bits, {ann.profile.name}: {ann.total:.4g} µJ, SNN/ANN {self.reports[name][0].total / ann.total:.3f}, break-even {rate}.")
        return [*said, *self.between_notes(), *(f"{n}: {r[0].profile.source}" for n, r in self.reports.items()), *CONVENTIONS]

    def between_notes(self) -> list[str]:
        """What lies between layers, by profile, the operators for which there is no rule, and the rule."""
        if not self.elementwise:
            return ["Elementwise work was not given: what lies between layers costs nothing here, on either side."]
        said = [statement(found, self.layers(name), name) for name, found in self.between.items()]
        missed = [f"NOT COUNTED: {w.kind} {w.name}, {w.elements:.6g} elements" for w in self.elementwise["snn"] if not w.understood]
        return [*said, "Break-even rates are those of the table, without it.", *missed, *RULE]

    def __repr__(self) -> str:
        return "\n".join([*table(self.HEAD, self.rows()), *self.notes()])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), self.notes())


def compare_energy(
    work: Sequence[Work], dense: Sequence[Work] | None, sparse: Sequence[Work] | None, profiles: Sequence[Any] = PROFILES, *,
    once: tuple[Sequence[Work], int] | None = None, elementwise: dict[str, list[Elementwise]] | None = None,
) -> EnergyComparison:  # fmt: skip
    """Price a spiking network and its two ANNs (`ann_work`) in every profile. `compare_on` does all of it from a graph and recordings.

    dense, sparse: None: a recurrent network, of which there is no ANN.
    once: of `ann_once_work`, the ANN of matched bits that is run once; None: left out.
    elementwise: of `elementwise_work`, what lies between layers, stated apart; None: left out, and said.
    """
    reports, single, between = {}, {}, {}
    for p in profiles:
        snn = estimate(work, p)
        reports[p.name] = (snn, None, None, None, None)
        if isinstance(p, Chip):
            continue
        sides: dict[str, tuple[Sequence[Work], Profile]] = {"snn": (work, p)}
        if dense is not None and sparse is not None:
            ann = estimate(dense, p, "dense"), estimate(sparse, p, "sparse")
            reports[p.name] = (snn, *ann, *(break_even_rate(work, a) for a in ann))
            sides |= {"dense": (dense, p), "sparse": (sparse, p)}
        if once is not None:
            sides["once"] = once[0], with_activations(p, min(once[1], p.activation_bits))
            matched = estimate(*sides["once"], "sparse")
            single[p.name] = matched, break_even_rate(work, matched, profile=p)
        if elementwise:
            between[p.name] = {s: parts(elementwise[s], q, shared_bytes(w, q, "snn" if s == "snn" else "sparse")) for s, (w, q) in sides.items() if s in elementwise}
    return EnergyComparison(reports, firing_rate(work), tuple(w.name for w in work if w.fires and not w.spikes), single, elementwise or {}, between)


def compare_on(work: Sequence[Work], graph: Graph, x: Tensor, lengths: Tensor | None = None, profiles: Sequence[Any] = PROFILES) -> EnergyComparison:
    """`compare_energy` with nothing left out: the ANNs in every step and once with matched bits, and what lies between layers.

    A recurrent network stands alone: an ANN without time has no such layers.

    Args:
        work: of the spiking network on these recordings, from `from_activity` or `from_twin`.
        graph: of the network, by `neuro.trace`. Elementwise work is that of this graph, also where `work` is the twin's.
        x: recordings [T, B, ...]; lengths: steps of each [B], None: all.

    Raises:
        ShapeError: no recordings, or lengths that do not fit them.
    """
    between = elementwise_work(graph, x, lengths)
    if any(isinstance(node, Recurrent) for node in graph):
        return compare_energy(work, None, None, profiles, elementwise=between)
    return compare_energy(work, *ann_work(graph, x, lengths), profiles, once=ann_once_work(graph, x, lengths), elementwise=between)
