"""How each node becomes rows of the table: one small function per node, and one dict that finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro import nodes as g
from neuro.kernels import inference_source as text
from neuro.kernels import programs
from neuro.kernels.program import Program
from neuro.kernels.table import (
    ADD,
    AFFINE,
    ATTENTION,
    CONV,
    DEPTHWISE,
    LINEAR,
    MAX,
    MEAN,
    MEAN_INSIDE,
    MEAN_TOKENS,
    NEURON,
    OVER_TIME,
    POOL,
    SUM,
)
from neuro.tables import LISTED, ByTorch, Row, Tables, Value, count


def _linear(low: Tables, node: g.Linear) -> None:
    source, (outputs, inputs) = node.inputs[0], node.weight.shape
    shape, weight = low.shape(source), node.weight.detach()
    before = low.graph[source]
    value = low.open.values.get(source)
    if isinstance(before, g.Flatten) and value is not None and value.last:  # a flattened map lies channels last; so do these columns
        C, *rest = low.shape(before.inputs[0])
        weight = weight.view(outputs, C, -1).transpose(1, 2).reshape(outputs, inputs)
    else:
        value = low.value(source, False)
    rows = count(shape[:-1])
    low.needs(LISTED * inputs)
    bias = np.zeros(outputs, np.float32) if node.bias is None else node.bias
    places = {"weight": low.constant(weight.t()), "bias": low.constant(bias)}
    low.open.values[node.name] = low.row(node.name, node.kind, LINEAR, rows * outputs, value, sizes=(rows, inputs, outputs), **places)


def _conv(low: Tables, node: g.Conv2d | g.Conv1d) -> None:
    source = node.inputs[0]
    flat = isinstance(node, g.Conv1d)
    (C, H, W), (_, H_out, W_out) = ((s[0], 1, s[1]) if flat else s for s in (low.shape(source), low.shape(node.name)))
    stride, padding, dilation = ((int(k != 1), v) if flat else v for k, v in enumerate((node.stride, node.padding, node.dilation)))
    weight = node.weight.detach()[:, :, None] if flat else node.weight.detach()
    outputs, share, K_h, K_w = weight.shape
    D, groups = outputs // node.groups, node.groups
    depthwise = share == D == 1 and groups > 1
    turned = -1
    if stride == dilation == (1, 1) and groups == 1:
        turned = low.constant(weight.flip(3).permute(2, 1, 3, 0))
    if depthwise:
        place = low.constant(weight.permute(2, 3, 1, 0))
    else:
        place = low.constant(weight.unflatten(0, (groups, D)).permute(0, 3, 4, 2, 1))
    low.needs(H * W * C, H * (W * groups + 1))
    sizes = (share, H, W, D, H_out, W_out, K_h, K_w, *stride, *padding, *dilation, groups, turned)
    bias = low.constant(np.zeros(outputs, np.float32) if node.bias is None else node.bias)
    kind = DEPTHWISE if depthwise else CONV
    value = low.value(source, True)
    low.open.values[node.name] = low.row(node.name, node.kind, kind, outputs * H_out * W_out, value, sizes=sizes, last=True, weight=place, bias=bias)


def _pool(low: Tables, node: Any) -> None:
    C, H, W = low.shape(node.inputs[0])
    _, H_out, W_out = low.shape(node.name)
    how = {g.MaxPool2d: MAX, g.SumPool2d: SUM}.get(type(node), MEAN if getattr(node, "count_include_pad", True) else MEAN_INSIDE)
    low.needs(work=W * C)
    sizes = (C, H, W, H_out, W_out, *node.kernel, *node.stride, *node.padding, how)
    low.open.values[node.name] = low.row(node.name, node.kind, POOL, C * H_out * W_out, low.value(node.inputs[0], True), sizes=sizes, last=True)


def _add(low: Tables, node: g.Add) -> None:
    a = low.value(node.inputs[0])
    b = low.value(node.inputs[1], a.last)
    low.open.values[node.name] = low.row(node.name, node.kind, ADD, count(low.shape(node.name)), a, b, last=a.last)


def _attention(low: Tables, node: g.AttentionProduct) -> None:
    N, D = low.shape(node.name)
    d = D // node.heads
    qk_first = node.order == "qk_first" or (node.order == "cheapest" and N <= d)
    most = max(N, d)
    low.needs(LISTED * most, work=d * N + most * most)
    low.numbers.append(node.scale)
    sizes, at = (N, D, node.heads, int(qk_first)), len(low.numbers) - 1
    values = [low.value(s, False) for s in node.inputs]
    low.open.values[node.name] = low.row(node.name, node.kind, ATTENTION, N * D, *values, sizes=sizes, weight=at)


def _tokens(low: Tables, node: g.Tokens) -> None:
    low.open.values[node.name] = Value(low.value(node.inputs[0], True).buffer, False)


def _flatten(low: Tables, node: g.Flatten) -> None:
    """A map that only Linears read stays channels last; they take their columns in that order."""
    source, readers = low.value(node.inputs[0]), low.graph.readers(node.name)
    if source.last and readers and all(isinstance(r, g.Linear) and r.name not in low.torch_nodes for r in readers):
        low.open.values[node.name] = Value(source.buffer, True)
    else:
        low.open.values[node.name] = Value(low.value(node.inputs[0], False).buffer, False)


def _mean_over_tokens(low: Tables, node: g.MeanOverTokens) -> None:
    N, C = low.shape(node.inputs[0])
    low.open.values[node.name] = low.row(node.name, node.kind, MEAN_TOKENS, C, low.value(node.inputs[0], False), sizes=(N,))


def _affine(low: Tables, node: g.Affine | g.Scale) -> None:
    shape, value = low.shape(node.name), low.value(node.inputs[0])
    if isinstance(node, g.Affine):
        axes = [1] * (len(shape) + 2)
        axes[node.axis] = -1
        scale, shift = node.scale.view(axes)[0, 0], node.shift.view(axes)[0, 0]
    else:
        scale, shift = node.scale, torch.zeros((), dtype=torch.float32, device="cpu")
    places = {"weight": low.constant(_each(scale, shape, value.last)), "bias": low.constant(_each(shift, shape, value.last))}
    low.open.values[node.name] = low.row(node.name, node.kind, AFFINE, count(shape), value, last=value.last, **places)


def _each(x: Tensor, shape: g.Shape, last: bool) -> Tensor:
    """One value for each element of a step, in the order that they lie in."""
    full = x.detach().expand(shape)
    return full.movedim(0, -1) if last and len(shape) > 1 else full


def _over_time(low: Tables, node: g.SumOverTime) -> None:
    value, slot = low.value(node.inputs[0], False), low.sums(node)
    here, size = low.open, count(low.shape(node.name))
    here.buffers[value.buffer].dies = len(here.rows)
    fields = {"kind": OVER_TIME, "size": size, "stride": size, "state": slot.offset}
    here.rows.append(Row((node.name, node.kind), fields, (int(isinstance(node, g.MeanOverTime)),), (value.buffer,)))


def _neuron(low: Tables, node: g.Neuron, around: g.Recurrent | None = None) -> None:
    me = around or node
    shape = low.shape(me.name)
    found, params = _program(node), programs.tensors(node.params)
    kind = text.NeuronKind(found.program or "", tuple(p.numel() == 1 for p in params))
    value = low.value(me.inputs[0], None if around is None else False)
    if kind not in low.kinds:
        low.kinds.append(kind)
    slot = low.slot(me, (*(("s",) if around else ()), *node.state._fields), value.last)
    fields = {"state": slot.offset, "bias": len(low.numbers)}
    low.numbers += [] if found.baked else programs.numbers(node.params)
    fields["weight"] = low.constant(*(p.reshape(()) if p.numel() == 1 else _each(_of_sample(p, shape), shape, value.last) for p in params))
    sizes: tuple[int, ...] = (-1, 0, 0)
    if around is not None:
        N = count(shape)
        low.needs(LISTED * N, work=N)
        fields["state"] += N
        bias = np.zeros(N, np.float32) if around.bias is None else around.bias
        sizes = (low.constant(around.weight.detach().t()), low.constant(bias), slot.offset)
    low.open.values[me.name] = low.row(me.name, me.kind, NEURON + low.kinds.index(kind), count(shape), value, sizes=sizes, last=value.last, **fields)


def _recurrent(low: Tables, node: g.Recurrent) -> None:
    if len(low.shape(node.name)) != 1:
        raise ByTorch("it feeds back more than one vector")
    _neuron(low, node.neuron, node)


def _of_sample(p: Tensor, shape: g.Shape) -> Tensor:
    return p.reshape(p.shape[1:]) if p.dim() == len(shape) + 1 else p


def _program(node: g.Neuron) -> programs.Found:
    """The step's program, once its kernel has agreed with the plain loop."""
    x = torch.zeros(1, 1, 1, dtype=torch.float32, device="cpu")
    state = node.state(*(torch.zeros_like(x[0]) for _ in node.state._fields))
    found = programs.find(node.step, x, state, node.params, node.choices, torch.float32)
    if found.program is None or not found.single:
        raise ByTorch("its step has no kernel")
    if not programs.agrees(node.step, found, x, state, node.params, None, node.choices, False):
        raise ByTorch("its kernel does not agree with its step")
    if Program.from_json(found.program).inputs != 1:
        raise ByTorch("its step takes more than one input")
    return found


FORMS: dict[type[g.Node], Callable[[Tables, Any], None]] = {
    g.Linear: _linear,
    g.Conv2d: _conv,
    g.Conv1d: _conv,
    g.MaxPool2d: _pool,
    g.AvgPool2d: _pool,
    g.SumPool2d: _pool,
    g.Add: _add,
    g.AttentionProduct: _attention,
    g.Tokens: _tokens,
    g.Flatten: _flatten,
    g.MeanOverTokens: _mean_over_tokens,
    g.Affine: _affine,
    g.Scale: _affine,
    g.Neuron: _neuron,
    g.Recurrent: _recurrent,
    g.SumOverTime: _over_time,
    g.MeanOverTime: _over_time,
}
