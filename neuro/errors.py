"""Errors that give the act, the values, the cause and the cure.

Every error of ours is a `NeuroError` and also the builtin that a caller would expect (`ValueError`,
mostly), so that `except ValueError` keeps working. `explain` lays the four parts out the same way everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class NeuroError(Exception):
    """Base of every error that this package raises on purpose."""


class ShapeError(NeuroError, ValueError):
    """A tensor has the wrong rank, size, axis order, dtype or device."""


class StateError(NeuroError, ValueError):
    """A state does not belong to this model, this batch or this call."""


class ParameterError(NeuroError, ValueError):
    """A constructor or function was given values that make no sense together."""


class UnknownName(NeuroError, KeyError, ValueError):
    """A registry, recipe or option does not hold this name."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class FormatError(NeuroError, ValueError):
    """A file is damaged, truncated, foreign, or of a newer version than this package reads."""


class GraphError(NeuroError, ValueError):
    """A network cannot be traced, or a target cannot hold one of its nodes."""


class LavaError(NeuroError, RuntimeError):
    """Lava's interpreter is missing, failed or hung."""


def explain(act: str, *facts: str, cure: str = "") -> str:
    """Lay out a message: the act on the first line, then facts (values, cause), then the cure.

    >>> print(explain("LIF: the state does not fit the input.", "x [T=16, B=8, N=512]", cure="Pass state=None."))
    LIF: the state does not fit the input.
      x [T=16, B=8, N=512]
      Pass state=None.
    """
    return "\n  ".join([act, *(f for f in facts if f), *([cure] if cure else [])])


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that is not in a registry, with the nearest names that are.

    >>> print(unknown("model", "spikfromer", ["spikformer", "spikegpt"]))
    model 'spikfromer' is not known.
      Did you mean spikformer?
      Known: spikegpt, spikformer
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    shown = ", ".join(known) if known else "none"
    meant = f"Did you mean {' or '.join(near)}?" if near else ""
    return UnknownName(explain(f"{kind} {name!r} is not known.", meant, f"Known: {shown}"))


def nothing_there(kind: str, path: Path, cure: str = "") -> str:
    """The message for a path that should be a "folder" or a "file": it says so where the other one is there.

    >>> print(nothing_there("folder", Path("/nowhere"), "Name one."))
    There is no folder /nowhere.
      Name one.
    """
    other = "a file, not a folder" if kind == "folder" and path.is_file() else "a folder, not a file" if kind == "file" and path.is_dir() else ""
    return explain(f"{path} is {other}." if other else f"There is no {kind} {path}.", cure=cure)


def not_a_tensor(name: str, x: object) -> ShapeError:
    """The error for an input that is no tensor, with the way to one.

    >>> print(not_a_tensor("LIF", [0.0, 1.0]))
    LIF: the input is not a tensor.
      x is a builtins.list
      Use torch.tensor(x), with time on axis 0 and batch on axis 1.
    """
    kind = f"{type(x).__module__}.{type(x).__qualname__}"
    ways = {"numpy.ndarray": "Use torch.from_numpy(x)", "builtins.list": "Use torch.tensor(x)", "builtins.tuple": "Use torch.tensor(x)"}
    cure = f"{ways.get(kind, 'Give a torch.Tensor')}, with time on axis 0 and batch on axis 1."
    return ShapeError(explain(f"{name}: the input is not a tensor.", "x is None" if x is None else f"x is a {kind}", cure=cure))


def sizes(**axes: int) -> str:
    """Name the sizes of a shape: `sizes(T=16, B=8)` gives `[T=16, B=8]`."""
    return "[" + ", ".join(f"{name}={size}" for name, size in axes.items()) + "]"
