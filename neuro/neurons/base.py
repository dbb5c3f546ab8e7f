"""What every neuron module shares: it owns parameters, makes the initial state, and scans its step."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neuro.errors import ParameterError, ShapeError, explain, not_a_tensor
from neuro.reset import Reset
from neuro.scanning import from_zero, scanned, zeros
from neuro.state import lengths, recall, remember, wants_state
from neuro.surrogate import Surrogate


class Neuron(nn.Module):
    """Base of the neurons. A new one gives `step`, `State`, `params()` and, if it has more than these, `choices()`.

    `forward(x)` takes [T, B, *N] and returns spikes of the same shape and dtype. The membrane is kept in float32, also
    under autocast (float64 for float64 input). State comes and goes by `neuro.run`.
    """

    step: ClassVar[Callable[..., Any]]
    State: ClassVar[type]

    def __init__(self, spike: Surrogate, reset: Reset):
        super().__init__()
        for what, value, kind in (("spike", spike, Surrogate), ("reset", reset, Reset)):
            if not isinstance(value, kind) or isinstance(value, type):
                cure = "Give an object: spike=neuro.surrogate.ATan(2.0), reset=neuro.reset.subtract."
                raise ParameterError(explain(f"{type(self).__name__}: {what}={value!r} is not a {kind.__name__}.", cure=cure))
        if reset.hard and getattr(spike, "levels", 1) > 1:
            cure = "Give reset=neuro.reset.subtract."
            raise ParameterError(explain(f"{type(self).__name__}: a reset to one value takes no account of levels.", f"spike={spike}   reset={reset}", cure=cure))
        self.spike = spike
        self.reset = reset

    def params(self) -> Any:
        """NamedTuple of floats and tensors for `step`."""
        raise NotImplementedError

    def choices(self) -> dict[str, Any]:
        """Objects for `step`: the spike and the reset rule."""
        return {"spike": self.spike, "reset": self.reset}

    def initial(self, x_t: Tensor) -> Any:
        """State before the first step for one step of input [B, *N]: zeros."""
        return self.State(*(torch.zeros_like(x_t) for _ in self.State._fields))  # of its own memory: who overrides this may write to it

    def begins_at_zero(self) -> bool:
        """Whether `initial` is the one above, so that one zero can stand for all."""
        return type(self).initial is Neuron.initial and "initial" not in vars(self)

    def forward(self, x: Tensor) -> Tensor:
        x = as_current(type(self).__name__, x)
        if self.begins_at_zero() and not wants_state():
            return from_zero(type(self).step, self.State, x, self.params(), self.choices())
        slot, state = recall(self, zeros(self.State, x) if self.begins_at_zero() else self.initial(one_step(x)))
        y, state = scanned(type(self).step, x, state, self.params(), lengths(), self.choices(), after=slot is not None)
        remember(slot, state)
        return y

    def extra_repr(self) -> str:
        p = self.params()
        shown = [f"{name}={_shown(value)}" for name, value in zip(p._fields, p, strict=True)]
        if "threshold" in p._fields:
            shown.append(f"fires at v {self.spike.comparison} threshold")
        return ", ".join([*shown, f"spike={self.spike}", f"reset={self.reset}"])


def as_current(name: str, x: Tensor) -> Tensor:
    """Input current [T, B, *N] as it is, whole numbers as float32, with the time axis checked."""
    if not hasattr(x, "dim"):
        raise not_a_tensor(name, x)
    if x.dim() < 3 or x.shape[0] == 0:
        raise ShapeError(
            explain(
                f"{name}: the input is not a sequence.",
                f"x {list(x.shape)}",
                cure="Time is axis 0 and batch axis 1: [T, B, N...], T >= 1. For one step use x[None].",
            )
        )
    return x if x.is_floating_point() else x.float()


def one_step(x: Tensor) -> Tensor:
    """The first step [B, *N] in the precision that state is kept in: float32, for float64 input float64."""
    return x[0] if x.dtype == torch.float64 else x[0].float()


def membrane_constants(
    name: str, tau: float | None, decay: float | None, dt: float | None, exact: bool
) -> tuple[float, float]:
    """Decay and gain of `v <- decay * v + gain * x` from either a time constant or a decay.

    - `tau` in steps: decay = 1 - 1/tau, gain = 1/tau (Euler; SpikingJelly, NIR). With `dt`, tau and dt in seconds.
    - `tau` with `exact=True`: decay = exp(-dt/tau), gain = 1 - decay.
    - `decay` alone: gain = 1 (snnTorch's beta).
    """
    one_number(name, tau=tau, decay=decay, dt=dt)
    if tau is not None and decay is not None:
        raise ParameterError(
            explain(f"{name}: both tau={tau} and decay={decay} were given.", "Each fixes the leak.", cure="Give one of them.")
        )
    if decay is not None:
        if dt is not None or exact:
            raise ParameterError(explain(f"{name}: dt and exact belong to tau, not to decay={decay}.", cure="Give tau in seconds."))
        if not 0 <= decay <= 1:
            raise ParameterError(explain(f"{name}: decay={decay} is outside 0 .. 1.", cure="1 keeps the membrane, 0 forgets it."))
        return float(decay), 1.0
    tau = 2.0 if tau is None else tau
    steps = tau if dt is None else tau / dt
    if exact:
        if not steps > 0:
            raise ParameterError(explain(f"{name}: tau={tau}, dt={dt} is not a time constant.", cure="Both must be positive."))
        decay = math.exp(-1 / steps)
        return decay, 1 - decay
    if not steps >= 1:
        raise ParameterError(
            explain(
                f"{name}: tau={tau}" + (f", dt={dt}" if dt is not None else "") + " is shorter than one step.",
                f"Euler's decay 1 - 1/tau would be {1 - 1 / steps if steps else -math.inf:.3g}, below 0.",
                cure="Give tau >= 1 step, or exact=True for decay = exp(-dt/tau).",
            )
        )
    return 1 - 1 / steps, 1 / steps


def one_number(name: str, **values: Any) -> None:
    """Refuse what is not one real number, tensors of many values among it; None is let through."""
    for key, value in values.items():
        if isinstance(value, bool) or not (value is None or isinstance(value, numbers.Real) or (isinstance(value, Tensor) and value.numel() == 1)):
            got = f"a {type(value).__name__} of shape {list(value.shape)}" if hasattr(value, "shape") else repr(value)
            cure = "One for all neurons of a layer; where each has its own, PLIF(shape=...) learns decays, and a threshold is a divisor of the weights before it."
            raise ParameterError(explain(f"{name}: {key} must be a number.", f"got {got}", cure=cure))


def positive(name: str, **values: float) -> None:
    """Refuse values that are not positive and finite."""
    one_number(name, **values)
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ParameterError(explain(f"{name}: {key}={value} must be positive."))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return f"{value.item():.4g} (learned)"
        return f"{list(value.shape)} in {value.min().item():.4g} .. {value.max().item():.4g} (learned)"
    return f"{value:.6g}"
