"""LIF that fires by chance: the closer to the threshold, the likelier."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neuro.errors import ParameterError, explain
from neuro.neurons.base import Neuron, as_current, membrane_constants, one_step, positive
from neuro.neurons.lif import LIFState
from neuro.reset import Reset, charge, to_zero
from neuro.scanning import scanned
from neuro.state import lengths, recall, remember
from neuro.surrogate import StraightThrough


class EscapeParams(NamedTuple):
    decay: Tensor | float
    gain: Tensor | float
    threshold: Tensor | float
    width: Tensor | float


def escape_step(inputs: tuple[Tensor, Tensor], state: LIFState, p: EscapeParams, *, spike: StraightThrough, reset: Reset) -> tuple[Tensor, LIFState]:
    """`v <- decay*v + gain*x`; a spike where sigmoid((v - threshold) / width) reaches the draw in 0 .. 1; reset.

    The gradient passes the draw as that of the firing probability.
    """
    x, draw = inputs
    v = charge(state.v, p.gain * x, p.decay, p.threshold, spike=spike, reset=reset)
    s = spike(torch.sigmoid((v - p.threshold) / p.width) - draw)
    return s, LIFState(reset(v, s, p.threshold))


class EscapeLIF(Neuron):
    """LIF with escape noise: it fires with probability `sigmoid((v - threshold) / width)` at each step.

    Draws come from torch's generator, one per neuron and step, so `torch.manual_seed` repeats a run. The derivative of a spike is
    that of its probability: the gradient of the expected spike, given the draws before.

    Args:
        tau, decay, dt, exact: the membrane, as in `LIF`.
        width: distance from the threshold over which the probability rises from 1/2 to 0.73, in units of v; positive.
        threshold, reset: as `LIF`; the reset is immediate.

    Shapes: x [T, B, *N] -> spikes [T, B, *N]. State: v [B, *N].

    Source: Gerstner, Kistler, Naud and Paninski 2014, Neuronal Dynamics, section 9.1.

    >>> neuron = EscapeLIF(width=0.5)
    >>> spikes = [torch.manual_seed(1) and neuron(torch.ones(4, 1, 8)) for _ in range(2)]
    >>> torch.equal(*spikes)
    True
    """

    step = staticmethod(escape_step)
    State = LIFState

    def __init__(
        self,
        tau: float | None = None,
        *,
        width: float = 0.25,
        decay: float | None = None,
        threshold: float = 1.0,
        dt: float | None = None,
        exact: bool = False,
        reset: Reset = to_zero,
    ):
        super().__init__(StraightThrough(), reset)
        positive("EscapeLIF", threshold=threshold, width=width)
        if reset.delayed:
            raise ParameterError(explain(f"EscapeLIF: {reset} would have to draw the last spike again.", cure="Give delayed=False."))
        self.decay, self.gain = membrane_constants("EscapeLIF", tau, decay, dt, exact)
        self.threshold, self.width = float(threshold), float(width)

    def params(self) -> EscapeParams:
        return EscapeParams(self.decay, self.gain, self.threshold, self.width)

    def forward(self, x: Tensor) -> Tensor:
        x = as_current("EscapeLIF", x)
        slot, state = recall(self, self.initial(one_step(x)))
        y, state = scanned(escape_step, (x, torch.rand_like(x)), state, self.params(), lengths(), self.choices(), after=slot is not None)
        remember(slot, state)
        return y
