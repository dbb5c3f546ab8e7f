"""What the chip can hold: weight grid, bias, threshold and decay ranges, and accumulators that cannot overflow.

    weights     one sign throughout: 0..255 or -255..0;  both signs: even, -256..254          (8 bit)
    LIF         vth 1..131071, bias_mant -4095..4095, bias_exp 0..7, dv 0..4096, du 0..4095
    LIF input   |a| * 4096 / (du + 1) < 2^23 / 64 = 131072: the current register holds 24 bits and a enters shifted by 6
    Cell        the same, per channel, jump 0..2^23-1, dh 0..4096; feedback on the grid of weights
    Cell input  (64 |a| + |bias|) * 4096 / (du + 1) < 2^23, feedback included: its current never wraps
    messages    |x| < 2^23 into a synapse and out of a Conv, readout |a + bias| < 2^31

A bound is the worst case over all inputs, from the sums of positive and of negative weights of each output.
Lava's simulator enforces none of this: a wrong weight is truncated and an overflow wraps, both silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuro.deploy.cells import PER_CHANNEL, Cell, RecurrentCell
from neuro.deploy.joins import Readout
from neuro.deploy.nodes import LIF, Conv, Dense, Node
from neuro.errors import GraphError, explain

if TYPE_CHECKING:
    from neuro.deploy.network import IntegerNetwork

CURRENT = 2**23 // 64
WORD = 2**31


def weight_problem(weight: np.ndarray) -> str:
    """Why the chip cannot hold this matrix; empty if it can."""
    low, high = int(weight.min()), int(weight.max())
    if low >= 0:
        return "" if high <= 255 else f"weights 0..{high} pass 255"
    if high <= 0:
        return "" if low >= -255 else f"weights {low}..0 pass -255 (without a positive weight -256 is not held)"
    if low < -256 or high > 254:
        return f"weights {low}..{high} leave -256..254"
    odd = int(np.count_nonzero(weight & 1))
    return f"{odd} of {weight.size} weights are odd; with both signs the lowest bit is dropped" if odd else ""


LIMITS = {"vth": (1, 131071), "dv": (0, 4096), "du": (0, 4095), "bias_exp": (0, 7), "bias_mant": (-4095, 4095),
          "dh": (0, 4096), "jump": (0, 2**23 - 1)}


def lif_problems(node: LIF | Cell) -> list[str]:
    """Each parameter of a neuron that is out of the chip's range."""
    values = [(name, np.asarray(getattr(node, name)), *limits) for name, limits in LIMITS.items() if hasattr(node, name)]
    ranges = [(name, int(x.min()), int(x.max()), least, most) for name, x, least, most in values]
    return [f"{name} reaches {low if low < least else high}; {least}..{most} are possible"
            for name, low, high, least, most in ranges if low < least or high > most]


def current_bound(network: IntegerNetwork, node: LIF | Cell) -> int:
    """Largest |u| / 64 that this neuron can reach, rounded up."""
    low, high = network.ranges[node.input]
    if isinstance(node, Cell):
        if isinstance(node, RecurrentCell):
            back = node.feedback_range()
            low, high = low + back[0], high + back[1]
        _, _, du, bias, _, _ = node.constants(max(getattr(node, n).size for n in PER_CHANNEL))
        if du.min() < 0:
            return 2**62
        most = [(64 * max(-low, high) + abs(int(b))) * 4096 // (int(d) + 1) for d, b in zip(du, bias, strict=True)]
        return -(-max(most) // 64)
    worst = max(-low, high)
    return worst if node.du == 4095 else (worst * 4096) // (node.du + 1) if node.du >= 0 else 2**62


def problems(network: IntegerNetwork, node: Node) -> list[tuple[str, str]]:
    """(fact, cure) for everything about this node that the chip cannot hold."""
    found: list[tuple[str, str]] = []
    if isinstance(node, (Conv, Dense)) and (fact := weight_problem(node.weight)):
        found.append((fact, "Quantise onto the 8-bit grid: even values -256..254 where signs are mixed."))
    if node.synapse:
        for source in node.inputs:
            worst = max(-network.ranges[source][0], network.ranges[source][1])
            if worst >= 2**23:
                found.append((f"messages from {source!r} reach {worst}, limit 2^23", "Sum fewer branches or tokens."))
        worst = max(-network.ranges[node.name][0], network.ranges[node.name][1])
        most = 23 if isinstance(node, Conv) else 31     # Lava's Conv sends 24 bits, wrapped
        if worst >= 2**most:
            found.append((f"the accumulator can reach {worst}, limit 2^{most}", "Use smaller weights or a smaller fan-in."))
    if isinstance(node, RecurrentCell) and (fact := weight_problem(node.weight)):
        found.append((f"feedback: {fact}", "Quantise onto the 8-bit grid: even values -256..254 where signs are mixed."))
    if isinstance(node, (LIF, Cell)):
        found += [(fact, "Rescale weights, threshold and bias of this layer together.") for fact in lif_problems(node)]
        if (bound := current_bound(network, node)) >= CURRENT:
            found.append((f"its input from {node.input!r} can reach {bound}, limit 2^23/64 = {CURRENT}",
                          "Scale the weights of that layer down (threshold and bias with them), or split its inputs."))
    if isinstance(node, Readout):
        worst = max(-network.ranges[node.name][0], network.ranges[node.name][1])
        if worst >= WORD:
            found.append((f"one step can add {worst}, limit 2^31", "Use a smaller bias or smaller head weights."))
    return found


def check(network: IntegerNetwork) -> list[str]:
    """Check every node. Returns warnings (layers without any weight); raises GraphError listing what cannot be held."""
    blocks = [explain(f"{type(node).__name__} {node.name!r} does not fit the chip.", fact, cure=cure)
              for node in network.nodes for fact, cure in problems(network, node)]
    if blocks:
        more = f"\n... and {len(blocks) - 5} more." if len(blocks) > 5 else ""
        raise GraphError("\n".join(blocks[:5]) + more)
    return [f"{type(node).__name__} {node.name!r}: all weights are zero." for node in network.nodes
            if isinstance(node, (Conv, Dense)) and not node.weight.any()]
