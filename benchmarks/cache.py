"""How fast does a sample come from the cache, and how large is it, against tonic's disk cache in the same run?

    python benchmarks/cache.py [--samples 32] [--rounds 9]

Samples: frames of 100 000 uniform events each, 16 bins on 128 x 128 pixels, counts as float32 ready for a network. Both
caches are filled before; the two take turns, each reading all samples in a random order, and the figure is the median
time per sample. Ours compares the checksum when a process first reads a sample: `first` is that reading, `again` a later
one. The operating system has all files in memory, so no disk is measured. `events` are the recordings themselves.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tonic

from neuro.datasets.cache import CachedFrames, cache_frames, cache_recordings
from neuro.datasets.events import Recording, Sensor, make_events
from neuro.datasets.loading import EventFrames
from neuro.datasets.transforms import Frames

SENSOR, BINS, EVENTS = Sensor(128, 128), 16, 100_000


def make_recordings(n: int) -> list[Recording]:
    """Uniform events over one second."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        t = np.sort(rng.integers(0, 1_000_000, EVENTS))
        xyp = rng.integers(128, size=EVENTS), rng.integers(128, size=EVENTS), rng.integers(2, size=EVENTS)
        made.append(Recording(make_events(xyp[0], xyp[1], t, xyp[2]), SENSOR, i % 10, str(i)))
    return made


class Pairs:
    """What tonic caches: (frames, label)."""

    def __init__(self, data: EventFrames) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        sample = self.data[i]
        return sample.x.numpy().astype(np.int16), sample.label  # the dtype of tonic's ToFrame


def read(load: Callable[[int], np.ndarray], order: np.ndarray) -> float:
    """Milliseconds per sample."""
    begin = time.perf_counter()
    for i in order:
        load(int(i))
    return (time.perf_counter() - begin) / len(order) * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    recordings = make_recordings(options.samples)
    data, rng = EventFrames(recordings, Frames(bins=BINS, dtype=np.uint8)), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        kept = cache_frames(data, ours, "benchmark")
        (path,) = ours.iterdir()
        events = cache_recordings(recordings, Path(folder) / "events", "benchmark")
        tonics = {f"tonic, {name}": tonic.DiskCachedDataset(Pairs(data), str(theirs / name), compress=name == "lzf")
                  for name in ("lzf", "plain")}  # fmt: skip
        for cached in tonics.values():
            for i in range(len(data)):
                assert np.array_equal(cached[i][0], kept[i].x.numpy())
        times: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            order = rng.permutation(len(data))
            fresh = CachedFrames(path)
            loads = {"ours, first": lambda i, f=fresh: f[i].x, "ours, again": lambda i: kept[i].x}
            loads |= {name: lambda i, c=cached: c[i][0].astype(np.float32) for name, cached in tonics.items()}
            loads |= {"ours, events and frames": lambda i: Frames(bins=BINS, dtype=np.uint8)(events[i].events, SENSOR)}
            for name, load in loads.items():
                times.setdefault(name, []).append(read(load, order))
        sizes = {"ours, first": path.stat().st_size, "ours, again": path.stat().st_size}
        sizes |= {f"tonic, {n}": sum(f.stat().st_size for f in (theirs / n).iterdir()) for n in ("lzf", "plain")}
        sizes |= {"ours, events and frames": sum(f.stat().st_size for f in (Path(folder) / "events").iterdir())}
    base = statistics.median(times["tonic, lzf"])
    print(f"{options.samples} samples of [16, 2, 128, 128], {EVENTS} events each; tonic {tonic.__version__}")
    for name, spent in times.items():
        middle = statistics.median(spent)
        size = sizes[name] / options.samples / 1e3
        print(f"{name:24s} {middle:7.3f} ms a sample   {base / middle:5.1f}x of tonic's default   {size:7.1f} kB a sample")


if __name__ == "__main__":
    main()
