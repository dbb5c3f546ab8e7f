"""NIR files and graphs as plain parts and edges: read by our own HDF5 walk, bounded in size, sub-graphs written out.

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

from neuro.errors import FormatError, explain

MOST_BYTES = 1 << 30  # of all arrays of one file
MOST_PARTS = 2_000
MOST_DEPTH = 8  # of sub-graphs in sub-graphs

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
        FormatError: not HDF5, damaged, links out of the file, more than `MOST_BYTES` of arrays, unknown kinds of node, missing
            fields, edges that name no node, edges given twice.
    """
    tree = _of_file(Path(source)) if isinstance(source, (str, Path)) else _of_graph(source)
    return flat(tree)


def flat(tree: Mapping[str, Any]) -> Net:
    """The net of a nested dict as `nir.NIRGraph.to_dict` gives it; nodes of sub-graphs get the names `graph.node`."""
    notes: list[str] = []
    parts, edges, _, _ = _inlined("", tree, notes, 0)
    if len(parts) > MOST_PARTS or len(edges) > 4 * MOST_PARTS:
        what = f"{len(parts)} nodes, {len(edges)} edges   limits {MOST_PARTS}, {4 * MOST_PARTS}"
        raise FormatError(explain("NIR: the graph is too large.", what))
    twice = sorted(e for e, times in Counter(edges).items() if times > 1)
    if twice:
        raise FormatError(explain("NIR: an edge is given twice.", f"{twice[0][0]!r} -> {twice[0][1]!r}", cure="Write it once."))
    return Net({p.name: p for p in parts}, tuple(edges), _plain(tree.get("metadata", {})), tuple(notes))


def _inlined(prefix: str, tree: Mapping[str, Any], notes: list[str], depth: int) -> tuple[list[Part], list[tuple[str, str]], str, str]:
    """Parts and edges of one graph, its sub-graphs in their place, and the names of its Input and Output."""
    where = f"the sub-graph {prefix[:-1]!r}" if prefix else "the graph"
    if depth > MOST_DEPTH:
        raise FormatError(explain("NIR: sub-graphs are nested too deeply.", f"limit {MOST_DEPTH}"))
    if not isinstance(tree.get("nodes"), Mapping) or not tree["nodes"] or "edges" not in tree:
        raise FormatError(explain(f"NIR: {where} has no nodes or no edges.", cure="The file is damaged, or not NIR."))
    parts: list[Part] = []
    inner: list[tuple[str, str]] = []
    ins: dict[str, str] = {}
    outs: dict[str, str] = {}
    for name, node in tree["nodes"].items():
        kind = _text(node.get("type", "?")) if isinstance(node, Mapping) else "?"
        if kind == "NIRGraph":
            more, edges, ins[name], outs[name] = _inlined(f"{prefix}{name}.", node, notes, depth + 1)
            parts += more
            inner += edges
        else:
            parts.append(_part(prefix + name, kind, node))
            ins[name] = outs[name] = prefix + name
    edges = _edges(tree["edges"], where)
    edges = _mended(edges, list(tree["nodes"]), tree["nodes"], where, notes)
    for a, b in edges:
        for name in (a, b):
            if name not in ins:
                known = ", ".join(sorted(ins)[:8])
                raise FormatError(explain(f"NIR: an edge of {where} names no node.", f"{a!r} -> {b!r}   nodes {known}", cure="Name a node of that graph."))
    joined = inner + [(outs[a], ins[b]) for a, b in edges]
    ends = [[p.name for p in parts if p.kind == k and p.name in set(ins.values())] for k in ("Input", "Output")]
    if any(len(e) != 1 for e in ends):
        raise FormatError(explain(f"NIR: {where} needs one Input and one Output.", f"inputs {ends[0]}   outputs {ends[1]}"))
    if not prefix:
        return parts, joined, ends[0][0], ends[1][0]
    return _without_ends(parts, joined, ends[0][0], ends[1][0])


def _without_ends(parts: list[Part], edges: list[tuple[str, str]], first: str, last: str) -> tuple[list[Part], list[tuple[str, str]], str, str]:
    """A sub-graph whose Input and Output became pass-through nodes, Scale by one, that the importer leaves out."""
    kept = [replace(p, kind="Pass") if p.name in (first, last) else p for p in parts]
    return kept, edges, first, last


def _mended(edges: list[tuple[str, str]], names: list[str], nodes: Mapping[str, Any], where: str, notes: list[str]) -> list[tuple[str, str]]:
    """Edges with one wrong name put right, where one name is unknown and one node has no edge: it must be that one."""
    named = {n for e in edges for n in e}
    unknown = sorted(named - set(names))
    loose = [n for n in names if n not in named]
    if len(unknown) == 1 and len(loose) == 1:
        notes.append(f"{where}: its edges name {unknown[0]!r}, which is not there; taken for {loose[0]!r}, the only node without an edge.")
        return [tuple(loose[0] if n == unknown[0] else n for n in e) for e in edges]  # type: ignore[misc]
    return edges


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
        array = np.asarray(value) if value is not None and not isinstance(value, (str, bytes)) else np.zeros(0)
        if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
            raise part.refuse(f"{key} holds what is not a finite number.", f"{array.dtype} {array.shape}")
    return part


def _edges(value: Any, where: str) -> list[tuple[str, str]]:
    found = [tuple(_text(n) for n in pair) for pair in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if any(len(pair) != 2 for pair in found):
        raise FormatError(explain(f"NIR: the edges of {where} are not pairs of names."))
    return found  # type: ignore[return-value]


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


def _of_file(path: Path) -> Mapping[str, Any]:
    import h5py

    if not path.is_file():
        raise FormatError(explain(f"there is no NIR file {path}."))
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file:
                raise FormatError(explain(f"{path} is not a NIR file.", f"it holds {list(file)[:6]}, not 'node'"))
            return _walk(file["node"], str(path), _Budget(MOST_BYTES), 0)
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise FormatError(explain(f"{path} cannot be read as HDF5.", str(error).splitlines()[0] if str(error) else type(error).__name__)) from error


@dataclass
class _Budget:
    """Bytes that may still be read."""

    left: int

    def take(self, path: str, what: str, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise FormatError(explain(f"{path}: its arrays are too large.", f"{what} would take {size} bytes   limit {MOST_BYTES} in all"))


def _walk(group: Any, path: str, budget: _Budget, depth: int) -> dict[str, Any]:
    """A group as a dict of its data sets and groups; links and data outside the file are refused, sizes asked before reading."""
    import h5py

    if depth > 4 * MOST_DEPTH:
        raise FormatError(explain(f"{path}: its groups are nested without end."))
    found: dict[str, Any] = {}
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise FormatError(explain(f"{path}: {group.name}/{name} is a link.", cure="A NIR file holds its own data."))
        budget.take(path, name, 64)  # of a dict's entry, so that many empty groups end too
        item = group[name]
        if isinstance(item, h5py.Group):
            found[name] = _walk(item, path, budget, depth + 1)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise FormatError(explain(f"{path}: {item.name} lies outside the file.", cure="A NIR file holds its own data."))
            budget.take(path, item.name, item.size * max(item.dtype.itemsize, 1) if item.size is not None else 0)
            found[name] = item[()]
        else:
            raise FormatError(explain(f"{path}: {group.name}/{name} is neither a group nor an array."))
    return found


def without(net: Net, gone: Iterable[str]) -> Net:
    """The net without pass-through parts: their sources go straight to their readers."""
    edges = list(net.edges)
    for name in gone:
        sources, readers = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        edges = [e for e in edges if name not in e] + [(a, b) for a in sources for b in readers]
    return replace(net, parts={k: p for k, p in net.parts.items() if k not in set(gone)}, edges=tuple(edges))
