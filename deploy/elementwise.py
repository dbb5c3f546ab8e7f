"""What lies between layers: residual sums, pools, means, scaling, norms that no layer took in, delays; for both networks by one rule.

The price of a spiking layer and of its ANN holds products, neurons or activations, and memory. This work is stated apart, so that
neither side gets it for nothing and the comparison of layers stays what it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neuro import graph as g
from neuro.deploy.opponents import ann_values, recording_steps
from neuro.deploy.profiles import Profile
from neuro.deploy.traffic import Traffic
from neuro.errors import ParameterError, explain
from neuro.graph import Graph, fold_norms

RULE = (
    "Elementwise work, not in the table above: residual sums, pools, means, scaling, norms that no layer took in, delays; one rule for every side.",
    "Arithmetic: n values are summed in n-1 additions or compared in n-1 comparisons (priced as additions), scaled in one multiplication. Dense: all values;",
    "spiking and sparse: those that are not zero (a maximum over negative values: all). A neuron's update and a ReLU are in the table above.",
    "Memory: nothing is fused with the layer before or behind, so each of these values is read as an operand and each result is written (a window's values",
    "once for every window). In registers: the sum or maximum of one window or step, one number that scales, and the scale of an attention product before",
    "its result is written. In memory: a sum over time, read and written at every step; constants of channels, read for every use; a delay line, written",
    "and read once for each value. Words are as wide as in the table above: spikes and what is pooled or summed of them an event, other values of the spiking",
    "network a state, an ANN's values an activation, sums over time a state on every side; memories as large as what they hold, or the network's where",
    "that is shared. A machine that fuses all of it pays the arithmetic alone. There are no such figures for neuromorphic chips.",
)
SIDES = ("snn", "dense", "sparse", "once")
WordKind = Literal["event", "activation", "state", "weight"]
_NOTHING = (g.Input, g.Tokens, g.Flatten, g.Neuron, g.Recurrent)
_PRODUCTS = (g.Conv1d, g.Conv2d, g.Linear)
_MADE_OF_SPIKES = (g.Add, g.MaxPool2d, g.AvgPool2d, g.SumPool2d, g.MeanOverTokens, g.Tokens, g.Flatten, g.Delay, g.Scale)  # if their inputs are


@dataclass(frozen=True)
class Words:
    """Words of one kind that a node reads or writes. kind: whose bits a profile tells; held: how many lie in their memory."""

    what: str
    kind: WordKind
    words: float
    held: float


@dataclass(frozen=True)
class Elementwise:
    """Work of one node, mean per recording. understood: whether there is a rule for it; elements: of its output otherwise."""

    name: str
    kind: str
    adds: float = 0.0
    comparisons: float = 0.0
    multiplies: float = 0.0
    understood: bool = True
    elements: float = 0.0
    moved: tuple[Words, ...] = ()

    def arithmetic(self, profile: Profile) -> float:
        """pJ."""
        return (self.adds + self.comparisons) * profile.add + self.multiplies * profile.mul

    def traffic(self, profile: Profile, shared: float = 0.0) -> list[Traffic]:
        """Its reads and writes, as those of a layer. shared: bytes of the memory that all share; 0: each has its own, events the least."""
        found = []
        for w in self.moved:
            bits = getattr(profile, f"{w.kind}_bits")
            found.append(Traffic(self.name, w.what, w.words, bits, shared or (0.0 if w.kind == "event" else w.held * bits / 8)))
        return found

    def memory(self, profile: Profile, shared: float = 0.0) -> float:
        """pJ."""
        return sum(t.energy for t in self.traffic(profile, shared))


def elementwise_work(graph: Graph, x: Tensor, lengths: Tensor | None = None) -> dict[str, list[Elementwise]]:
    """The nodes with such work, by side: "snn", and its ANN "dense", "sparse" (run in every step) and "once".

    A network with recurrent layers has only "snn": there is no such ANN.

    Args:
        x: recordings [T, B, ...]; lengths: steps of each [B], None: all.
    """
    graph = fold_norms(graph)
    steps = recording_steps(x, lengths)
    most, recurrent = max(steps), any(isinstance(n, g.Recurrent) for n in graph)
    sides = SIDES[:1] if recurrent else SIDES
    totals: dict[str, dict[str, Counter[str]]] = {side: {} for side in sides}
    with torch.no_grad():
        for b, n in enumerate(steps):
            sample = x[:n, b : b + 1]
            found = {"snn": (graph.values(sample), False)}
            if not recurrent:
                ann, once = ann_values(graph, sample, None)[1], ann_values(graph, sample, most)[1]
                found |= {"dense": (ann, True), "sparse": (ann, False), "once": (once, False)}
            for side, (seen, dense) in found.items():
                for node in graph.nodes[1:]:
                    if (counted := _count(node, [seen[s] for s in node.inputs], seen[node.name], dense, side == "once")) is not None:
                        totals[side].setdefault(node.name, Counter()).update(counted)
    return {side: [_result(graph, name, t, len(steps), side == "snn") for name, t in nodes.items()] for side, nodes in totals.items()}


def _result(graph: Graph, name: str, total: Counter[str], samples: int, spiking: bool) -> Elementwise:
    node, mean = graph[name], {k: v / samples for k, v in total.items()}
    given: WordKind = "activation" if not spiking else "event" if all(_of_spikes(graph, s) for s in node.inputs) else "state"
    made: WordKind = "activation" if not spiking else "event" if _of_spikes(graph, name) else "state"
    inputs, outputs = float(sum(np.prod(graph.shapes[s]) for s in node.inputs)), float(np.prod(graph.shapes[name]))
    line = node.steps if isinstance(node, g.Delay) else 1
    scale, shift = _constants(node)
    moved = (
        Words("operands read", given, mean.pop("read", 0.0), inputs * line), Words("results written", made, mean.pop("written", 0.0), outputs * line),
        Words("sums over time read", "state", mean.pop("sums read", 0.0), outputs), Words("sums over time written", "state", mean.pop("sums written", 0.0), outputs),
        Words("scales read", "weight", mean.pop("scales", 0.0), scale), Words("shifts read", "state", mean.pop("shifts", 0.0), shift),
    )  # fmt: skip
    return Elementwise(name, node.kind, understood=not mean.get("elements"), moved=tuple(w for w in moved if w.words), **mean)


def _of_spikes(graph: Graph, name: str) -> bool:
    """Whether the spiking network's value at a node is sent as events: spikes, the recording, and what is pooled, summed or scaled of them alone."""
    node = graph[name]
    if isinstance(node, (g.Input, g.Neuron, g.Recurrent)):
        return True
    return isinstance(node, _MADE_OF_SPIKES) and all(_of_spikes(graph, s) for s in node.inputs)


def _constants(node: g.Node) -> tuple[int, int]:
    """How many scales and shifts a node holds; one number is kept in a register and counts as none."""
    if isinstance(node, g.Scale):
        return (n if (n := torch.as_tensor(node.scale).numel()) > 1 else 0), 0
    return (node.scale.numel(), node.shift.numel()) if isinstance(node, g.Affine) else (0, 0)


def _count(node: g.Node, xs: list[Tensor], y: Tensor, dense: bool, once: bool) -> dict[str, float] | None:
    """Operations and words by name; None: the node has no such work. once: of an ANN that sees means over time, where nothing is delayed."""
    if isinstance(node, (*_NOTHING, *_PRODUCTS)) or (once and isinstance(node, g.Delay)):
        return None
    x = xs[0]
    here = (torch.ones_like(x) if dense else (x != 0)).double()
    read, out = float(sum(v.numel() if dense else v.count_nonzero() for v in xs)), float(y.numel() if dense else y.count_nonzero())
    moved = {"read": read, "written": out}
    if isinstance(node, g.Delay):
        return {"read": out, "written": read}  # of the line: what came in is written, what leaves it is read
    if isinstance(node, g.Add):
        return moved | {"adds": float(y.numel() if dense else ((xs[0] != 0) & (xs[1] != 0)).sum())}
    if isinstance(node, g.MaxPool2d):
        met = _windows(here if (x >= 0).all() else torch.ones_like(here), node)
        return moved | {"comparisons": _between(met), "read": float(met.sum().round())}
    if isinstance(node, (g.AvgPool2d, g.SumPool2d)):
        met = _windows(here, node)
        return moved | {"adds": _between(met), "read": float(met.sum().round()), "multiplies": out if isinstance(node, g.AvgPool2d) else 0.0}
    if isinstance(node, g.MeanOverTokens):
        return moved | {"adds": _between(here.sum(2)), "multiplies": out}
    if isinstance(node, g.SumOverTime):
        return _over_time(here, read, out if isinstance(node, g.MeanOverTime) else 0.0)
    if isinstance(node, (g.Scale, g.AttentionProduct)):
        if not bool((torch.as_tensor(node.scale) != 1).any()):
            return {}
        return {"multiplies": out} if isinstance(node, g.AttentionProduct) else moved | {"multiplies": out, "scales": out if _constants(node)[0] else 0.0}
    if isinstance(node, g.Affine):
        return moved | {"adds": float(x.numel()), "multiplies": float(here.sum()), "scales": float(here.sum()), "shifts": float(x.numel())}
    return {"elements": float(y.numel())}


def _over_time(here: Tensor, read: float, scaled: float) -> dict[str, float]:
    """A sum that waits in memory from step to step; a mean is read once more, scaled and written. Of one step it is that step."""
    if len(here) == 1:
        return {}
    between = _between(here.sum(0))
    return {"adds": between, "multiplies": scaled, "read": read, "sums read": between + scaled, "sums written": read + scaled}


def _between(met: Tensor) -> float:
    """n - 1 for each group of n values, 0 for an empty one."""
    return float((met - 1).clamp_min(0).sum().round())


def _windows(here: Tensor, node: g.MaxPool2d | g.AvgPool2d | g.SumPool2d) -> Tensor:
    """How many of these lie in each window; padding is none."""
    return F.avg_pool2d(here.flatten(0, 1), node.kernel, node.stride, node.padding, divisor_override=1)


def parts(work: Iterable[Elementwise], profile: Profile, shared: float = 0.0) -> tuple[float, float]:
    """(arithmetic, memory) in µJ per recording. shared: as of `Elementwise.traffic`.

    Raises:
        ParameterError: a chip, which has no prices for single operations.
    """
    if not isinstance(profile, Profile):
        raise ParameterError(explain(f"Elementwise work: {profile.name} has no prices for single operations.", cure="Take a Profile, such as int8."))
    pairs = [(w.arithmetic(profile), w.memory(profile, shared)) for w in work]
    return sum(a for a, _ in pairs) * 1e-6, sum(m for _, m in pairs) * 1e-6


def energy(work: Iterable[Elementwise], profile: Profile, shared: float = 0.0) -> float:
    """µJ per recording, arithmetic and memory."""
    return sum(parts(work, profile, shared))


def statement(found: dict[str, tuple[float, float]], totals: dict[str, float], profile: str) -> str:
    """One line: elementwise work by side, and the ratios with it.

    found: `parts` by side. totals: µJ of the sides without it.
    """
    whole = {side: totals[side] + sum(found[side]) for side in found}
    ratios = ", ".join(f"SNN/{side} {whole['snn'] / whole[side]:.3f}" for side in found if side != "snn" and whole[side])
    said = ", ".join(f"{side} {a + m:.4g} (arithmetic {a:.4g}, memory {m:.4g})" for side, (a, m) in found.items())
    return f"Elementwise, {profile}: {said} µJ{'; with it ' + ratios if ratios else ''}."
