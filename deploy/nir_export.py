"""From a traced graph to NIR, checked by running: the exported graph is read again, and every neuron must spike as before.

A hard-reset neuron is NIR's LIF, IF or CubaLIF. NIR's neurons have no soft reset, and every reader that we know would run
one as a hard reset without a word. So a soft reset is written out by default, as an integrator, a Threshold, and a Scale
from the spikes back into the integrator: `v <- b (v - s[t-1] theta) + g x`. A reader that cannot run that loop refuses it,
which is better than other spikes. `soft_reset="stated"` keeps the one node instead, with `reset: subtract` in its metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuro import graph as g
from neuro.deploy import nir_pooling
from neuro.deploy.nir_kernels import one_group, written_out
from neuro.deploy.nir_layers import Delays
from neuro.deploy.nir_neurons import WRITTEN, current_li_step, current_step, li_step, point_step
from neuro.errors import GraphError, ParameterError, explain
from neuro.neurons import cuba_step, lif_step
from neuro.reset import ToValue, name_of


class Numbers(NamedTuple):
    """A neuron layer in numbers, each of the layer's shape, in float64."""

    current_decay: np.ndarray | None
    current_gain: np.ndarray
    decay: np.ndarray
    gain: np.ndarray
    shift: np.ndarray
    threshold: np.ndarray | None  # None: an integrator
    v_reset: np.ndarray
    reset: str  # a value of WRITTEN
    fires: str


class Writer:
    """Collects NIR nodes and edges. `entry` and `exit` say which NIR node a graph node's input and output are."""

    def __init__(self, graph: g.Graph, dt: float, soft_reset: str, expand_kernels: bool, max_pool: str):
        import nir

        self.nir, self.graph, self.dt, self.soft_reset, self.expand_kernels = nir, graph, dt, soft_reset, expand_kernels
        self.max_pool = max_pool
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.exits: dict[str, tuple[str, ...]] = {}
        self.said: dict[str, Any] = {"writer": "neuro", "dt": dt}

    def add(self, name: str, node: Any, **said: Any) -> str:
        if name in self.nodes:
            raise GraphError(explain(f"NIR: the name {name!r} is needed twice.", cure="Rename the module of that name."))
        node.metadata.update(said)
        self.nodes[name] = node
        return name

    def feed(self, node: g.Node, entry: str) -> None:
        """Edges from what a graph node reads; a sum is the meeting of its edges."""
        for source in [s for i in node.inputs for s in self.exits[i]]:
            if (source, entry) in self.edges:
                raise node.refuse("it reads one value twice, which NIR's edges cannot say.", f"{source!r}", cure="Put a Scale or a Linear between.")
            self.edges.append((source, entry))

    def chain(self, node: g.Node, names: list[str]) -> None:
        """Feed the first, join the row, leave by the last."""
        self.feed(node, names[0])
        self.edges += zip(names, names[1:], strict=False)
        self.exits[node.name] = (names[-1],)


def write_graph(graph: g.Graph, dt: float, soft_reset: str = "written out", expand_kernels: bool = True, max_pool: str = "LIF") -> Any:
    """The `nir.NIRGraph` of a graph without norms, not yet checked."""
    if not (np.isfinite(dt) and dt > 0):
        raise ParameterError(explain(f"NIR: dt={dt} is not a time step.", cure="Give the seconds of one step, such as dt=1e-3."))
    if soft_reset not in ("written out", "stated"):
        raise ParameterError(explain(f"NIR: soft_reset={soft_reset!r} is not known.", cure="'written out' and 'stated' are."))
    if max_pool not in nir_pooling.FORMS:
        raise ParameterError(explain(f"NIR: max_pool={max_pool!r} is not known.", cure=f"{' and '.join(map(repr, nir_pooling.FORMS))} are."))
    w = Writer(graph, dt, soft_reset, expand_kernels, max_pool)
    for node in graph:
        make = _WRITERS.get(type(node))
        if make is None:
            raise node.refuse("NIR has no node for it.", cure=_REMEDIES.get(type(node).__name__, "Take it out, or export the part before it."))
        make(w, node)
    last = w.exits[graph.output.name]
    shape = graph.shapes[graph.nodes[-2].name if not graph.output.timed else graph.output.name]
    out = "output"
    while out in w.nodes:
        out += "_"
    w.add(out, w.nir.Output(np.array(shape)))
    w.edges += [(name, out) for name in last]
    return w.nir.NIRGraph(nodes=w.nodes, edges=w.edges, metadata=w.said, type_check=False)


_REMEDIES = {
    "AttentionProduct": "NIR has no products of two values: export the network up to it.",
    "Tokens": "NIR's layers take vectors and maps: use a 1x1 convolution in place of a Linear on tokens.",
    "MeanOverTokens": "Average with AvgPool2d on the map, before it becomes tokens.",
    "BatchNorm": "Fold it with neuro.graph.fold_norms.",
}


def _input(w: Writer, node: g.Input) -> None:
    w.exits[node.name] = (w.add(node.name, w.nir.Input(np.array(node.shape))),)


def _linear(w: Writer, node: g.Linear) -> None:
    if len(w.graph.shapes[node.name]) != 1:
        shape = f"{list(w.graph.shapes[node.inputs[0]])} per step"
        raise node.refuse("NIR's Linear takes a vector.", shape, cure="Put Flatten before it, or use a 1x1 convolution.")
    weight = _np(node.weight)
    made = w.nir.Linear(weight) if node.bias is None else w.nir.Affine(weight, _np(node.bias))
    w.chain(node, [w.add(node.name, made)])


def _conv(w: Writer, node: g.Conv2d | g.Conv1d) -> None:
    weight, size, n = node.weight, w.graph.shapes[node.inputs[0]][1:], node.weight.dim() - 2
    bias = torch.zeros(len(weight)) if node.bias is None else node.bias
    said: dict[str, Any] = {"bias": "none"} if node.bias is None else {}
    pad, groups = node.padding, node.groups
    if w.expand_kernels and (groups > 1 or weight.shape[2] != weight.shape[-1]):
        said |= {"neuro_groups": groups, "neuro_kernel": np.array(weight.shape[2:])}
        weight, pad = written_out(node) if n == 2 else (one_group(node), pad)
        groups = 1
    stride, dilation = (node.stride, node.dilation) if n == 1 else (_ints(node.stride), _ints(node.dilation))
    cls = w.nir.Conv1d if n == 1 else w.nir.Conv2d
    made = cls(input_shape=int(size[0]) if n == 1 else _ints(size), weight=_np(weight), stride=stride, padding=pad if n == 1 else _ints(pad),
               dilation=dilation, groups=groups, bias=_np(bias))  # fmt: skip
    w.chain(node, [w.add(node.name, made, **said)])


def _affine(w: Writer, node: g.Affine) -> None:
    shape = w.graph.shapes[node.name]
    if len(shape) == 1:
        made = w.nir.Affine(np.diag(_np(node.scale)), _np(node.shift))
    elif len(shape) == 3 and node.axis % 5 == 2:
        one = _np(torch.diag(node.scale)[:, :, None, None])
        made = w.nir.Conv2d(input_shape=_ints(shape[1:]), weight=one, stride=_ints((1, 1)), padding=_ints((0, 0)), dilation=_ints((1, 1)), groups=1, bias=_np(node.shift))
    else:
        raise node.refuse("NIR has no node for it.", f"shape {list(shape)} per step", cure="Put the norm directly behind a convolution or a Linear.")
    w.chain(node, [w.add(node.name, made)])


def _pool(w: Writer, node: g.AvgPool2d | g.SumPool2d) -> None:
    if isinstance(node, g.AvgPool2d) and not node.count_include_pad and any(node.padding):
        raise node.refuse("NIR's average counts the padding.", cure="Set count_include_pad=True, or padding=0.")
    cls = w.nir.AvgPool2d if isinstance(node, g.AvgPool2d) else w.nir.SumPool2d
    w.chain(node, [w.add(node.name, cls(kernel_size=_ints(node.kernel), stride=_ints(node.stride), padding=_ints(node.padding)))])


def _max_pool(w: Writer, node: g.MaxPool2d) -> None:
    nir_pooling.must_be_spikes(w.graph, node)
    summed = nir_pooling.window_sum(node, w.graph.shapes[node.name][0])
    _conv(w, summed) if isinstance(summed, g.Conv2d) else _pool(w, summed)
    fires = nir_pooling.any_spike(w.nir, w.graph.shapes[node.name], w.dt, w.max_pool)
    w.edges.append((summed.name, w.add(node.name, fires, **{nir_pooling.MARK: 1})))
    w.exits[node.name] = (node.name,)


def _delay(w: Writer, node: g.Delay | Delays) -> None:
    w.chain(node, [w.add(node.name, w.nir.Delay(_full(node.steps, w.graph.shapes[node.name]) * w.dt))])


def _flatten(w: Writer, node: g.Flatten) -> None:
    shape = np.array(w.graph.shapes[node.inputs[0]])
    w.chain(node, [w.add(node.name, w.nir.Flatten(input_type={"input": shape}, start_dim=0, end_dim=-1))])


def _scale(w: Writer, node: g.Scale) -> None:
    w.chain(node, [w.add(node.name, w.nir.Scale(_full(node.scale, w.graph.shapes[node.name])))])


def _add(w: Writer, node: g.Add) -> None:
    w.exits[node.name] = tuple(s for i in node.inputs for s in w.exits[i])


def _readout(w: Writer, node: g.SumOverTime) -> None:
    if node is not w.graph.output:
        raise node.refuse("NIR has no sum over time.", cure="Keep it for the end, where it goes into the metadata.")
    w.said["readout"] = "mean over time" if isinstance(node, g.MeanOverTime) else "sum over time"
    w.exits[node.name] = w.exits[node.inputs[0]]


def _neuron(w: Writer, node: g.Neuron) -> None:
    names, _ = _body(w, node, node.name, w.graph.shapes[node.name])
    w.chain(node, names)


def _recurrent(w: Writer, node: g.Recurrent) -> None:
    names, _ = _body(w, node.neuron, f"{node.name}.lif", w.graph.shapes[node.name])
    weight = _np(node.weight)
    back = w.add(f"{node.name}.w_rec", w.nir.Linear(weight) if node.bias is None else w.nir.Affine(weight, _np(node.bias)))
    w.chain(node, names)
    w.edges += [(names[-1], back), (back, names[0])]


def _body(w: Writer, node: g.Neuron, name: str, shape: tuple[int, ...]) -> tuple[list[str], Numbers]:
    """The NIR nodes of one neuron layer, in a row; the last one, under `name`, gives its output."""
    n = numbers_of(node, shape)
    if n.threshold is None:
        return _integrators(w, node, name, n), n
    if n.reset == "none" and n.current_decay is None and not n.decay.any() and not n.shift.any() and (n.gain == 1).all():
        return [w.add(name, w.nir.Threshold(n.threshold), fires=n.fires)], n
    said = {"fires": n.fires, "reset": n.reset}
    soft = n.reset == "none" or (n.reset != "hard" and w.soft_reset == "written out")
    whole = not soft and (n.current_decay is None or ((n.current_decay < 1).all() and (n.decay < 1).all()))
    if whole:
        return [w.add(name, _one_node(w, node, n), **said)], n
    row = []
    if n.current_decay is not None:
        row.append(w.add(f"{name}.current", _integrator(w, node, n.current_decay, n.current_gain, 0 * n.shift)))
    if not soft:
        return [*row, w.add(name, _one_node(w, node, n._replace(current_decay=None)), **said)], n
    row.append(w.add(f"{name}.membrane", _integrator(w, node, n.decay, n.gain, n.shift)))
    row.append(w.add(name, w.nir.Threshold(n.threshold), fires=n.fires))
    if n.reset != "none":
        kept = n.decay if n.reset == "subtract" else 1.0
        back = w.add(f"{name}.reset", w.nir.Scale(-n.threshold * kept / n.gain))
        w.edges += [(name, back), (back, row[-2])]
    return row, n


def _one_node(w: Writer, node: g.Neuron, n: Numbers) -> Any:
    rest = {"v_threshold": n.threshold, "v_reset": n.v_reset}
    if n.current_decay is None and (n.decay == 1).all():
        if n.shift.any():
            raise node.refuse("NIR's IF has no constant current.", cure="Give it a leak, or move the current into the bias before it.")
        return w.nir.IF(r=n.gain, **rest)
    leak = _leak(w, node, n.decay, n.gain, n.shift)
    if n.current_decay is None:
        return w.nir.LIF(**leak, **rest)
    tau = w.dt / (1 - n.current_decay)
    return w.nir.CubaLIF(tau_syn=tau, tau_mem=leak.pop("tau"), w_in=n.current_gain / (1 - n.current_decay), **leak, **rest)


def _integrators(w: Writer, node: g.Neuron, name: str, n: Numbers) -> list[str]:
    """What does not fire: one I or LI, and a current before it as a CubaLI, or as an integrator of its own where one has no leak."""
    if n.current_decay is None:
        return [w.add(name, _integrator(w, node, n.decay, n.gain, n.shift))]
    if (n.current_decay == 1).any() or (n.decay == 1).any():
        current = w.add(f"{name}.current", _integrator(w, node, n.current_decay, n.current_gain, 0 * n.shift))
        return [current, w.add(name, _integrator(w, node, n.decay, n.gain, n.shift))]
    leak, tau = _leak(w, node, n.decay, n.gain, n.shift), w.dt / (1 - n.current_decay)
    return [w.add(name, w.nir.CubaLI(tau_syn=tau, tau_mem=leak.pop("tau"), w_in=n.current_gain / (1 - n.current_decay), **leak))]


def _integrator(w: Writer, node: g.Neuron, decay: np.ndarray, gain: np.ndarray, shift: np.ndarray) -> Any:
    if (decay == 1).all() and not shift.any():
        return w.nir.I(r=gain)
    return w.nir.LI(**_leak(w, node, decay, gain, shift))


def _leak(w: Writer, node: g.Neuron, decay: np.ndarray, gain: np.ndarray, shift: np.ndarray) -> dict[str, np.ndarray]:
    """tau, r and v_leak whose Euler step of dt is `decay * v + gain * x + shift`."""
    if (decay >= 1).any() or (decay < 0).any():
        raise node.refuse("a neuron of it does not leak, the others do.", f"decay {decay.min():.4g} .. {decay.max():.4g}", cure="NIR needs 0 <= decay < 1 in all, or 1 in all.")
    return {"tau": w.dt / (1 - decay), "r": gain / (1 - decay), "v_leak": shift / (1 - decay)}


def numbers_of(node: g.Neuron, shape: tuple[int, ...]) -> Numbers:
    """The numbers of a neuron that NIR can hold.

    Raises:
        GraphError: another neuron, or a rule of reset that NIR has no form for.
    """
    p = {k: _full(v, shape) for k, v in node.params._asdict().items()}
    zero, one = np.zeros(shape), np.ones(shape)
    if node.step is li_step:
        return Numbers(None, one, p["decay"], p["gain"], p["shift"], None, zero, "none", ">")
    if node.step is current_li_step:
        return Numbers(p["current_decay"], p["current_gain"], p["decay"], p["gain"], p["shift"], None, zero, "none", ">")
    if node.step not in (lif_step, cuba_step, point_step, current_step):
        cure = "LIF, IF, PLIF and CUBALIF are held; another neuron must be put in its place, or exported another way."
        raise node.refuse("NIR has no such neuron.", f"it is a {node.model}", cure=cure)
    reset, v_reset = node.choices["reset"], p.get("v_reset", zero)
    if isinstance(reset, ToValue):
        v_reset = v_reset + reset.value
    rule = "zero" if isinstance(reset, ToValue) and not reset.delayed else name_of(reset, p["decay"])
    if rule is None:
        cure = "Use neuro.reset.to_zero or neuro.reset.subtract, and train a little further."
        raise node.refuse("NIR has no form for its reset.", f"{reset}", cure=cure)
    if getattr(node.choices["spike"], "comparison", "?") not in (">", ">="):
        raise node.refuse("NIR's neurons fire 0 or 1.", f"spike {node.choices['spike']}", cure="Use a spike of neuro.surrogate.")
    return Numbers(p.get("current_decay"), p.get("current_gain", one), p["decay"], p["gain"], p.get("shift", zero), p["threshold"], v_reset, WRITTEN[rule], node.comparison)


def _full(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    a = value.detach().double().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=np.float64)
    return np.array(np.broadcast_to(a, shape))


def _np(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy().copy()


def _ints(value: Any) -> np.ndarray:
    return np.array([int(v) for v in value])


_WRITERS: dict[type[g.Node], Callable[[Writer, Any], None]] = {
    g.Input: _input, g.Linear: _linear, g.Conv1d: _conv, g.Conv2d: _conv, g.Affine: _affine, g.AvgPool2d: _pool, g.SumPool2d: _pool,
    g.Flatten: _flatten, g.Scale: _scale, g.Add: _add, g.SumOverTime: _readout, g.MeanOverTime: _readout, g.Neuron: _neuron,
    g.Recurrent: _recurrent, g.MaxPool2d: _max_pool, g.Delay: _delay, Delays: _delay,
}  # fmt: skip
