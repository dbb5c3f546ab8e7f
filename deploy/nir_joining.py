"""What our exporter wrote out in several NIR nodes, taken together again before the network is built. Pools: `nir_pooling`.

An integrator, a Threshold and a Scale back into the integrator are a neuron with soft reset, if the Scale takes off what that
reset would; an integrator whose only reader is a LIF is the current of a CubaLIF.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neuro.deploy.nir_file import Net, Part
from neuro.deploy.nir_neurons import neuron
from neuro.deploy.nir_pooling import pools_restored


def joined(net: Net, dt: float | None) -> Net:
    """The net with the expansions of `neuro.deploy.nir_export` taken together again."""
    for name in list(net.parts):
        net = _soft(net, name, dt) if name in net.parts and net.parts[name].kind == "Threshold" else net
    for name in list(net.parts):
        net = _current(net, name) if name in net.parts and net.parts[name].kind == "LIF" else net
    return pools_restored(net, dt)


def _soft(net: Net, name: str, dt: float | None) -> Net:
    """An integrator, this Threshold, and perhaps a Scale back: one LIF or IF under the Threshold's name."""
    sources = net.sources(name)
    body = net.parts[sources[0]]
    if len(sources) != 1 or body.kind not in ("I", "LI") or net.readers(body.name) != [name]:
        return net
    back = [n for n in net.readers(name) if net.parts[n].kind == "Scale" and net.sources(n) == [name] and net.readers(n) == [body.name]]
    if len(back) > 1 or not back and np.any(np.asarray(body.values.get("v_leak", 0))):
        return net
    threshold = np.asarray(net.parts[name].values["threshold"], dtype=np.float64)
    reset = _soft_rule(body, net.parts[back[0]], threshold, dt) if back else "none"
    if reset is None:  # another feedback: left as it stands, and refused as a loop that is not understood
        return net
    values = {**body.values, "v_threshold": threshold}
    said = {**net.parts[name].said, "reset": reset}
    parts = {k: p for k, p in net.parts.items() if k not in (body.name, *back)}
    parts[name] = Part(name, "IF" if body.kind == "I" else "LIF", values, said)
    edges = [(a, name if b == body.name else b) for a, b in net.edges if a not in (body.name, *back) and b not in back]
    return replace(net, parts=parts, edges=tuple(edges))


def _soft_rule(body: Part, back: Part, threshold: np.ndarray, dt: float | None) -> str | None:
    """Which soft reset the way back amounts to: taken from the membrane before the leak, or one step later from the next one."""
    made = neuron(body, dt)
    decay, gain = (p.double().numpy() for p in made.params()[:2])
    scale = np.asarray(back.values["scale"], dtype=np.float64)
    if len({a.shape for a in (scale, threshold, decay, gain) if a.size != 1}) > 1:  # refused where shapes are looked at
        return None
    got = scale * gain
    if np.allclose(got, -threshold * decay, rtol=1e-5, atol=0):
        return "subtract"
    return "subtract, delayed" if np.allclose(got, -threshold, rtol=1e-5, atol=0) else None


def _current(net: Net, name: str) -> Net:
    """An integrator whose only reader is this LIF, and its only input: one CubaLIF under the LIF's name."""
    sources = net.sources(name)
    if len(sources) != 1 or net.parts[sources[0]].kind != "LI" or net.readers(sources[0]) != [name]:
        return net
    body, lif = net.parts[sources[0]], net.parts[name]
    if np.any(np.asarray(body.values["v_leak"])):
        return net
    values = {**lif.values, "tau_mem": lif.values["tau"], "tau_syn": body.values["tau"], "w_in": body.values["r"]}
    del values["tau"]
    parts = {k: p for k, p in net.parts.items() if k != body.name}
    parts[name] = Part(name, "CubaLIF", values, lif.said)
    edges = [(a, name if b == body.name else b) for a, b in net.edges if a != body.name]
    return replace(net, parts=parts, edges=tuple(edges))
