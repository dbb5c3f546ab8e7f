"""Text: one event a line, its numbers between commas, semicolons, tabs or spaces.

    # sensor 128x128      lines with `#` or `%` are comments; this one gives the sensor, as does a first line `128 128`
    t,x,y,p               names of the columns, in any order, other columns between them; may be missing
    11718656,874,200,0

Without names the order is the one of t x y p, x y p t (Metavision), x y t p that fits most of the first 256 lines; the
facts say "guessed". A time with a fraction is seconds, otherwise microseconds; decimal digits are read exactly and rounded to
the nearest microsecond. p is 0 or -1 (OFF), 1 (ON), True or False. Source: "Event Camera Dataset", Robotics and
Perception Group, Zurich (t x y p in seconds); Metavision SDK, `metavision_file_to_csv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import EVENT, Sensor
from neuro.datasets.formats.block import LONGEST_LINE, PRINTABLE, Block, Head, foreign, least, size_from, trimmed
from neuro.datasets.formats.columns import guess_order, in_seconds, pick

NAME = "text"
FIRST_US, LAST_US = -(10**17), 10**17
LINES = 256  # that a guess rests on
LONG = 512  # bytes; a line of numbers is shorter


def lines_of(data: np.ndarray, at: int, most: int) -> list[bytes]:
    """At most `most` lines from byte `at`, without those that are cut at the end of what is looked at."""
    piece = bytes(data[at : at + LONGEST_LINE])
    lines = piece.split(b"\n")[:most]
    return lines if at + len(piece) == len(data) or len(lines) == most else lines[:-1]


def fields(line: bytes) -> list[str]:
    """The fields of a line."""
    text = line.removeprefix(b"\xef\xbb\xbf").decode("latin-1").strip()  # a mark that some programs put first
    mark = next((mark for mark in ",;" if mark in text), None)
    return [part.strip() for part in text.split(mark)]


def numbers(line: bytes) -> list[float] | None:
    """The fields as numbers, those that are none as NaN; None where all are none."""
    found = []
    for part in fields(line):
        try:
            found.append(float({"true": "1", "false": "0"}.get(part.lower(), part)))
        except ValueError:
            found.append(float("nan"))
    return found if any(value == value for value in found) else None


def parts(data: np.ndarray) -> tuple[list[str], list[str] | None, Sensor | None, int]:
    """Comments, names of columns, sensor from a line of two numbers, and the byte of the first line of numbers."""
    comments, names, sensor, at = [], None, None, 0
    for line in lines_of(data, 0, LONGEST_LINE):
        plain = line.strip()
        values = numbers(line) if plain else None
        if plain[:1] in (b"#", b"%"):
            comments.append(plain[1:].decode("latin-1").strip())
        elif values is not None and len(values) == 2 and sensor is None and names is None:
            sensor = size_from(*values)
        elif plain and names is None and values is None:
            names = fields(line)
        elif plain:
            break
        at += len(line) + 1
    return comments, names, sensor, min(at, len(data))


def recognise(data: np.ndarray) -> bool:
    """Printable lines, the first of them after comments of at least four fields that are names of columns or numbers."""
    if bytes(data[:LONGEST_LINE]).translate(None, PRINTABLE + b"\r\n"):
        return False
    _, names, _, at = parts(data)
    if names is not None:
        return pick(names) is not None
    first = lines_of(data, at, 1)
    return bool(first) and len(numbers(first[0]) or ()) >= 4


def head(data: np.ndarray) -> Head:
    """Comments, columns and unit as facts; `item` is (separator, number of columns, places of x y t p, shift)."""
    comments, names, sensor, at = parts(data)
    lines = [line for line in lines_of(data, at, LINES) if line.strip()]
    first = lines[0] if lines else b",".join(n.encode("latin-1") for n in names or [])
    separator = next((mark for mark in b",;" if mark in first), 32)
    table = np.array(
        [row for row in map(numbers, lines) if row is not None and lines and len(row) == len(fields(first))], np.float64
    )
    if names is not None:
        picked = pick(names)
        if picked is None:
            raise foreign("text: the columns x, y, t and p are not all named.", f"columns {', '.join(names)[:200]}")
        places = [names.index(picked[axis]) for axis in "xytp"]
        order, width = " ".join(names), len(names)
    else:
        order, width = guess_order(table[:, :4]) if table.size and table.shape[1] >= 4 else "", len(fields(first))
        if not order:
            raise foreign("text: the columns have no names, and no known order fits.", f"first line {first[:80]!r}")
        places, order = [order.index(axis) for axis in "xytp"], f"{' '.join(order)}, guessed"
    seconds = bool(table.size) and in_seconds(np.nan_to_num(table[:, places[2]], posinf=0, neginf=0))
    stated = next((re.fullmatch(r"sensor (\d{1,5})x(\d{1,5})", c) for c in comments if c.startswith("sensor ")), None)
    if stated:
        sensor = size_from(stated[1], stated[2])
    facts = {"columns": order, "unit": "seconds" if seconds else "microseconds", "comments": comments}
    return Head(at, sensor, facts, (separator, width, np.array(places), 6 if seconds else 0))


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of about `size` events."""
    from neuro.datasets.formats.text_loop import decode  # numba is heavy

    at, state = head.start, np.zeros(2, np.int64)
    separator, width, places, shift = head.item
    step = max(16 * size, 2 * LONG)
    while at < len(data):
        part = np.ascontiguousarray(data[at : at + step])
        end = at + len(part) == len(data)
        events = np.empty(len(part) // 8 + 1, EVENT)  # the shortest line has 4 digits, 3 separators and a newline

        def run(piece: np.ndarray, end: bool, events=events) -> int:
            columns = (events[axis] for axis in "xyt")
            return decode(piece, separator, width, places, shift, end, *columns, events["p"].view(np.uint8), state)

        n = run(part, end)
        used = int(state[0])
        fault = (
            f"a line that is no event at byte {at + used}: {bytes(part[used : used + 60]).split(chr(10).encode())[0]!r}"
            if state[1]
            else ""
        )
        if not used and not fault:
            fault = f"a line of more than {step} bytes at byte {at}"

        def place(k: int, at=at, part=part, n=n, used=used, run=run) -> int:
            scratch = np.empty(len(part) // 8 + 1, EVENT)
            return at + (
                used
                if k >= n
                else 1 + least(lambda units: run(part[:units], False, scratch), len(part), k - 1)
                if k
                else 0
            )

        yield Block(trimmed(events, n), {}, fault, place, None if fault else 0)
        if fault:
            return
        at += used


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file with names of columns and the sensor."""
    lines = [f"{t},{x},{y},{int(p)}\n" for x, y, t, p in events.tolist()]
    return "".join([f"# sensor {sensor.width}x{sensor.height}\nt,x,y,p\n", *lines]).encode()
