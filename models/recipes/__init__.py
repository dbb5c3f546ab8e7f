"""Recipes by name. A recipe is one file with a typed `main`, read from top to bottom and meant to be copied."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from neuro.errors import FormatError, explain, unknown

RECIPES = {  # name, which is also that of the file: one line for the list
    "spikformer_nmnist": "Spikformer on N-MNIST, handwritten digits before an event camera",
    "spikformer_motions": "Spikformer on synthetic motions that differ only in their timing; no download",
    "conv_mnist": "convolutions on MNIST, pictures of handwritten digits",
    "conv_cifar10": "convolutions on CIFAR-10, small colour pictures",
    "conv_objects": "convolutions on objects on a turntable before an event camera, judged on another day's recordings",
    "series_digits": "neurons of many time constants on spoken digits (FSDD), through bands of a spectrogram",
    "series_braille": "the same on Braille letters under a fingertip with 12 taxels",
    "series_activities": "the same on accelerations of a smartwatch (WISDM), judged on unseen persons",
    "series_text": "the same on text, the next character at every step",
}


def load(name: str) -> ModuleType:
    """The module of a recipe, by its name or by the path of a file ending in .py.

    Raises:
        UnknownName: with the nearest names.
        FormatError: a file that is not there or has no `main`.
    """
    if not name.endswith(".py"):
        if name not in RECIPES:
            raise unknown("recipe", name, RECIPES)
        return importlib.import_module(f"neuro.models.recipes.{name}")
    path = Path(name)
    if not path.is_file():
        raise FormatError(explain(f"there is no recipe {path}.", cure=f"Known by name: {', '.join(RECIPES)}"))
    name = f"neuro_recipe_{path.stem}"  # so that a recipe called random.py takes nobody's place
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for what the file defines
    spec.loader.exec_module(module)
    if not hasattr(module, "main"):
        raise FormatError(explain(f"{path} has no function main.", cure="Copy a recipe of neuro and change it."))
    return module
