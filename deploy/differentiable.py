"""The integer network in torch, with gradients: the same integers as the twin, and the float network's derivatives.

Forward, every value is a whole number, equal to `neuro.deploy.reference`. Backward, each rounding is taken for the identity
(straight through; Bengio et al. 2013, arXiv:1308.3432) and each spike for its surrogate, in the float neuron's units:

    W_int = round(s W)                 d W_int / d W = s
    q(x, k) = trunc(x (4096 - k) / 4096)      d q / d x = (4096 - k) / 4096
    spike = v > 64 vth                 derivative of the surrogate at theta (v / (64 vth) - 1), times theta / (64 vth)

Products run in float32 where their bound leaves room (every partial sum is a whole number below 2^24), else in float64;
neurons in float64, which holds the 36 bits of a decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neuro.deploy import network as ints
from neuro.deploy.network import IntegerNetwork
from neuro.layers.attention import AttentionProduct
from neuro.layers.folding import fold, unfold
from neuro.surrogate import ATan, Levels

TOP = 2**23  # registers hold 24 bits
EXACT, TF32 = 2**23, 2**11  # whole numbers that float32 sums exactly, and that its shortened products on GPUs hold


class _Instead(torch.autograd.Function):
    """`value` forward; backward as if it were `stand_in`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, stand_in: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


class _Fire(torch.autograd.Function):
    """`u > 0` forward, the surrogate's derivative backward; strict whatever the surrogate says."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Any) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(u), None


def instead(value: Tensor, stand_in: Tensor) -> Tensor:
    """`value`, whose gradient goes to `stand_in`, of the same shape."""
    return _Instead.apply(value.to(stand_in.dtype), stand_in)


def decayed(x: Tensor, k: int | Tensor) -> Tensor:
    """sign(x) * (|x| * (4096 - k) >> 12) for whole x in float64; straight through."""
    y = x * (4096 - k) / 4096
    return instead(y.detach().trunc(), y)


@dataclass(frozen=True, eq=False)
class Soft:
    """What backward needs of one neuron layer: surrogate, threshold in float units, whether the reset carries no gradient."""

    surrogate: Any
    threshold: Tensor
    detach: bool


def cell(a: Tensor, node: ints.Cell, bias: Tensor, soft: Soft, weight: Tensor | None = None) -> Tensor:
    """Levels [T, B, ...] of a Cell; weight [N, N] of its feedback or None. Each step between levels has the surrogate of a spike."""
    surrogate = soft.surrogate.step if isinstance(soft.surrogate, Levels) else soft.surrogate
    channels = a.shape[2] if a.dim() == 5 else a.shape[-1]
    columns = torch.tensor(node.constants(channels), dtype=torch.float64, device=a.device)
    dv, vth, du, _, dh, jump = (spread(c, a) for c in columns)
    a, bias, threshold = a.double(), spread(bias, a), spread(soft.threshold.double(), a)
    u = v = h = s = torch.zeros_like(a[0])
    unit, spikes = threshold / (64 * vth), []
    for now in a.unbind(0):
        back = now if weight is None else now + F.linear(s, weight.double())
        u = decayed(u, du + 1) + 64 * back + bias
        late = 64 * vth * (s.detach() if soft.detach else s) if node.reset == "late" else 0
        v = (decayed(v, dv) - late + u).clamp(1 - TOP, TOP - 1)
        theta = 64 * vth + h
        s = sum((_Fire.apply((v - k * theta) * unit, surrogate) for k in range(2, node.levels + 1)), _Fire.apply((v - theta) * unit, surrogate))
        fixed = s.detach() if soft.detach else s
        v = {"zero": v * (1 - fixed.clamp(max=1)), "subtract": v - fixed * theta}.get(node.reset, v)
        h = (decayed(h, dh) + s * jump).clamp(max=TOP - 1)
        spikes.append(s)
    return torch.stack(spikes).float()


def spread(x: Tensor, like: Tensor) -> Tensor:
    """One number, or one per channel, in the shape that meets one step of [T, B, ...]."""
    return x.view(-1, 1, 1) if like.dim() == 5 and x.dim() else x


def lif(a: Tensor, node: ints.LIF, bias: Tensor, soft: Soft) -> Tensor:
    """Spikes [T, B, ...] of the chip's LIF for whole currents a; bias in the integers' units, broadcast against one step."""
    a = 64 * a.double()
    u = v = torch.zeros_like(a[0])
    unit, spikes = soft.threshold / (64 * node.vth), []
    for now in a.unbind(0):
        u = now if node.du == 4095 else decayed(u, node.du + 1) + now
        v = (decayed(v, node.dv) + u + bias).clamp(1 - TOP, TOP - 1)
        s = _Fire.apply((v - 64 * node.vth) * unit, soft.surrogate)
        v = v * (1 - (s.detach() if soft.detach else s))
        spikes.append(s)
    return torch.stack(spikes).float()


def product(network: IntegerNetwork, node: ints.Conv | ints.Dense, x: Tensor, weight: Tensor) -> Tensor:
    """Whole numbers times whole weights, exact."""
    most = max(map(abs, network.ranges[node.name]))
    high = max(map(abs, network.ranges[node.input]))
    dtype = torch.float32 if most < EXACT and high < TF32 else torch.float64
    x, weight = x.to(dtype), weight.to(dtype)
    if isinstance(node, ints.Conv):
        y = unfold(F.conv2d(fold(x), weight, None, node.stride, node.padding, node.dilation, node.groups), x)  # type: ignore[arg-type]
    else:
        y = F.linear(x, weight)
    return instead(y.detach().round(), y)  # a convolution by transforms leaves fractions


def stateless(node: ints.Node, *xs: Tensor) -> Tensor:
    """A node without weights, state or rounding."""
    match node:
        case ints.Attention():
            y = node.weight * AttentionProduct(node.heads, 1.0)(*(x.double() for x in xs))
            return instead(y.detach().round(), y)
        case ints.MaxPool():
            return unfold(F.max_pool2d(fold(xs[0]), node.kernel, node.stride, node.padding), xs[0])  # type: ignore[arg-type]
        case ints.SumPool():
            return unfold(F.avg_pool2d(fold(xs[0].double()), node.kernel, node.stride, node.padding, divisor_override=1), xs[0])  # type: ignore[arg-type]
        case ints.Delay():
            return torch.cat([torch.zeros_like(xs[0][: node.steps]), xs[0][: max(len(xs[0]) - node.steps, 0)]])
        case ints.Add():
            return sum((x.double() for x in xs[1:]), xs[0].double())
        case ints.Tokens():
            return xs[0].flatten(3).transpose(2, 3)
        case ints.Flatten():
            return xs[0].flatten(2)
        case ints.TokenSum():
            return xs[0].double().sum(2)
    raise TypeError(type(node))


def run_whole(network: IntegerNetwork, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
    """`run_torch` with the network's own numbers: every node's output for counts x [T, B, ...], equal to the twin's, without gradients.

    Shapes, lengths: as of `run_torch`, which says what the readout gives.

    >>> import numpy as np
    >>> from neuro.deploy.network import LIF, Dense, Input, Readout
    >>> nodes = [Input("x", (2,)), Dense("a", "x", np.full((1, 2), 4)), LIF("b", "a", 2048, 6), Readout("out", "b", np.zeros(1, int))]
    >>> run_whole(IntegerNetwork(nodes), torch.ones(4, 1, 2))["b"].flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def like(array: Any) -> Tensor:
        return torch.tensor(np.asarray(array), dtype=torch.float64, device=x.device)

    weights = {n.name: like(n.weight) for n in network.nodes if isinstance(n, (ints.Conv, ints.Dense, ints.RecurrentCell))}
    biases = {n.name: like(n.bias_mant.astype(np.int64) << n.bias_exp) for n in network.lifs}  # type: ignore[union-attr]
    unit = torch.ones((), dtype=torch.float64, device=x.device)
    with torch.no_grad():
        soft = dict.fromkeys((n.name for n in network.lifs), Soft(ATan(2.0), unit, True))
        return run_torch(network, x, weights, biases | {network.readout.name: like(network.readout.bias)}, soft, lengths)


def run_torch(
    network: IntegerNetwork, x: Tensor, weights: Mapping[str, Tensor], biases: Mapping[str, Tensor], soft: Mapping[str, Soft],
    lengths: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Every node's output for counts x [T, B, ...]; the readout's is class scores in the float model's units: [B, classes], or
    [T, B, classes] of a StepReadout, 0 behind the end of a recording.

    Args:
        weights: whole numbers, by Conv and Dense; biases: by neuron and readout, one per channel; soft: by neuron.
        lengths: steps that count for each recording [B]; None: all.
    """
    values = {network.input.name: x}
    for node in network.nodes[1:-1]:
        xs = [values[s] for s in node.inputs]
        if isinstance(node, (ints.Conv, ints.Dense)):
            values[node.name] = product(network, node, xs[0], weights[node.name])
        elif isinstance(node, ints.LIF):
            values[node.name] = lif(xs[0], node, spread(biases[node.name].double(), xs[0]), soft[node.name])
        elif isinstance(node, ints.Cell):
            values[node.name] = cell(xs[0], node, biases[node.name].double(), soft[node.name], weights.get(node.name))
        else:
            values[node.name] = stateless(node, *xs)
    last = network.readout
    added = values[last.input].double() + biases[last.name].double()
    steps = torch.full((x.shape[1],), len(x), device=x.device) if lengths is None else lengths.to(x.device)
    counts = torch.arange(len(x), device=x.device)[:, None] < steps
    added = torch.where(counts[..., None], added, 0)
    added = added * last.scale if isinstance(last, ints.StepReadout) else added.sum(0) * last.scale
    values[last.name] = added if isinstance(last, (ints.StepReadout, ints.SumReadout)) else added / steps[:, None]
    return values
