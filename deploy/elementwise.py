"""What lies between layers: residual sums, pools, means, scaling, norms that no layer took in; counted for both networks by one rule.

The price of a spiking layer and of its ANN holds products, neurons or activations, and memory. This work is stated apart, so that
neither side gets it for nothing and the comparison of layers stays what it was. Memory is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from neuro import graph as g
from neuro.deploy.profiles import Profile
from neuro.deploy.work import ann_values
from neuro.graph import Graph, fold_norms

RULE = (
    "Elementwise work, not in the figures above: residual sums, pools, means, scaling, norms that no layer took in; by one rule on every side, without",
    "memory. n values are summed in n-1 additions or compared in n-1 comparisons (priced as additions), scaled in one multiplication. Dense: all values;",
    "spiking and sparse: those that are not zero (a maximum over negative values: all). A neuron's update and a ReLU are in the figures above.",
)
SIDES = ("snn", "dense", "sparse", "once")
_NOTHING = (g.Input, g.Tokens, g.Flatten, g.Delay, g.Neuron, g.Recurrent)
_PRODUCTS = (g.Conv1d, g.Conv2d, g.Linear)


@dataclass(frozen=True)
class Elementwise:
    """Operations of one node, mean per recording. understood: whether there is a rule for it; elements: of its output otherwise."""

    name: str
    kind: str
    adds: float = 0.0
    comparisons: float = 0.0
    multiplies: float = 0.0
    understood: bool = True
    elements: float = 0.0

    def energy(self, profile: Profile) -> float:
        """pJ."""
        return (self.adds + self.comparisons) * profile.add + self.multiplies * profile.mul


def elementwise_work(graph: Graph, x: Tensor, lengths: Tensor | None = None) -> dict[str, list[Elementwise]]:
    """The nodes with such work, by side: "snn", and its ANN "dense", "sparse" (run in every step) and "once".

    A network with recurrent layers has only "snn": there is no such ANN.

    Args:
        x: recordings [T, B, ...]; lengths: steps of each [B], None: all.
    """
    graph = fold_norms(graph)
    steps = [x.shape[0]] * x.shape[1] if lengths is None else torch.as_tensor(lengths).tolist()
    most, recurrent = max(steps), any(isinstance(n, g.Recurrent) for n in graph)
    sides = SIDES[:1] if recurrent else SIDES
    totals: dict[str, dict[str, Tensor]] = {side: {} for side in sides}
    with torch.no_grad():
        for b, n in enumerate(steps):
            sample = x[:n, b : b + 1]
            values = graph.values(sample)
            found = {"snn": (values, False)}
            if not recurrent:
                ann, once = ann_values(graph, sample, None)[1], ann_values(graph, sample, most)[1]
                found |= {"dense": (ann, True), "sparse": (ann, False), "once": (once, False)}
            for side, (seen, dense) in found.items():
                for node in graph.nodes[1:]:
                    if (counted := _count(node, [seen[s] for s in node.inputs], seen[node.name], dense)) is not None:
                        totals[side][node.name] = totals[side].get(node.name, 0) + torch.tensor(counted, dtype=torch.float64)
    return {side: [_result(graph[name], (t / len(steps)).tolist()) for name, t in nodes.items()] for side, nodes in totals.items()}


def _result(node: g.Node, counted: Sequence[float]) -> Elementwise:
    adds, comparisons, multiplies, unknown = counted
    return Elementwise(node.name, node.kind, adds, comparisons, multiplies, not unknown, unknown)


def _count(node: g.Node, xs: list[Tensor], y: Tensor, dense: bool) -> tuple[float, float, float, float] | None:
    """(additions, comparisons, multiplications, elements that are not understood); None: the node has no such work."""
    if isinstance(node, (*_NOTHING, *_PRODUCTS)):
        return None
    x = xs[0]
    here = (torch.ones_like(x) if dense else (x != 0)).double()
    out = float(y.numel() if dense else y.count_nonzero())
    if isinstance(node, g.Add):
        return float(y.numel() if dense else ((xs[0] != 0) & (xs[1] != 0)).sum()), 0.0, 0.0, 0.0
    if isinstance(node, g.MaxPool2d):
        met = _windows(here if (x >= 0).all() else torch.ones_like(here), node)
        return 0.0, _between(met), 0.0, 0.0
    if isinstance(node, (g.AvgPool2d, g.SumPool2d)):
        return _between(_windows(here, node)), 0.0, out if isinstance(node, g.AvgPool2d) else 0.0, 0.0
    if isinstance(node, g.MeanOverTokens):
        return _between(here.sum(2)), 0.0, out, 0.0
    if isinstance(node, g.SumOverTime):
        return _between(here.sum(0)), 0.0, out if isinstance(node, g.MeanOverTime) and len(x) > 1 else 0.0, 0.0  # of one step it is that step
    if isinstance(node, (g.Scale, g.AttentionProduct)):
        scaled = bool((torch.as_tensor(node.scale) != 1).any())
        return 0.0, 0.0, out if scaled else 0.0, 0.0
    if isinstance(node, (g.Affine, g.BatchNorm)):
        return float(x.numel()), 0.0, float(here.sum()), 0.0
    return 0.0, 0.0, 0.0, float(y.numel())


def _between(met: Tensor) -> float:
    """n - 1 for each group of n values, 0 for an empty one."""
    return float((met - 1).clamp_min(0).sum().round())


def _windows(here: Tensor, node: g.MaxPool2d | g.AvgPool2d | g.SumPool2d) -> Tensor:
    """How many of these lie in each window; padding is none."""
    return F.avg_pool2d(here.flatten(0, 1), node.kernel, node.stride, node.padding, divisor_override=1)


def energy(work: Sequence[Elementwise], profile: Profile) -> float:
    """µJ per recording."""
    return sum(w.energy(profile) for w in work) * 1e-6


def statement(work: dict[str, list[Elementwise]], profile: Profile, totals: dict[str, float]) -> str:
    """One line: elementwise work in a profile by side, in µJ, and the ratios with it.

    totals: µJ of the sides without it.
    """
    found = {side: energy(work[side], profile) for side in work if side in totals}
    whole = {side: totals[side] + e for side, e in found.items()}
    ratios = ", ".join(f"SNN/{side} {whole['snn'] / whole[side]:.3f}" for side in found if side != "snn" and whole[side])
    return f"Elementwise, {profile.name}: " + ", ".join(f"{side} {e:.4g}" for side, e in found.items()) + f" µJ{'; with it ' + ratios if ratios else ''}."
