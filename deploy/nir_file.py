"""NIR files and graphs as plain parts and edges, sub-graphs written out; files by our own walk (`nir_hdf5`), bounded in size.

The package `nir` (1.0.8) cannot read three of the eight graphs published with the NIR paper; this reader can, and says in
`Net.notes` what it had to put right. Nothing is built here: that is `neuro.deploy.nir_import`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuro.deploy.nir_hdf5 import tree
from neuro.errors import FormatError, explain

MOST_PARTS = 2_000
MOST_EDGES = 8_000
MOST_DEPTH = 8  # of sub-graphs in sub-graphs
LARGEST = 3.4e38

FIELDS: dict[str, tuple[str, ...]] = {  # what every kind of node must hold
    "Input": ("shape",), "Output": ("shape",), "Linear": ("weight",), "Affine": ("weight", "bias"), "Scale": ("scale",),
    "Threshold": ("threshold",), "Delay": ("delay",), "Flatten": ("start_dim", "end_dim"),
    "Conv1d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"), "AvgPool2d": ("kernel_size", "stride", "padding"),
    "I": ("r",), "IF": ("r", "v_threshold"), "LI": ("tau", "r", "v_leak"), "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "Identity": (), "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"), "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in"),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One node: its name, its kind in NIR, its arrays, and what its writer said about it."""

    name: str
    kind: str
    values: Mapping[str, Any]
    said: Mapping[str, Any] = field(default_factory=dict)

    def refuse(self, *facts: str, cure: str = "") -> FormatError:
        """An error that names this node."""
        return FormatError(explain(f"NIR node {self.name!r} ({self.kind}): {facts[0]}", *facts[1:], cure=cure))


@dataclass(frozen=True)
class Net:
    """Parts by name, edges between them, and the metadata of the graph. `notes` tells what was put right while reading."""

    parts: Mapping[str, Part]
    edges: tuple[tuple[str, str], ...]
    said: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def sources(self, name: str) -> list[str]:
        """The parts that this one reads, in the order of the edges."""
        return [a for a, b in self.edges if b == name]

    def readers(self, name: str) -> list[str]:
        """The parts that read this one."""
        return [b for a, b in self.edges if a == name]


def read(source: Any) -> Net:
    """A NIR file (path) or a `nir.NIRGraph` as a flat net.

    Raises:
        FormatError: not HDF5, damaged, links out of the file, more than `nir_hdf5.MOST_BYTES` of arrays, unknown kinds of node, missing
            fields, edges that name no node, edges given twice.
    """
    return flat(tree(Path(source), "node") if isinstance(source, (str, Path)) else _of_graph(source))


def flat(held: Mapping[str, Any]) -> Net:
    """The net of a nested dict as `nir.NIRGraph.to_dict` gives it; nodes of sub-graphs get the names `graph.node`."""
    notes: list[str] = []
    parts, edges, _, _ = _inlined("", held, notes, 0)
    if len(parts) > MOST_PARTS or len(edges) > MOST_EDGES:
        what = f"{len(parts)} nodes, {len(edges)} edges   limits {MOST_PARTS}, {MOST_EDGES}"
        raise FormatError(explain("NIR: the graph is too large.", what))
    named = Counter(p.name for p in parts)
    same = sorted(n for n, times in named.items() if times > 1)
    if same:
        raise FormatError(explain(f"NIR: two nodes are called {same[0]!r}.", "A node of a sub-graph is called graph.node.", cure="Rename one."))
    twice = sorted(e for e, times in Counter(edges).items() if times > 1)
    if twice:
        raise FormatError(explain("NIR: an edge is given twice.", f"{twice[0][0]!r} -> {twice[0][1]!r}", cure="Write it once."))
    return Net({p.name: p for p in parts}, tuple(edges), _plain(held.get("metadata", {})), tuple(notes))


def _inlined(prefix: str, held: Mapping[str, Any], notes: list[str], depth: int) -> tuple[list[Part], list[tuple[str, str]], str, str]:
    """Parts and edges of one graph, its sub-graphs in their place, and the names of its Input and Output."""
    where = f"the sub-graph {prefix[:-1]!r}" if prefix else "the graph"
    if depth > MOST_DEPTH:
        raise FormatError(explain("NIR: sub-graphs are nested too deeply.", f"limit {MOST_DEPTH}"))
    if not isinstance(held.get("nodes"), Mapping) or not held["nodes"] or "edges" not in held:
        raise FormatError(explain(f"NIR: {where} has no nodes or no edges.", cure="The file is damaged, or not NIR."))
    parts: list[Part] = []
    inner: list[tuple[str, str]] = []
    ins: dict[str, str] = {}
    outs: dict[str, str] = {}
    for name, node in held["nodes"].items():
        kind = _kind(prefix + name, node)
        if kind == "NIRGraph":
            more, edges, ins[name], outs[name] = _inlined(f"{prefix}{name}.", node, notes, depth + 1)
            parts += more
            inner += edges
        else:
            parts.append(_part(prefix + name, kind, node))
            ins[name] = outs[name] = prefix + name
    edges = _mended(_edges(held["edges"], where), list(held["nodes"]), where, notes)
    for a, b in edges:
        for name in (a, b):
            if name not in ins:
                known = ", ".join(sorted(ins)[:8])
                raise FormatError(explain(f"NIR: an edge of {where} names no node.", f"{a!r} -> {b!r}   nodes {known}", cure="Name a node of that graph."))
    joined = inner + [(outs[a], ins[b]) for a, b in edges]
    own = set(ins.values())
    ends = [[p.name for p in parts if p.kind == k and p.name in own] for k in ("Input", "Output")]
    if any(len(e) != 1 for e in ends):
        raise FormatError(explain(f"NIR: {where} needs one Input and one Output.", f"inputs {ends[0]}   outputs {ends[1]}"))
    if not prefix:
        return parts, joined, ends[0][0], ends[1][0]
    return _without_ends(parts, joined, ends[0][0], ends[1][0])


def _without_ends(parts: list[Part], edges: list[tuple[str, str]], first: str, last: str) -> tuple[list[Part], list[tuple[str, str]], str, str]:
    """A sub-graph whose Input and Output became pass-through nodes, Scale by one, that the importer leaves out."""
    kept = [replace(p, kind="Pass") if p.name in (first, last) else p for p in parts]
    return kept, edges, first, last


def _mended(edges: list[tuple[str, str]], names: list[str], where: str, notes: list[str]) -> list[tuple[str, str]]:
    """Edges with one wrong name put right, where one name is unknown and one node has no edge: it must be that one."""
    named = {n for e in edges for n in e}
    unknown = sorted(named - set(names))
    loose = [n for n in names if n not in named]
    if len(unknown) == 1 and len(loose) == 1:
        notes.append(f"{where}: its edges name {unknown[0]!r}, which is not there; taken for {loose[0]!r}, the only node without an edge.")
        return [tuple(loose[0] if n == unknown[0] else n for n in e) for e in edges]  # type: ignore[misc]
    return edges


def _kind(name: str, node: Any) -> str:
    kind = node.get("type") if isinstance(node, Mapping) else None
    kind = kind.item() if isinstance(kind, np.ndarray) and kind.ndim == 0 else kind
    if not isinstance(kind, (str, bytes)):
        what = "it is not a group" if not isinstance(node, Mapping) else f"its type is a {type(kind).__name__}"
        raise FormatError(explain(f"NIR node {name!r} does not say what it is.", what, cure="Every node holds a text 'type'."))
    return _text(kind)


def _part(name: str, kind: str, node: Mapping[str, Any]) -> Part:
    if kind not in FIELDS:
        raise FormatError(explain(f"NIR node {name!r} is a {kind!r}, which is not known.", f"known: {', '.join(FIELDS)}"))
    values = {k: v for k, v in node.items() if k not in ("type", "metadata")}
    missing = [f for f in FIELDS[kind] if values.get(f) is None]
    if kind in ("CubaLI", "CubaLIF") and missing == ["w_in"]:
        values["w_in"], missing = np.ones(()), []
    part = Part(name, kind, values, _plain(node.get("metadata", {})))
    if missing:
        raise part.refuse(f"{', '.join(missing)} missing.", cure="The file is damaged or not NIR.")
    for key, value in values.items():
        if value is not None and not (key == "padding" and isinstance(value, (str, bytes))):
            _numbers(part, key, value)
    return part


def _numbers(part: Part, key: str, value: Any) -> None:
    """Refuse what is not one or more finite numbers of float32's range."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unlike length
        array = np.array(None)
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise part.refuse(f"{key} holds what is not a finite number.", f"{array.dtype} {array.shape}")
    if not array.size and key in FIELDS[part.kind]:
        raise part.refuse(f"{key} is empty.", f"shape {array.shape}")
    if array.size and max(abs(float(array.max())), abs(float(array.min()))) > LARGEST:
        raise part.refuse(f"{key} holds numbers beyond float32.", f"{array.min():.4g} .. {array.max():.4g}")


def _edges(value: Any, where: str) -> list[tuple[str, str]]:
    rows = value.tolist() if isinstance(value, np.ndarray) else value
    pairs = isinstance(rows, (list, tuple, set)) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in rows)
    if not pairs or not all(isinstance(n, (str, bytes)) for pair in rows for n in pair):
        raise FormatError(explain(f"NIR: the edges of {where} are not pairs of names.", f"{str(rows)[:60]}"))
    return [(_text(a), _text(b)) for a, b in rows]


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def _plain(said: Any) -> dict[str, Any]:
    """Metadata with texts and numbers of Python."""
    if not isinstance(said, Mapping):
        return {}
    return {
        str(k): _plain(v) if isinstance(v, Mapping) else _text(v) if isinstance(v, (str, bytes)) else v.item() if getattr(v, "ndim", 1) == 0 else v
        for k, v in said.items()
    }


def _of_graph(graph: Any) -> Mapping[str, Any]:
    if isinstance(graph, Mapping):
        return graph
    if not hasattr(graph, "to_dict") or not hasattr(graph, "nodes"):
        raise FormatError(explain("NIR: this is neither a file nor a nir.NIRGraph.", f"got a {type(graph).__name__}", cure="Give a path or a graph."))
    tree = dict(graph.to_dict())
    tree["metadata"] = graph.metadata if isinstance(graph.metadata, Mapping) else {}
    return tree


def without(net: Net, gone: Iterable[str]) -> Net:
    """The net without pass-through parts: their sources go straight to their readers.

    Raises:
        FormatError: a loop of nothing but these; more edges than `MOST_EDGES`, as every way through a chain of them is one.
    """
    gone = list(gone)
    edges = list(net.edges)
    for name in gone:
        sources, readers = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        if name in sources:
            raise net.parts[name].refuse("a loop leads through it and nothing else.", "Without a neuron nothing delays it.", cure="Take the edge out.")
        if len(edges) + len(sources) * len(readers) > MOST_EDGES:
            raise net.parts[name].refuse("the ways through it are too many: the graph is too large.", f"{len(sources)} in, {len(readers)} out   limit {MOST_EDGES} edges")
        edges = [e for e in edges if name not in e] + [(a, b) for a in sources for b in readers]
    return replace(net, parts={k: p for k, p in net.parts.items() if k not in set(gone)}, edges=tuple(edges))
