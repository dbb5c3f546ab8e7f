"""How long one time step takes, as a whole and layer by layer: a measured table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One operation: the node it belongs to, what it is, and its time."""

    name: str
    kind: str
    microseconds: float  # per time step, of the whole batch


@dataclass(frozen=True)
class Latency:
    """Times per step of one call.

    Attributes:
        steps, batch: of the input that was measured.
        step: microseconds per step of a whole call by `neuro.run`, the median of several, Python included.
        rows: every operation alone, with its input in the cache; one thread.
    """

    steps: int
    batch: int
    step: float
    rows: tuple[Row, ...]

    @property
    def operations(self) -> float:
        """Sum of the rows."""
        return sum(row.microseconds for row in self.rows)

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.rows], default=4)
        kind = max([len(row.kind) for row in self.rows], default=4)
        lines = [f"{'node':{width}}  {'kind':{kind}}  us/step  share"]
        lines += [f"{r.name:{width}}  {r.kind:{kind}}  {r.microseconds:7.2f}  {r.microseconds / max(self.operations, 1e-9):5.1%}" for r in self.rows]
        lines.append(f"operations one by one {self.operations:.1f} us per step; a call, T={self.steps}, B={self.batch}: {self.step:.1f} us per step")
        return "\n".join(lines)


def median_seconds(call: Callable[[], object], *, least: int = 5, seconds: float = 0.3) -> float:
    """Median time of a call, repeated at least so often and at least so long, after one call that is not counted."""
    call()
    times: list[float] = []
    while len(times) < least or (sum(times) < seconds and len(times) < 10_000):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
