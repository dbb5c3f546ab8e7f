"""Event files: what is read, against independent counts, and how fast, against expelliarmus and tonic in the same run.

    NEURO_DATA=FOLDER python benchmarks/formats.py [--rounds 5] [--repeat 40]

First table, over the sample files in FOLDER/event_formats: events read, first and last time, the independent count and
whether the digests of t, x, y and p agree; then million events per second of ours and of the others on that file, and
what the others read ("count" where theirs differs from the independent one, "times" where only time stamps do).
All read from the page cache; each opens the file anew.
Second table: the same events repeated until a file is large, written here, so that opening it does not count. Sides take
turns; figures are medians. Without FOLDER only the second table is printed, from events made here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from peers import alternating, machine, table

from neuro.datasets import make_events, read_events
from neuro.datasets.events import Sensor
from neuro.datasets.reading import WRITERS, encode_events
from neuro.errors import NeuroError

DTYPES = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "u1"}
TALL = {"prophesee_tc001.raw": Sensor(1025, 1280)}  # rows above the size that its header states
WIZARDS = {"EVT 2.0": "evt2", "EVT 3.0": "evt3", "DAT": "dat"}


def by_expelliarmus(path: Path, format: str) -> Callable[[], np.ndarray] | None:
    """Its reader for the formats that it knows."""
    from expelliarmus import Wizard

    if format not in WIZARDS:
        return None
    return lambda: Wizard(encoding=WIZARDS[format]).read(str(path))


def by_tonic(path: Path, format: str) -> Callable[[], np.ndarray] | None:
    """Its reader for the formats that it knows."""
    from tonic import io

    readers = {
        "AEDAT 2": lambda: tonic_aedat2(path),
        "AEDAT 3.1": lambda: io.read_dvs_ibm(str(path)),
        "AEDAT 4": lambda: io.read_aedat4(str(path)),
        "N-MNIST": lambda: io.read_mnist_file(
            str(path), dtype=np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
        ),
    }
    return readers.get(format)


def tonic_aedat2(path: Path) -> np.ndarray:
    """tonic's reader of AEDAT 2 for the chip that the name tells."""
    from tonic import io

    return io.read_davis_346(str(path)) if "davis" in path.name else io.read_dvs_128(str(path))


def outcome(call: Callable | None, count: int, times: np.ndarray) -> str:
    """What another reader gives: "same", or in a word what differs."""
    if call is None:
        return "-"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = call()
            found = found[1] if isinstance(found, tuple) else found
            if found is None:
                return "nothing"
            if len(found) != count:
                return f"count {len(found)}"
            return "same" if np.array_equal(np.asarray(found["t"]).astype(np.int64), times) else "times"
    except Exception as error:  # whatever another library raises is its answer
        return type(error).__name__


def speed(events: int, seconds: dict[str, float], name: str) -> str:
    """Million events per second."""
    return f"{events / seconds[name] / 1e6:.1f}" if name in seconds else "-"


def row(path: Path, rounds: int) -> list[object] | None:
    """One line of the first table."""
    stated = json.loads(path.with_name(path.name + ".json").read_text()).get("events", {})
    try:
        found = read_events(path, sensor=TALL.get(path.name))
    except NeuroError as error:
        return [path.name, "-", str(error).splitlines()[0][:60], *[""] * 8]
    events = found.events
    digests = stated.get("sha256_of_arrays")
    right = (
        "-"
        if digests is None
        else all(hashlib.sha256(events[c].astype(d).tobytes()).hexdigest() == digests[c] for c, d in DTYPES.items())
    )
    others = {"expelliarmus": by_expelliarmus(path, found.format), "tonic": by_tonic(path, found.format)}
    said = {name: outcome(call, len(events), events["t"]) for name, call in others.items()}
    calls = {"ours": lambda: read_events(path, sensor=TALL.get(path.name))}
    calls |= {
        name: call for name, call in others.items() if said[name] in ("same", "times") or said[name].startswith("count")
    }
    seconds = alternating(calls, rounds)
    span = (int(events["t"][0]), int(events["t"][-1])) if len(events) else ("", "")
    speeds = [speed(len(events), seconds, name) for name in ("ours", "expelliarmus", "tonic")]
    return [
        path.name,
        found.format,
        len(events),
        stated.get("count", "-"),
        right,
        *span,
        *speeds,
        said["expelliarmus"],
        said["tonic"],
    ]


def large(events: np.ndarray, sensor: Sensor, name: str, folder: Path, rounds: int) -> list[object]:
    """One line of the second table."""
    suffix = next(suffix for suffix, format in WRITERS.items() if format == name)
    path = folder / f"large{suffix}"
    path.write_bytes(encode_events(events, sensor, name))
    format = read_events(path).format
    others = {"expelliarmus": by_expelliarmus(path, format), "tonic": by_tonic(path, format)}
    said = {side: outcome(call, len(events), events["t"]) for side, call in others.items()}
    calls = {"ours": lambda: read_events(path)} | {
        side: call for side, call in others.items() if said[side] in ("same", "times")
    }
    seconds = alternating(calls, rounds)
    size = path.stat().st_size
    path.unlink()
    ratio = f"{seconds['expelliarmus'] / seconds['ours']:.2f}" if "expelliarmus" in seconds else "-"
    return [
        format,
        len(events),
        f"{size / 2**20:.1f}",
        *(speed(len(events), seconds, side) for side in ("ours", "expelliarmus", "tonic")),
        ratio,
        said["expelliarmus"],
        said["tonic"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=2_000_000, help="of the large files")
    options = parser.parse_args()
    print(machine())
    root = Path(os.environ.get("NEURO_DATA", "nowhere")) / "event_formats"
    paths = [
        p
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.with_name(p.name + ".json").exists()
    ]
    if paths:
        head = [
            "file",
            "format",
            "events",
            "independent",
            "digests",
            "first us",
            "last us",
            "ours Mev/s",
            "expell.",
            "tonic",
            "expell. gives",
            "tonic gives",
        ]
        rows = [row(path, options.rounds) for path in paths]
        print(table(head, [r for r in rows if len(r) == len(head)]))
        for r in rows:
            if len(r) != len(head):
                print(f"{r[0]}: {r[2]}")
    else:
        print("NEURO_DATA names no folder with event_formats: no sample files")
    make = np.random.default_rng(0)
    n = options.events
    sensors = {"nmnist": Sensor(34, 34), "aedat2": Sensor(180, 240)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in dict.fromkeys(WRITERS.values()):
            sensor, count = sensors.get(name, Sensor(480, 640)), n // 10 if name in ("text", "hdf5", "npz") else n
            t = np.sort(make.integers(0, 8_000_000, count))
            events = make_events(
                make.integers(0, sensor.width, count),
                make.integers(0, sensor.height, count),
                t,
                make.integers(0, 2, count) > 0,
            )
            rows.append(large(events, sensor, name, Path(folder), options.rounds))
    print()
    print(
        table(
            [
                "format",
                "events",
                "MiB",
                "ours Mev/s",
                "expell.",
                "tonic",
                "ours/expell.",
                "expell. gives",
                "tonic gives",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()
