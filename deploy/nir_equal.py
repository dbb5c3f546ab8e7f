"""Whether an exported graph runs as the network did: it is read again and run on the example, before anything is written."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from neuro import graph as g
from neuro.deploy.nir_file import read
from neuro.deploy.nir_import import build
from neuro.errors import explain


def check(exported: Any, graph: g.Graph, folded: g.Graph, example: Tensor) -> None:
    """Refuse an export that does not run as the graph does: spikes of every neuron equal, other values to rounding."""
    network = build(read(exported)).eval()
    with torch.no_grad():
        got = network.values(example)
    want = folded.values(example)
    for node in folded:
        name = f"{node.name}.lif" if isinstance(node, g.Recurrent) else node.name
        name = network.stages[-1].name if node is folded.output else name
        if not isinstance(node, (g.Neuron, g.Recurrent)) and node is not folded.output:
            continue
        a, b = want[node.name], got[name]
        if a.shape != b.shape or not (torch.equal(a, b) or not _binary(a) and torch.allclose(a, b, rtol=1e-5, atol=1e-6)):
            off = f"{int((a != b).sum())} of {a.numel()} values differ" if a.shape == b.shape else f"{list(a.shape)} and {list(b.shape)}"
            raise node.refuse("read back from NIR it does not run as it did.", off, cure="Nothing was written. This network cannot be exported exactly.")
    silent = [n.name for n in folded if isinstance(n, (g.Neuron, g.Recurrent)) and not want[n.name].any()]
    if silent:
        cure = "Give an example on which every layer fires: real recordings, or more input."
        warnings.warn(explain(f"NIR: no neuron of {', '.join(map(repr, silent))} fires on the example, so its export is not checked.", cure=cure), stacklevel=3)
    if folded is not graph:
        _tell_of_folding(graph, want, example)


def _tell_of_folding(graph: g.Graph, want: dict[str, Tensor], example: Tensor) -> None:
    before = graph.values(example)
    off = {n.name: int((before[n.name] != want[n.name]).sum()) for n in graph if isinstance(n, (g.Neuron, g.Recurrent))}
    total = sum(off.values())
    if total:
        most = max(off, key=off.__getitem__)
        text = explain(
            f"NIR: folding the norms changed {total} spikes on the example.", f"most of them in {most!r}: {off[most]} of {before[most].numel()}",
            "Sums round differently; the exported network is the folded one.",
        )  # fmt: skip
        warnings.warn(text, stacklevel=3)


def _binary(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())
