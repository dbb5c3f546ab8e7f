"""What to keep of a forward step so that its backward step can be computed: a minimum cut.

Every forward node that the backward step reads must be computed from the kept ones. A node costs the bytes that keeping it
takes, per neuron and step; the cheapest set that separates the step's inputs from what is read is a minimum vertex cut
(Ford and Fulkerson 1956; as for activation checkpointing in Chen et al. 2016, arXiv:1604.06174).
"""

from __future__ import annotations

from collections import deque

from neuro.kernels.expression import Node
from neuro.kernels.operations import operands
from neuro.kernels.program import needed

_EVERYWHERE = ("constant", "number", "param")  # at hand in both passes


def minimum_cut(nodes: tuple[Node, ...], reads: tuple[int, ...], *, x_cost: float, width: int, spike_cost: float = 1) -> list[int]:
    """Nodes to keep, in order.

    Args:
        nodes: of the forward step.
        reads: those that the backward step reads.
        x_cost: bytes that keeping an input takes; 0 where it is at hand anyway.
        width: bytes of a real.
        spike_cost: bytes of a spike or a comparison.

    >>> from neuro.kernels.expression import Node
    >>> v = [Node("x", (), 0, "real"), Node("state", (), 0, "real"), Node("add", (0, 1), None, "real"), Node("square", (2,), None, "real")]
    >>> minimum_cut(tuple(v), (2, 3), x_cost=4, width=4)  # the sum alone: its square follows from it
    [2]
    """
    inside = needed(nodes, reads)
    constant: set[int] = set()
    for i in inside:
        node = nodes[i]
        if node.op in _EVERYWHERE or (node.op not in ("x", "state") and all(a in constant for a in operands(node.op, node.args))):
            constant.add(i)
    flow = _Flow(2 * len(nodes) + 2)
    source, sink = 2 * len(nodes), 2 * len(nodes) + 1
    for i in inside:
        if i in constant:
            continue
        node = nodes[i]
        flow.edge(2 * i, 2 * i + 1, _cost(node, x_cost, width, spike_cost))
        if node.op in ("x", "state"):
            flow.edge(source, 2 * i, _INFINITE)
        for a in operands(node.op, node.args):
            if a not in constant:
                flow.edge(2 * a + 1, 2 * i, _INFINITE)
    for i in reads:
        if i not in constant:
            flow.edge(2 * i + 1, sink, _INFINITE)
    late = flow.sink_side(source, sink)
    return [i for i in inside if i not in constant and 2 * i + 1 in late and 2 * i not in late]


_INFINITE = 10**12
_SCALE = 64  # costs are whole numbers of 1/64 byte


def _cost(node: Node, x_cost: float, width: int, spike_cost: float) -> int:
    if node.op == "x":
        return round(x_cost * _SCALE)
    return round((spike_cost if node.kind == "bool" or node.op.startswith("fire") else width) * _SCALE)


class _Flow:
    """Maximum flow by shortest augmenting paths (Edmonds and Karp 1972); a step has some dozen nodes."""

    def __init__(self, count: int):
        self.room: list[dict[int, int]] = [{} for _ in range(count)]

    def edge(self, a: int, b: int, capacity: int) -> None:
        self.room[a][b] = self.room[a].get(b, 0) + capacity
        self.room[b].setdefault(a, 0)

    def _path(self, source: int, sink: int) -> list[tuple[int, int]] | None:
        came = {source: source}
        queue = deque([source])
        while queue and sink not in came:
            a = queue.popleft()
            for b, left in self.room[a].items():
                if left > 0 and b not in came:
                    came[b] = a
                    queue.append(b)
        if sink not in came:
            return None
        path, b = [], sink
        while b != source:
            path.append((came[b], b))
            b = came[b]
        return path

    def sink_side(self, source: int, sink: int) -> set[int]:
        """Nodes that still reach the sink when the flow is greatest: the cut next to it, which leaves least to recompute."""
        while path := self._path(source, sink):
            least = min(self.room[a][b] for a, b in path)
            for a, b in path:
                self.room[a][b] -= least
                self.room[b][a] += least
        into: list[list[int]] = [[] for _ in self.room]
        for a, edges in enumerate(self.room):
            for b, left in edges.items():
                if left > 0:
                    into[b].append(a)
        seen, queue = {sink}, deque([sink])
        while queue:
            for a in into[queue.popleft()]:
                if a not in seen:
                    seen.add(a)
                    queue.append(a)
        return seen
