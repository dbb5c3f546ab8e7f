"""One time step of the neurons of a compiled network: each step's program as a small function of machine code.

The loop over a network's table (`inference_loops.drive`) calls them by their addresses, so it is compiled once for all networks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from neuro.kernels import cache
from neuro.kernels.operations import OPERATIONS, operands
from neuro.kernels.program import Program, needed

_HEADER = """import numpy as np
from numba import carray
from neuro.kernels.words import *

F = np.float32
ZERO, ONE = F(0.0), F(1.0)

def advance(x, y, state, weights, numbers, n):
    x0, y0, every = carray(x, n), carray(y, n), carray(state, {states} * n)
"""


class NeuronKind(NamedTuple):
    """A step's program, and which of its tensor parameters are one value for all neurons (the others have one for each)."""

    program: str
    single: tuple[bool, ...]


@functools.lru_cache(maxsize=256)
def address(kind: NeuronKind) -> int:
    """Where the machine code of `advance(x, y, state, weights, numbers, n)` lies; all but n are pointers. It releases nothing and asks nothing of Python."""
    from numba import types

    function: Any = cache.function(source(kind), "advance")  # which keeps it alive
    single, double = types.CPointer(types.float32), types.CPointer(types.float64)
    signature = (single, single, single, single, double, types.int64)
    function.compile(signature)
    found = function.overloads[signature]
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name))


def addresses(kinds: tuple[NeuronKind, ...]) -> np.ndarray:
    """The functions of a network's neurons, int64."""
    return np.array([address(kind) for kind in kinds], np.int64)


def source(kind: NeuronKind) -> str:
    """The text of `advance`."""
    program = Program.from_json(kind.program)
    head = _HEADER.format(states=max(1, program.states))
    return head + "".join(f"    {line}\n" for line in _lines(program, kind.single))


def _lines(program: Program, single: tuple[bool, ...]) -> list[str]:
    """x0 to y0, states s in place, parameters p one after the other in `weights`, numbers in double."""
    nodes, order = program.nodes, needed(program.nodes, (*program.outputs, *program.after))
    lines = [f"s{k} = every[{k} * n : {k + 1} * n]" for k in range(program.states)]
    if single:
        lines.append(f"given = carray(weights, {sum(single)} + {len(single) - sum(single)} * n)")
    for k, one in enumerate(single):
        begin = f"{sum(single[:k])} + {k - sum(single[:k])} * n"
        lines.append(f"p{k} = given[{begin}]" if one else f"p{k} = given[{begin} : {begin} + n]")
    for i, node in enumerate(nodes):
        if node.kind == "plain" and any(i in n.args and n.kind != "plain" for n in nodes):
            lines.append(f"f{i} = F({_number(program, i)})")
    lines.append("for i in range(n):")
    for i in order:
        node = nodes[i]
        if node.kind == "plain":
            continue
        leaf = {"x": "x{}[i]", "state": "s{}[i]"}.get(node.op)
        if node.op == "param":
            leaf = "p{}" if single[int(node.value)] else "p{}[i]"  # type: ignore[arg-type]
        names = [f"{'f' if nodes[a].kind == 'plain' else 'n'}{a}" for a in operands(node.op, node.args)]
        lines.append(f"    n{i} = " + (leaf.format(node.value) if leaf else OPERATIONS[node.op].source.format(*names)))
    lines.append(f"    y0[i] = n{program.outputs[0]}")
    return lines + [f"    s{k}[i] = n{i}" for k, i in enumerate(program.after)]


def _number(program: Program, index: int) -> str:
    """A Python number of the step, in double."""
    node = program.nodes[index]
    if node.op == "constant":
        text = repr(float(node.value))  # type: ignore[arg-type]
        return f'np.float64("{text}")' if text in ("inf", "-inf", "nan") else text
    if node.op == "number":
        return f"numbers[{node.value}]"
    return OPERATIONS[node.op].plain.format(*(_number(program, a) for a in node.args))  # type: ignore[union-attr]
