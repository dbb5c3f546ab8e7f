"""From spikes over time to one answer per sample."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuro.errors import ShapeError, explain, not_a_tensor
from neuro.state import recall, remember, valid_steps


class _Mean(NamedTuple):
    sum: Tensor  # [B, ...]
    count: Tensor  # [B, 1, ...]


class MeanOverTime(nn.Module):
    """Mean over the steps that count: [T, B, ...] -> [B, ...].

    In `neuro.run` it keeps sum and count, so a recording shown in chunks ends with the mean of the whole.
    """

    def forward(self, x: Tensor) -> Tensor:
        sum_, count = _sum_and_count(x)
        slot, state = recall(self, _Mean(torch.zeros_like(sum_), torch.zeros_like(count)))
        state = _Mean(state.sum + sum_, state.count + count)
        remember(slot, state)
        return (state.sum / state.count.clamp(min=1)).to(x.dtype)


class SumOverTime(nn.Module):
    """Sum over the steps that count, e.g. spike counts: [T, B, ...] -> [B, ...]. Keeps its sum in `neuro.run`."""

    def forward(self, x: Tensor) -> Tensor:
        sum_, count = _sum_and_count(x)
        slot, state = recall(self, _Mean(torch.zeros_like(sum_), torch.zeros_like(count)))
        state = _Mean(state.sum + sum_, state.count + count)
        remember(slot, state)
        return state.sum.to(x.dtype)


class _Last(NamedTuple):
    y: Tensor  # [B, ...]


class LastStep(nn.Module):
    """The last step that counts: [T, B, ...] -> [B, ...].

    In `neuro.run` it keeps it, for a sample that has ended before the chunk begins.
    """

    def forward(self, x: Tensor) -> Tensor:
        _check(x, "LastStep")
        slot, state = recall(self, _Last(torch.zeros_like(x[0])))
        mask = valid_steps(x, axes=2)
        if mask is None:
            y = x[-1]
        else:
            steps = mask.sum(0)
            last = x[steps.clamp(min=1) - 1, torch.arange(x.shape[1], device=x.device)]
            y = torch.where((steps > 0).view(-1, *[1] * (last.dim() - 1)), last, state.y)
        remember(slot, _Last(y))
        return y


class MeanOverTokens(nn.Module):
    """Mean over tokens: [T, B, N, C] -> [T, B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(x, "dim"):
            raise not_a_tensor("MeanOverTokens", x)
        if x.dim() != 4:
            raise ShapeError(explain("MeanOverTokens: the input must be [T, B, N, C].", f"x {list(x.shape)}"))
        return x.mean(2)


def _check(x: Tensor, name: str) -> None:
    if not hasattr(x, "dim"):
        raise not_a_tensor(name, x)
    if x.dim() < 2 or x.shape[0] == 0:
        raise ShapeError(explain(f"{name}: the input is not a sequence.", f"x {list(x.shape)}", cure="Time is axis 0: [T, B, ...]."))


def _sum_and_count(x: Tensor) -> tuple[Tensor, Tensor]:
    _check(x, "readout")
    mask = valid_steps(x)
    wide = x if x.dtype == torch.float64 else x.float()
    shape = (x.shape[1], *[1] * (x.dim() - 2))
    if mask is None:
        return wide.sum(0), wide.new_full(shape, x.shape[0])
    return torch.where(mask, wide, 0).sum(0), mask.sum(0).to(wide.dtype)
