"""A traced step as a value: which graph, and which of its nodes are the outputs and the state afterwards.

A program is written as a line of JSON, and that line is what an operator of torch is given: a compiled or exported graph
carries the whole definition of its neurons.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neuro.kernels.expression import Graph, NeedsNumbers, Node, Symbol, Unsupported
from neuro.kernels.operations import OPERATIONS, operands

VERSION = 1
LEAVES = ("x", "state", "param", "number", "constant", "grad_y", "grad_state")
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Program:
    """One step: `outputs` and `after` (state afterwards) are nodes of `nodes`; `params` are tensors, `numbers` Python numbers."""

    nodes: tuple[Node, ...]
    inputs: int
    states: int
    params: int
    numbers: int
    outputs: tuple[int, ...]
    after: tuple[int, ...]
    dtype: torch.dtype

    def to_json(self) -> str:
        sizes = [self.inputs, self.states, self.params, self.numbers]
        name = str(self.dtype).removeprefix("torch.")
        return json.dumps([VERSION, name, sizes, self.outputs, self.after, self.nodes], separators=(",", ":"))

    @staticmethod
    @functools.lru_cache(maxsize=512)
    def from_json(text: str) -> Program:
        version, name, sizes, outputs, after, nodes = json.loads(text)
        if version != VERSION:
            raise ValueError(f"This step was compiled for another version of neuro (program {version}, here {VERSION}). Export the model again.")
        made = tuple(Node(op, tuple(args), value, kind) for op, args, value, kind in nodes)
        return Program(made, *sizes, tuple(outputs), tuple(after), _DTYPES[name])

    def graph(self) -> Graph:
        """The nodes again, to build on."""
        graph = Graph(self.dtype)
        for node in self.nodes:
            graph.add(*node)
        return graph


def trace(step: Callable[..., Any], inputs: Any, state: Any, params: Any, choices: dict[str, Any], dtype: torch.dtype, *, bake: bool) -> tuple[Program, bool]:
    """Call `step` once with symbols.

    Args:
        inputs, state, params: what the step is given, of which only the structure matters, and with `bake` the Python numbers.
        bake: take Python numbers among the parameters as constants.

    Returns:
        The program, and whether the step gives a single output rather than a tuple.

    Raises:
        Unsupported: the step does something that has no kernel; the message names it.
    """
    graph, leaves = Graph(dtype), Leaves(bake)
    x = leaves.symbols(graph, "x", inputs)
    s = leaves.symbols(graph, "state", state)
    p = leaves.symbols(graph, "param", params)
    try:
        y, after = step(x, s, p, **choices)
    except Unsupported:
        raise
    except Exception as wrong:
        raise Unsupported(f"something that fails on a symbol in place of a tensor ({type(wrong).__name__}: {wrong})") from wrong
    outputs, afterwards = [_real(v) for v in flat(y)], [_real(v) for v in flat(after)]
    if len(afterwards) != leaves.count["state"]:
        raise Unsupported(f"a state of {leaves.count['state']} tensors that becomes one of {len(afterwards)}")
    sizes = (leaves.count[role] for role in ("x", "state", "param", "number"))
    return _pruned(Program(tuple(graph.nodes), *sizes, tuple(outputs), tuple(afterwards), dtype)), not isinstance(y, tuple)


class Leaves:
    """Symbols for the tensors and numbers of a structure of tuples, in order."""

    def __init__(self, bake: bool):
        self.bake = bake
        self.count = dict.fromkeys(("x", "state", "param", "number"), 0)

    def symbols(self, graph: Graph, role: str, tree: Any) -> Any:
        if tree is None:
            return None
        if isinstance(tree, tuple):
            parts = [self.symbols(graph, role, part) for part in tree]
            return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
        if isinstance(tree, Tensor):
            return graph.symbol(role, (), self._next(role))
        if isinstance(tree, (int, float)) and role == "param":
            if self.bake or isinstance(tree, bool):
                return tree
            return graph.symbol("number", (), self._next("number"), "plain")
        raise Unsupported(f"a {type(tree).__name__} in the {role}s")

    def _next(self, role: str) -> int:
        self.count[role] += 1
        return self.count[role] - 1


def flat(tree: Any) -> list[Any]:
    """Leaves of nested tuples, None left out."""
    if not isinstance(tree, tuple):
        return [] if tree is None else [tree]
    found: list[Any] = []
    for part in tree:
        if isinstance(part, tuple):
            found += flat(part)
        elif part is not None:
            found.append(part)
    return found


def _real(value: Any) -> int:
    if not isinstance(value, Symbol):
        raise Unsupported(f"a step that returns a {type(value).__name__}")
    if value.kind != "real":
        raise Unsupported("a step that returns " + ("a comparison" if value.kind == "bool" else "a number"))
    return value.index


def _pruned(program: Program) -> Program:
    """Without nodes that nothing uses; numbered anew, so that equal steps are equal text."""
    used, todo = set(), [*program.outputs, *program.after]
    while todo:
        index = todo.pop()
        if index not in used:
            used.add(index)
            todo += program.nodes[index].args
    place = {old: new for new, old in enumerate(sorted(used))}
    nodes = tuple(n._replace(args=tuple(place[a] for a in n.args)) for i, n in enumerate(program.nodes) if i in used)
    for node in nodes:
        if node.kind == "plain" and node.op not in LEAVES and OPERATIONS[node.op].plain is None:
            raise NeedsNumbers(f"{node.op} of a number")
    return replace(program, nodes=nodes, outputs=tuple(place[i] for i in program.outputs), after=tuple(place[i] for i in program.after))


def needed(nodes: list[Node] | tuple[Node, ...], roots: Any, given: Any = ()) -> list[int]:
    """Nodes that must be evaluated, in order, to have `roots` when `given` are at hand. The given ones are left out."""
    given, used, todo = set(given), set(), list(roots)
    while todo:
        index = todo.pop()
        if index not in used and index not in given:
            used.add(index)
            todo += operands(nodes[index].op, nodes[index].args)
    return sorted(used)
