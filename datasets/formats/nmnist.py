"""The event files of N-MNIST (`.bin`; SLAYER's `.bs2` is the same): 5 bytes an event, nothing else.

    bits, most significant first:   x 8   y 8   p 1 (1: ON)   t 23 (microseconds)

x runs to the right, y downward, both 0 to 33. Source: the description that comes with the data, Orchard, Jayawant,
Cohen, Thakor, "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades", 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from neuro.datasets.events import EVENT, Sensor, check_events, describe
from neuro.datasets.formats.block import Block, Head, leftover, reached, steps
from neuro.errors import FormatError, explain

SENSOR = Sensor(34, 34)
WIDTH = 5  # bytes of an event
LAST_US = 2**23 - 1  # the largest time that fits


def read_nmnist(source: str | PathLike | bytes, *, sensor: Sensor = SENSOR, name: str = "") -> np.ndarray:
    """The events of one file, given by its path or by its bytes. `name` stands for the bytes in messages.

    Raises:
        FormatError: a length that is no multiple of 5, a coordinate outside the sensor, or time running backwards;
            the message names the file and the byte.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = source, name or f"{len(source)} bytes"
    else:
        with open(source, "rb") as file:
            data, name = file.read(), name or str(source)
    whole, rest = divmod(len(data), WIDTH)
    if rest:
        raise FormatError(
            explain(
                f"read_nmnist: {name} is truncated, or is not an N-MNIST file.",
                f"{len(data)} bytes: {whole} events of {WIDTH} bytes, and {rest} bytes left at byte {whole * WIDTH}",
            )
        )
    from neuro.datasets.formats.fixed import FIVE, fives  # numba is heavy

    words = np.frombuffer(data, np.uint8)
    words.flags.writeable = False  # one type of array for the loop
    events = np.empty(whole, EVENT)
    _, right, below, ordered = fives(words.view(FIVE), events)
    if ordered and right < sensor.width and below < sensor.height:
        return events
    outside = np.flatnonzero((events["x"] >= sensor.width) | (events["y"] >= sensor.height))
    if len(outside):
        fault = f"an event outside the sensor of height={sensor.height} width={sensor.width}"
        raise damaged(name, fault, events, int(outside[0]))
    late = int(np.flatnonzero(np.diff(events["t"]) < 0)[0])
    raise damaged(name, f"a time before the one of the last event, {events['t'][late]} us", events, late + 1)


def damaged(name: str, fault: str, events: np.ndarray, index: int) -> FormatError:
    """The error for a bad event: where it is and what was there."""
    fact = f"event {index} at byte {index * WIDTH}: {describe(events[index])}"
    return FormatError(explain(f"read_nmnist: {name} holds {fault}.", fact, cure="The file is damaged or foreign."))


def write_nmnist(events: np.ndarray, path: str | PathLike | None = None, *, sensor: Sensor = SENSOR) -> bytes:
    """The bytes that `read_nmnist` reads back; also written to `path` if given.

    Raises:
        FormatError: events that are out of order or off the sensor, or a time that does not fit 23 bits.
    """
    check_events(events, sensor)
    if max(sensor.width, sensor.height) > 256:
        raise FormatError(explain("write_nmnist: coordinates have 8 bits, the sensor needs more.", repr(sensor)))
    wrong = np.flatnonzero((events["t"] < 0) | (events["t"] > LAST_US))
    if len(wrong):
        fact = f"events[{wrong[0]}] = {describe(events[wrong[0]])}"
        raise FormatError(
            explain(f"write_nmnist: times must lie in 0 to {LAST_US} us.", fact, cure="Subtract the start.")
        )
    t = events["t"]
    columns = (events["x"], events["y"], events["p"].astype(np.int64) << 7 | t >> 16, t >> 8 & 255, t & 255)
    data = np.stack(columns, axis=1).astype(np.uint8).tobytes()
    if path is not None:
        Path(path).write_bytes(data)
    return data


def head(data: np.ndarray) -> Head:
    """No head. The sensor is N-MNIST's if the first 4096 events fit it; N-Caltech101, of the same layout, states none."""
    first = data[: min(len(data) // WIDTH, 4096) * WIDTH].reshape(-1, WIDTH)
    fits = len(first) and max(first[:, 0].max(), first[:, 1].max()) < SENSOR.width  # far quicker than over both at once
    return Head(0, SENSOR if fits else None, {})


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of `size` events."""
    from neuro.datasets.formats.fixed import FIVE, fives  # numba is heavy

    whole, rest = divmod(len(data), WIDTH)
    for start in range(0, whole, size):
        words = data[start * WIDTH : min(start + size, whole) * WIDTH].view(FIVE)
        events = np.empty(len(words), EVENT)
        _, *reach = fives(words, events)
        yield Block(events, place=steps(start * WIDTH, WIDTH), reach=reached(*reach))
    if rest:
        yield leftover(data, rest, WIDTH)


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file."""
    return write_nmnist(events, sensor=sensor)


NAME = "N-MNIST"
