"""One time step of the neurons of a compiled network: each step's program as a small function of machine code.

The loop over a network's table (`inference_loops.drive`) calls them by their addresses, so it is compiled once for all networks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from neuro.kernels import cache
from neuro.kernels.cpu_block import ANYWHERE, HEADER, in_double
from neuro.kernels.operations import OPERATIONS, operands
from neuro.kernels.program import Program, needed
from neuro.kernels.writing import MARK


class NeuronKind(NamedTuple):
    """A step's program, and which of its tensor parameters are one value for all neurons (the others have one for each)."""

    program: str
    single: tuple[bool, ...]


@functools.lru_cache(maxsize=256)
def address(kind: NeuronKind) -> int:
    """Where the machine code of `advance(x, y, state, weights, numbers, n)` lies; all but n are pointers. It releases nothing and asks nothing of Python."""
    from numba import types

    function: Any = cache.function(source(kind), "advance", by_address=True)  # which keeps it alive
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
    lines = _lines(Program.from_json(kind.program), kind.single)
    return HEADER.format(dtype="float32") + "\n".join([MARK, "def advance(x0, y0, state, weights, numbers, n):", *(f"    {line}" for line in lines)]) + "\n"


def _lines(program: Program, single: tuple[bool, ...]) -> list[str]:
    """x0 to y0, states s in place, parameters p one after the other in `weights`, numbers in double."""
    nodes, order = program.nodes, needed(program.nodes, (*program.outputs, *program.after))
    lines = [f"s{k} = row(state, {k} * n)" for k in range(program.states)]
    for k, one in enumerate(single):
        begin = f"{sum(single[:k])} + {k - sum(single[:k])} * n"
        lines.append(f"p{k} = weights[{begin}]" if one else f"p{k} = row(weights, {begin})")
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
    return lines + [f"    poke({to}, i, n{i}, {ANYWHERE})" for to, i in [("y0", program.outputs[0]), *((f"s{k}", i) for k, i in enumerate(program.after))]]


def _number(program: Program, index: int) -> str:
    """A Python number of the step, in double."""
    node = program.nodes[index]
    if node.op == "constant":
        return in_double(float(node.value))  # type: ignore[arg-type]
    if node.op == "number":
        return f"numbers[{node.value}]"
    return OPERATIONS[node.op].plain.format(*(_number(program, a) for a in node.args))  # type: ignore[union-attr]
