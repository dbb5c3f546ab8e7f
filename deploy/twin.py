"""The integer twin: runs an integer network over whole test sets, equal to Lava in every integer.

Recordings are independent, so the batch is spread over threads; within one, each layer is run over all its steps before
the next (a feed-forward graph allows it), which is what Lava computes once its pipeline delays are taken out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

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
    IntegerNetwork,
    MaxPool,
    Node,
    RecurrentCell,
    StepReadout,
    SumPool,
    TokenSum,
)
from neuro.deploy.rules import WORD
from neuro.errors import GraphError, ParameterError, ShapeError, explain

Buffers = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class LayerCount:
    """What one layer did, for each recording, int64 [B]. Synapses fill the first three, neurons the others, and a neuron with feedback all.

    events: nonzero inputs.  graded: those above 1.  operations: weights (or scores) actually added; a tap that falls
    outside the map is not executed and not counted.  updates: neuron updates.  spikes: those given, a spike of level n counted n times.
    equal: cases in which v was exactly at the threshold and so did not fire.
    """

    kind: str
    graded_input: bool
    events: np.ndarray
    graded: np.ndarray
    operations: np.ndarray
    updates: np.ndarray
    spikes: np.ndarray
    equal: np.ndarray


@dataclass(frozen=True, eq=False)
class TwinResult:
    """What the twin computed.

    acc: int64 [B, classes].  logits: float64 [B, classes], acc * scale / length.  predictions: int64 [B].
    Of a network that answers at every step all three have T before them, and logits are acc * scale; behind the end of a recording
    acc and logits are 0 and predictions -1.
    counts: LayerCount by name of every synapse and LIF layer.  steps: int64 [B], the lengths used.
    spikes: uint8 [T, B, ...] by LIF layer, membranes: int32 [T, B, ...] after reset; both empty unless recorded.
    """

    acc: np.ndarray
    logits: np.ndarray
    predictions: np.ndarray
    steps: np.ndarray
    counts: dict[str, LayerCount]
    spikes: dict[str, np.ndarray] = field(default_factory=dict)
    membranes: dict[str, np.ndarray] = field(default_factory=dict)

    def total(self, quantity: str) -> int:
        """Sum of one field of LayerCount over layers and recordings."""
        return int(sum(getattr(c, quantity).sum() for c in self.counts.values()))


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[C, H, W] -> [H, W, C]; other shapes as they are."""
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def to_last(x: np.ndarray) -> np.ndarray:
    """[T, C, H, W] -> [T, H, W, C]."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def to_first(x: np.ndarray) -> np.ndarray:
    """[T, H, W, C] -> [T, C, H, W]."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


Operation = Callable[[list[np.ndarray], np.ndarray, np.ndarray], tuple[int, ...] | None]


def operation(network: IntegerNetwork, node: Node, keep: bool) -> Operation | None:
    """f(inputs, out, membranes) filling `out` for one recording, zeroed but for a LIF. None: the node only reshapes.

    Returns the counts of the kernel, if it has any. `keep`: a LIF also fills `membranes`.
    """
    from neuro.deploy import kernels

    if isinstance(node, Conv):
        outputs, _, kh, kw = node.weight.shape
        grouped = node.weight.reshape(node.groups, outputs // node.groups, -1, kh, kw)
        weight = np.ascontiguousarray(grouped.transpose(0, 2, 3, 4, 1).reshape(-1, kh, kw, outputs // node.groups), "i2")
        if node.groups == 1 and tuple(node.stride) == tuple(node.dilation) == (1, 1):
            mirrored = np.ascontiguousarray(weight[:, :, ::-1])
            return lambda xs, out, m: kernels.conv_by_rows(xs[0], mirrored, out, node.padding)
        return lambda xs, out, m: kernels.conv(xs[0], weight, out, node.stride, node.padding, node.dilation, node.groups)
    if isinstance(node, Dense):
        inputs = node.weight.shape[1]
        weight = np.ascontiguousarray(node.weight.T, "i2")
        return lambda xs, out, m: kernels.dense(xs[0].reshape(-1, inputs), weight, out.reshape(-1, weight.shape[1]))
    if isinstance(node, Attention):
        return lambda xs, out, m: kernels.attention(*xs, out, node.heads, node.weight)
    if isinstance(node, MaxPool):
        return lambda xs, out, m: kernels.pool(xs[0], out, node.kernel, node.stride, node.padding)
    if isinstance(node, LIF):
        shape = channels_last(network.shapes[node.name])
        bias = np.tile(node.bias(shape[-1]), int(np.prod(shape[:-1], dtype=int)))
        return lambda xs, out, m: kernels.lif(flat(xs[0]), flat(out), flat(m), bias, node.du, node.dv, node.vth, keep)
    if isinstance(node, Cell):
        return cell(node, channels_last(network.shapes[node.name]), keep)
    if isinstance(node, SumPool):
        return lambda xs, out, m: kernels.sum_pool(xs[0], out, node.kernel, node.stride, node.padding)
    if isinstance(node, Delay):
        return lambda xs, out, m: delay(xs[0], out, node.steps)
    if isinstance(node, (Add, TokenSum)):
        return add if isinstance(node, Add) else token_sum
    return None


def cell(node: Cell, shape: tuple[int, ...], keep: bool) -> Operation:
    """The operation of a Cell whose step has this shape, channels last."""
    from neuro.deploy import kernels

    constants = np.ascontiguousarray(np.tile(node.constants(shape[-1]), (1, int(np.prod(shape[:-1], dtype=int)))))
    weight = np.ascontiguousarray(node.weight.T if isinstance(node, RecurrentCell) else np.zeros((0, 0)), "i2")
    reset = {"zero": 0, "subtract": 1, "none": 2, "late": 3}[node.reset]  # as the kernel numbers them
    return lambda xs, out, m: kernels.cell(flat(xs[0]), flat(out), flat(m), constants, weight, reset, node.levels, keep)


def delay(x: np.ndarray, out: np.ndarray, steps: int) -> None:
    out[steps:] = x[: max(len(x) - steps, 0)]


def add(xs: list[np.ndarray], out: np.ndarray, membranes: np.ndarray) -> None:
    for x in xs:
        out += x


def token_sum(xs: list[np.ndarray], out: np.ndarray, membranes: np.ndarray) -> None:
    xs[0].sum(axis=1, dtype=np.int32, out=out)


class Runner:
    """One network prepared for `steps` time steps; `run` may be called from several threads, each with its buffers."""

    def __init__(self, network: IntegerNetwork, steps: int, membranes: bool) -> None:
        self.network, self.steps, self.keep = network, steps, membranes
        self.operations = {n.name: operation(network, n, membranes) for n in network.nodes[1:-1]}

    def buffers(self) -> tuple[Buffers, Buffers]:
        """Output and membrane buffers for one thread: memory is taken once, not once per recording."""
        net = self.network
        outs = {n.name: np.zeros((self.steps, *channels_last(net.shapes[n.name])), np.int32)
                for n in net.nodes[1:-1] if self.operations[n.name]}
        return outs, {n.name: np.zeros_like(outs[n.name]) for n in net.lifs} if self.keep else outs

    def run(self, recording: np.ndarray, buffers: tuple[Buffers, Buffers]) -> tuple[np.ndarray, Buffers, dict]:
        """One recording [T, ...] -> (acc [classes], or [T, classes] of a StepReadout, values by node, counts by node)."""
        net, (outs, membranes) = self.network, buffers
        T = len(recording)
        values = {net.input.name: np.array(to_last(recording), np.int32, order="C")}
        counts = {}
        for node in net.nodes[1:-1]:
            xs, work = [values[s] for s in node.inputs], self.operations[node.name]
            if work is None:
                x = to_first(xs[0]) if isinstance(node, Flatten) else xs[0]
                values[node.name] = np.ascontiguousarray(x).reshape(T, *net.shapes[node.name])
                continue
            out = outs[node.name][:T]
            if not isinstance(node, (LIF, Cell)):
                out.fill(0)
            found = work(xs, out, membranes.get(node.name, out)[:T])
            if found:
                counts[node.name] = found
            values[node.name] = out
        last = net.readout
        if isinstance(last, StepReadout):
            return values[last.input] + last.bias, values, counts
        return values[last.input].sum(0, dtype=np.int64) + T * last.bias, values, counts


def check_inputs(network: IntegerNetwork, inputs: np.ndarray, lengths: object) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as an array and lengths int64 [B]. Raises ShapeError."""
    x, node = np.asarray(inputs), network.input
    most = 2**node.message_bits - 1
    if x.shape[2:] != node.shape or x.dtype.kind not in "iub" or 0 in x.shape:
        raise ShapeError(explain(f"run: the input does not fit {network.name!r}.", f"inputs {list(x.shape)} {x.dtype}",
                                 f"expected [T, B, {', '.join(map(str, node.shape))}], integers"))
    if x.dtype.kind != "b" and (x.min() < 0 or x.max() > most):
        raise ShapeError(explain(f"run: inputs reach {x.min()}..{x.max()}; {network.name!r} takes 0..{most}.",
                                 cure="Clip the event counts, or build the network with more message_bits."))
    steps = np.full(x.shape[1], x.shape[0]) if lengths is None else np.asarray(lengths)
    if steps.shape != (x.shape[1],) or steps.dtype.kind not in "iu" or steps.min() < 1 or steps.max() > x.shape[0]:
        raise ShapeError(explain("run: lengths do not fit.", f"lengths {list(steps.shape)}   inputs {list(x.shape)}",
                                 cure="One integer in 1..T per recording."))
    last = network.readout
    worst = max(-network.ranges[last.name][0], network.ranges[last.name][1]) * (1 if isinstance(last, StepReadout) else x.shape[0])
    if worst >= WORD:
        raise GraphError(explain(f"Readout {last.name!r} can reach {worst} in {x.shape[0]} steps, limit 2^31.",
                                 cure="Use fewer steps, or smaller head weights."))
    return x, steps.astype(np.int64)


def run_twin(network: IntegerNetwork, inputs: np.ndarray, lengths: np.ndarray | None = None, record: bool = False,
             threads: int | None = None) -> TwinResult:
    """Run recordings through the network.

    Args:
        inputs: integers [T, B, ...], values 0 .. 2**message_bits - 1.
        lengths: steps of each recording, [B]; later steps are not run. None: all T.
        record: keep every spike and membrane.
        threads: at least 1; None: one per CPU.

    Raises:
        GraphError: the network breaks a rule of the chip.   ShapeError: inputs or lengths do not fit.   ParameterError: no threads.
    """
    if threads is not None and threads < 1:
        raise ParameterError(explain(f"run_twin: threads={threads} is not a number of threads.", cure="Give at least 1, or None for one per CPU."))
    network.check()
    x, steps = check_inputs(network, inputs, lengths)
    T, B = x.shape[:2]
    runner = Runner(network, T, record)
    each = isinstance(network.readout, StepReadout)
    acc = np.zeros((T if each else 1, B, *network.shapes[network.readout.name]), np.int64)
    counts = {n.name: np.zeros((6, B), np.int64) for n in network.nodes if n.synapse or isinstance(n, (LIF, Cell))}
    spikes = {n.name: np.zeros((T, B, *network.shapes[n.name]), np.uint8) for n in network.lifs if record}
    membranes = {name: np.zeros(s.shape, np.int32) for name, s in spikes.items()}
    sizes = {n.name: int(np.prod(network.shapes[n.name])) for n in network.lifs}

    def work(part: range) -> None:
        buffers = runner.buffers()
        for b in part:
            L = int(steps[b])
            acc[: L if each else 1, b], values, found = runner.run(x[:L, b], buffers)
            for name, numbers in found.items():
                work = numbers[:3] if len(numbers) == 5 or name not in sizes else (0, 0, 0)
                counts[name][:, b] = (*work, L * sizes[name], *numbers[-2:]) if name in sizes else (*work, 0, 0, 0)
            for name, kept in spikes.items():
                kept[:L, b] = to_first(values[name])
                membranes[name][:L, b] = to_first(buffers[1][name][:L])

    workers = max(1, min(os.cpu_count() or 1 if threads is None else threads, B))
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, range(w, B, workers)) for w in range(workers)]:
            done.result()
    layers = {n: LayerCount(type(network[n]).__name__, not all(network.binary(s) for s in network[n].inputs), *c)
              for n, c in counts.items()}
    predictions = np.where(np.arange(len(acc))[:, None] < steps, acc.argmax(2), -1)
    if not each:
        acc, predictions = acc[0], predictions[0]
    return TwinResult(acc, network.readout.scores(acc, steps), predictions, steps, layers, spikes, membranes)
