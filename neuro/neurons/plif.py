"""Leaky integrate-and-fire with a learned time constant."""

from __future__ import annotations

import math

import torch
from torch import nn

from neuro.neurons.base import Neuron, membrane_constants, positive
from neuro.neurons.lif import LIFParams, LIFState, lif_step
from neuro.reset import Reset, to_zero
from neuro.surrogate import ATan, Surrogate


class PLIF(Neuron):
    """Parametric LIF: the step of `LIF` with 1/tau = sigmoid(w) learned, so that tau stays above 1.

    `v <- (1 - sigmoid(w)) * v + sigmoid(w) * x`.

    Args:
        tau: initial time constant in steps, above 1.
        shape: shape of w, broadcast against [*N]: `()` for one per layer, `(C, 1, 1)` for one per channel of
            [C, H, W], `(C,)` for one per feature.
        threshold, spike, reset: as `LIF`.

    Shapes: x [T, B, *N] -> spikes [T, B, *N]. State: v [B, *N].

    Source: Fang et al. 2021, arXiv:2007.05785, eq. 8 and 10.

    >>> PLIF(tau=2.0).w.item()
    0.0
    """

    step = staticmethod(lif_step)
    State = LIFState

    def __init__(
        self,
        tau: float = 2.0,
        *,
        shape: tuple[int, ...] = (),
        threshold: float = 1.0,
        spike: Surrogate = ATan(),
        reset: Reset = to_zero,
    ):
        super().__init__(spike, reset)
        positive("PLIF", threshold=threshold, **{"tau - 1": tau - 1})
        _, gain = membrane_constants("PLIF", tau, None, None, False)
        self.w = nn.Parameter(torch.full(shape, math.log(gain / (1 - gain))))
        self.threshold = float(threshold)

    def params(self) -> LIFParams:
        gain = torch.sigmoid(self.w)
        return LIFParams(1 - gain, gain, self.threshold)
