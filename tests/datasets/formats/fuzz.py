"""Hostile event files, many of them: what crashes, hangs, or takes memory.

    python tests/datasets/formats/fuzz.py [--inputs 2000] [--seed 0] [--only FORMAT] [--cuts every|random|none] [--keep FOLDER]

For every format a file of 200 events is made; with NEURO_DATA the sample files are taken too. Each is cut (the made ones at
every byte, the samples at 200 random ones) and changed: bytes flipped, numbers made huge, pieces repeated, removed or taken
from another place; then read, with damage refused and allowed. Every format runs in a process of its own, which says what it is
about to read: a process that dies is a crash, one that takes more than 20 s for one input is a hang; it goes on behind
the input. An error of ours is right; so is a file that reads, if its events are in order, on the sensor and not
more than the file can hold. Anything else is a fault. Exit status 1 if there is any.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from neuro.datasets import make_events, read_events
from neuro.datasets.events import Sensor
from neuro.datasets.opening import open_file
from neuro.datasets.reading import WRITERS, encode_events
from neuro.errors import NeuroError

HANG = 20.0  # seconds for one input
SENSOR = Sensor(128, 128)
FORMATS = sorted({*WRITERS.values(), "rosbag", "evt21", "mat"})
EXTREME = [
    bytes([255] * 4),
    bytes([255] * 8),
    (2**31 - 1).to_bytes(4, "little"),
    (2**40).to_bytes(8, "little"),
    bytes(8),
    b"\x80\0\0\0",
    b"9" * 12,
]
MEMORY = (
    192 << 20
)  # bytes a small file may take beyond what stands before it: the limits of `most_bytes`, and their copies


def made(name: str) -> bytes:
    """A file of 200 events."""
    make = np.random.default_rng(1)
    t = np.sort(make.integers(0, 2**20, 200))
    events = make_events(make.integers(0, 128, 200), make.integers(0, 128, 200), t, make.integers(0, 2, 200) > 0)
    if name == "evt21":
        text = b"% evt 2.1\n% format EVT21;height=128;width=128\n% end\n"
        words = (
            [8 << 60 | int(e["t"]) >> 6 << 32 for e in events],
            [
                int(e["p"]) << 60
                | (int(e["t"]) & 63) << 54
                | int(e["x"]) // 32 * 32 << 43
                | int(e["y"]) << 32
                | 1 << int(e["x"]) % 32
                for e in events
            ],
        )
        return text + np.array(words, "<u8").T.tobytes()
    if name == "rosbag":
        return neighbour("test_rosbag").bag(events, "bz2", each=20)
    if name == "mat":
        return neighbour("test_mat").of_events(events)
    return encode_events(events, SENSOR, name)


def neighbour(name: str) -> ModuleType:
    """A file of tests beside this one, for the writers in it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources(name: str) -> Iterator[tuple[str, bytes]]:
    """The files to start from: the made one, and the samples of this format."""
    yield "made", made(name)
    if name == "hdf5":
        layouts = neighbour("test_layouts")
        for fill in (layouts.dsec, layouts.prophesee, layouts.mvsec, partial(layouts.shd, number=1)):
            yield "layout", layouts.hdf5(fill)
    root = Path(os.environ.get("NEURO_DATA", "nowhere")) / "event_formats"
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix not in (".json", ".md", ".hex") and path.stat().st_size < 1 << 21:
            try:
                module = open_file(path).module.__name__.rpartition(".")[2]
            except NeuroError:
                continue
            if module == name:
                yield path.name, path.read_bytes()


def inputs(name: str, number: int, seed: int, cuts: str) -> Iterator[bytes]:
    """The hostile files of a format, the same at every call."""
    make = np.random.default_rng(seed)
    given = list(sources(name))
    for title, data in given:
        if cuts != "none":
            every = title == "made" and cuts == "every"
            places = range(len(data)) if every else sorted(make.integers(0, len(data), 200).tolist())
            for place in places:
                yield data[:place]
    for _ in range(number):
        title, data = given[0 if make.random() < 0.7 else make.integers(0, len(given))]
        yield changed(data, make)


def changed(data: bytes, make: np.random.Generator) -> bytes:
    """A file with some harm done to it; half of the time near its start, where headers are."""
    raw = bytearray(data)
    for _ in range(int(make.integers(1, 8))):
        reach = min(len(raw), 600) if make.random() < 0.5 else len(raw)
        at = int(make.integers(0, max(reach, 1)))
        act = make.integers(0, 5)
        if act <= 1:
            raw[at : at + 1] = bytes([int(make.integers(0, 256))])
        elif act == 2:
            extreme = EXTREME[make.integers(0, len(EXTREME))]
            raw[at : at + len(extreme)] = extreme
        elif act == 3:
            del raw[at : at + int(make.integers(1, 40))]
        else:
            other = int(make.integers(0, max(len(raw), 1)))
            raw[at:at] = raw[other : other + int(make.integers(1, 200))]
    return bytes(raw) if raw else b"\0"


def verdict(data: bytes, name: str) -> str:
    """What reading does: "read", "refused", or a fault in words."""
    found = "refused"
    format = name if name == "nmnist" else ""
    for damaged in ("refuse", "prefix"):
        try:
            file = read_events(data, damaged=damaged, format=format)
        except NeuroError as error:
            if not str(error):
                return "an error without words"
            continue
        except MemoryError:
            return "MemoryError"
        except Exception as error:  # any other is what this script looks for
            return f"{type(error).__name__}: {error}"[:200]
        found = "read"
        events = file.events
        if len(events) and (
            events["x"].max() >= file.sensor.width
            or events["y"].max() >= file.sensor.height
            or min(events["x"].min(), events["y"].min()) < 0
        ):
            return "an event off the sensor"
        if (np.diff(events["t"]) < 0).any():
            return "time runs backwards"
        if events.nbytes > 52 * len(data) + (48 << 20):
            return f"{len(events)} events from {len(data)} bytes"
    return found


def work(name: str, number: int, seed: int, cuts: str, skip: int) -> None:
    """One process: read the inputs behind `skip`, and say before each which it is, and after what came of it."""
    verdict(made(name), name)  # compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k, data in enumerate(inputs(name, number, seed, cuts)):
        if k >= skip and data:
            print(f"begin {k}", flush=True)
            print(
                "end "
                + json.dumps(
                    [verdict(data, name), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10]
                ),
                flush=True,
            )


def supervised(name: str, options: argparse.Namespace) -> dict:
    """All inputs of a format in processes that are started again behind an input that ends them."""
    counts, faults, peak, slowest, skip, tried = Counter(), [], 0, 0.0, 0, 0
    while True:
        command = [
            sys.executable,
            __file__,
            "--work",
            name,
            "--skip",
            str(skip),
            "--inputs",
            str(options.inputs),
            "--seed",
            str(options.seed),
            "--cuts",
            options.cuts,
        ]
        errors = tempfile.TemporaryFile()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, bufsize=0)
        at, began, buffer, hung = None, time.monotonic(), b"", False
        watch = selectors.DefaultSelector()
        watch.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not watch.select(timeout=1.0):
                if at is not None and time.monotonic() - began > HANG:
                    hung = True
                    process.kill()
                    break
                continue
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                break
            *lines, buffer = (buffer + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"begin "):
                    at, began = int(line[6:]), time.monotonic()
                elif line.startswith(b"end "):
                    what, memory = json.loads(line[4:])
                    tried += 1
                    slowest, peak = max(slowest, time.monotonic() - began), max(peak, memory)
                    counts["fault" if what not in ("read", "refused") else what] += 1
                    if what not in ("read", "refused"):
                        faults.append((at, what))
                    skip, at = at + 1, None
        code = process.wait()
        if code == 0 and not hung:
            break
        tried += 1
        errors.seek(0)
        why = "hang" if hung else f"ended with {signal.Signals(-code).name if code < 0 else code}"
        counts["hang" if hung else "crash"] += 1
        faults.append((at, f"{why}: {errors.read()[-300:].decode('utf-8', 'replace').strip()}"))
        if at is None:
            break
        skip = at + 1
    if peak > MEMORY:
        faults.append((None, f"memory grew by {peak >> 20} MiB"))
    return {"tried": tried, "counts": counts, "faults": faults, "peak": peak, "slowest": slowest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000, help="changed files a format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FORMATS, default=None)
    parser.add_argument("--cuts", choices=["every", "random", "none"], default="every")
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that are faults")
    parser.add_argument("--work", choices=FORMATS, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.inputs, options.seed, options.cuts, options.skip)
        return
    print(
        f"{'format':<8}{'inputs':>8}{'read':>8}{'refused':>9}{'crashes':>9}{'hangs':>7}{'faults':>8}{'slowest s':>11}{'memory MiB':>12}"
    )
    total, bad, highest = Counter(), 0, 0
    for name in [options.only] if options.only else FORMATS:
        row = supervised(name, options)
        counts = row["counts"]
        shown = f"{counts['read']:>8}{counts['refused']:>9}{counts['crash']:>9}{counts['hang']:>7}{counts['fault']:>8}{row['slowest']:>11.2f}{row['peak'] / 2**20:>12.0f}"
        print(f"{name:<8}{row['tried']:>8}{shown}", flush=True)
        for k, what in row["faults"][:10]:
            print(f"    input {k}: {what}")
        if options.keep and row["faults"]:
            options.keep.mkdir(parents=True, exist_ok=True)
            wanted = {k for k, _ in row["faults"]}
            for k, data in enumerate(inputs(name, options.inputs, options.seed, options.cuts)):
                if k in wanted:
                    (options.keep / f"{name}_{k}").write_bytes(data)
        total.update(counts)
        bad, highest = bad + len(row["faults"]), max(highest, row["peak"])
    print(
        f"inputs {sum(total.values())}   crashes {total['crash']}   hangs {total['hang']}   other faults {total['fault']}   peak memory {highest / 2**20:.0f} MiB"
    )
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
