"""Which core holds which neurons: greedy by layers, each split by ranges of neurons as large as a core takes; or one layer per core.

Greedy is the best there is for ranges in this order: a core that is filled further leaves less for those behind it, and a part of a
range never takes more than the range. So larger limits never need more cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neuro.deploy.chips import Chip
from neuro.deploy.mapping_counts import Counted, demand
from neuro.errors import GraphError, explain

PASSES = " Its maker's tools would run it in several passes, each with a part of the network, which is not placed here."


@dataclass(frozen=True)
class Part:
    """Neurons start .. stop-1 of a layer on a core, and what they take of its resources."""

    layer: str
    core: int
    start: int
    stop: int
    takes: Mapping[str, int]

    @property
    def neurons(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Placement:
    """All parts, in order of layers."""

    chip: Chip
    parts: tuple[Part, ...]

    @property
    def cores(self) -> tuple[int, ...]:
        """Numbers of the cores that hold something."""
        return tuple(sorted({p.core for p in self.parts}))

    def on(self, core: int) -> tuple[Part, ...]:
        return tuple(p for p in self.parts if p.core == core)

    def of(self, layer: str) -> tuple[Part, ...]:
        return tuple(p for p in self.parts if p.layer == layer)

    def used(self, core: int) -> dict[str, int]:
        """What all parts on a core take of each resource."""
        return {r: sum(p.takes[r] for p in self.on(core)) for r in self.chip.core}

    def fill(self, core: int) -> dict[str, float]:
        """Share of each resource with a known limit that is taken on a core."""
        return {r: n / most for r, n in self.used(core).items() if (most := capacity(self.chip, core)[r]) is not None}


def capacity(chip: Chip, core: int) -> dict[str, int | None]:
    """What one core holds of each resource; None: no limit is known."""
    return {r: f.value[core] if isinstance(f.value, tuple) else f.value for r, f in chip.core.items()}


def place(chip: Chip, layers: Sequence[Counted]) -> Placement:
    """Put every neuron on a core.

    Raises:
        GraphError: a neuron, or a layer where layers are not split, that no core holds; more cores than there are. It names the
            layer, the limit and the number.
    """
    parts = _split(chip, layers) if chip.splits.value else _whole(chip, layers)
    return Placement(chip, tuple(parts))


def _split(chip: Chip, layers: Sequence[Counted]) -> Iterable[Part]:
    most = capacity(chip, 0)
    parts: list[Part] = []
    core, free = 0, dict(most)
    needs: dict[str, int] = {}
    for what in layers:
        name, start = what.layer.name, 0
        if not chip.shares_cores.value and parts:
            core, free = core + 1, dict(most)
        before = core
        while start < what.layer.neurons:
            stop = _furthest(chip, what, start, free)
            if stop == start:
                if free == most:
                    raise too_large(chip, name, f"neuron {start} alone", demand(chip, what, start, start + 1), most)
                core, free = core + 1, dict(most)
                continue
            takes = demand(chip, what, start, stop)
            parts.append(Part(name, core, start, stop, takes))
            free = {r: None if n is None else n - takes[r] for r, n in free.items()}
            start = stop
        needs[name] = core - before + 1
    if core >= chip.cores.value:
        worst = max(needs, key=lambda name: needs[name])
        raise GraphError(explain(f"the network needs {core + 1} cores of {chip.title}, which has {chip.cores.value}.",
                                 f"layer {worst!r} takes most: {needs[worst]} cores", f"limit: {chip.cores}",
                                 cure="Fewer channels, smaller maps, or a larger chip." + (PASSES if chip.steps.value == "one" else "")))  # fmt: skip
    return parts


def _furthest(chip: Chip, what: Counted, start: int, free: Mapping[str, int | None]) -> int:
    """The largest stop such that neurons start .. stop-1 fit into what is free; start where not one fits."""
    low, high = start, what.layer.neurons
    if fits(demand(chip, what, start, high), free):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if fits(demand(chip, what, start, middle), free):
            low = middle
        else:
            high = middle
    return low


def fits(takes: Mapping[str, int], free: Mapping[str, int | None]) -> bool:
    """Whether all resources suffice; None is no limit."""
    return all(free[r] is None or n <= free[r] for r, n in takes.items())  # type: ignore[operator]


def _whole(chip: Chip, layers: Sequence[Counted]) -> Iterable[Part]:
    """One layer per core by bipartite matching, as cores differ; all on one core where layers may share it."""
    takes = [demand(chip, what, 0, what.layer.neurons) for what in layers]
    if chip.shares_cores.value:
        _refuse_whole(chip, layers)
        return [Part(what.layer.name, 0, 0, what.layer.neurons, t) for what, t in zip(layers, takes, strict=True)]
    room = [capacity(chip, core) for core in range(chip.cores.value)]
    options = [[core for core, free in enumerate(room) if fits(t, free)] for t in takes]
    for what, t, cores in zip(layers, takes, options, strict=True):
        if not cores:
            raise too_large(chip, what.layer.name, "the layer", t, _closest(t, room))
    holds = matching(options, len(room))
    if holds is None:
        names = ", ".join(f"{what.layer.name} ({len(cores)} cores hold it)" for what, cores in zip(layers, options, strict=True))
        cure = "Fewer layers, or smaller ones that more cores can hold."
        raise GraphError(explain(f"the {len(layers)} layers do not find a core each on {chip.title}.", names, f"limit: {len(room)} cores, {chip.cores}", cure=cure))
    return [Part(what.layer.name, core, 0, what.layer.neurons, t) for what, core, t in zip(layers, holds, takes, strict=True)]


def _closest(takes: Mapping[str, int], room: Sequence[Mapping[str, int | None]]) -> Mapping[str, int | None]:
    """The core whose worst resource is exceeded least."""
    return min(room, key=lambda free: max(n / most for r, n in takes.items() if (most := free[r])))


def matching(options: Sequence[Sequence[int]], cores: int) -> list[int] | None:
    """A core of its own for every layer, by augmenting paths; None where there is none.

    >>> matching([[0, 1], [0]], 2), matching([[0], [0]], 2)
    ([1, 0], None)
    """
    owner: list[int | None] = [None] * cores

    def find(layer: int, seen: set[int]) -> bool:
        for core in options[layer]:
            if core not in seen:
                seen.add(core)
                if owner[core] is None or find(owner[core], seen):  # type: ignore[arg-type]
                    owner[core] = layer
                    return True
        return False

    if not all(find(layer, set()) for layer in range(len(options))):
        return None
    return [owner.index(layer) for layer in range(len(options))]


def _refuse_whole(chip: Chip, layers: Sequence[Counted]) -> None:
    """Neurons of a chip of one core: all but the last layer's are hidden."""
    fact = chip.whole.get("hidden")
    hidden = sum(what.layer.neurons for what in layers[:-1])
    if fact is not None and hidden > fact.value:
        largest = max(layers[:-1], key=lambda what: what.layer.neurons).layer
        raise GraphError(explain(f"the network has {hidden:,} hidden neurons, {chip.title} {fact.value:,}.",
                                 f"layer {largest.name!r} has most: {largest.neurons:,}", f"limit: {fact}", cure="Fewer neurons."))  # fmt: skip


def too_large(chip: Chip, layer: str, what: str, takes: Mapping[str, int], free: Mapping[str, int | None]) -> GraphError:
    """The error for a part that no core holds."""
    over = [f"{r.replace('_', ' ')}: {n:,} of {free[r]:,}   limit: {chip.core[r]}" for r, n in takes.items() if free[r] is not None and n > free[r]]  # type: ignore[operator]
    return GraphError(explain(f"layer {layer!r} does not fit {chip.title}: {what} takes more than a core holds.", *over, cure="A smaller fan-in, map or number of channels."))
