"""NIR's nodes, one by one: what of each is read here, what of ours is written as it, and why not where not. A table.

`tests/deploy/test_nir_nodes.py` holds every yes and no of it against what `load` and `export` do, and against the node classes of the
package nir as installed. `benchmarks/nir_conformance.py` puts it into docs/nir_conformance.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """`reads` and `writes` say whether; `read` and `written` say as what, or why not."""

    kind: str
    reads: bool
    read: str
    writes: bool
    written: str


ROWS = (
    Row("NIRGraph", True, "a graph in a graph is written out, its nodes named `graph.node`", True, "the file itself; modules of modules become dotted names"),
    Row("Input", True, "one in each graph", True, "the network's input"),
    Row("Output", True, "one in each graph", True, "the network's output; a sum or mean over time stands in the metadata"),
    Row("Identity", True, "left out", False, "what does nothing is left out when a network is traced; nir 1.0.8 writes it, but cannot read it"),
    Row("Linear", True, "on a vector", True, "Linear without bias; the way back of a Recurrent"),
    Row("Affine", True, "on a vector", True, "Linear with bias, norms folded in; a norm by itself, as a diagonal"),
    Row("Scale", True, "product with a constant", True, "Scale; the way back of a soft reset that is written out"),
    Row("Conv1d", True, "on every step", True, "Conv1d; groups as one kernel with zeros"),
    Row("Conv2d", True, "on every step", True, "Conv2d; groups and oblong kernels as square ones with zeros; the sum before a padded max pool; a norm of maps by itself"),
    Row("SumPool2d", True, "SumPool2d", True, "SumPool2d; the sum before a max pool of spikes"),
    Row("AvgPool2d", True, "AvgPool2d, the padding counted", True, "AvgPool2d, if it counts its padding"),
    Row("Flatten", True, "the whole step, with or without the batch as axis 0", True, "Flatten"),
    Row("Delay", True, "whole steps of dt, one or one for every element; not in a loop", True, "Delay, in seconds"),
    Row("Threshold", True, "a neuron without memory that is not reset", True, "such a neuron; a soft reset that is written out; a max pool of spikes where asked for"),
    Row("I", True, "integrator whose membrane is the output", True, "such an integrator without a leak; part of an IF with soft reset"),
    Row("LI", True, "the same with a leak", True, "such an integrator; part of a LIF with soft reset, or of a current without a membrane's leak"),
    Row("CubaLI", True, "the same with a current that leaks too", True, "such an integrator, if both leak; else as two"),
    Row("IF", True, "IF, `>` and hard reset unless stated", True, "IF with hard reset"),
    Row("LIF", True, "LIF, the same", True, "LIF and PLIF with hard reset; soft where that is asked to be stated; what stands behind a max pool's sum"),
    Row("CubaLIF", True, "CUBALIF, the same", True, "CUBALIF with hard reset whose current and membrane both leak; else in parts"),
)  # fmt: skip


def table() -> str:
    """The rows in Markdown.

    >>> print(table().splitlines()[2][:60])
    | NIRGraph | yes: a graph in a graph is written out, its nod
    """
    head = ["| NIR node | read here | written here |", "| --- | --- | --- |"]
    return "\n".join([*head, *(f"| {r.kind} | {_told(r.reads, r.read)} | {_told(r.writes, r.written)} |" for r in ROWS)])


def _told(done: bool, what: str) -> str:
    return f"{'yes' if done else 'no'}: {what}"
