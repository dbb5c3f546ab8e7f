"""Neurons: modules that take currents [T, B, *N] and return spikes of the same shape."""

from neuro.neurons.alif import ALIF, ALIFParams, ALIFState, alif_step
from neuro.neurons.base import Neuron
from neuro.neurons.cuba import CUBALIF, CUBAParams, CUBAState, cuba_step
from neuro.neurons.escape import EscapeLIF, EscapeParams, escape_step
from neuro.neurons.lif import IF, LIF, LIFParams, LIFState, lif_step
from neuro.neurons.plif import PLIF
from neuro.neurons.recurrent import Recurrent, recurrent_step

__all__ = [
    "ALIF", "CUBALIF", "EscapeLIF", "IF", "LIF", "PLIF", "ALIFParams", "ALIFState", "CUBAParams", "CUBAState", "EscapeParams", "LIFParams", "LIFState",
    "Neuron", "Recurrent", "alif_step", "cuba_step", "escape_step", "lif_step", "recurrent_step",
]  # fmt: skip
