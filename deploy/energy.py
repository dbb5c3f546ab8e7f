"""Energy from counts: a price list applied to `neuro.deploy.work`, for a spiking network and for the same network as an ANN.

Everything that it takes under one name: counts (`work`), the same layers as an ANN (`opponents`), price lists (`profiles`), words that are moved (`traffic`), prices
applied (`pricing`), work between layers (`elementwise`), and both networks beside each other (`comparison`).
"""

from __future__ import annotations

from neuro.deploy.comparison import EnergyComparison, compare_energy, compare_on
from neuro.deploy.elementwise import Elementwise, elementwise_work
from neuro.deploy.opponents import ann_once_work, ann_work
from neuro.deploy.pricing import CONVENTIONS, EnergyReport, LayerEnergy, break_even_rate, estimate
from neuro.deploy.profiles import (
    PROFILES,
    Chip,
    Profile,
    access,
    fp32,
    int8,
    int8_narrow,
    int8_shared,
    loihi1,
    spinnaker2,
    with_activations,
)
from neuro.deploy.traffic import Traffic, accesses, traffic
from neuro.deploy.work import SecondState, Work, firing_rate, from_activity, from_twin

__all__ = ["CONVENTIONS", "PROFILES", "Chip", "Elementwise", "EnergyComparison", "EnergyReport", "LayerEnergy", "Profile", "SecondState", "Traffic", "Work", "access", "accesses", "ann_once_work",
           "ann_work", "break_even_rate", "compare_energy", "compare_on", "elementwise_work", "estimate", "firing_rate", "fp32", "from_activity", "from_twin", "int8", "int8_narrow", "int8_shared",
           "loihi1", "spinnaker2", "traffic", "with_activations"]  # fmt: skip
