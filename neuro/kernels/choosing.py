"""Which form a product with spikes takes: dense, driven by its events, or looked up.

The choice is a function of the layer's sizes, the number of events and a table of measured costs (`costs.py`). The table is measured once per
machine and versions, on one thread by the processor's clock, which others on the machine hardly change; kept in the user's cache folder, divided by
the number of threads, and put into the folder of every run, so that a resumed run chooses as it did before.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from neuro.errors import FormatError, ParameterError, explain
from neuro.files import WriteError
from neuro.kernels import cache
from neuro.kernels.costs import FIXED, VERSION, Costs, Fixed, load, save

WORTH = 4e7  # products of a dense layer (1 ms of it on two cores) below which asking, 50 us with cold caches, would cost over 5 %

_chosen: Costs | Fixed | None = None
_within: list[list[Costs | Fixed | None]] = []  # what held before each `deterministic` under way, the last one entered at the end
_never_dense = os.environ.get("NEURO_PRODUCTS") in FIXED[1:]
_lock = threading.RLock()


def use(table: Costs | Fixed | None) -> None:
    """Choose by this table from now on, in all threads; or always the one form; None: by the machine's own table."""
    global _chosen, _never_dense
    if not (table is None or isinstance(table, Costs) or table in FIXED):
        raise ParameterError(explain("choosing.use: there is no such form.", f"got {table!r}", cure='A table of costs, "dense", "events", "lookup" or None.'))
    _chosen, _never_dense = table, (os.environ.get("NEURO_PRODUCTS") if table is None else table) in FIXED[1:]


@contextmanager
def deterministic(table: Costs | Fixed = "dense") -> Iterator[None]:
    """Inside, products with spikes take one form whatever the machine: "dense", "events", or what the given table chooses.

    "lookup" looks sums up where the processor can (`neuro.kernels.spike_lookup`) and goes by events elsewhere, in float64 and in the weight's
    gradient of a convolution with strides too. It holds for all threads. Of several that enter it, the last one's choice holds, and what
    held before the first comes back when all have left, in whatever order.

    >>> with deterministic():
    ...     current()
    'dense'
    """
    with _lock:
        before = [_chosen]
        use(table)
        _within.append(before)
    try:
        yield
    finally:
        with _lock:
            at = next(k for k, other in enumerate(_within) if other is before)
            if at == len(_within) - 1:
                use(before[0])
            else:
                _within[at + 1][0] = before[0]  # entered later, and still inside: it gives back what held before both
            del _within[at]


@contextmanager
def kept_in(path: str | Path, *, write: bool = True) -> Iterator[None]:
    """Inside, products choose by the table in this file; where there is none yet, by the present one, which is written there.

    Args:
        write: whether this process is the one of several that writes.
    """
    path = Path(path)
    chosen = load(path) if path.exists() else current()
    if write and not path.exists():
        save(path, chosen)
    with deterministic(chosen):
        yield


def asked() -> Costs | Fixed | None:
    """What was asked for: by `use`, else by `NEURO_PRODUCTS` (dense, events, lookup, or the path of a table). None: nothing was."""
    if _chosen is not None:
        return _chosen
    return _from_environment()


def is_small(products: int) -> bool:
    """Whether a dense product of so many multiplications is not worth a question. Every layer asks this, so it is quick.

    In a graph for any batch it would bind the batch, and products are torch's own there anyway.
    """
    return torch.compiler.is_compiling() or (products < WORTH and not _never_dense)


def current() -> Costs | Fixed:
    """What chooses now: what was `asked`, else the machine's table, measured where there is none yet."""
    found = asked()
    return _of_machine(torch.get_num_threads()) if found is None else found


@functools.cache
def _from_environment() -> Costs | Fixed | None:
    named = os.environ.get("NEURO_PRODUCTS")
    if named in FIXED:
        return named  # type: ignore[return-value]
    return Costs.load(named) if named else None


_measured: dict[int, Costs] = {}


def _of_machine(threads: int) -> Costs:
    found = _measured.get(threads)
    if found is not None:
        return found
    with _lock:
        if 1 not in _measured:
            path = cache.folder().parent / f"products-{_key()}.json"
            try:
                _measured[1] = Costs.load(path)
            except FormatError:  # none yet, or not ours: measured and written
                _measured[1] = _measure_into(path)
        if threads not in _measured:
            _measured[threads] = _measured[1].on(threads)
        return _measured[threads]


def _measure_into(path: Path) -> Costs:
    from neuro.kernels.calibrating import measure

    print("neuro: measuring what products with spikes cost on this machine (once, some 20 seconds, most of them compiling)", file=sys.stderr, flush=True)
    costs = measure()
    try:
        costs.save(path)
    except WriteError as refused:
        warnings.warn(f"The costs of products are not kept, so every process measures them. {refused}", RuntimeWarning, stacklevel=2)
    return costs


def _key() -> str:
    import numba

    parts = (_processor(), torch.__version__, numba.__version__, str(VERSION))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return f"{platform.machine()} {platform.processor()}"
