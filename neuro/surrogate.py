"""Spikes with a stand-in derivative: surrogate functions as objects.

Each is called with `u = v - threshold` and returns exactly 0 or 1 (`Levels`: a small whole number): 1 where `u >= 0`, or where `u > 0` with `strict=True`
(the rule of snnTorch and of Loihi). Backward multiplies by `derivative(u)`, which is the derivative of `primitive(u)`,
a smooth step. Neftci, Mostafa and Zenke 2019, arXiv:1901.09948.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuro.errors import ParameterError, explain


class _Fire(torch.autograd.Function):
    """Heaviside forward, `surrogate.derivative` backward and in forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate) -> Tensor:
        return (u > 0 if surrogate.strict else u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)
        ctx.save_for_forward(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(u), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (u,) = ctx.saved_tensors
        return tangent * ctx.surrogate.derivative(u)


@dataclass(frozen=True)
class Surrogate:
    """Base of the surrogates. A new one is a frozen dataclass with `derivative` (and `primitive`, for tests and plots)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "strict" and not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise ParameterError(
                    explain(f"{type(self).__name__}: {name}={value!r} is not a width or slope.", cure="Give a positive number.")
                )

    @property
    def comparison(self) -> str:
        """How the membrane is held against the threshold: `>=`, or `>` when strict."""
        return ">" if getattr(self, "strict", False) else ">="

    def __call__(self, u: Tensor) -> Tensor:
        """Spikes of `u = v - threshold`, same shape and dtype, exactly 0 or 1."""
        return _Fire.apply(u, self) if isinstance(u, Tensor) else u.fired_by(self)  # a symbol while a kernel is made

    def derivative(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def primitive(self, u: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class ATan(Surrogate):
    """`atan(pi/2 * alpha * u) / pi + 1/2`; derivative `alpha/2 / (1 + (pi/2 * alpha * u)^2)`.

    SpikingJelly's ATan, same alpha. Fang et al. 2021, arXiv:2007.05785, eq. 12.
    """

    alpha: float = 2.0
    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        return (self.alpha / 2) / (1 + (math.pi / 2 * self.alpha * u).square())

    def primitive(self, u: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * u) / math.pi + 0.5


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """`sigmoid(alpha * u)`; derivative `alpha * s * (1 - s)`, alpha/4 at the threshold. SpikingJelly's Sigmoid."""

    alpha: float = 4.0
    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * u)
        return self.alpha * s * (1 - s)

    def primitive(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * u)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """`u / (1 + k|u|)`; derivative `1 / (1 + k|u|)^2`, 1 at the threshold. snnTorch's fast_sigmoid, slope k = 25."""

    slope: float = 25.0
    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / (1 + self.slope * u.abs()).square()

    def primitive(self, u: Tensor) -> Tensor:
        return u / (1 + self.slope * u.abs())


@dataclass(frozen=True)
class SuperSpike(Surrogate):
    """Derivative `beta / (1 + beta|u|)^2`, beta at the threshold. Zenke and Ganguli 2018, SuperSpike, eq. 3, scaled
    so that the primitive rises by 2."""

    beta: float = 10.0
    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        return self.beta / (1 + self.beta * u.abs()).square()

    def primitive(self, u: Tensor) -> Tensor:
        return self.beta * u / (1 + self.beta * u.abs())


@dataclass(frozen=True)
class Triangle(Surrogate):
    """Derivative `height * max(0, 1 - |u|/width)`; zero beyond `width`. Bellec et al. 2018, arXiv:1803.09574."""

    width: float = 1.0
    height: float = 1.0
    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        return self.height * (1 - u.abs() / self.width).clamp(min=0)

    def primitive(self, u: Tensor) -> Tensor:
        inside = u.clamp(-self.width, self.width)
        return self.height * (inside - inside * inside.abs() / (2 * self.width) + self.width / 2)


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """Derivative `1/width` where `|u| <= width/2`, else 0: a straight line through the threshold. Wu et al. 2018, STBP, eq. 27."""

    width: float = 1.0
    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        return (u.abs() <= self.width / 2).to(u.dtype) / self.width

    def primitive(self, u: Tensor) -> Tensor:
        return (u / self.width + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """Derivative of the normal distribution: `exp(-(u/sigma)^2 / 2) / (sigma * sqrt(2 pi))`. Yin et al. 2021."""

    sigma: float = 0.4
    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        return torch.exp(-0.5 * (u / self.sigma).square()) / (self.sigma * math.sqrt(2 * math.pi))

    def primitive(self, u: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf(u / (self.sigma * math.sqrt(2))))


@dataclass(frozen=True)
class Tread(Rectangle):
    """`Rectangle` without its lower end, so that neighbours side by side share no point: one step of `Levels`."""

    def derivative(self, u: Tensor) -> Tensor:
        return ((u > -self.width / 2) & (u <= self.width / 2)).to(u.dtype) / self.width


@dataclass(frozen=True)
class Levels(Surrogate):
    """Whole numbers 0 .. levels instead of 0 or 1: how many k of 0 .. levels-1 are reached by `u >= k * unit`, u = v - threshold.

    A neuron with `reset=subtract` and unit = threshold gives off as many thresholds as it holds, at most `levels`. Derivative: 1/unit
    from half a unit below the first step to half a unit above the last, so that the gradient passes straight. With
    threshold = unit/2 and no memory (`LIF(decay=0.0)`) it rounds, as the neuron of QSD-Transformer, arXiv:2501.13492.

    >>> Levels(4)(torch.tensor([-0.5, 0.0, 1.2, 9.0])).tolist()
    [0.0, 1.0, 2.0, 4.0]
    """

    levels: int = 4
    unit: float = 1.0
    strict: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.levels, bool) or not isinstance(self.levels, int):
            raise ParameterError(explain(f"Levels: levels={self.levels!r} is not a whole number.", cure="Give 1 or more."))

    @property
    def step(self) -> Surrogate:
        """The surrogate of one step from a level to the next."""
        return Tread(self.unit, self.strict)

    def __call__(self, u: Tensor) -> Tensor:
        """Levels of `u = v - threshold`, same shape and dtype."""
        total = self.step(u)
        for k in range(1, self.levels):
            total = total + self.step(u - k * self.unit)
        return total

    def derivative(self, u: Tensor) -> Tensor:
        return sum((self.step.derivative(u - k * self.unit) for k in range(1, self.levels)), self.step.derivative(u))

    def primitive(self, u: Tensor) -> Tensor:
        return sum((self.step.primitive(u - k * self.unit) for k in range(1, self.levels)), self.step.primitive(u))


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """Derivative 1 everywhere: the gradient passes as if the step were the identity. Bengio et al. 2013."""

    strict: bool = False

    def derivative(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

    def primitive(self, u: Tensor) -> Tensor:
        return u
