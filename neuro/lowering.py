"""From a graph to what the loop over a table runs: segments of rows, and between them the nodes that are left to torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuro import nodes as g
from neuro.errors import GraphError, explain
from neuro.forms import FORMS
from neuro.graph import Graph
from neuro.kernels import inference_source as text
from neuro.tables import ByTorch, Open, Segment, Slot, Tables

__all__ = ["Lowered", "Segment", "Slot", "lower"]

_STATELESS = (
    g.Conv2d, g.Conv1d, g.Linear, g.BatchNorm, g.Affine, g.Scale, g.MaxPool2d, g.AvgPool2d, g.SumPool2d, g.Add, g.AttentionProduct,
    g.Tokens, g.Flatten, g.MeanOverTokens,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Lowered:
    """A network made ready: segments and, between them, names of the nodes that torch runs."""

    steps: tuple[Segment | str, ...]
    slots: dict[str, Slot]
    state: int  # elements of a sample's state
    weights: np.ndarray  # float32
    numbers: np.ndarray  # float64
    kinds: tuple[text.NeuronKind, ...]
    reasons: dict[str, str]  # why a node is left to torch


def lower(graph: Graph, torch_nodes: frozenset[str] = frozenset(), shown: frozenset[str] = frozenset()) -> Lowered:
    """The table of a graph whose norms are folded. `torch_nodes`: left to torch in any case; `shown`: values that go out beside the last.

    Raises:
        GraphError: a node of which it is not known what it remembers.
    """
    return _Lowering(graph, torch_nodes, shown).lowered()


class _Lowering(Tables):
    """Walks the graph once; what has no form closes a segment."""

    def lowered(self) -> Lowered:
        groups: list[Open | str] = [self.open]
        reasons: dict[str, str] = {}
        for node in self.graph.nodes[1:]:
            try:
                if node.name in self.torch_nodes:
                    raise ByTorch("it was asked for")
                self.node(node)
            except ByTorch as reason:
                reasons[node.name] = str(reason)
                self._remembers(node)
                self.open = Open()
                groups += [node.name, self.open]
        steps = [s if isinstance(s, str) else self.closed(s) for s in groups if isinstance(s, str) or s.made]
        weights = np.concatenate(self.weights) if self.weights else np.zeros(1, np.float32)
        numbers = np.array(self.numbers or [0.0], np.float64)
        return Lowered(tuple(steps), self.slots, self.state, weights, numbers, tuple(self.kinds), reasons)

    def node(self, node: g.Node) -> None:
        make = FORMS.get(type(node))
        if make is None:
            raise ByTorch("it has no form of its own")
        make(self, node)
        self.open.made.append(node.name)

    def _remembers(self, node: g.Node) -> None:
        """Make room for the state of a node that torch runs."""
        if node.name in self.slots or isinstance(node, _STATELESS):
            return
        if isinstance(node, g.Neuron):
            self.slot(node, node.state._fields, False)
        elif isinstance(node, g.Recurrent):
            self.slot(node, ("s", *node.neuron.state._fields), False)
        elif isinstance(node, g.SumOverTime):
            self.sums(node)
        else:
            raise GraphError(
                explain(
                    f"compile_inference: {node.name!r} is a {node.kind}.",
                    "It is not known what it remembers from one step to the next.",
                    cure="Run the model itself.",
                )
            )

