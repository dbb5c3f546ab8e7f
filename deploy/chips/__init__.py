"""Limits of neuromorphic chips, as data with sources: one file per chip."""

from __future__ import annotations

from neuro.deploy.chips.akida import AKIDA
from neuro.deploy.chips.chip import OPERATIONS, RESOURCES, Chip, Fact, Shapes
from neuro.deploy.chips.loihi1 import LOIHI1
from neuro.deploy.chips.loihi2 import LOIHI2
from neuro.deploy.chips.speck import SPECK
from neuro.deploy.chips.spinnaker2 import SPINNAKER2
from neuro.deploy.chips.xylo import XYLO
from neuro.errors import unknown

__all__ = ["CHIPS", "OPERATIONS", "RESOURCES", "Chip", "Fact", "Shapes", "chip"]

CHIPS: dict[str, Chip] = {c.name: c for c in (AKIDA, LOIHI1, LOIHI2, SPECK, SPINNAKER2, XYLO)}


def chip(name: str) -> Chip:
    """The chip of this name, or UnknownName with the nearest names.

    >>> chip("loihi1").core["neurons"].value
    1024
    """
    if name not in CHIPS:
        raise unknown("chip", name, CHIPS)
    return CHIPS[name]
