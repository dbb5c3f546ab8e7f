"""From a NIR net to a native module: layers and neurons of ours, run by `neuro.run`, traced, trained and counted like any other."""

from __future__ import annotations

import math
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
from neuro.deploy.nir_kernels import compact
from neuro.deploy.nir_loops import NEURONS, head, looped, order
from neuro.deploy.nir_neurons import neuron
from neuro.deploy.nir_shapes import Room, Shape, padding, shape_of, whole
from neuro.errors import FormatError, ParameterError, explain

MOST_STEPS = 100_000  # of a delay


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
    net = without(net, [n for n, p in net.parts.items() if p.kind in ("Pass", "Identity")])
    _connected(net)
    net = _without_batch(net)
    net = joined(net, dt)
    stages: list[Stage] = []
    modules: dict[str, nn.Module] = {}
    shapes: dict[str, Shape] = {}
    room = Room()
    for group in order(net):
        part = net.parts[head(net, group)]
        inputs = [s for s in net.sources(part.name) if s not in group or len(group) == 1 and s != part.name]
        if not inputs and part.kind != "Input":
            raise part.refuse("nothing enters it but its own output.", cure="Give it an input.")
        shapes[part.name] = shape_of(part, [shapes[s] for s in inputs])
        module = _delay(part, shapes[part.name], dt, room) if part.kind == "Delay" else _module(part, dt)
        if len(group) > 1 or part.name in net.sources(part.name):
            module = looped(net, group, part, module, shapes[part.name], room)
        key = _key(part.name, modules)
        if module is not None:
            modules[key] = module
        stages.append(Stage(part.name, tuple(inputs), key if module is not None else None))
    stages, modules = _with_readout(net, stages, modules)
    return NIRNetwork(stages, modules, shapes[stages[0].name], dt, net.notes)


def _key(name: str, taken: Mapping[str, Any]) -> str:
    """A module name for a node name: without dots, not yet taken, and not what a dict of modules calls a method."""
    key = name.replace(".", "_") or "_"
    while key in taken or hasattr(nn.ModuleDict, key) or key == "training":
        key += "_"
    return key


def _step(net: Net, dt: float | None) -> float | None:
    stated = net.said.get("dt")
    if stated is not None and not (isinstance(stated, (int, float)) and not isinstance(stated, bool) and np.isfinite(stated) and stated > 0):
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


def _module(part: Part, dt: float | None) -> nn.Module | None:
    if part.kind in NEURONS:
        return neuron(part, dt)
    return _MAKE[part.kind](part, dt)


def _filled(module: nn.Module, part: Part) -> nn.Module:
    module.weight = nn.Parameter(_t(part, "weight"))
    if part.kind != "Linear":
        bias = _t(part, "bias")
        module.bias = None if str(part.said.get("bias")) == "none" and not bias.any() else nn.Parameter(bias)
    return module


def _linear(part: Part, dt: float | None) -> nn.Module:
    o, i = np.asarray(part.values["weight"]).shape
    with torch.device("meta"):
        made = layers.Linear(i, o, bias=part.kind == "Affine")
    return _filled(made, part)


def _conv(part: Part, dt: float | None) -> nn.Module:
    n = 1 if part.kind == "Conv1d" else 2
    part = compact(part, n)
    w = np.asarray(part.values["weight"])
    (groups,) = whole(part, "groups", 1)
    stride, dilation, kernel = tuple(whole(part, "stride", n)), tuple(whole(part, "dilation", n)), list(w.shape[2:])
    pad = tuple(padding(part, kernel, list(dilation)))
    cls: Any = nn.Conv1d if n == 1 else layers.Conv2d
    with torch.device("meta"):
        made = cls(w.shape[1] * groups, w.shape[0], tuple(kernel), stride, pad, dilation, groups)
    made = _filled(made, part)
    return layers.Fold(made) if n == 1 else made


def _avg_pool(part: Part, dt: float | None) -> nn.Module:
    return layers.AvgPool2d(*(tuple(whole(part, k, 2)) for k in ("kernel_size", "stride", "padding")))


def _sum_pool(part: Part, dt: float | None) -> nn.Module:
    return nir_layers.SumPool2d(*(tuple(whole(part, k, 2)) for k in ("kernel_size", "stride", "padding")))  # type: ignore[arg-type]


def _max_pool(part: Part, dt: float | None) -> nn.Module:
    return layers.MaxPool2d(*(tuple(whole(part, k, 2)) for k in ("kernel_size", "stride", "padding")))


def _delay(part: Part, shape: Shape, dt: float | None, room: Room) -> nn.Module | None:
    seconds = np.asarray(part.values["delay"], dtype=np.float64)
    if dt is None and seconds.any():
        raise part.refuse("its delay is in seconds, and the file does not say the time step.", cure="Give dt, the seconds of one step.")
    if (seconds < 0).any() or seconds.max() > 1.001 * MOST_STEPS * (dt or 1.0):
        raise part.refuse(f"its delay is not a number of steps from 0 to {MOST_STEPS}.", f"{seconds.min():.6g} .. {seconds.max():.6g} s   step {dt} s")
    steps = seconds / (dt or 1.0)
    near = np.abs(steps - np.round(steps)) <= 1e-3 + 1e-6 * np.abs(steps)  # files may hold seconds in float32
    if not near.all():
        raise part.refuse("its delay is not a whole number of steps.", f"{steps.min():.6g} .. {steps.max():.6g} steps of {dt} s", cure="Give another dt.")
    whole_steps = np.round(steps).astype(np.int64)
    longest = int(whole_steps.max())
    room.take(part, longest * math.prod(shape), "what its delay holds")
    if (whole_steps == longest).all():
        return layers.Delay(longest) if longest else None
    return nir_layers.Delay(torch.tensor(whole_steps))


_MAKE: dict[str, Any] = {
    "Input": lambda part, dt: None,
    "Output": lambda part, dt: None,
    "Linear": _linear,
    "Affine": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "AvgPool2d": _avg_pool,
    "SumPool2d": _sum_pool,
    "MaxPool2d": _max_pool,
    "Flatten": lambda part, dt: layers.Flatten(),
    "Scale": lambda part, dt: nir_layers.Scale(_t(part, "scale")),
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
    key = _key("readout", modules)
    return [*stages, Stage(_free("readout", stages), (last.name,), key)], {**modules, key: made()}


def _free(name: str, stages: list[Stage]) -> str:
    """This name, or with a sign after it, that no stage has."""
    taken = {s.name for s in stages}
    while name in taken:
        name += "_"
    return name
