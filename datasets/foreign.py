"""Transforms of tonic among ours, and ours among tonic's.

tonic calls `transform(events)` on arrays of this same dtype. `FromTonic` makes such a transform one of our steps;
`ForTonic` makes one of our steps or representations fit `tonic.transforms.Compose`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuro.datasets.augment import checked
from neuro.datasets.events import EVENT, Sensor, check_events, in_order, make_events
from neuro.errors import FormatError, explain

SIGNED = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "<i2")])  # polarity in a type that holds -1


@dataclass(frozen=True)
class FromTonic:
    """A transform of tonic, or any callable on one structured array, as a step `(events, sensor, rng)`.

    It is given a copy with integer polarity 0 and 1, because several of tonic's transforms misread booleans, and cannot
    reach the caller's events. Draws that it makes from NumPy's global generator come from `rng`, and the global
    generator is put back afterwards; without `rng` they are left to the global generator.

    Events that come back are checked. sort: True puts them in order of time, as tonic's jitter does not. Events off the
    sensor are an error. Anything else that comes back, such as frames, is returned as it is.

    Raises (on call):
        FormatError: events come back off the sensor, out of order without `sort`, or that do not fit the dtype.
    """

    transform: Callable[[np.ndarray], Any]
    sort: bool = False

    def __call__(self, events: np.ndarray, sensor: Sensor, rng: np.random.Generator | None = None) -> Any:
        given = checked(events, sensor).astype(SIGNED)
        with drawing_from(rng):
            result = self.transform(given)
        if not (isinstance(result, np.ndarray) and result.dtype.names):
            return result
        if not {"x", "y", "t", "p"} <= set(result.dtype.names):
            raise FormatError(explain(f"{self.transform} gave events with the fields {result.dtype.names}."))
        # tonic writes real numbers into integer fields of its own; what arrives here must be whole
        back = make_events(result["x"], result["y"], result["t"], result["p"] > 0)
        return check_events(in_order(back) if self.sort else back, sensor)


@dataclass(frozen=True)
class ForTonic:
    """A step or a representation of ours as a callable on events alone, for `tonic.transforms.Compose`.

    step: `(events, sensor, rng) -> events`, or `(events, sensor) -> array`; with `draws` False it is called without
    `rng`. Random draws come from (seed, epoch, content of the events), so a recording gets the same answer in every
    worker and on every call; give another epoch for other draws.

    Takes any structured array with x, y, t and p; polarity may be boolean, 0 and 1, or -1 and 1.

    Raises (on call):
        FormatError: values that do not fit, or a polarity of several other values.
    """

    step: Callable
    sensor: Sensor
    draws: bool = True
    seed: int = 0
    epoch: int = 0

    def __call__(self, events: np.ndarray) -> Any:
        ours = events if events.dtype == EVENT else converted(events)
        if not self.draws:
            return self.step(ours, self.sensor)
        content = zlib.crc32(np.ascontiguousarray(ours).view(np.uint8))
        return self.step(ours, self.sensor, np.random.default_rng([self.seed, self.epoch, content]))


def converted(events: np.ndarray) -> np.ndarray:
    """Any structured array with x, y, t and p as our events; a polarity of -1 is OFF."""
    p = events["p"]
    if len(p) and not np.isin(p, (-1, 0, 1)).all():
        raise FormatError(explain("A polarity is none of -1, 0 and 1.", f"values {np.unique(p)[:8]}"))
    return make_events(events["x"], events["y"], events["t"], p > 0)


@contextmanager
def drawing_from(rng: np.random.Generator | None) -> Iterator[None]:
    """Let NumPy's global generator draw from `rng` for a while."""
    if rng is None:
        yield
        return
    before = np.random.get_state()
    np.random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        np.random.set_state(before)
