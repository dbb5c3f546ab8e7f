"""Tables as the plots read them: columns of numbers from a DataFrame, from rows, or from a mapping of lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def columns(table: Any) -> dict[str, list[Any]]:
    """Columns by name, in order. A cell that a row does not name is None.

    >>> columns([{"epoch": 1, "loss": 2.0}, {"epoch": 2}])
    {'epoch': [1, 2], 'loss': [2.0, None]}
    """
    if hasattr(table, "to_dict") and hasattr(table, "columns"):  # pandas
        return {str(name): list(table[name]) for name in table.columns}
    if isinstance(table, Mapping):
        return {str(name): list(values) for name, values in table.items()}
    rows = list(table)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {str(name): [row.get(name) for row in rows] for name in names}


def numbers(values: Any) -> np.ndarray:
    """Float array; empty cells and text that is not a number are NaN."""
    return np.array([number(v) for v in values], dtype=float)


def number(value: Any) -> float:
    """A cell as float, NaN where it holds none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def array(values: Any) -> np.ndarray:
    """A NumPy array from anything array-like, also from a tensor on any device that carries gradients."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return values.float().numpy() if values.dtype.is_floating_point else values.numpy()
    return np.asarray(values)
