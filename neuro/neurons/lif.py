"""Leaky integrate-and-fire, and integrate-and-fire as its leak-free case."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from neuro.neurons.base import Neuron, membrane_constants, positive
from neuro.reset import Reset, charge, to_zero
from neuro.surrogate import ATan, Surrogate


class LIFState(NamedTuple):
    v: Tensor  # membrane potential [B, *N]


class LIFParams(NamedTuple):
    decay: Tensor | float
    gain: Tensor | float
    threshold: Tensor | float


def lif_step(x: Tensor, state: LIFState, p: LIFParams, *, spike: Surrogate, reset: Reset) -> tuple[Tensor, LIFState]:
    """`v <- decay * v + gain * x`; spike where v reaches the threshold; reset. Gerstner et al. 2014, section 1.3."""
    v = charge(state.v, p.gain * x, p.decay, p.threshold, spike=spike, reset=reset)
    s = spike(v - p.threshold)
    return s, LIFState(v if reset.delayed else reset(v, s, p.threshold))


class LIF(Neuron):
    """Leaky integrate-and-fire neuron: `v <- decay*v + gain*x`, spike at `v >= threshold`, reset.

    Args:
        tau: membrane time constant in steps, at least 1; default 2. decay = 1 - 1/tau, gain = 1/tau. With `dt`, both in
            seconds; with `exact=True`, decay = exp(-dt/tau), gain = 1 - decay.
        decay: instead of tau, in 0 .. 1, with gain 1 (snnTorch's beta).
        threshold: positive.
        spike: comparison and surrogate gradient; `ATan(strict=True)` fires at `v > threshold`.
        reset: `neuro.reset.to_zero`, `subtract`, `none`, or an object of `neuro.reset`.

    Shapes: x [T, B, *N] -> spikes [T, B, *N]. State: v [B, *N], zero at the start.

    Raises:
        ParameterError: tau and decay together, or values out of range.

    Source: Gerstner, Kistler, Naud and Paninski 2014, Neuronal Dynamics, section 1.3.

    >>> import torch
    >>> LIF(tau=2.0)(torch.full((4, 1, 1), 1.5)).flatten().tolist()  # 0.75, then 1.125
    [0.0, 1.0, 0.0, 1.0]
    """

    step = staticmethod(lif_step)
    State = LIFState

    def __init__(
        self,
        tau: float | None = None,
        *,
        decay: float | None = None,
        threshold: float = 1.0,
        dt: float | None = None,
        exact: bool = False,
        spike: Surrogate = ATan(),
        reset: Reset = to_zero,
    ):
        super().__init__(spike, reset)
        positive(type(self).__name__, threshold=threshold)
        self.decay, self.gain = membrane_constants(type(self).__name__, tau, decay, dt, exact)
        self.threshold = float(threshold)

    def params(self) -> LIFParams:
        return LIFParams(self.decay, self.gain, self.threshold)


class IF(LIF):
    """Integrate-and-fire neuron: LIF with decay 1 and gain 1, `v <- v + x`. Arguments and shapes as `LIF`.

    >>> import torch
    >>> IF()(torch.full((4, 1, 1), 0.5)).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(self, *, threshold: float = 1.0, spike: Surrogate = ATan(), reset: Reset = to_zero, **unknown: Any):
        if unknown:
            raise TypeError(f"IF has no {', '.join(unknown)}: it does not leak. Use LIF.")
        super().__init__(decay=1.0, threshold=threshold, spike=spike, reset=reset)
