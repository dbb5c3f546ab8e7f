"""Small objects as JSON: numbers, names, and the frozen dataclasses of this package by their name and fields.

So a saved model can carry its preprocessing and choices such as `ATan(2.0)` as data. Reading makes only dataclasses
that neuro itself defines in the modules listed here; nothing is unpickled and nothing is imported from the file.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from neuro.errors import FormatError, ParameterError, explain

_MODULES = (
    "neuro.datasets.transforms",
    "neuro.datasets.slices",
    "neuro.datasets.voxels",
    "neuro.datasets.surfaces",
    "neuro.datasets.hats",
    "neuro.datasets.stacking",
    "neuro.datasets.points",
    "neuro.datasets.events",
    "neuro.datasets.encoding",
    "neuro.datasets.centring",
    "neuro.datasets.resizing",
    "neuro.training.preprocess",
    "neuro.surrogate",
    "neuro.reset",
)


def describe(value: Any) -> Any:
    """`value` as JSON.

    Raises:
        ParameterError: something that cannot be described, with its place.

    >>> from neuro.surrogate import ATan
    >>> describe({"spike": ATan(3.0)})
    {'spike': {'object': 'neuro.surrogate.ATan', 'fields': {'alpha': 3.0, 'strict': False}}}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {k: describe(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.dtype, type)) and not dataclasses.is_dataclass(value):
        try:
            return {"dtype": np.dtype(value).name}
        except TypeError:
            pass
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and type(value).__module__ in _MODULES:
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"object": f"{type(value).__module__}.{type(value).__qualname__}", "fields": fields}
    raise ParameterError(
        explain(
            f"a {type(value).__module__}.{type(value).__qualname__} cannot be written as data.",
            repr(value)[:200],
            cure=f"Use numbers, names, lists, or the dataclasses of {', '.join(_MODULES)}.",
        )
    )


def build(value: Any) -> Any:
    """The value that `describe` described; lists come back as tuples.

    Raises:
        FormatError: an object that this package does not know, or that refuses its fields.
    """
    if isinstance(value, list):
        return tuple(build(v) for v in value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"dtype"}:
        try:
            return np.dtype(value["dtype"]).type
        except TypeError as error:
            raise FormatError(explain(f"{value['dtype']!r} is not a number type.")) from error
    if set(value) != {"object", "fields"}:
        return {k: build(v) for k, v in value.items()}
    module, _, name = str(value["object"]).rpartition(".")
    kind = getattr(importlib.import_module(module), name, None) if module in _MODULES else None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise FormatError(explain(f"{value['object']!r} is not an object that neuro can read from a file."))
    try:
        return kind(**{k: build(v) for k, v in value["fields"].items()})
    except (TypeError, ValueError) as error:
        raise FormatError(explain(f"{value['object']} does not take these fields.", str(error))) from error
