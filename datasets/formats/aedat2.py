"""AEDAT 2.0 (jAER): lines that start with `#`, then 8 bytes an event, big-endian.

    uint32 address   uint32 t (microseconds; unsigned, overflows after 71 minutes and is carried on)

    DVS128   p bit 0 (0: ON)   x bits 1-7   y bits 8-14   bit 15 or above: special, counted
    DAVIS    p bit 11 (1: ON)  x bits 12-21   y bits 22-30   bit 31: frame or IMU sample, counted; bit 10: external, counted

x and y are given as stored; jAER shows x as width-1-x and y upward. The sensor follows from the line `AEChip:`; without it
an address above 16 bits in the first 4096 means DAVIS240, otherwise DVS128, and the facts say "guessed". The DVS128
file may hold time stamps above 2^31, which signed readers show as negative. Source: "AEDAT file formats", iniVation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.formats.block import (
    LONGEST_LINE,
    PRINTABLE,
    Block,
    Head,
    foreign,
    pairs,
    text_lines,
)
from neuro.errors import FormatError, explain

NAME = "AEDAT 2"
WORD = np.dtype([("a", ">u4"), ("t", ">u4")])
CHIPS = {
    "dvs128": Sensor(128, 128),
    "davis128": Sensor(128, 128),
    "davis208": Sensor(192, 208),
    "davis240": Sensor(180, 240),
    "davis346": Sensor(260, 346),
    "davis640": Sensor(480, 640),
}
LAST_US = 2**32 - 1


def recognise(data: np.ndarray) -> bool:
    """The line `#!AER-DAT2`, or `#!AER-DAT1`, which has shorter words and is refused by `head`."""
    return bytes(data[:10]) == b"#!AER-DAT2"


def head(data: np.ndarray) -> Head:
    """Chip and lines; a guess of the chip is called one."""
    lines, at = text_lines(data, b"#")
    rest = bytes(data[at : at + LONGEST_LINE])
    if rest.startswith(b"#") and at + len(rest) == len(data) and not rest.translate(None, PRINTABLE + b"\r"):
        raise foreign("AEDAT 2: the file ends within its header.", f"{len(data)} bytes")
    chip = next((line.rpartition(".")[2] for line in lines if line.strip(" #").startswith("AEChip:")), "")
    key = next((name for name in CHIPS if chip.lower().startswith(name)), "")
    facts: dict = {"chip": chip or "not stated"}
    if not key:
        whole = min((len(data) - at) // 8, 4096)
        wide = bool(whole) and int(data[at : at + whole * 8].view(WORD)["a"].max()) >> 16 > 0
        key = "davis240" if wide else "dvs128"
        facts["layout"] = f"{key}, guessed from the addresses"
    else:
        facts["layout"] = key
    facts |= {"lines": [line for line in lines if not line.lstrip().startswith("<")]}
    return Head(at, CHIPS[key], facts)


def blocks(data: np.ndarray, head: Head, size: int) -> Iterator[Block]:
    """Blocks of at most `size` words."""
    davis = head.facts["layout"].startswith("davis")
    layout = (
        (1, 0, 12, 1023, 22, 511, 11, 1, 0, 0, 0x80000400) if davis else (1, 0, 1, 127, 8, 127, 0, 1, 1, 0, 0xFFFF8000)
    )
    return pairs(data, head.start, size, layout, "special, frame or IMU words")


def encode(events: np.ndarray, sensor: Sensor) -> bytes:
    """The bytes of a file: the chip's own size says its layout.

    Raises:
        FormatError: no chip has this size.
    """
    chip = next((name for name, size in CHIPS.items() if size == sensor), "")
    if not chip:
        sizes = ", ".join(sorted({f"{size.width}x{size.height}" for size in CHIPS.values()}))
        raise FormatError(
            explain(
                "AEDAT 2: the format knows sensors by their chip, and none has this size.",
                f"{sensor.width}x{sensor.height}; chips have {sizes}",
                cure="Give a chip's size that holds the events (sensor=, or --width and --height).",
            )
        )
    names = {"dvs128": "DVS128", "davis240": "DAVIS240C"}
    text = f"#!AER-DAT2.0\r\n# Timestamps tick is 1 us\r\n# AEChip: neuro.{names.get(chip, chip.capitalize())}\r\n#End Of ASCII Header\r\n"
    words = np.empty(len(events), WORD)
    words["t"] = events["t"]
    x, y, p = (events[c].astype(np.uint32) for c in "xyp")
    words["a"] = x << 1 | y << 8 | 1 - p if chip == "dvs128" else x << 12 | y << 22 | p << 11
    return text.encode() + words.tobytes()
