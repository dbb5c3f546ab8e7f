"""`neuro data view`: a recording as pictures."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.reading import EventFile, read_events
from neuro.errors import ParameterError, explain
from neuro.files import replacing

WIDEST = 512  # pixels of a picture; larger sensors are shown in blocks of pixels
STRIP, ANIMATION = 8, 40  # pictures
MOST = 10_000_000  # pixels of all pictures together; drawing takes about 150 bytes for each
SHORTEST = 0.02  # seconds per picture that viewers honour


def main(
    file: Path,
    out: Path | None = None,
    bins: int | None = None,
    seconds: float = 4.0,
    start_ms: float | None = None,
    stop_ms: float | None = None,
    width: int | None = None,
    height: int | None = None,
    damaged: Literal["refuse", "prefix"] = "refuse",
    item: str | None = None,
) -> None:
    """Draw a recording: a strip of pictures (.png), an animation (.gif), or a page with both (.html).

    Args:
        file: a recording of any format that `read_events` knows.
        out: the picture to write; its suffix says what. Default: the name of the file with .png, in this folder.
        bins: pictures of equal duration; default 8 for .png, 40 for .gif and .html.
        seconds: how long the animation plays.
        start_ms: draw from here on, in milliseconds after the first event.
        stop_ms: and up to here.
        width: of the sensor in pixels, where the file does not state it. Needs height.
        height: of the sensor in pixels.
        damaged: "prefix" draws what stands before the damage.
        item: name or number of one recording of a file that holds several.
    """
    out = out or Path(f"{file.name}.png")
    kind = out.suffix.lower()
    check(kind, out, bins, seconds, start_ms, stop_ms, width, height)
    given = Sensor(height, width) if height is not None and width is not None else None
    found = read_events(file, sensor=given, damaged=damaged, item=item)
    events, sensor, block = pooled(between(found.events, start_ms, stop_ms), found.sensor)
    count = bins or (STRIP if kind == ".png" else ANIMATION)
    if count * sensor.height * sensor.width > MOST:
        fact = f"{count} pictures of {sensor.width} x {sensor.height}, at most {MOST:,} pixels"
        raise ParameterError(explain("neuro data view: too much for one drawing.", fact, cure="Give fewer --bins."))
    facts = [str(found), *([f"one pixel of the picture: {block} x {block} of the sensor"] if block > 1 else [])]
    if len(events) < len(found.events):
        facts.append(f"drawn: {len(events):,} of {len(found.events):,} events")
    if kind != ".png":
        facts.append(speed(events, seconds))
    with replacing(out) as target:
        target.write(drawn(kind, found, events, sensor, count, seconds, facts))
    print("\n".join(facts))
    print(f"wrote {out}")


def check(kind: str, out: Path, bins, seconds: float, start_ms, stop_ms, width, height) -> None:
    """Refuse arguments that make no picture, before a large file is read."""
    act = "neuro data view: "
    if kind not in (".png", ".gif", ".html"):
        raise ParameterError(explain(act + "the suffix says what to draw.", f"--out {out}", cure="Use .png, .gif or .html."))
    if bins is not None and not 1 <= bins <= 1000 or not 0.02 <= seconds <= 3600:
        raise ParameterError(explain(act + "1 to 1000 bins, and 0.02 to 3600 seconds.", f"bins={bins}   seconds={seconds}"))
    if start_ms is not None and stop_ms is not None and not start_ms < stop_ms:
        raise ParameterError(explain(act + "nothing lies between.", f"start_ms={start_ms}   stop_ms={stop_ms}"))
    if (width is None) != (height is None):
        raise ParameterError(explain(act + "the sensor needs width and height.", f"width={width}   height={height}"))


def between(events: np.ndarray, start_ms: float | None, stop_ms: float | None) -> np.ndarray:
    """The events of [start, stop), counted from the first event."""
    if not len(events):
        return events
    after = (events["t"] - events["t"][0]) / 1e3
    low, high = -np.inf if start_ms is None else start_ms, np.inf if stop_ms is None else stop_ms
    return events[(after >= low) & (after < high)]


def pooled(events: np.ndarray, sensor: Sensor) -> tuple[np.ndarray, Sensor, int]:
    """Events and sensor in blocks of pixels, so that a picture is at most WIDEST wide and high; and the side of a block."""
    block = -(-max(sensor.width, sensor.height) // WIDEST)
    if block == 1:
        return events, sensor, 1
    events = events.copy()
    events["x"] //= block
    events["y"] //= block
    return events, Sensor(-(-sensor.height // block), -(-sensor.width // block)), block


def speed(events: np.ndarray, seconds: float) -> str:
    """How much slower than reality an animation plays."""
    span = (int(events["t"][-1]) - int(events["t"][0])) / 1e6 if len(events) else 0.0
    if not span:
        return "the events have no duration"
    ratio = seconds / span
    return f"plays {ratio:.3g} times slower than it was" if ratio >= 1 else f"plays {1 / ratio:.3g} times faster than it was"


def drawn(kind: str, found: EventFile, events: np.ndarray, sensor: Sensor, bins: int, seconds: float, facts: list[str]) -> bytes:
    """The bytes of the picture or page."""
    from neuro.plots.animations import event_animation
    from neuro.plots.figure import inline, to_png
    from neuro.plots.strips import event_counts, event_strip

    if kind == ".png":
        return to_png(event_strip(events, sensor, bins))
    each = max(seconds / bins, SHORTEST)
    gif = event_animation(event_counts(events, sensor, bins)[0], seconds_per_frame=each, pixels=WIDEST)
    if kind == ".gif":
        return gif
    name, lines = escape(found.path.name), "<br>".join(map(escape, facts))
    strip, _ = inline(event_strip(events, sensor, STRIP), alt=f"{found.path.name} in {STRIP} pictures")
    picture = base64.b64encode(gif).decode()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>body{{font:15px sans-serif;max-width:44em;margin:1em auto;padding:0 1em}}"
        f"img{{max-width:100%;image-rendering:pixelated;background:white}}</style><h1>{name}</h1><p>{lines}</p>"
        f'<p><img alt="{name}, animated" src="data:image/gif;base64,{picture}"></p>{strip}</html>\n'
    ).encode()
