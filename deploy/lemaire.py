"""The closed formulas of Lemaire et al. 2022, "An Analytical Estimation of Spiking Neural Networks Energy Efficiency", with memory.

`neuro.deploy.energy` prices operations that were counted one by one; here only the numbers of spikes are taken from a run, and
operations, memory accesses and addresses follow from the shapes, as in the paper. The two can so be held against each other:
the formulas charge every event all taps of its kernel, also where they fall outside the map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch

from neuro import graph as g
from neuro.deploy.agreement import html_table, table
from neuro.deploy.elementwise import Elementwise
from neuro.errors import ParameterError, explain
from neuro.graph import Graph, fold_norms
from neuro.measuring import Activity

INT32_ADD, INT32_MUL = 0.1, 3.1  # pJ, Horowitz, ISSCC 2014, 45 nm
MEMORIES: dict[str, Callable[[float, int], float]] = {
    "linear": lambda words, bits: 1.09e-5 * words * bits + 13.2,
    "wide": lambda words, bits: 10.0 / (64 // bits),
}
NOTES = (
    "Closed formulas of Lemaire et al. 2022; an estimate, not a measurement. Spikes are counted, all else follows from shapes. A layer whose input is",
    "not 0 or 1 is priced as one of an ordinary network. Operations at INT32 (add 0.1 pJ, multiply 3.1 pJ; a MAC is both, Horowitz 45 nm). An access to",
    "a memory of n words of b bits: linear 1.09e-5 n b + 13.2 pJ, or wide 10 / floor(64 / b) pJ. Here a convolution's addresses count output channels, and",
    "a full layer's the number of spikes, as the paper has it; the authors' published program leaves out the first and takes a rate for the second.",
    "The paper has no residual sums, pools or means. Where they are given they are rows of their own, by the operations and words that were counted: nothing",
    "fused with the layers around, a window's sum in a register, a sum over time in memory, every word of the same width, no addressing.",
)


@dataclass(frozen=True)
class Shape:
    """What the formulas know of a layer. channels, size: of input and output maps ((1,) x neurons for a full layer).

    events, spikes: into and out of it, in all steps of a recording. spiking: whether inputs are 0 or 1. leaky, biased: of its
    neurons and products. groups divide what an input channel reaches.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    steps: float
    events: float
    spikes: float
    spiking: bool
    leaky: bool
    biased: bool = True
    groups: int = 1

    @property
    def out(self) -> int:
        """Elements of the output map."""
        return prod(self.outputs)

    @property
    def taps(self) -> int:
        """Weights that one output channel has for one input channel."""
        return prod(self.kernel)

    @property
    def reached(self) -> int:
        """Output channels that one input reaches."""
        return self.outputs[0] // self.groups


@dataclass(frozen=True)
class Counts:
    """Operations and memory accesses of one layer, per recording."""

    macs: float
    acs: float
    addressing_macs: float
    addressing_acs: float
    read_inputs: float
    read_weights: float
    read_biases: float
    potentials: float  # read, and as often written
    write_outputs: float


def counts(s: Shape) -> Counts:
    """The paper's table, for one layer of either kind of network.

    >>> two = Shape("conv", (1, 4, 4), (1, 4, 4), (3, 3), (1, 1), steps=2, events=2, spikes=0, spiking=True, leaky=False)
    >>> c = counts(two)
    >>> c.read_weights, c.acs, c.macs
    (18, 50, 0)
    """
    bias = s.out if s.biased else 0
    if not s.spiking:
        products = s.inputs[0] // s.groups * s.out * s.taps
        reads = products if len(s.outputs) > 1 else prod(s.inputs)
        addresses = prod(s.inputs) + s.out + s.outputs[0] * s.taps if len(s.outputs) > 1 else products
        return Counts(products, bias, 0, addresses, reads, products, bias, 0, s.out)
    fan, updates = s.events * s.reached * s.taps, s.steps * s.out
    met = s.events * s.reached * prod(ceil(k / d) for k, d in zip(s.kernel, s.stride, strict=True))
    return Counts(
        macs=updates if s.leaky else 0, acs=met + updates + s.spikes, addressing_macs=2 * s.events if len(s.outputs) > 1 else 0, addressing_acs=fan,
        read_inputs=s.events, read_weights=fan, read_biases=s.steps * bias, potentials=fan + updates, write_outputs=s.spikes,
    )  # fmt: skip


@dataclass(frozen=True)
class LemaireReport:
    """pJ of operations, addressing and memory by layer. `memory`: the variant of the memory's price."""

    layers: dict[str, tuple[float, float, float]]
    memory: str
    bits: int

    HEAD = ("layer", "operations nJ", "addressing nJ", "memory nJ", "total nJ")

    @property
    def total(self) -> float:
        """µJ per recording."""
        return sum(map(sum, self.layers.values())) * 1e-6

    @property
    def memory_share(self) -> float:
        """Of the total; 0 where nothing was spent."""
        return sum(row[2] for row in self.layers.values()) * 1e-6 / self.total if self.total else 0.0

    def rows(self) -> list[tuple[str, ...]]:
        sums = tuple(map(sum, zip(*self.layers.values(), strict=True))) or (0.0, 0.0, 0.0)
        return [(name, *(f"{v * 1e-3:.4g}" for v in (*row, sum(row)))) for name, row in (*self.layers.items(), ("sum", sums))]

    def notes(self) -> list[str]:
        return [f"{self.total:.4g} µJ per recording, {self.memory_share:.1%} of it memory ({self.memory}, words of {self.bits} bits).", *NOTES]

    def __repr__(self) -> str:
        return "\n".join([*table(self.HEAD, self.rows()), *self.notes()])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), self.notes())


def lemaire(shapes: Sequence[Shape], memory: str = "linear", bits: int = 32, elementwise: Sequence[Elementwise] = ()) -> LemaireReport:
    """Price layers by the closed formulas.

    Args:
        shapes: of `shapes_of`, or by hand.
        memory: "linear" or "wide", see MEMORIES.
        bits: of a word, 1 .. 64.
        elementwise: what lies between the layers, one side of `elementwise_work`: "snn", or "once" for shapes that are not spiking.

    Raises:
        ParameterError: another memory, or words that are not 1 to 64 bits wide.
    """
    if memory not in MEMORIES or not 1 <= bits <= 64:
        raise ParameterError(explain("lemaire: no such memory.", f"memory {memory!r}   bits {bits}", cure=f"One of {sorted(MEMORIES)}, words of 1 to 64 bits."))
    price, found = MEMORIES[memory], {}
    for s in shapes:
        c, maps = counts(s), (prod(s.inputs), s.inputs[0] // s.groups * s.outputs[0] * s.taps, s.out)
        inputs, weights, outputs = (price(words, bits) for words in maps)
        words = c.read_inputs * inputs + c.read_weights * weights + (c.read_biases + 2 * c.potentials + c.write_outputs) * outputs
        ops, addressing = ((macs * (INT32_ADD + INT32_MUL) + acs * INT32_ADD) for macs, acs in ((c.macs, c.acs), (c.addressing_macs, c.addressing_acs)))
        found[s.name] = (ops, addressing, words)
    for e in elementwise:
        if not e.understood:
            raise ParameterError(explain(f"lemaire: there is no rule for {e.kind} {e.name!r}.", cure="Leave it out, and say so."))
        ops = (e.adds + e.comparisons) * INT32_ADD + e.multiplies * INT32_MUL
        found[e.name] = (ops, 0.0, sum(w.words * price(w.held, bits) for w in e.moved))
    return LemaireReport(found, memory, bits)


def shapes_of(activity: Activity, graph: Graph, spiking: bool = True) -> list[Shape]:
    """The layers of a traced network with the spikes that were counted, mean per recording.

    Args:
        activity: counts of the network, by `neuro.activity`.
        graph: of the same network, by `neuro.trace`.
        spiking: False: the same layers as an ordinary network, run once.

    Raises:
        GraphError: a recurrent layer or an attention product, for which there are no formulas.
    """
    graph, found = fold_norms(graph), []
    for node in graph:
        if isinstance(node, (g.Recurrent, g.AttentionProduct)):
            raise node.refuse("Lemaire's formulas have no such layer.", cure="Use neuro.deploy.energy, which prices what was counted.")
        if isinstance(node, (g.Conv1d, g.Conv2d, g.Linear)):
            found.append(_shape(activity, graph, node, spiking))
    return found


def _shape(activity: Activity, graph: Graph, node: Any, spiking: bool) -> Shape:
    layer, after = activity[node.name], next((n for n in graph.readers(node.name) if isinstance(n, g.Neuron)), None)
    decay = getattr(after.params, "decay", 1) if after else 1
    conv = not isinstance(node, g.Linear)
    inputs, outputs = graph.shapes[node.inputs[0]], graph.shapes[node.name]
    if not conv and len(inputs) > 1:  # one product for each token: a convolution of one tap, channels first
        inputs, outputs = ((s[-1], *s[:-1]) for s in (inputs, outputs))
    return Shape(
        node.name, inputs, outputs, tuple(node.weight.shape[2:]) if conv else (1,) * (len(outputs) - 1), _pair(node.stride if conv else 1, len(outputs) - 1),
        steps=float(activity.steps.mean()), events=float(layer.events.mean()), spikes=float(activity[after.name].spikes.mean()) if after else 0.0,
        spiking=spiking and layer.input_class in ("binary", "zero"), leaky=bool((torch.as_tensor(decay) != 1).any()), biased=node.bias is not None,
        groups=node.groups if conv else 1,
    )  # fmt: skip


def _pair(value: Any, n: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * n
