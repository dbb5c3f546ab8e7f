"""From numbers to sequences: direct, rate, latency and delta coding. Time becomes axis 0."""

from __future__ import annotations

import torch
from torch import Tensor

from neuro.errors import ParameterError, ShapeError, explain


def direct(x: Tensor, steps: int) -> Tensor:
    """The same input at every step, without a copy: [B, ...] -> [T, B, ...].

    >>> direct(torch.ones(2, 3), steps=4).shape
    torch.Size([4, 2, 3])
    """
    _check_steps("direct", steps)
    return x.expand(steps, *x.shape)


def rate(x: Tensor, steps: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Spikes of probability x at every step (Bernoulli): [B, ...] in 0 .. 1 -> [T, B, ...].

    With a `generator`, on the device of x, the same spikes come again. (snntorch.spikegen.rate takes none, and clips
    what is out of range without a word.)

    >>> rate(torch.tensor([[0.0, 1.0]]), steps=3)[:, 0].tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    """
    _check_steps("rate", steps)
    _check_fraction("rate", x)
    return torch.bernoulli(direct(x, steps), generator=generator)


def latency(x: Tensor, steps: int, *, threshold: float = 0.01) -> Tensor:
    """One spike per value, the larger the earlier: at step `round((T-1) * (1-x))`, none below the threshold.

    [B, ...] in 0 .. 1 -> [T, B, ...]. The linear code of snntorch.spikegen.latency; its logarithmic one is normalised by
    the latest spike of the batch, so that a sample's code depends on the others.

    >>> latency(torch.tensor([[1.0, 0.5, 0.0]]), steps=3)[:, 0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    from snntorch import spikegen

    _check_steps("latency", steps)
    _check_fraction("latency", x)
    if not 0 < threshold < 1:
        raise ParameterError(explain(f"encode.latency: threshold={threshold} must lie between 0 and 1."))
    if steps == 1:
        return (x >= threshold).to(x.dtype)[None]
    return spikegen.latency(x, num_steps=steps, threshold=threshold, linear=True, normalize=True, clip=True).to(x.dtype)


def delta(x: Tensor, threshold: float = 0.1, *, off_spikes: bool = False) -> Tensor:
    """A spike where the value rose by at least the threshold since the last step; with `off_spikes`, -1 where it fell.

    [T, B, ...] -> [T, B, ...]; the first step is compared with 0.

    >>> delta(torch.tensor([0.0, 1.0, 1.0, 0.0]).view(4, 1, 1), 0.5, off_spikes=True).flatten().tolist()
    [0.0, 1.0, 0.0, -1.0]
    """
    from snntorch import spikegen

    if x.dim() < 2 or x.shape[0] == 0:
        raise ShapeError(explain("encode.delta: the input is not a sequence.", f"x {list(x.shape)}", cure="Time is axis 0: [T, B, ...]."))
    if not threshold > 0:
        raise ParameterError(explain(f"encode.delta: threshold={threshold} must be positive."))
    return spikegen.delta(x, threshold=threshold, off_spike=off_spikes)


def _check_steps(name: str, steps: int) -> None:
    if not (isinstance(steps, int) and steps >= 1):
        raise ParameterError(explain(f"encode.{name}: steps={steps!r} must be a whole number, at least 1."))


def _check_fraction(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ShapeError(explain(f"encode.{name}: x is {x.dtype}.", cure="Give floats in 0 .. 1, e.g. image.float() / 255."))
    if x.numel() and not bool(((x >= 0) & (x <= 1)).all()):
        raise ShapeError(
            explain(f"encode.{name}: values must lie in 0 .. 1.", f"x from {x.min().item():.4g} to {x.max().item():.4g}", cure="Scale them first.")
        )
