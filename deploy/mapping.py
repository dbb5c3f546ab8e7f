"""A network on a chip: which layers fit, what must change, which core holds what, how full it is, what it may cost, what may learn.

The four steps of Putra, Wickramasinghe and Shafique, "Enabling Efficient Processing of Spiking Neural Networks with On-Chip Learning on
Commodity Neuromorphic Processors for Edge AI Systems" (arXiv 2504.00957): the chip as a table (`neuro.deploy.chips`), compatibility
of each layer, mapping of layers to cores, and the layers that may learn on the chip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neuro.deploy.agreement import html_table
from neuro.deploy.chips import Chip
from neuro.deploy.chips import chip as chip_of
from neuro.deploy.mapping_checks import CANNOT, CHANGE, FITS, RETRAIN, Finding, Question, findings, verdict, widths
from neuro.deploy.mapping_counts import Counted, counted
from neuro.deploy.mapping_estimates import Estimate, estimates, firing_rates
from neuro.deploy.mapping_layers import Layer, Network, folded, layers_of
from neuro.deploy.mapping_learning import learners
from neuro.deploy.mapping_rewrites import rewritten
from neuro.deploy.placement import Placement, capacity, place
from neuro.errors import GraphError, ParameterError, explain
from neuro.graph import Graph

__all__ = ["Compatibility", "Mapped", "assess", "estimated", "firing_rates", "map_network"]

FORMAT, VERSION = "neuro-mapping", 1


@dataclass(frozen=True)
class Compatibility:
    """Every layer of a network held against a chip. `learns`: layer -> (whether it may learn there, why). `unchecked`: what was not told."""

    chip: Chip
    network: Network
    findings: tuple[Finding, ...]
    learns: Mapping[str, tuple[bool, str]]
    unchecked: tuple[str, ...] = ()

    HEAD = ("layer", "neurons", "verdict", "why", "learns")

    def of(self, layer: str) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.layer == layer)

    def verdict(self, layer: str = "") -> str:
        """Of one layer, or of the network."""
        return verdict(self.of(layer) if layer else self.findings)

    def rows(self) -> list[tuple[str, ...]]:
        """A row per finding, and one for each layer without any."""
        found = []
        for layer in self.network.layers:
            whys = [f"{f.rule}: {f.what}" + (f" -> {f.change}" if f.change else f"; limit {shown(f.limit.value)}") for f in sorted(self.of(layer.name), key=lambda f: -ORDER.index(f.verdict))]
            head = (layer.name, f"{layer.neurons:,}", self.verdict(layer.name))
            found.append((*head, whys[0] if whys else "", "may" if self.learns[layer.name][0] else "no"))
            found += [("", "", "", why, "") for why in whys[1:]]
        return found

    def __repr__(self) -> str:
        return "\n".join([self.headline(), *text_table(self.HEAD, self.rows())])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), [self.headline()])

    def headline(self) -> str:
        found = self.verdict()
        return f"{self.chip.title}: the network {'cannot be held' if found == CANNOT else found}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON, with every limit's source."""
        layers = [
            {"layer": layer.name, "neurons": layer.neurons, "verdict": self.verdict(layer.name), "may_learn": self.learns[layer.name][0], "why_learning": self.learns[layer.name][1],
             "findings": [{"rule": f.rule, "verdict": f.verdict, "what": f.what, "change": f.change, "limit": shown(f.limit.value), "standing": f.limit.standing, "source": f.limit.source}
                          for f in self.of(layer.name)]}
            for layer in self.network.layers
        ]  # fmt: skip
        return {"format": FORMAT, "version": VERSION, "chip": self.chip.name, "title": self.chip.title, "verdict": self.verdict(), "layers": layers,
                "not_checked": list(self.unchecked), "lacks": list(self.chip.lacks)}  # fmt: skip

    def refuse(self) -> None:
        """Raise a GraphError that names every layer that cannot be held, with number, limit and source."""
        lines = [str(f) for f in self.findings if f.verdict == CANNOT]
        if lines:
            more = [f"... and {len(lines) - 8} more"] if len(lines) > 8 else []
            raise GraphError(explain(f"the network does not fit {self.chip.title}.", *lines[:8], *more, cure="Change these layers, or choose another chip."))


@dataclass(frozen=True)
class Mapped:
    """A network placed on a chip.

    compatibility: of the network as it was given. changes: what was changed before it was placed, all without training. graph: the network
    so changed. outstanding: findings that only training can mend; the placement is of the network as it is.
    """

    compatibility: Compatibility
    placement: Placement
    graph: Graph
    changes: tuple[str, ...]
    outstanding: tuple[Finding, ...]
    estimates: tuple[Estimate, ...]
    layers: Mapping[str, Counted]

    HEAD = ("layer", "neurons", "connections", "weights", "bits", "cores", "fullest core")

    @property
    def chip(self) -> Chip:
        return self.compatibility.chip

    def rows(self) -> list[tuple[str, ...]]:
        """A row per placed layer."""
        found = []
        for name, what in self.layers.items():
            n, parts = what.layer.neurons, self.placement.of(name)
            fills = [(share, r) for p in parts for r, share in self.placement.fill(p.core).items()]
            share, resource = max(fills, default=(0.0, ""))
            cores = sorted({p.core for p in parts})
            found.append((name, f"{n:,}", f"{what.connections(0, n):,}", f"{what.weights(0, n):,}", str(what.weight_bits),
                          f"{len(cores)}: {spans(cores)}", f"{share:.1%} of {resource.replace('_', ' ')}" if resource else "no limit known"))  # fmt: skip
        return found

    def utilisation(self) -> dict[str, tuple[int, int | None]]:
        """Resource -> (taken on all used cores, held by all cores of the chip; None: unknown). Of a chip that counts its neurons as a whole, these too."""
        used = [self.placement.used(core) for core in self.placement.cores]
        rooms = [capacity(self.chip, core) for core in range(self.chip.cores.value)]
        found = {r: (sum(u[r] for u in used), None if rooms[0][r] is None else sum(room[r] or 0 for room in rooms)) for r in self.chip.core}
        layers = [what.layer.neurons for what in self.layers.values()]
        C, H, W = self.compatibility.network.input_map
        whole = {"inputs": C * H * W, "hidden": sum(layers[:-1]), "outputs": layers[-1]}
        return found | {r: (n, self.chip.whole[r].value) for r, n in whole.items() if r in self.chip.whole}

    def shares(self) -> list[tuple[int, str, float]]:
        """(core, layer, share) of every part: of the resource that is scarcest on its core, else of the neurons of the whole chip; 0 where no limit is known."""
        found, held = [], sum(self.chip.whole[r].value for r in ("hidden", "outputs") if r in self.chip.whole)
        for part in self.placement.parts:
            fill, room = self.placement.fill(part.core), capacity(self.chip, part.core)
            scarcest = max(fill, key=lambda r: fill[r], default=None)
            found.append((part.core, part.layer, part.takes[scarcest] / room[scarcest] if scarcest else part.neurons / held if held else 0.0))  # type: ignore[operator]
        return found

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        parts = [{"layer": p.layer, "core": p.core, "start": p.start, "stop": p.stop, "takes": dict(p.takes)} for p in self.placement.parts]
        return {
            **self.compatibility.to_dict(), "cores_used": len(self.placement.cores), "cores": self.chip.cores.value,
            "placed": [{"layer": name, "neurons": c.layer.neurons, "connections": c.connections(0, c.layer.neurons), "weights": c.weights(0, c.layer.neurons),
                        "weight_bits": c.weight_bits} for name, c in self.layers.items()],
            "parts": parts, "utilisation": {r: {"taken": used, "chip": most} for r, (used, most) in self.utilisation().items()},
            "changes": list(self.changes), "estimates": [vars(e) for e in self.estimates],
        }  # fmt: skip

    def summary(self) -> list[str]:
        """Lines under the table."""
        lines = [f"{len(self.placement.cores)} of {self.chip.cores.value} cores hold the network, each neuron once."]
        for resource, (used, most) in self.utilisation().items():
            share = "" if most is None else f" of {most:,} on the chip ({used / most:.2%})"
            limit = f"per core {self.chip.core[resource]}" if resource in self.chip.core else f"{self.chip.whole[resource]}"
            lines.append(f"{resource.replace('_', ' ')}: {used:,}{share}; {limit}")
        lines += [f"changed: {c}" for c in self.changes]
        lines += [f"needs training: {f.layer}: {f.what} -> {f.change}" for f in self.outstanding]
        lines += [str(e) for e in self.estimates]
        may = [name for name, (yes, _) in self.compatibility.learns.items() if yes]
        why = next(iter(self.compatibility.learns.values()))[1]
        lines.append(f"may learn on the chip: {', '.join(may) or 'no layer'}. {why if not may else ''}".rstrip())
        lines += [f"not checked: {what}" for what in self.compatibility.unchecked]
        return lines + [f"not in these data: {lack}" for lack in self.chip.lacks]

    def __repr__(self) -> str:
        return "\n".join([self.compatibility.headline(), *text_table(self.HEAD, self.rows()), *self.summary()])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), self.summary())


ORDER = (FITS, CHANGE, RETRAIN, CANNOT)


def _graph_given(act: str, graph: Any) -> Graph:
    """The graph, or ParameterError where it is something else, a module most often."""
    if not isinstance(graph, Graph):
        raise ParameterError(explain(f"{act}: takes a graph.", f"got {type(graph).__name__}", cure="neuro.trace(model, x) makes one from a model and a batch [T, B, ...]."))
    return graph


def assess(graph: Graph, chip: Chip | str, *, weight_bits: int = 8, input_bits: int | None = None, steps: int | None = None) -> Compatibility:
    """Hold every layer against the chip's limits; nothing is refused.

    Args:
        weight_bits: width to use, at most; the widest that the chip has within it is taken (AKD1000: 8 in a convolution of an image, else 4).
        input_bits: of an input value; None: not told, and not checked.
        steps: T of a recording; None: not told.

    Raises:
        UnknownName: a chip that is not in the tables.
        ParameterError: fewer weight bits than the chip has, or numbers below 1.
        GraphError: values laid out as no chip takes them.
    """
    chip = chip_of(chip) if isinstance(chip, str) else chip
    for name, value in (("weight_bits", weight_bits), ("input_bits", input_bits), ("steps", steps)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ParameterError(explain(f"map: {name} must be a whole number from 1.", f"{name} {value!r}"))
    graph = folded(_graph_given("assess", graph))
    network = layers_of(graph)
    asked = Question(graph, network, chip, bits_on(chip, network, weight_bits), input_bits, steps)
    unchecked = () if input_bits is not None else (f"bits of an input value (input_bits); the chip takes {chip.input_bits}",)
    return Compatibility(chip, network, findings(asked), learners(graph, network, chip), (*unchecked, *_order(chip, network)))


def _order(chip: Chip, network: Network) -> tuple[str, ...]:
    """Without steps, a membrane that is inhibited fires or not by what came first."""
    below = [layer.name for layer in network.layers if any(p.weight is not None and bool((p.weight < 0).any()) for p in layer.products)]
    if chip.steps.value != "none" or not below:
        return ()
    return (f"order of events: {', '.join(below)} {'has' if len(below) == 1 else 'have'} weights below 0, so that counts of spikes depend on the order in which events arrive ({chip.steps.source})",)


def map_network(
    graph: Graph, chip: Chip | str, *, weight_bits: int = 8, input_bits: int | None = None, steps: int | None = None,
    rates: Mapping[str, float] | None = None, seconds: float | None = None,
) -> Mapped:  # fmt: skip
    """Place a network on a chip, after the changes that it needs and that can be made without training.

    Args:
        graph: from `neuro.trace`; it is left as it is, `Mapped.graph` is the changed one.
        weight_bits, input_bits, steps: as `assess`.
        rates: mean value sent per neuron and step by node name, from `firing_rates`; for estimates between their bounds.
        seconds: duration of a recording.

    Raises:
        GraphError: the network does not fit: layer, limit and number. Others as `assess`.

    >>> import torch, neuro
    >>> net = neuro.layers.Sequential(neuro.layers.Linear(3, 2000, bias=False), neuro.neurons.LIF())
    >>> mapped = map_network(neuro.trace(net, torch.zeros(4, 1, 3)), "loihi1")
    >>> [(p.layer, p.core, p.start, p.stop) for p in mapped.placement.parts]
    [('1', 0, 0, 1024), ('1', 1, 1024, 2000)]
    """
    without = folded(_graph_given("map_network", graph))
    found = assess(without, chip, weight_bits=weight_bits, input_bits=input_bits, steps=steps)
    found.refuse()
    chip = found.chip
    named = _bits_by_node(chip, found.network, weight_bits)
    changed, changes = rewritten(graph, chip, lambda name: named.get(name, weight_bits), without, input_bits)
    network = layers_of(changed)
    bits = bits_on(chip, network, weight_bits)
    if changed is not without:  # a change may break another rule: pools that become neurons delay their branch
        replace(found, network=network, findings=findings(Question(changed, network, chip, bits, input_bits, steps))).refuse()
    layers = {layer.name: counted(layer, bits(layer, layer.products[0].name)) for layer in network.layers}
    placement = place(chip, list(layers.values()))
    _refuse_totals(chip, layers)
    outstanding = tuple(f for f in found.findings if f.verdict == RETRAIN)
    return estimated(Mapped(found, placement, changed, changes, outstanding, (), layers), steps, rates, seconds)


def estimated(mapped: Mapped, steps: int | None = None, rates: Mapping[str, float] | None = None, seconds: float | None = None) -> Mapped:
    """The same mapping with estimates for so many steps, at these rates; see `map_network`."""
    if rates is not None:
        lacking = [s for what in mapped.layers.values() for s in what.layer.sources if s not in rates]
        if lacking:
            raise ParameterError(explain("map: rates are missing.", f"of {', '.join(dict.fromkeys(lacking))}", cure="Take them from neuro.deploy.mapping.firing_rates(changed graph, x)."))
    return replace(mapped, estimates=estimates(mapped.chip, mapped.placement, mapped.layers, steps, rates, seconds))


def bits_on(chip: Chip, network: Network, most: int) -> Callable[[Layer, str], int]:
    """Width of a product's weights: the widest that the chip has, up to `most`."""

    def bits(layer: Layer, product: str) -> int:
        fact = widths(chip, network, layer)
        within = [b for b in fact.value if b <= most]
        if not within:
            raise ParameterError(explain(f"map: {chip.title} has no weights of {most} bits or fewer.", f"it has {fact}"))
        return max(within)

    return bits


def _bits_by_node(chip: Chip, network: Network, most: int) -> dict[str, int]:
    bits = bits_on(chip, network, most)
    return {p.name.removesuffix(".recurrent"): bits(layer, p.name) for layer in network.layers for p in layer.products}


def _refuse_totals(chip: Chip, layers: Mapping[str, Counted]) -> None:
    """Limits of the whole chip that no core shows."""
    totals = {
        "neurons": sum(what.layer.neurons for what in layers.values()),
        "synapses": sum(what.connections(0, what.layer.neurons) for what in layers.values()),
    }
    for name, total in totals.items():
        fact = chip.whole.get(name)
        if fact is not None and total > fact.value:
            worst = max(layers, key=lambda n: layers[n].layer.neurons if name == "neurons" else layers[n].connections(0, layers[n].layer.neurons))
            raise GraphError(explain(f"the network has {total:,} {name}, {chip.title} holds {fact.value:,}.", f"layer {worst!r} has most", f"limit: {fact}", cure="A smaller network, or a larger chip."))


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a text table; columns of numbers to the right."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    right = [all(not r[i] or r[i][0].isdigit() for r in rows) and i > 0 for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    return [line(head), "-" * min(120, sum(widths) + 2 * len(widths) - 2), *map(line, rows)]


def shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def spans(numbers: list[int]) -> str:
    """Sorted numbers as ranges.

    >>> spans([0, 1, 2, 5])
    '0-2, 5'
    """
    found: list[list[int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in found)
