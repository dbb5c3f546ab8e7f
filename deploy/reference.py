"""The definition of an integer network, in plain NumPy, one recording and one step at a time. Slow; tests compare with it.

Everything is int64 and in PyTorch's layout. `lif_step` is the only place that states the neuron's arithmetic in words
that are not a kernel; Lava 0.10.0 `lava/proc/lif/models.py` (fixed point) is its source.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from neuro.deploy.network import (
    LIF,
    Add,
    Attention,
    Cell,
    Conv,
    Delay,
    Dense,
    Flatten,
    Input,
    IntegerNetwork,
    MaxPool,
    Node,
    Readout,
    RecurrentCell,
    StepReadout,
    SumPool,
    Tokens,
    TokenSum,
)

TOP = 2**23     # registers u and v hold 24 bits


def decay(x: np.ndarray, k: int) -> np.ndarray:
    """q(x, k) = sign(x) * (|x| * (4096 - k) >> 12): rounds toward zero."""
    return np.sign(x) * ((np.abs(x) * (4096 - k)) >> 12)


def lif_step(u: np.ndarray, v: np.ndarray, a: np.ndarray, du: int, dv: int, vth: int | np.ndarray,
             bias: int | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One step of Lava's LIF on int64 arrays: (spikes, u, v after reset, v before reset). bias is mant << exp."""
    u = decay(u, du + 1) + (a << 6)
    wrapped = np.where(u > TOP, u - 2 * TOP, u)
    u = np.where(wrapped <= -TOP, u + 2 * TOP, wrapped)
    full = np.clip(decay(v, dv) + u + bias, -TOP + 1, TOP - 1)
    spikes = full > (np.asarray(vth) << 6)
    return spikes, u, np.where(spikes, 0, full), full


class CellState(NamedTuple):
    """Registers of a Cell, int64: current, membrane, adaptation, and the spikes of the last step."""

    u: np.ndarray
    v: np.ndarray
    h: np.ndarray
    s: np.ndarray


def cell_step(state: CellState, a: np.ndarray, node: Cell) -> tuple[CellState, np.ndarray, np.ndarray]:
    """One step of a Cell on int64 arrays [*N]: (state, v before the reset, theta). The state's s are the spikes."""
    channels = a.shape[0] if a.ndim == 3 else a.shape[-1]
    dv, vth, du, bias, dh, jump = (k.reshape(-1, 1, 1) if a.ndim == 3 else k for k in node.constants(channels))
    if isinstance(node, RecurrentCell):
        a = a + node.weight.astype(np.int64) @ state.s
    u = decay(state.u, du + 1) + (a << 6) + bias
    late = state.s * (vth << 6) if node.reset == "late" else 0
    v = np.clip(decay(state.v, dv) - late + u, -TOP + 1, TOP - 1)
    theta = (vth << 6) + state.h
    s = sum((v > k * theta).astype(np.int64) for k in range(1, node.levels + 1))
    after = {"zero": np.where(s > 0, 0, v), "subtract": v - s * theta}.get(node.reset, v)
    return CellState(u, after, np.minimum(decay(state.h, dh) + s * jump, TOP - 1), s), v, theta


def conv2d(x: np.ndarray, node: Conv, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """x [C, H, W] -> ([O, H', W'], operations): one operation per nonzero input and weight that meet inside the map."""
    (sy, sx), (py, px), (dy, dx) = node.stride, node.padding, node.dilation
    outputs, per_group, kh, kw = node.weight.shape
    padded = np.pad(x, ((0, 0), (py, py), (px, px)))
    out, operations, share = np.zeros(shape, np.int64), 0, outputs // node.groups
    for o, c, i, j in itertools.product(range(outputs), range(per_group), range(kh), range(kw)):
        window = padded[c + (o // share) * per_group, i * dy:, j * dx:][:(shape[1] - 1) * sy + 1:sy,
                                                                      :(shape[2] - 1) * sx + 1:sx]
        out[o] += int(node.weight[o, c, i, j]) * window
        operations += int(np.count_nonzero(window))
    return out, operations


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, node: Attention) -> tuple[np.ndarray, int]:
    """weight * (q k^T) v per head; an operation for each nonzero q that meets a nonzero k, and each nonzero score that meets a nonzero v."""
    d, out, operations = q.shape[1] // node.heads, np.zeros(q.shape, np.int64), 0
    for h in range(node.heads):
        part = slice(h * d, (h + 1) * d)
        score = q[:, part] @ k[:, part].T
        out[:, part] = node.weight * (score @ v[:, part])
        there = [(x != 0).astype(np.int64) for x in (q[:, part], k[:, part].T, score, v[:, part])]
        operations += int((there[0] @ there[1]).sum() + (there[2] @ there[3]).sum())
    return out, operations


class Trace(NamedTuple):
    """One recording: values and membranes by node name, [T, ...]; acc [classes], of a StepReadout [T, classes]; operations by synapse."""

    values: dict[str, np.ndarray]
    membranes: dict[str, np.ndarray]
    acc: np.ndarray
    operations: dict[str, int]
    equal: dict[str, int]


def maxpool(x: np.ndarray, node: MaxPool, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape, np.int64)
    padded = np.pad(x, ((0, 0), (node.padding[0],) * 2, (node.padding[1],) * 2), constant_values=-2**62)
    for y, z in itertools.product(range(shape[1]), range(shape[2])):
        top, left = y * node.stride[0], z * node.stride[1]
        out[:, y, z] = padded[:, top:top + node.kernel[0], left:left + node.kernel[1]].max((1, 2))
    return out


def sumpool(x: np.ndarray, node: SumPool, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape, np.int64)
    padded = np.pad(x, ((0, 0), (node.padding[0],) * 2, (node.padding[1],) * 2))
    for y, z in itertools.product(range(shape[1]), range(shape[2])):
        top, left = y * node.stride[0], z * node.stride[1]
        out[:, y, z] = padded[:, top:top + node.kernel[0], left:left + node.kernel[1]].sum((1, 2))
    return out


def stateless(node: Node, shape: tuple[int, ...], xs: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """Value of a node that keeps no state, and the operations of a synapse (0 elsewhere)."""
    match node:
        case Conv():
            return conv2d(xs[0], node, shape)
        case Dense():
            return xs[0] @ node.weight.T.astype(np.int64), int(np.count_nonzero(xs[0])) * node.weight.shape[0]
        case Attention():
            return attention(*xs, node)
        case MaxPool():
            return maxpool(xs[0], node, shape), 0
        case SumPool():
            return sumpool(xs[0], node, shape), 0
        case Add():
            return sum(xs[1:], xs[0]), 0
        case Tokens():
            return xs[0].reshape(len(xs[0]), -1).T, 0
        case Flatten():
            return xs[0].reshape(-1), 0
        case TokenSum():
            return xs[0].sum(0), 0
    raise TypeError(type(node))


def run_reference(network: IntegerNetwork, recording: np.ndarray) -> Trace:
    """Run one recording [T, ...] from zero state, logically aligned (no pipeline)."""
    u = {n.name: np.zeros(network.shapes[n.name], np.int64) for n in network.lifs}
    v = {name: x.copy() for name, x in u.items()}
    cells = {n.name: CellState(*[np.zeros(network.shapes[n.name], np.int64)] * 4) for n in network.lifs if isinstance(n, Cell)}
    acc, answers = np.zeros(network.shapes[network.readout.name], np.int64), []
    values: dict[str, list[np.ndarray]] = {n.name: [] for n in network.nodes[:-1]}
    membranes: dict[str, list[np.ndarray]] = {n.name: [] for n in network.lifs}
    operations = {n.name: 0 for n in network.nodes if n.synapse or isinstance(n, RecurrentCell)}
    equal = {n.name: 0 for n in network.lifs}
    for x in np.asarray(recording, np.int64):
        now: dict[str, np.ndarray] = {}
        for node in network.nodes:
            name, xs = node.name, [now[s] for s in node.inputs]
            if isinstance(node, Readout):
                acc = (0 if isinstance(node, StepReadout) else acc) + xs[0] + node.bias
                answers.append(acc)
                continue
            if isinstance(node, Input):
                now[name] = x
            elif isinstance(node, Delay):
                past = [xs[0], *values[node.input][::-1]]
                now[name] = past[node.steps] if node.steps < len(past) else 0 * xs[0]
            elif isinstance(node, Cell):
                if isinstance(node, RecurrentCell):
                    operations[name] += int(np.count_nonzero(cells[name].s)) * len(node.weight)
                cells[name], full, theta = cell_step(cells[name], xs[0], node)
                now[name] = cells[name].s
                equal[name] += int(((full == (cells[name].s + 1) * theta) & (cells[name].s < node.levels)).sum())
                membranes[name].append(cells[name].v)
            elif isinstance(node, LIF):
                bias = (node.bias_mant.astype(np.int64) << node.bias_exp)
                bias = bias.reshape(-1, 1, 1) if xs[0].ndim == 3 else bias
                s, u[name], v[name], full = lif_step(u[name], v[name], xs[0], node.du, node.dv, node.vth, bias)
                now[name] = s.astype(np.int64)
                equal[name] += int((full == node.vth << 6).sum())
                membranes[name].append(v[name])
            else:
                now[name], count = stateless(node, network.shapes[name], xs)
                if node.synapse:
                    operations[name] += count
        for name, value in now.items():
            values[name].append(value)
    return Trace({n: np.stack(x) for n, x in values.items()}, {n: np.stack(x) for n, x in membranes.items()},
                 np.stack(answers) if isinstance(network.readout, StepReadout) else acc, operations, equal)
