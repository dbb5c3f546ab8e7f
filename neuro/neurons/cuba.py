"""Current-based LIF: the synaptic current has a memory of its own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from neuro.neurons.base import Neuron, membrane_constants, positive
from neuro.reset import Reset, charge, to_zero
from neuro.surrogate import ATan, Surrogate


class CUBAState(NamedTuple):
    u: Tensor  # synaptic current [B, *N]
    v: Tensor  # membrane potential [B, *N]


class CUBAParams(NamedTuple):
    current_decay: Tensor | float
    decay: Tensor | float
    gain: Tensor | float
    threshold: Tensor | float


def cuba_step(x: Tensor, state: CUBAState, p: CUBAParams, *, spike: Surrogate, reset: Reset) -> tuple[Tensor, CUBAState]:
    """`u <- current_decay * u + x; v <- decay * v + gain * u` (the new u); spike; reset v, never u."""
    u = p.current_decay * state.u + x
    v = charge(state.v, p.gain * u, p.decay, p.threshold, spike=spike, reset=reset)
    s = spike(v - p.threshold)
    return s, CUBAState(u, v if reset.delayed else reset(v, s, p.threshold))


class CUBALIF(Neuron):
    """Current-based LIF, the neuron of Loihi: `u <- a*u + x`, `v <- b*v + gain*u`, spike at threshold, reset v.

    Args:
        current_decay: a, in 0 .. 1; 0 makes it a `LIF`.
        tau, decay, dt, exact: the membrane's b and gain, as in `LIF`.
        threshold, spike, reset: as `LIF`.

    Shapes: x [T, B, *N] -> spikes [T, B, *N]. State: u and v, each [B, *N].

    Source: Davies et al. 2018, Loihi, eq. 1 and 2, in discrete time.
    """

    step = staticmethod(cuba_step)
    State = CUBAState

    def __init__(
        self,
        current_decay: float = 0.5,
        *,
        tau: float | None = None,
        decay: float | None = None,
        threshold: float = 1.0,
        dt: float | None = None,
        exact: bool = False,
        spike: Surrogate = ATan(),
        reset: Reset = to_zero,
    ):
        super().__init__(spike, reset)
        positive("CUBALIF", threshold=threshold)
        self.current_decay, _ = membrane_constants("CUBALIF: current_decay", None, current_decay, None, False)
        self.decay, self.gain = membrane_constants("CUBALIF", tau, decay, dt, exact)
        self.threshold = float(threshold)

    def params(self) -> CUBAParams:
        return CUBAParams(self.current_decay, self.decay, self.gain, self.threshold)
