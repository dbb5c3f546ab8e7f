"""What happens to a membrane that fired: reset rules as objects.

A rule maps the membrane `v`, its spikes `s` and the threshold to the membrane that is carried on. A neuron that stayed
silent is never touched. Two choices belong to every rule:

- `detach=True` lets no gradient flow through the reset (Zenke and Vogels 2021); `detach=False` differentiates it.
- `delayed=True` resets one step late, as snnTorch does, so the state still shows the membrane that fired. A soft rule
  then takes the threshold from the next membrane, `v[t] = b*v[t-1] + x[t] - s[t-1]*threshold` with decay b, where the
  immediate form has `b*(v[t-1] - s[t-1]*threshold) + x[t]`. A hard rule acts on the last membrane, before the leak, so
  that the input is not lost: its spikes are those of the immediate form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Reset(Protocol):
    """The contract of a reset rule; write a frozen dataclass with these members to add one."""

    detach: bool
    delayed: bool
    hard: ClassVar[bool]  # whether it sets the membrane, rather than shifting it

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor: ...


@dataclass(frozen=True)
class ToZero:
    """Hard reset: `v <- v * (1 - s)`. SpikingJelly's default, and Loihi's only rule."""

    hard: ClassVar[bool] = True
    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        return v * (1 - (s.detach() if self.detach else s))


@dataclass(frozen=True)
class ToValue:
    """Hard reset to a given potential: `v <- v * (1 - s) + value * s`."""

    hard: ClassVar[bool] = True
    value: float = 0.0
    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        s = s.detach() if self.detach else s
        return v * (1 - s) + self.value * s


@dataclass(frozen=True)
class Subtract:
    """Soft reset: `v <- v - s * threshold`; what exceeded the threshold is kept. snnTorch's default."""

    hard: ClassVar[bool] = False
    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        return v - (s.detach() if self.detach else s) * threshold


@dataclass(frozen=True)
class NoReset:
    """The membrane goes on as if it had not fired."""

    hard: ClassVar[bool] = False
    detach: bool = True
    delayed: bool = False

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        return v


def charge(
    v: Tensor, current: Tensor, decay: Tensor | float, threshold: Tensor | float, *, spike: Callable[[Tensor], Tensor], reset: Reset
) -> Tensor:
    """`decay * v + current`, with the reset of the last step where the rule is a delayed one."""
    if not reset.delayed:
        return decay * v + current
    s = spike(v - threshold)
    return decay * reset(v, s, threshold) + current if reset.hard else reset(decay * v + current, s, threshold)


to_zero = ToZero()
subtract = Subtract()
none = NoReset()

# By the names that files, integer networks and tables of chips have for them; "late" is a subtraction one step late.
RULES: dict[str, Reset] = {"zero": to_zero, "subtract": subtract, "none": none, "late": Subtract(delayed=True)}


def name_of(rule: Reset | None, decay: Any = 1.0, levels: int = 1) -> str | None:
    """The name in `RULES` of the rule that gives the same spikes as this one; None if there is none.

    An object of any class is judged by what it does, not by what it says. A hard rule that acts one step late gives the spikes of the
    one that acts at once, and so does a subtraction where nothing leaks in between.

    Args:
        decay: of the membrane, a number, an array or a tensor.
        levels: the most that the neuron sends.

    >>> name_of(ToValue(0.0)), name_of(ToZero(delayed=True)), name_of(Subtract(delayed=True)), name_of(Subtract(delayed=True), decay=0.9)
    ('zero', 'zero', 'subtract', 'late')
    """
    if rule is None:
        return None
    threshold, s = 0.75, torch.tensor([0.0, 0.0, 1.0, 1.0, float(levels)])
    v = torch.tensor([-9.0, -0.5, 0.5, 9.0, 9.0])
    forms = {"zero": v * (1 - s), "subtract": v - s * threshold, "none": v}
    found = next((name for name, form in forms.items() if torch.equal(rule(v, s, threshold), form)), None)
    if found is None or (found == "zero") != rule.hard:
        return None
    leaks = bool((torch.as_tensor(decay) != 1).any())
    return "late" if rule.delayed and found == "subtract" and leaks else found
