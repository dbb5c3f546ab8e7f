"""What the twin says of the nodes that were probed in Lava, and the two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuro.deploy.lava_stepping import checked, checked_steps
from neuro.deploy.network import LIF, Cell, IntegerNetwork, Node, Readout, StepReadout
from neuro.deploy.reference import CellState, cell_step, lif_step
from neuro.deploy.twin import Runner, check_inputs, to_first

if TYPE_CHECKING:
    from neuro.deploy.lava import LavaResult

Arrays = dict[str, dict[str, np.ndarray]]


def twin_probes(network: IntegerNetwork, inputs: np.ndarray, probe: Sequence[str], at: Sequence[int] | None = None) -> Arrays:
    """The arrays that `run_lava(network, inputs, probe=probe, at=at)` holds, by kind and node: int32 [T, B, ...], spikes uint8.

    Values, spikes and membranes are the twin's own. It keeps no currents and adaptations: they are computed from the twin's values
    by the definition of the neuron's step.

    Raises:
        UnknownName: a probe that is no node.   ParameterError: steps that are none of a recording.
    """
    network.check()
    x, _ = check_inputs(network, inputs, None)
    probe, kept = checked(probe, network.shapes), checked_steps(at, len(x))
    steps = list(range(len(x))) if kept is None else kept
    runner = Runner(network, len(x), True)
    buffers = runner.buffers()
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for b in range(x.shape[1]):
        _, values, _ = runner.run(x[:, b], buffers)
        for name in probe:
            for what, array in of_node(network, network[name], values, buffers[1]).items():
                found.setdefault(what, {}).setdefault(name, []).append(array[steps].astype(np.uint8 if what == "spikes" else np.int32))
    return {what: {name: np.stack(arrays, 1) for name, arrays in nodes.items()} for what, nodes in found.items()}


def of_node(network: IntegerNetwork, node: Node, values: dict[str, np.ndarray], membranes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What can be probed of one node in one recording, [T, ...]."""
    def first(name: str) -> np.ndarray:
        return to_first(values[name]) if len(network.shapes[name]) == 3 else values[name]

    if isinstance(node, Readout):
        added = first(node.input).astype(np.int64) + node.bias
        return {"values": added if isinstance(node, StepReadout) else np.cumsum(added, axis=0)}
    if not isinstance(node, (LIF, Cell)):
        return {"values": first(node.name)}
    own = {"spikes": first(node.name), "membranes": to_first(membranes[node.name])}
    return own | (hidden_of_cell if isinstance(node, Cell) else hidden_of_lif)(node, first(node.input).astype(np.int64))  # type: ignore[operator]


def hidden_of_lif(node: LIF, arrived: np.ndarray) -> dict[str, np.ndarray]:
    """The current after each step. arrived [T, ...]."""
    zero, currents = np.zeros(arrived.shape[1:], np.int64), []
    u = zero
    for a in arrived:
        _, u, _, _ = lif_step(u, zero, a, node.du, node.dv, node.vth, 0)
        currents.append(u)
    return {"currents": np.stack(currents)}


def hidden_of_cell(node: Cell, arrived: np.ndarray) -> dict[str, np.ndarray]:
    """Current, bias included, and adaptation after each step. arrived [T, ...]."""
    state, states = CellState(*[np.zeros(arrived.shape[1:], np.int64)] * 4), []
    for a in arrived:
        state, _, _ = cell_step(state, a, node)
        states.append(state)
    return {"currents": np.stack([s.u for s in states]), "adaptations": np.stack([s.h for s in states])}


@dataclass(frozen=True)
class ProbeAgreement:
    """One array of one node. first: (recording, step, index) of the first difference; None: equal."""

    node: str
    what: str
    compared: int
    nonzero: int
    differ: int
    first: tuple[int, int, tuple[int, ...]] | None


def compare_probes(twin: Arrays, lava: LavaResult) -> list[ProbeAgreement]:
    """Every array of `twin_probes` beside Lava's; one that Lava lacks differs everywhere."""
    found = []
    for what, nodes in twin.items():
        for name, ours in nodes.items():
            theirs = getattr(lava, what).get(name)
            wrong = np.ones(ours.shape, bool) if theirs is None or theirs.shape != ours.shape else ours != theirs
            where = np.argwhere(wrong.swapaxes(0, 1))
            steps = range(len(ours)) if lava.at is None else lava.at
            first = None if not len(where) else (int(where[0][0]), steps[int(where[0][1])], tuple(int(i) for i in where[0][2:]))
            found.append(ProbeAgreement(name, what, ours.size, int(np.count_nonzero(ours)), int(wrong.sum()), first))
    return found


def table_of(agreements: Sequence[ProbeAgreement]) -> str:
    """The comparison, a line for each array.

    >>> print(table_of([ProbeAgreement("a.lif", "spikes", 20, 3, 0, None)]))
    probed  what       compared    nonzero   differ  first
    a.lif   spikes           20          3        0
    """
    width = max([6, *(len(a.node) for a in agreements)])
    lines = [f"{'probed':{width}}  {'what':11}{'compared':>8} {'nonzero':>10} {'differ':>8}  first"]
    for a in agreements:
        where = "" if a.first is None else "recording {}, step {}, index {}".format(*a.first)
        lines.append(f"{a.node:{width}}  {a.what:11}{a.compared:>8} {a.nonzero:>10} {a.differ:>8}  {where}".rstrip())
    return "\n".join(lines)
