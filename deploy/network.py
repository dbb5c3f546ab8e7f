"""The integer network: a typed graph, in topological order, that twin and Lava execute to the same integers.

    from neuro.deploy.network import IntegerNetwork, Input, Conv, LIF, ..., Readout
    network = IntegerNetwork([Input("input", (2, 32, 32), message_bits=4), Conv("stem.0.conv", "input", w, padding=1), ...])

Time: every synapse (Conv, Dense, Attention) delivers one step later, everything else in the same step. `latency` of a
node is the number of synapses on the way to it; where branches of unequal latency meet, `delays` holds the early ones
back so that all inputs belong to one step of the recording. Step t of a recording is seen by a node at t + latency.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from neuro.deploy.cells import Cell, RecurrentCell
from neuro.deploy.joins import (
    KIND_OF,
    KINDS,
    Add,
    Delay,
    Flatten,
    Readout,
    StepReadout,
    SumPool,
    SumReadout,
    Tokens,
    TokenSum,
)
from neuro.deploy.nodes import LIF, Attention, Conv, Dense, Input, MaxPool, Node, Range, Shape
from neuro.errors import GraphError, explain, unknown

__all__ = ["LIF", "Add", "Attention", "Cell", "Conv", "Delay", "Dense", "Flatten", "Input", "IntegerNetwork", "MaxPool", "Node",
           "Readout", "RecurrentCell", "StepReadout", "SumPool", "SumReadout", "TokenSum", "Tokens", "KINDS", "KIND_OF", "load"]


class IntegerNetwork:
    """Nodes with checked shapes; one Input first, one Readout last. Immutable.

    Args:
        nodes: in topological order: an input of a node stands before it.
        name: what the file and reports call the network.

    Attributes, each a dict by node name:
        shapes: per-step shape, without T and B.
        ranges: (smallest, largest) value the node can give, by interval arithmetic over its weights.
        latency: steps of pipeline before it.
        delays: one delay in steps per input.

    Raises:
        GraphError: an unknown, repeated or late name, shapes that do not fit, spikes where none can be.
    """

    def __init__(self, nodes: Iterable[Node], name: str = "network") -> None:
        self.nodes: tuple[Node, ...] = tuple(nodes)
        self.name = name
        self.shapes: dict[str, Shape] = {}
        self.ranges: dict[str, Range] = {}
        self.latency: dict[str, int] = {}
        self.delays: dict[str, tuple[int, ...]] = {}
        for node in self.nodes:
            self._add(node)
        ends = [sum(isinstance(n, kind) for n in self.nodes) for kind in (Input, Readout)]
        if ends != [1, 1] or not isinstance(self.nodes[0], Input) or not isinstance(self.nodes[-1], Readout):
            raise GraphError(explain(f"Network {name!r} needs one Input, first, and one Readout, last.",
                                     f"It has {ends[0]} and {ends[1]}."))

    def _add(self, node: Node) -> None:
        if type(node) not in KIND_OF:
            raise GraphError(explain(f"{node!r} is not a node.", f"Nodes are {', '.join(c.__name__ for c in KIND_OF)}."))
        if node.name in self.shapes:
            raise GraphError(explain(f"{type(node).__name__} {node.name!r}: the name is taken."))
        for source in node.inputs:
            if source not in self.shapes or isinstance(self[source], Readout):
                raise GraphError(explain(f"{type(node).__name__} {node.name!r} reads {source!r}, which is not there.",
                                         f"Before it: {', '.join(self.shapes) or 'nothing'}.",
                                         cure="List the nodes in the order in which values flow."))
        shapes = tuple(self.shapes[s] for s in node.inputs)
        arrival = [self.latency[s] for s in node.inputs]
        self.shapes[node.name] = node.out_shape(*shapes)
        self.ranges[node.name] = node.out_range(shapes, tuple(self.ranges[s] for s in node.inputs))
        self.latency[node.name] = max(arrival, default=0) + node.synapse
        self.delays[node.name] = tuple(max(arrival) - a for a in arrival)

    def __getitem__(self, name: str) -> Node:
        """The node of this name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise unknown("node", name, self.shapes)

    def __repr__(self) -> str:
        return (f"IntegerNetwork({self.name!r}, {len(self.nodes)} nodes, {self.synapses} weights, "
                f"{self.neurons} neurons, latency {self.latency[self.readout.name]})")

    @property
    def input(self) -> Input:
        return self.nodes[0]  # type: ignore[return-value]

    @property
    def readout(self) -> Readout:
        return self.nodes[-1]  # type: ignore[return-value]

    @property
    def lifs(self) -> tuple[LIF | Cell, ...]:
        """The neuron layers, in order."""
        return tuple(n for n in self.nodes if isinstance(n, (LIF, Cell)))

    @property
    def synapses(self) -> int:
        """Weights stored."""
        return sum(n.weight.size for n in self.nodes if isinstance(n, (Conv, Dense, RecurrentCell)))

    @property
    def neurons(self) -> int:
        total = 0
        for n in self.lifs:
            size = 1
            for axis in self.shapes[n.name]:
                size *= axis
            total += size
        return total

    def binary(self, name: str) -> bool:
        """Whether this node gives only 0 and 1."""
        return self.ranges[name] == (0, 1)

    def check(self) -> list[str]:
        """Check against the chip's rules; see `neuro.deploy.rules.check`. Returns warnings, raises GraphError."""
        from neuro.deploy.rules import check
        return check(self)

    def save(self, path: str | Path) -> Path:
        """Write one file; see `neuro.deploy.network_file.save`."""
        from neuro.deploy.network_file import save
        return save(self, path)

    @staticmethod
    def load(path: str | Path, **limits: int) -> IntegerNetwork:
        """Read a file that `save` wrote; see `neuro.deploy.network_file.load`."""
        return load(path, **limits)


def load(path: str | Path, **limits: int) -> IntegerNetwork:
    """Read a network file; see `neuro.deploy.network_file.load`."""
    from neuro.deploy import network_file
    return network_file.load(path, **limits)
