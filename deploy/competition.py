"""Which neuron of a class learns a recording, and how much of itself it gives up: the learning parameters of Akida.

What the vendor documents (Akida user guide, "Using Akida Edge learning"; tutorial "Tips to set Akida edge learning parameters"; both in
the repository Brainchip-Inc/akida_examples) and where it stands here:

    num_weights           ones of every neuron, the same for all and constant: `ones`; 1.2 times the median of active inputs: `ones_for`
    num_classes           equal groups of neurons; with a label only its group may learn; one neuron learns per recording
    initial_plasticity    0 .. 1, default 1; with 0 nothing is ever learned; plasticity never rises: `initial`
    plasticity_decay      0 .. 1, default 0.25; what is lost with each learning step, relative to the initial plasticity: `decay`
    min_plasticity        0 .. 1, default 0.1; where the fall ends: `lowest`
    learning_competition  0 .. 1, default 0; how far neurons that have learned keep others from learning similar features: `competition`

That learning waits for the potential to reach a learning threshold of the neuron is in the vendor's patent (US 11,657,257, abstract),
and that a neuron has such a threshold, above 0 once it has learned, in the tutorial. What the threshold is worth, what learns when none
is reached, and how many connections a plasticity moves is not published. Assumed here, and to be read as ours:

    p(k)  = max(min(lowest, initial), initial - k * decay * initial)    plasticity of a neuron that has learned k times
    m     = min(ones, active inputs of the recording)                   the most it can share with any neuron
    claim : a neuron that has learned claims what it shares at least  m - floor(competition * m)  ones with
    learns: of the neurons that claim, the best match; if none does, the best match among those that never learned; if there are none, the
            best match of all; the first one if two are equal
    moves : ceil(p * min(ones the recording does not use, inputs of it that are not connected)) connections, drawn at random

So with competition 0 a learned neuron claims only what it already holds whole, and every other recording goes to a fresh one; with
competition 1 the first neuron of a class takes all of its recordings. All of it is exact: shares are fractions, not floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class Competition:
    """Learning parameters of a layer, each 0 .. 1, with the vendor's defaults.

    Raises:
        ParameterError: a number out of its range.

    >>> how = Competition()
    >>> [float(how.plasticity(k)) for k in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.1, 0.1]
    >>> how.learner(np.array([9, 4, 2]), np.array([1, 0, 0]), most=10)          # 9 of 10 are not all: a fresh neuron learns it
    1
    >>> Competition(competition=0.1).learner(np.array([9, 4, 2]), np.array([1, 0, 0]), most=10)
    0
    """

    initial: float = 1.0
    decay: float = 0.25
    lowest: float = 0.1
    competition: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value <= 1:
                raise ParameterError(explain(f"Competition: {name} is out of its range.", f"{name} {value!r}", cure="Give a number in 0 .. 1."))

    def plasticity(self, times: int) -> Fraction:
        """Of a neuron that has learned so often."""
        initial, decay, lowest = exact(self.initial), exact(self.decay), exact(self.lowest)
        return max(min(lowest, initial), initial - int(times) * decay * initial)

    def claim(self, most: int) -> int:
        """Ones that a neuron that has learned must share to claim a recording, of which it can share `most`."""
        return most - floor(exact(self.competition) * most)

    def learner(self, shared: np.ndarray, times: np.ndarray, most: int) -> int:
        """The neuron of a class that learns. shared: ones shared, int [neurons]; times: each has learned, int [neurons]."""
        learned = times > 0
        for may in (learned & (shared >= self.claim(most)), ~learned):
            if may.any():
                return int(np.where(may, shared, -1).argmax())
        return int(shared.argmax())


def exact(share: float) -> Fraction:
    """The fraction meant by a decimal number: 0.1 is a tenth."""
    return Fraction(float(share)).limit_denominator(10**6)


def swap(w: np.ndarray, sample: np.ndarray, plasticity: Fraction, rng: np.random.Generator) -> None:
    """Move this share of the ones that the sample does not use to inputs that it does, in place. w, sample: uint8 [inputs]."""
    unused, missing = np.flatnonzero((w == 1) & (sample == 0)), np.flatnonzero((w == 0) & (sample == 1))
    moved = ceil(plasticity * min(len(unused), len(missing)))
    w[rng.choice(unused, moved, replace=False)] = 0
    w[rng.choice(missing, moved, replace=False)] = 1
