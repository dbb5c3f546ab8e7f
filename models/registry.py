"""Models by name: every entry is a function that returns a module, and its own test case."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from neuro.errors import ParameterError, explain, unknown

_FILES = ("spikformer", "plain")  # every file that registers models
_entries: dict[str, Entry] = {}


@dataclass(frozen=True)
class Entry:
    """A registered model: its maker, its published number of parameters, and the changes that make a small twin."""

    make: Callable[..., nn.Module]
    parameters: int | None
    small: dict[str, Any]


class Registered(NamedTuple):
    """How a model was made, kept on it as `model.registered`, so that it can be saved by name."""

    name: str
    changes: dict[str, Any]


def register(*, parameters: int | None = None, small: dict[str, Any] | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function under its own name.

    Args:
        parameters: the number of parameters it must have.
        small: changes of width, image, vocabulary and depth (at least 2) under which tests run it quickly.
    """

    def enter(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        @functools.wraps(make)
        def made(**changes: Any) -> nn.Module:
            model = make(**changes)
            model.registered = Registered(make.__name__, changes)
            return model

        _entries[make.__name__] = Entry(made, parameters, dict(small or {}))
        return made

    return enter


def entry(name: str) -> Entry:
    """The entry of a name; raises UnknownName with the nearest names."""
    _load()
    if name not in _entries:
        raise unknown("model", name, _entries)
    return _entries[name]


def names() -> list[str]:
    """All model names, sorted."""
    _load()
    return sorted(_entries)


def create(name: str, **changes: Any) -> nn.Module:
    """Make a model by name; `changes` replace fields of its Config.

    >>> create("spikformer_2_256", classes=11).config.classes
    11
    """
    try:
        return entry(name).make(**changes)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ParameterError(explain(f"model {name!r} cannot be changed like this.", f"changes {changes}", str(error))) from error


def small(name: str, **changes: Any) -> nn.Module:
    """The same model with only width, image, vocabulary and depth cut, for tests."""
    return create(name, **{**entry(name).small, **changes})


def _load() -> None:
    for file in _FILES:
        importlib.import_module(f"neuro.models.{file}")
