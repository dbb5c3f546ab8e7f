"""Max pooling of spikes in NIR, which has no node for it: the sum of each window and a neuron without memory, and back again.

Of spikes, 0 or 1, the largest in a window is 1 where their sum is 1 or more: `max = (sum > 1/2)`. NIR's `Threshold` says just that,
but no other reader that we know runs it. A LIF does the same: with `0 < threshold < gain` every sum of 1 or more fires and is reset
to zero, and a sum of 0 leaves zero, so nothing is ever carried over. Of real numbers neither is the largest, so those are refused.

The sum is a SumPool2d, or, of a pool that pads, a convolution with ones: three readers do not pad a SumPool2d, all pad a convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neuro import graph as g
from neuro.deploy.mapping_rewrites import binary
from neuro.deploy.nir_file import FIELDS, Net, Part
from neuro.deploy.nir_kernels import compact
from neuro.deploy.nir_shapes import padding, whole

FORMS = ("LIF", "Threshold")
MARK = "neuro_max_pool"  # of the neuron, in its metadata


def must_be_spikes(graph: g.Graph, node: g.MaxPool2d) -> None:
    """Refuse a pool of what may be other than 0 and 1.

    Raises:
        GraphError: the pool reads the network's input, currents, a sum, or spikes of several levels.
    """
    name = node.inputs[0]
    while isinstance(graph[name], (g.Delay, g.Flatten, g.Tokens, g.MaxPool2d)):
        name = graph[name].inputs[0]
    if not binary(graph, name):
        source = graph[name]
        why = f"It reads {source.name!r}, a {source.kind}, whose values need not be 0 and 1; of those NIR can say no maximum."
        cure = "Put the pool behind a neuron (convolution, norm, neuron, pool), or take AvgPool2d or a convolution of stride 2."
        raise node.refuse("NIR has no node for it.", why, cure=cure)


def window_sum(node: g.MaxPool2d, channels: int) -> g.SumPool2d | g.Conv2d:
    """The node that sums each window: `<name>.sum`."""
    name, (height, width) = f"{node.name}.sum", node.kernel
    if any(node.padding) and (height - width) % 2 == 0:  # others cannot be centred in a square kernel
        return g.Conv2d(name, node.inputs, torch.ones(channels, 1, height, width), None, node.stride, node.padding, (1, 1), channels)
    return g.SumPool2d(name, node.inputs, node.kernel, node.stride, node.padding)


def any_spike(nir: Any, shape: tuple[int, ...], dt: float, form: str) -> Any:
    """The NIR node behind the sum of each window: 1 where any input fired. `form` is one of `FORMS`.

    The LIF forgets half of its membrane in a step and takes half of its input, `r` 1: the numbers that most readers take as they stand.
    """
    one = np.ones(shape)
    if form == "Threshold":
        return nir.Threshold(0.5 * one)
    return nir.LIF(tau=2 * dt * one, r=one, v_leak=0 * one, v_threshold=0.25 * one, v_reset=0 * one)


def pools_restored(net: Net, dt: float | None) -> Net:
    """The net with max pools where our exporter wrote sums and neurons for them, and where that is still what they compute."""
    for name, part in list(net.parts.items()):
        if MARK not in part.said or not _fires_at_any(part, dt):
            continue
        pool = net.parts[net.sources(name)[0]]
        windows = _windows(pool)
        if windows is None or net.sources(name) != [pool.name] or net.readers(pool.name) != [name] or not _spikes(net, net.sources(pool.name)):
            continue
        parts = {k: p for k, p in net.parts.items() if k != pool.name}
        parts[name] = Part(name, "MaxPool2d", windows)
        edges = tuple((a, name if b == pool.name else b) for a, b in net.edges if a != pool.name)
        net = replace(net, parts=parts, edges=edges)
    return net


def _windows(part: Part) -> Mapping[str, Any] | None:
    """Kernel, stride and padding of a part that sums windows channel by channel; None of any other."""
    if part.kind == "SumPool2d":
        return {k: part.values[k] for k in ("kernel_size", "stride", "padding")}
    if part.kind != "Conv2d" or np.ndim(part.values["weight"]) != 4:
        return None
    part = compact(part, 2)
    weight, bias = np.asarray(part.values["weight"]), np.asarray(part.values["bias"])
    kernel, dilation = list(weight.shape[2:]), whole(part, "dilation", 2)
    if weight.shape[1] != 1 or whole(part, "groups", 1) != [len(weight)] or (weight != 1).any() or bias.any() or dilation != [1, 1]:
        return None
    pad = padding(part, kernel, dilation)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):  # a window might hold nothing but padding, whose largest is none
        return None
    return {"kernel_size": np.array(kernel), "stride": np.array(whole(part, "stride", 2)), "padding": np.array(pad)}


def _fires_at_any(part: Part, dt: float | None) -> bool:
    """Whether this neuron fires at a sum of 1 or more, not at 0, and carries nothing over."""
    if part.kind not in ("LIF", "Threshold"):
        return False
    v = {k: np.asarray(a, dtype=np.float64) for k, a in part.values.items() if k in FIELDS[part.kind] or k == "v_reset"}
    if len({a.shape for a in v.values() if a.size != 1}) > 1:  # refused where shapes are looked at
        return False
    if part.kind == "Threshold":
        return bool(((v["threshold"] > 0) & (v["threshold"] < 1)).all())
    if dt is None or str(part.said.get("reset", "hard")) != "hard" or (v["tau"] < dt).any():
        return False
    rests = not v["v_leak"].any() and not np.any(v.get("v_reset", 0))
    return bool(rests and ((v["v_threshold"] > 0) & (v["v_threshold"] < v["r"] * dt / v["tau"])).all())


def _spikes(net: Net, sources: list[str]) -> bool:
    """Whether this is one value, of 0 and 1."""
    seen: set[str] = set()
    while len(sources) == 1 and sources[0] not in seen:
        part = net.parts[sources[0]]
        if part.kind in ("IF", "LIF", "CubaLIF", "Threshold"):
            return True
        if part.kind not in ("MaxPool2d", "Flatten", "Delay"):
            return False
        seen.add(part.name)
        sources = net.sources(part.name)
    return False
