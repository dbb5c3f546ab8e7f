"""From a NIR net to a native module: layers and neurons of ours, run by `neuro.run`, traced, trained and counted like any other.

A loop holds one neuron, whose spikes come back one step later through one Linear or Affine: `neuro.neurons.Recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from neuro import layers
from neuro.deploy import nir_layers
from neuro.deploy.nir_file import Net, Part, without
from neuro.deploy.nir_joining import joined
from neuro.deploy.nir_neurons import neuron
from neuro.deploy.nir_shapes import Shape, padding, shape_of, whole
from neuro.errors import FormatError, ParameterError, explain
from neuro.neurons import Recurrent

NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Threshold")


MOST_LOOPED = 1 << 13  # neurons of a loop, whose matrix has the square of that


class Stage(NamedTuple):
    """One value of the network: the sum of its inputs, put through a layer (None: the sum itself)."""

    name: str
    inputs: tuple[str, ...]
    layer: str | None


class NIRNetwork(nn.Module):
    """A network read from NIR: [T, B, *input] -> [T, B, *output], or [B, *output] where the file states a readout over time.

    Attributes:
        stages: its values in order; `dt`: seconds of one step, None where nothing depends on it;
        notes: what was put right while reading; input_shape: per step.
    """

    def __init__(self, stages: list[Stage], modules: Mapping[str, nn.Module], input_shape: Shape, dt: float | None, notes: tuple[str, ...]):
        super().__init__()
        self.stages, self.input_shape, self.dt, self.notes = stages, input_shape, dt, notes
        self.layers = nn.ModuleDict(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.values(x)[self.stages[-1].name]

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """The output of every stage by the name of its NIR node."""
        found = {self.stages[0].name: x}
        for name, inputs, layer in self.stages[1:]:
            y = found[inputs[0]]
            for other in inputs[1:]:
                y = y + found[other]
            found[name] = y if layer is None else self.layers[layer](y)
        return found

    def extra_repr(self) -> str:
        return f"input {list(self.input_shape)}, dt={self.dt}"


def build(net: Net, dt: float | None = None) -> NIRNetwork:
    """The module of a net.

    Args:
        net: from `neuro.deploy.nir_file.read`.
        dt: seconds of one step; None: what the file states, an error if it needs one and states none.

    Raises:
        FormatError: a loop without a neuron, with two, or of another form; nodes that nothing reaches or reads; shapes that do
            not fit; time constants shorter than dt.
        ParameterError: a dt that is not positive, or not the one that the file states.
    """
    dt = _step(net, dt)
    net = without(net, [n for n, p in net.parts.items() if p.kind == "Pass"])
    _connected(net)
    net = _without_batch(net)
    net = joined(net, dt)
    stages: list[Stage] = []
    modules: dict[str, nn.Module] = {}
    shapes: dict[str, Shape] = {}
    for group in order(net):
        part = net.parts[_head(net, group)]
        inputs = [s for s in net.sources(part.name) if s not in group or len(group) == 1 and s != part.name]
        if not inputs and part.kind != "Input":
            raise part.refuse("nothing enters it but its own output.", cure="Give it an input.")
        shapes[part.name] = shape_of(part, [shapes[s] for s in inputs])
        module = _module(part, shapes[part.name], dt)
        if len(group) > 1 or part.name in net.sources(part.name):
            module = _loop(net, group, part, module, shapes[part.name])
        key = _key(part.name, modules)
        if module is not None:
            modules[key] = module
        stages.append(Stage(part.name, tuple(inputs), key if module is not None else None))
    stages, modules = _with_readout(net, stages, modules)
    return NIRNetwork(stages, modules, shapes[stages[0].name], dt, net.notes)


def _key(name: str, taken: Mapping[str, Any]) -> str:
    """A module name for a node name: without dots, and not yet taken."""
    key = name.replace(".", "_") or "_"
    while key in taken:
        key += "_"
    return key


def _step(net: Net, dt: float | None) -> float | None:
    stated = net.said.get("dt")
    if stated is not None and not (isinstance(stated, (int, float)) and np.isfinite(stated) and stated > 0):
        raise FormatError(explain("NIR: the time step that the file states is not a number.", f"dt {stated!r}"))
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ParameterError(explain(f"NIR: dt={dt} is not a time step.", cure="Give the seconds of one step."))
    return float(dt) if dt is not None else None if stated is None else float(stated)


def _connected(net: Net) -> None:
    for part in net.parts.values():
        if part.kind != "Input" and not net.sources(part.name):
            raise part.refuse("no edge enters it.", cure="Connect it or leave it out.")
        if part.kind != "Output" and not net.readers(part.name):
            raise part.refuse("no edge leaves it.", cure="Connect it or leave it out.")
        if part.kind == "Input" and net.sources(part.name) or part.kind == "Output" and net.readers(part.name):
            raise part.refuse("an edge runs the wrong way.", cure="Nothing enters an Input, nothing leaves an Output.")


def _without_batch(net: Net) -> Net:
    """An Input of [1, N] whose readers take a vector is one of [N]: Rockpool writes the batch into the shape."""
    (start,) = (p for p in net.parts.values() if p.kind == "Input")
    shape = whole(start, "shape")
    if len(shape) < 2 or set(shape[:-1]) != {1} or not all(net.parts[r].kind in ("Linear", "Affine") for r in net.readers(start.name)):
        return net
    note = f"the Input states {shape}; its readers take a vector of {shape[-1]}."
    part = replace(start, values={**start.values, "shape": np.array(shape[-1:])})
    return replace(net, parts={**net.parts, start.name: part}, notes=(*net.notes, note))


def order(net: Net) -> list[list[str]]:
    """Parts in groups, sources first; a group of several is a loop. Tarjan 1972, without recursion."""
    readers: dict[str, list[str]] = {n: [] for n in net.parts}
    for a, b in net.edges:
        readers[a].append(b)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on: set[str] = set()
    groups: list[list[str]] = []
    for root in net.parts:
        work = [] if root in index else [(root, iter(readers[root]))]
        if work:
            index[root] = low[root] = len(index)
            stack.append(root)
            on.add(root)
        while work:
            here, rest = work[-1]
            for to in rest:
                if to not in index:
                    index[to] = low[to] = len(index)
                    stack.append(to)
                    on.add(to)
                    work.append((to, iter(readers[to])))
                    break
                if to in on:
                    low[here] = min(low[here], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[here])
                if low[here] == index[here]:
                    cut = stack.index(here)
                    groups.append(stack[cut:])
                    on.difference_update(stack[cut:])
                    del stack[cut:]
    return groups[::-1]


def _head(net: Net, group: list[str]) -> str:
    """The neuron of a loop, or the only part of a group."""
    if len(group) == 1 and group[0] not in net.readers(group[0]):
        return group[0]
    found = [n for n in group if net.parts[n].kind in NEURONS and net.parts[n].kind != "Threshold"]
    if len(found) != 1:
        what = "has no neuron" if not found else f"runs through {len(found)} neurons"
        why = "Without a neuron nothing delays it." if not found else "NIR does not say which edge of it holds the step of delay."
        raise FormatError(explain(f"NIR: a loop {what}.", f"{' -> '.join(group[:8])}", why, cure="A loop of one neuron and one Linear or Affine is read."))
    return found[0]


def _loop(net: Net, group: list[str], part: Part, module: Any, shape: Shape) -> nn.Module:
    """The neuron of a loop with its way back."""
    back = [n for n in group if n != part.name]
    if part.kind in ("I", "LI"):
        raise part.refuse("it stands in a loop without spikes.", f"{' -> '.join(group[:8])}", cure="A loop holds a neuron that fires.")
    if len(shape) != 1:
        raise part.refuse("its loop is not over a vector.", f"shape {list(shape)}", cure="Flatten before it.")
    if shape[0] > MOST_LOOPED:
        raise part.refuse("its loop is too large.", f"{shape[0]} neurons   limit {MOST_LOOPED}")
    made = Recurrent(module, 1)  # its matrix is put in its place below
    if not back:  # its spikes enter it as they are
        made.weight = nn.Parameter(torch.eye(shape[0]))
        return made
    way = net.parts[back[0]]
    if len(back) > 1 or way.kind not in ("Linear", "Affine", "Scale") or net.sources(way.name) != [part.name]:
        raise part.refuse("its loop is not one Linear or Affine.", f"{' -> '.join(group[:8])}", cure="Give the way back as one matrix.")
    if shape_of(way, [shape]) != shape:
        raise way.refuse("the way back does not fit its neuron.", f"neuron {list(shape)}")
    if any(b != part.name for b in net.readers(way.name)):
        raise way.refuse("the way back has a second reader.", cure="Give that reader a matrix of its own.")
    if part.name in net.readers(part.name):
        raise part.refuse("it enters itself twice.", cure="Add the identity to the matrix of its way back.")
    w = np.asarray(way.values["weight"]) if way.kind != "Scale" else np.diag(np.broadcast_to(np.asarray(way.values["scale"]), shape))
    made.weight = nn.Parameter(torch.tensor(w, dtype=torch.float32))
    if way.kind == "Affine":
        made.bias = nn.Parameter(torch.tensor(np.asarray(way.values["bias"]), dtype=torch.float32))
    return made


def _module(part: Part, shape: Shape, dt: float | None) -> nn.Module | None:
    if part.kind in NEURONS:
        return neuron(part, dt)
    return _MAKE[part.kind](part, dt)


def _filled(module: nn.Module, part: Part) -> nn.Module:
    module.weight = nn.Parameter(_t(part, "weight"))
    if part.kind != "Linear":
        bias = _t(part, "bias")
        module.bias = None if part.said.get("bias") == "none" and not bias.any() else nn.Parameter(bias)
    return module


def _linear(part: Part, dt: float | None) -> nn.Module:
    o, i = np.asarray(part.values["weight"]).shape
    with torch.device("meta"):
        made = layers.Linear(i, o, bias=part.kind == "Affine")
    return _filled(made, part)


def _conv(part: Part, dt: float | None) -> nn.Module:
    n = 1 if part.kind == "Conv1d" else 2
    part = _compact(part, n)
    w = np.asarray(part.values["weight"])
    (groups,) = whole(part, "groups", 1)
    stride, dilation, kernel = tuple(whole(part, "stride", n)), tuple(whole(part, "dilation", n)), list(w.shape[2:])
    pad = tuple(padding(part, kernel, list(dilation)))
    cls: Any = nn.Conv1d if n == 1 else layers.Conv2d
    with torch.device("meta"):
        made = cls(w.shape[1] * groups, w.shape[0], tuple(kernel), stride, pad, dilation, groups)
    made = _filled(made, part)
    return layers.Fold(made) if n == 1 else made


def _compact(part: Part, n: int) -> Part:
    """The grouped or oblong kernel that `nir_export` wrote out with zeros, if nothing but zeros is left over."""
    groups, kernel = part.said.get("neuro_groups"), part.said.get("neuro_kernel")
    w = np.asarray(part.values["weight"])
    if not isinstance(groups, int) or kernel is None or np.size(kernel) != n or whole(part, "groups", 1) != [1]:
        return part
    o, i, *sides = w.shape
    inner = [int(k) for k in np.asarray(kernel).reshape(-1)]
    if groups < 1 or o % groups or i % groups or any(not 1 <= k <= side for k, side in zip(inner, sides, strict=True)):
        return part
    margin = [(side - k) // 2 for k, side in zip(inner, sides, strict=True)]
    dilation = whole(part, "dilation", n)
    pad = [p - m * d for p, m, d in zip(padding(part, sides, dilation), margin, dilation, strict=True)]
    blocks = w.reshape(groups, o // groups, groups, i // groups, *sides)
    small = np.stack([blocks[g, :, g] for g in range(groups)]).reshape(o, i // groups, *sides)
    small = small[(..., *(slice(m, m + k) for m, k in zip(margin, inner, strict=True)))]
    if np.count_nonzero(small) != np.count_nonzero(w) or min(pad) < 0:
        return part
    return replace(part, values={**part.values, "weight": small, "groups": groups, "padding": np.array(pad)})


def _avg_pool(part: Part, dt: float | None) -> nn.Module:
    return layers.AvgPool2d(*(tuple(whole(part, k, 2)) for k in ("kernel_size", "stride", "padding")))


def _sum_pool(part: Part, dt: float | None) -> nn.Module:
    return nir_layers.SumPool2d(*(tuple(whole(part, k, 2)) for k in ("kernel_size", "stride", "padding")))  # type: ignore[arg-type]


def _delay(part: Part, dt: float | None) -> nn.Module:
    seconds = np.asarray(part.values["delay"], dtype=np.float64)
    if dt is None and seconds.any():
        raise part.refuse("its delay is in seconds, and the file does not say the time step.", cure="Give dt, the seconds of one step.")
    steps = seconds / (dt or 1.0)
    if (steps < 0).any() or steps.max() > 100_000 or np.abs(steps - np.round(steps)).max() > 1e-3:
        raise part.refuse("its delay is not a number of steps from 0 to 100000.", f"{steps.min():.4g} .. {steps.max():.4g} steps of {dt} s")
    return nir_layers.Delay(torch.tensor(np.round(steps), dtype=torch.int64))


_MAKE: dict[str, Any] = {
    "Input": lambda part, dt: None,
    "Output": lambda part, dt: None,
    "Linear": _linear,
    "Affine": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "AvgPool2d": _avg_pool,
    "SumPool2d": _sum_pool,
    "Flatten": lambda part, dt: layers.Flatten(),
    "Scale": lambda part, dt: nir_layers.Scale(_t(part, "scale")),
    "Delay": _delay,
}


def _t(part: Part, key: str) -> Tensor:
    return torch.tensor(np.asarray(part.values[key]), dtype=torch.float32)


def _with_readout(net: Net, stages: list[Stage], modules: dict[str, nn.Module]) -> tuple[list[Stage], dict[str, nn.Module]]:
    """The readout over time that our exporter states in the metadata, behind the Output."""
    last = [s for s in stages if net.parts[s.name].kind == "Output"][0]
    stages = [s for s in stages if s is not last] + [last]
    kind = net.said.get("readout")
    if kind is None:
        return stages, modules
    made = {"mean over time": layers.MeanOverTime, "sum over time": layers.SumOverTime}.get(str(kind))
    if made is None:
        raise FormatError(explain(f"NIR: the readout {kind!r} is not known.", cure="'mean over time' and 'sum over time' are."))
    return [*stages, Stage("readout", (last.name,), "readout")], {**modules, "readout": made()}
