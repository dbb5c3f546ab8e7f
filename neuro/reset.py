"""What happens to a membrane that fired: reset rules as objects.

A rule maps the membrane `v`, its spikes `s` and the threshold to the membrane that is carried on. A neuron that stayed
silent is never touched. Two choices belong to every rule:

- `detach=True` lets no gradient flow through the reset (Zenke and Vogels 2021); `detach=False` differentiates it.
- `delayed=True` resets one step late, on the next membrane, as snnTorch does: with decay b the soft form is then
  `v[t] = b*v[t-1] + x[t] - s[t-1]*threshold`, where the immediate form has `b*(v[t-1] - s[t-1]*threshold) + x[t]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Reset(Protocol):
    """The contract of a reset rule; write a frozen dataclass with these members to add one."""

    detach: bool
    delayed: bool

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor: ...


@dataclass(frozen=True)
class ToZero:
    """Hard reset: `v <- v * (1 - s)`. SpikingJelly's default, and Loihi's only rule."""

    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        return v * (1 - (s.detach() if self.detach else s))


@dataclass(frozen=True)
class ToValue:
    """Hard reset to a given potential: `v <- v * (1 - s) + value * s`."""

    value: float = 0.0
    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        s = s.detach() if self.detach else s
        return v * (1 - s) + self.value * s


@dataclass(frozen=True)
class Subtract:
    """Soft reset: `v <- v - s * threshold`; what exceeded the threshold is kept. snnTorch's default."""

    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        return v - (s.detach() if self.detach else s) * threshold


@dataclass(frozen=True)
class NoReset:
    """The membrane goes on as if it had not fired."""

    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        return v


to_zero = ToZero()
subtract = Subtract()
none = NoReset()
