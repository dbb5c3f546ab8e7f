"""Energy and time on a chip, as ranges: from nothing firing to everything firing in every step, and at measured rates where given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neuro import graph as g
from neuro.deploy.chips import Chip
from neuro.deploy.mapping_counts import Counted
from neuro.deploy.placement import Placement
from neuro.graph import Graph


@dataclass(frozen=True)
class Estimate:
    """A quantity with its range. low, high, at_rates: None where it is unknown. why: how it was found, or why it was not."""

    what: str
    unit: str
    low: float | None
    high: float | None
    at_rates: float | None
    why: str

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.what}: unknown. {self.why}"
        shown = f"{self.low:.4g}" if self.low == self.high else f"{self.low:.4g} .. {self.high:.4g}"
        measured = "" if self.at_rates is None else f", {self.at_rates:.4g} at the measured rates"
        return f"{self.what}: {shown} {self.unit}{measured}. {self.why}"


def estimates(chip: Chip, placement: Placement, layers: Mapping[str, Counted], steps: int | None, rates: Mapping[str, float] | None, seconds: float | None) -> tuple[Estimate, ...]:
    """Energy and time of one recording of so many steps (1 where not told), and the chip's power.

    Args:
        rates: mean value per neuron and step, by layer, of the input under its own name, of what a product reads as "NAME input".
        seconds: duration of a recording, for chips of which only power is known.
    """
    T = 1 if steps is None else steps
    of = f"{T} step{'s' * (T != 1)}" if steps is not None else "one step"
    energy = _energy(chip, layers, T, of, rates)
    return (energy, _time(chip, placement, layers, T, of, rates), *_dynamic(energy, seconds), *_power(chip, seconds), *_reported(chip))


def _operations(layer: Counted, start: int, stop: int, rates: Mapping[str, float] | float) -> float:
    """Synaptic operations per step into these neurons: connections times the mean of what they read, after pools and sums."""
    found = 0.0
    for w in layer.wirings:
        p = w.product
        if isinstance(rates, (int, float)):
            arrives = float(rates) * len(p.sources)
        else:
            arrives = rates[f"{p.name} input"] if f"{p.name} input" in rates else sum(rates[s] for s in p.sources)
        found += w.connections(start, stop) / len(p.sources) * arrives
    return found


def _energy(chip: Chip, layers: Mapping[str, Counted], T: int, of: str, rates: Mapping[str, float] | None) -> Estimate:
    names = ("synapse_pj", "active_pj", "silent_pj", "spike_pj")
    if not all(n in chip.energy for n in names):
        return Estimate("energy", "uJ", None, None, None, "No energies per operation are published for this chip.")
    synapse, active, silent, spike = (chip.energy[n].value for n in names)

    def total(given: Mapping[str, float] | float) -> float:
        found = 0.0
        for name, layer in layers.items():
            n, fires = layer.layer.neurons, 0.0 if layer.layer.role == "readout" else min(1.0, given if isinstance(given, (int, float)) else given.get(name, 0.0))
            found += synapse * _operations(layer, 0, n, given) + n * (fires * (active + spike) + (1 - fires) * silent)
        return T * found * 1e-6

    low, high, at_rates = _bounded(total, rates)
    return Estimate("energy", "uJ", low, high, at_rates,
                    f"{of}; from silence to every input and neuron sending 1 in every step{', or to what was measured' * (high > total(1.0))}; {chip.energy['synapse_pj']}; without static power and routing between cores.")  # fmt: skip


def _time(chip: Chip, placement: Placement, layers: Mapping[str, Counted], T: int, of: str, rates: Mapping[str, float] | None) -> Estimate:
    names = ("synapse_ns", "active_ns", "silent_ns")
    if not all(n in chip.energy for n in names):
        return Estimate("time", "us", None, None, None, "No times per operation are published for this chip.")
    synapse, active, silent = (chip.energy[n].value for n in names)

    def busiest(given: Mapping[str, float] | float) -> float:
        spent = dict.fromkeys(placement.cores, 0.0)
        for part in placement.parts:
            layer = layers[part.layer]
            fires = 0.0 if layer.layer.role == "readout" else min(1.0, given if isinstance(given, (int, float)) else given.get(part.layer, 0.0))
            spent[part.core] += synapse * _operations(layer, part.start, part.stop, given) + part.neurons * (fires * active + (1 - fires) * silent)
        return T * max(spent.values()) * 1e-3

    return Estimate("time", "us", *_bounded(busiest, rates),
                    f"{of}; the busiest core, its operations one after another; {chip.energy['synapse_ns']}; the barrier between steps is not included.")  # fmt: skip


def _bounded(quantity: Callable[[Mapping[str, float] | float], float], rates: Mapping[str, float] | None) -> tuple[float, float, float | None]:
    """At silence, at 1 everywhere, at these rates; inputs of several counts may take more than 1 everywhere does, and are then the end of the range."""
    low, high, at_rates = quantity(0.0), quantity(1.0), None if rates is None else quantity(rates)
    return low, high if at_rates is None else max(high, at_rates), at_rates


def _dynamic(energy: Estimate, seconds: float | None) -> tuple[Estimate, ...]:
    """Mean power of the operations, where the energy is known and so is how long a recording lasts."""
    if energy.low is None or energy.high is None or not seconds:
        return ()
    at_rates = None if energy.at_rates is None else energy.at_rates / seconds * 1e-3
    return (Estimate("power of the operations", "mW", energy.low / seconds * 1e-3, energy.high / seconds * 1e-3, at_rates, f"that energy over {seconds:g} s; without static power"),)


def _power(chip: Chip, seconds: float | None) -> tuple[Estimate, ...]:
    if "power_mw" not in chip.energy:
        return (Estimate("power", "mW", None, None, None, "No power of the chip is in these data."),)
    fact = chip.energy["power_mw"]
    low, high = fact.value
    why = f"Reported for other networks, not of this one: {fact.source} [{fact.standing}]."
    found = Estimate("power", "mW", low, high, None, why)
    if seconds is None:
        return (found,)
    return found, Estimate("energy by power", "uJ", low * seconds * 1e3, high * seconds * 1e3, None, f"that power over {seconds:g} s")


def _reported(chip: Chip) -> tuple[Estimate, ...]:
    if "latency_ms" not in chip.energy:
        return ()
    fact = chip.energy["latency_ms"]
    return (Estimate("latency reported", "ms", *fact.value, None, f"Of other networks, not of this one: {fact.source} [{fact.standing}]."),)


def firing_rates(graph: Graph, x: Tensor, lengths: Tensor | None = None) -> dict[str, float]:
    """Mean value per neuron and step for recordings x [T, B, ...]; steps beyond a sample's length do not count.

    By node name, of the input, neurons and products; under "NAME input" the mean of what a product reads, after pools and sums. Of an input that
    is no count, with values between whole numbers or below 0, the share that is not 0 is taken, as each is one event however large.
    """
    values, T = graph.values(x, lengths), x.shape[0]
    steps = torch.full((x.shape[1],), T) if lengths is None else lengths
    mask = torch.arange(T)[:, None] < steps[None, :]
    products = (g.Linear, g.Conv1d, g.Conv2d, g.AttentionProduct)

    enters = [node.name for node in graph if isinstance(node, g.Input)]
    real = {name for name in enters if bool((values[name] < 0).any()) or bool((values[name] != values[name].round()).any())}

    def mean(name: str) -> float:
        v = values[name][mask]
        return float((v != 0).double().mean() if name in real or bool((v < 0).any()) else v.double().mean())

    found = {node.name: mean(node.name) for node in graph if isinstance(node, (g.Input, g.Neuron, g.Recurrent, *products))}
    return found | {f"{node.name} input": mean(node.inputs[0]) for node in graph if isinstance(node, products)}
