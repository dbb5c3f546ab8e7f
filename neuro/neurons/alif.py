"""Adaptive-threshold LIF: every spike makes the next one harder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from neuro.errors import ParameterError, explain
from neuro.neurons.base import Neuron, membrane_constants, positive
from neuro.reset import Reset, subtract
from neuro.surrogate import ATan, Surrogate


class ALIFState(NamedTuple):
    v: Tensor  # membrane potential [B, *N]
    a: Tensor  # adaptation [B, *N]


class ALIFParams(NamedTuple):
    decay: Tensor | float
    gain: Tensor | float
    threshold: Tensor | float
    adapt_decay: Tensor | float
    adapt_step: Tensor | float


def alif_step(x: Tensor, state: ALIFState, p: ALIFParams, *, spike: Surrogate, reset: Reset) -> tuple[Tensor, ALIFState]:
    """`A = threshold + adapt_step * a; v <- decay*v + gain*x; s = v >= A; a <- adapt_decay*a + s`. Reset uses A."""
    height = p.threshold + p.adapt_step * state.a
    v = p.decay * state.v + p.gain * x
    s = spike(v - height)
    return s, ALIFState(reset(v, s, height), p.adapt_decay * state.a + s)


class ALIF(Neuron):
    """LIF whose threshold rises by `adapt_step` with each spike and decays back.

    `A[t] = threshold + adapt_step * a[t]`, `a[t+1] = adapt_decay * a[t] + s[t]`.

    Args:
        tau, decay, dt, exact: the membrane, as in `LIF`.
        adapt_decay: in 0 .. 1; adapt_step: 0 or more, in units of v.
        threshold, spike, reset: as `LIF`; the default reset subtracts the threshold in force. A delayed reset is
            refused: one step later that threshold is no longer known.

    Shapes: x [T, B, *N] -> spikes [T, B, *N]. State: v and a, each [B, *N].

    Source: Bellec et al. 2018, arXiv:1803.09574, eq. 3 to 5.
    """

    step = staticmethod(alif_step)
    State = ALIFState

    def __init__(
        self,
        tau: float | None = None,
        *,
        decay: float | None = None,
        adapt_decay: float = 0.95,
        adapt_step: float = 0.1,
        threshold: float = 1.0,
        dt: float | None = None,
        exact: bool = False,
        spike: Surrogate = ATan(),
        reset: Reset = subtract,
    ):
        super().__init__(spike, reset)
        if reset.delayed:
            raise ParameterError(explain(f"ALIF: {reset} comes after the threshold that it belongs to has moved.", cure="Give delayed=False."))
        positive("ALIF", threshold=threshold, **{"adapt_step + 1": adapt_step + 1})
        self.decay, self.gain = membrane_constants("ALIF", tau, decay, dt, exact)
        self.adapt_decay, _ = membrane_constants("ALIF: adapt_decay", None, adapt_decay, None, False)
        self.adapt_step = float(adapt_step)
        self.threshold = float(threshold)

    def params(self) -> ALIFParams:
        return ALIFParams(self.decay, self.gain, self.threshold, self.adapt_decay, self.adapt_step)
