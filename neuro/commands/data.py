"""`neuro data info` and `neuro data convert`: event files, looked at and written in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from neuro.datasets.events import Sensor
from neuro.datasets.opening import open_file
from neuro.datasets.reading import read_events, write_events
from neuro.datasets.summary import HOT, Summary, summarize
from neuro.errors import ParameterError, explain

SHOWN = 5  # hot pixels by name
LONGEST = 160  # characters of a fact
SIDE = 360  # blocks of pixels in a picture


def info(
    file: Path,
    plot: Path | None = None,
    item: str | None = None,
    damaged: Literal["refuse", "prefix"] = "refuse",
    width: int | None = None,
    height: int | None = None,
) -> None:
    """Say what an event file holds: format, sensor, events, span, rates, hot pixels, damage, and what its header says.

    Args:
        file: a recording of any format that `read_events` knows.
        plot: a picture to write, .png or .svg: events of each pixel, and the rate over time.
        item: name or number of one recording of a file that holds several.
        damaged: "prefix" counts what stands before the damage, and says how much lies behind it.
        width: of the sensor in pixels, where the file states none or a wrong one. Needs height.
        height: of the sensor in pixels.
    """
    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise ParameterError(explain("neuro data info: the picture is .png or .svg.", f"--plot {plot}"))
    found = summarize(file, sensor=given(width, height), damaged=damaged, item=item)
    print(report(found))
    if plot is not None:
        draw(found, plot)
        print(f"picture written to {plot}")


def convert(
    source: Path,
    target: Path,
    format: str = "",
    item: str | None = None,
    damaged: Literal["refuse", "prefix"] = "refuse",
    start: Literal["kept", "zero"] = "kept",
    width: int | None = None,
    height: int | None = None,
) -> None:
    """Write a recording in the format that the suffix of TARGET names; it is read back and compared.

    Args:
        source: a recording of any format that `read_events` knows.
        target: the file to write: .aedat .aedat3 .raw .evt3 .dat .bin .bs2 .es .h5 .npy .npz .csv .txt
        format: the format to write, where the suffix does not name it.
        item: name or number of one recording of a file that holds several.
        damaged: "prefix" writes what stands before the damage.
        start: "zero" subtracts the first time from all.
        width: of the sensor in pixels, where the file states none or a wrong one. Needs height.
        height: of the sensor in pixels.
    """
    if target.exists() and target.samefile(source):
        raise ParameterError(explain("neuro data convert: source and target are the same file.", str(target)))
    found = read_events(source, sensor=given(width, height), damaged=damaged, item=item)
    events = found.events
    if start == "zero" and len(events):
        events = events.copy()
        events["t"] -= events["t"][0]
    write_events(target, events, found.sensor, format=format)
    again = read_events(target, sensor=found.sensor, format=format)
    if not np.array_equal(again.events, events):
        raise AssertionError(f"{target}: what was written reads back differently")
    print(found)
    print(f"{target}: {again.format}, {len(again.events)} events, {target.stat().st_size} bytes, reads back the same")
    if found.sensor_stated and open_file(target, format=format).head.sensor != found.sensor:
        print(f"the size of the sensor, {found.sensor.width} x {found.sensor.height}, has no place in this format")


def given(width: int | None, height: int | None) -> Sensor | None:
    """The sensor of two options, of which none or both are given."""
    if (width is None) != (height is None):
        raise ParameterError(
            explain("neuro data: a sensor needs --width and --height.", f"width={width}   height={height}")
        )
    return None if width is None or height is None else Sensor(height, width)


def report(found: Summary) -> str:
    """The lines that `neuro data info` prints."""
    file, total = found.file, max(found.events, 1)
    stated = "" if file.sensor_stated else "  (as seen; the file states none)"
    lines = [
        f"{file.path.name}: {file.format}",
        f"  sensor   {file.sensor.width} x {file.sensor.height}{stated}",
        f"  events   {found.events:,}   ON {found.on:,} ({found.on / total:.1%})   OFF {found.events - found.on:,}",
    ]
    if found.events:
        lines.append(f"  span     {found.first_us} to {found.last_us} us   {found.seconds:.6g} s")
    if found.rate is not None:
        peak = f"   busiest 10 ms {found.peak:,.0f}/s" if found.peak is not None else ""
        lines.append(f"  rate     {found.rate:,.0f} events/s{peak}")
    lines.append(pixels(found))
    lines += [f"  beside   {number:,} {name}" for name, number in file.others.items()]
    if file.fault:
        lines.append(f"  damage   {file.damage().removeprefix(', damaged: ')}")
    lines += [f"  header   {name}: {text}" for name, text in ((n, shown(v)) for n, v in file.facts.items()) if text]
    return "\n".join(lines)


def pixels(found: Summary) -> str:
    """The line about pixels."""
    if found.pixels is None:
        return "  pixels   not counted: the sensor is too large"
    active, hot = int(np.count_nonzero(found.pixels)), found.hot()
    size = found.file.sensor.width * found.file.sensor.height
    names = ", ".join(f"({x}, {y}) {n:,}" for x, y, n in hot[:SHOWN]) + (", ..." if len(hot) > SHOWN else "")
    return f"  pixels   {active:,} of {size:,} have events   {len(hot)} hot (over {HOT} times the median){': ' + names if hot else ''}"


def shown(value: object) -> str:
    """A fact of the header on one line; a file may hold anything, so nothing that moves a terminal's cursor."""
    text = "; ".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def pooled(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Sums over blocks of pixels, at most SIDE each way, so that none is lost in a small picture; and the side of a block."""
    block = -(-max(pixels.shape) // SIDE)
    height, width = (-(-side // block) for side in pixels.shape)
    whole = np.zeros((height * block, width * block), pixels.dtype)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole.reshape(height, block, width, block).sum((1, 3)), block


def draw(found: Summary, path: Path) -> None:
    """Write the picture: events of each pixel (darker: more, on a scale of logarithms), and the rate of each window."""
    from neuro.files import replacing
    from neuro.plots.figure import BLUE, new_figure, style, to_png, to_svg

    if found.pixels is None or found.windows is None:
        raise ParameterError(
            explain(
                "neuro data info: too large for a picture.",
                f"{found.file}",
                cure="Give --width and --height, or cut the recording.",
            )
        )
    figure = new_figure(5.0)
    top, below = figure.subplots(2, 1, height_ratios=[3, 1])
    style(top, title=f"{found.file.path.name}: {found.events:,} events", x="x", y="y")
    sums, block = pooled(found.pixels)
    shades, edges = np.log1p(sums), (block * sums.shape[1] - 0.5, block * sums.shape[0] - 0.5)
    most = np.quantile(shades[shades > 0], 0.99) if shades.any() else 1.0  # a few hot pixels would leave the others white
    top.imshow(shades, cmap="Greys", interpolation="nearest", vmin=0, vmax=most, extent=(-0.5, *edges, -0.5))
    style(below, x="time (s)", y="events/s", grid="y")
    whole = found.windows[:-1] if len(found.windows) > 1 else found.windows  # the last one is cut by the end
    below.plot(np.arange(len(whole)) * 0.01, whole / 0.01, color=BLUE, linewidth=0.8)
    below.set_ylim(bottom=0)
    data = to_png(figure) if path.suffix.lower() == ".png" else to_svg(figure).encode()
    with replacing(path) as out:
        out.write(data)
