"""The backward step of a program, derived on its graph.

One step maps (x, s, p) to (y, s'). Its backward step maps the gradients of y and s' to those of x, s and p; the gradient of s
is carried to the step before, that of p is summed over steps and elements.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuro.kernels.expression import Node, Symbol
from neuro.kernels.operations import OPERATIONS
from neuro.kernels.program import LEAVES, Program, needed


@dataclass(frozen=True)
class Backward:
    """Nodes of the forward step (the first `forward` of them) and of the backward step after them.

    `x`, `state`, `params`: node of each gradient, None where it is zero. `reads`: forward nodes that the backward step reads.
    """

    nodes: tuple[Node, ...]
    forward: int
    x: tuple[int | None, ...]
    state: tuple[int | None, ...]
    params: tuple[int | None, ...]
    reads: tuple[int, ...]

    def roots(self) -> list[int]:
        return [i for i in (*self.x, *self.state, *self.params) if i is not None]


def derive(program: Program, wants_x: tuple[bool, ...], wants_params: tuple[bool, ...], has_y: tuple[bool, ...] | None = None) -> Backward:
    """Reverse accumulation.

    Gradients that nobody wants are left out (that of the state is always carried), and outputs without one: `has_y`.
    """
    graph = program.graph()
    found: dict[int, Symbol] = {}

    def collect(index: int, gradient: Symbol) -> None:
        found[index] = found[index] + gradient if index in found else gradient

    for op, ends in (("grad_y", program.outputs), ("grad_state", program.after)):
        for k, index in enumerate(ends):
            if op == "grad_y" and has_y is not None and not has_y[k]:
                continue
            collect(index, graph.symbol(op, (), k))
    for index in reversed(range(len(program.nodes))):
        node = program.nodes[index]
        if node.op in LEAVES or index not in found:
            continue
        rule = OPERATIONS[node.op].gradient
        if rule is None:
            continue
        symbols = [Symbol(graph, a) for a in node.args]
        for argument, gradient in zip(symbols, rule(found[index], Symbol(graph, index), *symbols), strict=True):
            if gradient is not None and argument.kind == "real":
                collect(argument.index, gradient)
    ends: dict[str, dict[int, int]] = {"x": {}, "state": {}, "param": {}}
    for index, node in enumerate(program.nodes):
        if node.op in ends and index in found:
            ends[node.op][int(node.value)] = found[index].index  # type: ignore[arg-type]
    x = tuple(ends["x"].get(k) if want else None for k, want in enumerate(wants_x))
    params = tuple(ends["param"].get(k) if want else None for k, want in enumerate(wants_params))
    state = tuple(ends["state"].get(k) for k in range(program.states))
    roots = [i for i in (*x, *state, *params) if i is not None]
    forward, nodes = len(program.nodes), tuple(graph.nodes)
    reads = set()
    for index in needed(nodes, roots, given=range(forward)):
        reads.update(a for a in nodes[index].args if a < forward)
    reads.update(i for i in roots if i < forward)
    return Backward(nodes, forward, x, state, params, tuple(sorted(reads)))
