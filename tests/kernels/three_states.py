"""A neuron of three states as a user would write it, and random tensors to run it on."""

from typing import NamedTuple

import torch


class Three(NamedTuple):
    i: torch.Tensor
    v: torch.Tensor
    w: torch.Tensor


class ThreeParams(NamedTuple):
    a: torch.Tensor | float
    b: torch.Tensor | float
    c: torch.Tensor | float
    threshold: float


def three_step(x, state, p, *, spike, reset):
    i = p.a * state.i + x
    v = p.b * state.v + torch.tanh(i) - 0.3 * state.w + torch.exp(-state.v.square())
    s = spike(v - p.threshold - 0.1 * state.w)
    return s, Three(i, reset(v, s, p.threshold), p.c * state.w + torch.sigmoid(v) * (1 - s))


def normal(*shape, dtype=torch.float32, grad=True, seed=3, device="cpu"):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.2 + 0.4
    return made.to(device, dtype).requires_grad_(grad)
