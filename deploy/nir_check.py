"""What a NIR file holds, whether it runs here, and what other readers are known to make of it, as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuro.deploy.nir_file import Net, Part, read
from neuro.deploy.nir_import import NIRNetwork, build
from neuro.deploy.nir_readers import remarks

STEPS, BATCH = 50, 4


def describe(source: str | Path | Any, dt: float | None = None, seed: int = 0) -> str:
    """Nodes, a run on random spikes (half of the inputs fire), and remarks on readers.

    Args:
        source: NIR file, or a `nir.NIRGraph`.
        dt: seconds of one step; None: what the file states, and 1e-4 where it states none and needs one, which is then said.

    Raises:
        FormatError: what `neuro.deploy.nir.load` raises.
    """
    net = read(source)
    stated, assumed = net.said.get("dt"), ""
    if dt is None and stated is None and any("tau" in key or key == "delay" for p in net.parts.values() for key in p.values):
        dt, assumed = 1e-4, ", assumed: the file states none"
    network = build(net, dt).eval()
    lines = [f"{source}" if isinstance(source, (str, Path)) else "graph", _heading(net, network, assumed), "", *_nodes(net), "", *_edges(net)]
    lines += ["", *(f"put right: {note}" for note in net.notes)]
    lines += _run(network, seed)
    lines += ["", "other readers:"]
    found = remarks(net, network.dt)
    lines += [f"  {reader} {'' if silent else '(with an error) '}{what}: {_few(names)}" for reader, silent, what, names in found]
    return "\n".join(lines + ([] if found else ["  nothing is known against them"]))


def _heading(net: Net, network: NIRNetwork, assumed: str) -> str:
    weights = sum(np.asarray(p.values[k]).size for p in net.parts.values() for k in ("weight", "bias") if p.values.get(k) is not None)
    by = f", written by {net.said['writer']}" if "writer" in net.said else ""
    readout = f", readout: {net.said['readout']}" if "readout" in net.said else ""
    step = "needs no time step" if network.dt is None else f"dt = {network.dt:.6g} s{assumed}"
    return f"{len(net.parts)} nodes, {len(net.edges)} edges, {weights} weights, {step}{by}{readout}"


def _nodes(net: Net) -> list[str]:
    rows = [("node", "kind", "values")] + [(p.name, p.kind, _values(p)) for p in net.parts.values() if p.kind != "Pass"]
    wide = [max(len(r[i]) for r in rows) for i in (0, 1)]
    return [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c}".rstrip() for a, b, c in rows]


def _values(part: Part) -> str:
    shown = [f"{k}={_shown(v)}" for k, v in part.values.items() if v is not None]
    return "  ".join(shown + [f"[{k}: {v}]" for k, v in part.said.items() if isinstance(v, (str, int, float))])


def _shown(value: Any) -> str:
    if isinstance(value, (str, bytes)):
        return value.decode() if isinstance(value, bytes) else value
    a = np.asarray(value)
    if a.size <= 3:
        return "x".join(f"{n:.6g}" for n in a.reshape(-1))
    same = (a == a.reshape(-1)[0]).all()
    return f"{a.reshape(-1)[0]:.6g} ({'x'.join(map(str, a.shape))})" if same else f"{a.min():.4g} .. {a.max():.4g} ({'x'.join(map(str, a.shape))})"


def _edges(net: Net) -> list[str]:
    return [f"{name} -> {', '.join(net.readers(name))}" for name in net.parts if net.readers(name)]


def _run(network: NIRNetwork, seed: int) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    batch = max(1, min(BATCH, (1 << 24) // (STEPS * math.prod(network.input_shape))))
    x = (torch.rand(STEPS, batch, *network.input_shape, generator=generator) < 0.5).float()
    with torch.no_grad():
        values = network.values(x)
    rows = []
    for name, y in values.items():
        binary = bool(((y == 0) | (y == 1)).all())
        rows.append(f"  {name}: {'rate ' + format(float(y.mean()), '.4f') if binary else f'{float(y.min()):.4g} .. {float(y.max()):.4g}'}")
    return [f"run here on random spikes, {STEPS} steps, {batch} samples:", *rows]


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
