"""A delay of whole steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuro.errors import ParameterError, ShapeError, explain, not_a_tensor
from neuro.state import recall, remember


class DelayState(NamedTuple):
    past: Tensor  # the last steps [B, steps, *N], the oldest first


class Delay(nn.Module):
    """`y[t] = x[t - steps]`, zero before the first step: [T, B, *N] -> [T, B, *N].

    Args:
        steps: 1 or more. An integer network holds up to 62.

    State: the last `steps` steps [B, steps, *N].

    >>> Delay(1)(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)).flatten().tolist()
    [0.0, 1.0, 2.0]
    """

    time_aware = True

    def __init__(self, steps: int):
        super().__init__()
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ParameterError(explain(f"Delay: steps={steps!r} is not a delay.", cure="Give a whole number of steps, 1 or more."))
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(x, "dim"):
            raise not_a_tensor("Delay", x)
        if x.dim() < 2 or x.shape[0] == 0:
            raise ShapeError(explain("Delay: the input is not a sequence.", f"x {list(x.shape)}", cure="Time is axis 0: [T, B, ...]."))
        slot, state = recall(self, DelayState(x.new_zeros(x.shape[1], self.steps, *x.shape[2:])))
        line = torch.cat([state.past.transpose(0, 1).to(x.dtype), x])
        remember(slot, DelayState(line[-self.steps :].transpose(0, 1)))
        return line[: len(x)]

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
