"""Python's own `min`, `max` and `math.pow`, which torch.export replaces for the whole process while it follows a model."""

import builtins
import math
from collections.abc import Iterator
from contextlib import contextmanager

_OWN = ((builtins, "min", builtins.min), (builtins, "max", builtins.max), (math, "pow", math.pow))


@contextmanager
def own_builtins() -> Iterator[None]:
    """Inside, kernels can be compiled: Numba knows the functions of Python, and none that stand in for them.

    >>> import math
    >>> own, math.pow = math.pow, lambda x, y: x**y
    >>> with own_builtins():
    ...     math.pow is own
    True
    >>> math.pow is own
    False
    >>> math.pow = own
    """
    before = [(home, name, getattr(home, name)) for home, name, _ in _OWN]
    for home, name, own in _OWN:
        setattr(home, name, own)
    try:
        yield
    finally:
        for home, name, was in before:
            setattr(home, name, was)
