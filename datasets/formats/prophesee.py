"""The header of Prophesee RAW files, and what their three encodings EVT 2.0, 2.1 and 3.0 share.

Lines that start with `% ` (key, value), up to `% end` or the first line that is none, then little-endian words. The
encoding stands in `% evt 3.0` or `% format EVT3;height=720;width=1280`; the size also in `% geometry 1280x720`.
Source: Prophesee, "RAW file format", Metavision SDK documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from neuro.datasets.events import EVENT, Sensor
from neuro.datasets.formats.block import (
    LONGEST_LINE,
    Block,
    Head,
    least,
    leftover,
    reached,
    size_from,
    text_lines,
    trimmed,
)

GENERATIONS = {"gen3": Sensor(480, 640), "gen41": Sensor(720, 1280), "gen4": Sensor(720, 1280), "imx636": Sensor(720, 1280)}


def version(data: np.ndarray) -> str:
    """"2.0", "2.1", "3.0", or "" for a file of another kind."""
    facts = dict(line.partition(" ")[::2] for line in text_lines(data, b"% ")[0])
    named = re.match(r"EVT(\d)(\d?)", facts.get("format", "").upper())
    return facts.get("evt") or (f"{named[1]}.{named[2] or 0}" if named else "")


def head(data: np.ndarray) -> Head:
    """Lines as facts; the size from them, or from the name of the plugin, which tells the generation of the sensor."""
    lines, _ = text_lines(data, b"% ")
    at = 0
    for count, line in enumerate(lines):
        at += bytes(data[at : at + LONGEST_LINE + 2]).index(b"\n") + 1
        if line == "end":
            lines = lines[:count]
            break
    facts = dict(line.partition(" ")[::2] for line in lines)
    form = dict(part.partition("=")[::2] for part in facts.get("format", "").split(";"))
    width, _, height = facts.get("geometry", "").partition("x")
    sensor = size_from(form.get("width"), form.get("height")) or size_from(width, height)
    if sensor is None:
        plugin = facts.get("plugin_name", "").lower()
        sensor = next((size for name, size in GENERATIONS.items() if name in plugin), None)
        if sensor is not None:
            facts["sensor"] = f"{sensor.width}x{sensor.height}, from plugin_name"
    return Head(at, sensor, facts)


def decode(data: np.ndarray, head: Head, size: int, width: int, most: int, loop, names: dict[int, str]) -> Iterator[Block]:
    """Run `loop` over words of `width` bytes of which one yields at most `most` events.

    `loop(words, events, state, others)`: see `evt.py`; `state` (int64 [8]) carries it from block to block, `others`
    (int64 [17]) counts by type the words that are no events, and in [16] those before the first time.
    """
    from neuro.datasets.formats.evt import WORDS  # numba is heavy

    whole, rest = divmod(len(data) - head.start, width)
    state, step = np.zeros(8, np.int64), max(1, size)
    state[0] = state[6] = -1  # no time yet
    for start in range(0, whole, step):
        piece = data[head.start + start * width : head.start + min(start + step, whole) * width]
        part, others = piece.view(WORDS[width]), np.zeros(17, np.int64)
        events, before = np.empty(capacity(part["bits"], most), EVENT), state.copy()
        n, *reach = loop(part, events, state, others)
        counts = {names.get(k, f"words of type {k:#x}"): int(others[k]) for k in np.flatnonzero(others)}
        place = placed(loop, part, len(events), before, head.start + start * width)
        yield Block(trimmed(events, n), counts, place=place, reach=reached(*reach))
    if rest:
        yield leftover(data, rest, width, "a word")


def placed(loop, words: np.ndarray, room: int, state: np.ndarray, at: int) -> Callable[[int], int]:
    """`Block.place` of words from byte `at`: decodes them again up to an event, which only a fault asks for."""

    def count(units: int) -> int:
        return loop(words[:units], np.empty(room, EVENT), state.copy(), np.zeros(17, np.int64))[0]

    return lambda k: at + words.itemsize * least(count, len(words), k)


def capacity(words: np.ndarray, most: int) -> int:
    """Events that the words can hold, counted where a word may hold many."""
    if most == 1:
        return len(words)
    if words.dtype.itemsize == 8:
        mask = words[(words >> 60) < 2].astype("<u4")
        return ones(mask)
    kind = words >> 12
    vectors = words[(kind == 4) | (kind == 5)] & 0xFFF
    return int((kind == 2).sum()) + ones(vectors)


def ones(words: np.ndarray) -> int:
    """Bits that are set."""
    return int(np.count_nonzero(np.unpackbits(words.view(np.uint8))))
