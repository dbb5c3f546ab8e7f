"""How fast do batches come, from event files and from caches, against tonic in the same run?

    python benchmarks/pipeline.py [--rounds 5] [--workers 2]

Files hold events in N-MNIST's layout, which N-Caltech101 has as well and both sides read. Each side opens the file, reads
the events, counts them into 16 frames, and makes batches [16, B, 2, H, W] of float32 with `--workers` processes that live
on. Ours is a `CompactLoader`, as `EventDataModule` uses; beside it stands the same with a plain DataLoader. `digits`: 256
simulated recordings as of N-MNIST, 34 x 34, batches of 32. `scenes`: 64 recordings of 100 000 uniform events on 128 x 128,
batches of 8. Both are shuffled. Each side uses its reader of this layout, tonic's what its NMNIST class does:
read_mnist_file, ToFrame, PadTensors; its cache is DiskCachedDataset over that, compressed as by default, or plain.

One turn is one epoch, by the wall's clock because other processes do the work. The sides take turns, a first epoch is not
counted (it fills the caches and compiles), figures are medians. `one process` is the same work without a loader: samples
one after another, no batches. The operating system has all files in memory, so no disk is measured. Target: from file to
batch, 3 times tonic's. Exit status 1 where our batches do not hold every event (that tonic's do not is printed).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tonic
from peers import alternating, machine, target
from torch.utils.data import DataLoader, Dataset

from neuro.datasets.cache import cache_frames
from neuro.datasets.compact import CompactLoader
from neuro.datasets.events import Recording, Sensor, make_events
from neuro.datasets.formats.nmnist import read_nmnist, write_nmnist
from neuro.datasets.loading import EventFrames, collate
from neuro.datasets.mnist import MNIST
from neuro.datasets.saccades import SaccadeRecordings
from neuro.datasets.transforms import Frames

BINS, TARGET = 16, 3.0
PLAIN = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])  # as in tonic's NMNIST


class Files:
    """Ours: event files as recordings; the label is a part of the name."""

    def __init__(self, paths: list[Path], sensor: Sensor) -> None:
        self.paths, self.sensor = paths, sensor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Recording:
        path = self.paths[i]
        events = read_nmnist(path, sensor=self.sensor)
        return Recording(events, self.sensor, int(path.parent.name), path.name)


class TonicFiles(Dataset):
    """Theirs: what tonic's NMNIST does for one sample."""

    def __init__(self, paths: list[Path], sensor: Sensor) -> None:
        self.paths = paths
        self.transform = tonic.transforms.ToFrame((sensor.width, sensor.height, 2), n_time_bins=BINS)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        events = tonic.io.read_mnist_file(self.paths[i], dtype=PLAIN)
        return self.transform(events), int(self.paths[i].parent.name)


class Case(NamedTuple):
    """Recordings to write, and how many go into a batch."""

    name: str
    recordings: Callable[[], object]
    batch: int


def scenes() -> list[Recording]:
    """Uniform events over one second."""
    rng, made = np.random.default_rng(0), []
    for i in range(64):
        x, y, p = (rng.integers(most, size=100_000) for most in (128, 128, 2))
        events = make_events(x, y, np.sort(rng.integers(0, 1_000_000, 100_000)), p)
        made.append(Recording(events, Sensor(128, 128), i % 10, str(i)))
    return made


def digits() -> SaccadeRecordings:
    """Three saccades over pictures of MNIST's size."""
    pictures = MNIST.simulated(256)
    return SaccadeRecordings(pictures.x, pictures.labels)


CASES = (Case("digits", digits, 32), Case("scenes", scenes, 8))


def write(recordings: object, folder: Path) -> tuple[list[Path], Sensor, int]:
    """The files, LABEL/NUMBER.bin, their sensor, and the number of all events."""
    paths, total = [], 0
    for i in range(len(recordings)):
        made = recordings[i]
        path = folder / str(made.label) / f"{i:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nmnist(made.events, path, sensor=made.sensor)
        paths.append(path)
        total += len(made.events)
    return paths, made.sensor, total


def measure(case: Case, folder: Path, rounds: int, workers: int) -> bool:
    """Print the rows of one case; False where ours lost events."""
    paths, sensor, total = write(case.recordings(), folder / "files")
    ours, theirs = EventFrames(Files(paths, sensor), Frames(bins=BINS, dtype=np.uint8)), TonicFiles(paths, sensor)
    tonics = partial(DataLoader, collate_fn=tonic.collation.PadTensors(batch_first=False))
    lzf, plain = (tonic.DiskCachedDataset(theirs, str(folder / name), compress=name == "lzf") for name in ("lzf", "plain"))
    sides = {
        "ours": (ours, CompactLoader), "ours, DataLoader": (ours, partial(DataLoader, collate_fn=collate)), "tonic": (theirs, tonics),
        "ours, cached": (cache_frames(ours, folder / "ours", case.name), CompactLoader),
        "tonic, cached": (lzf, tonics), "tonic, cached plain": (plain, tonics),
    }  # fmt: skip
    sums: dict[str, float] = {}

    def epoch(name: str) -> None:
        for batch in loaders[name]:
            assert batch[0].shape[2:] == (2, sensor.height, sensor.width) and batch[0].is_floating_point()

    def alone(data: Dataset) -> None:
        for i in range(len(paths)):
            data[i]

    loaders = {
        name: how(data, batch_size=case.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        for name, (data, how) in sides.items()
    }
    for name in ("ours", "tonic"):  # before any worker is forked, so that each has the compiled code
        sums[name] = sum(float(sides[name][0][i][0].sum()) for i in range(len(paths)))
    spent = alternating({name: lambda name=name: epoch(name) for name in sides}, rounds, timer=time.perf_counter)
    single = alternating({name: lambda data=data: alone(data) for name, (data, _) in sides.items()}, rounds)
    lost = total - sums["tonic"]
    print(f"\n{case.name}: {len(paths)} files, {total:,} events, batches of {case.batch}, {workers} workers; tonic's frames lack {lost:,.0f}")
    print(f"{'':22s}{'ms a batch':>12s}{'samples/s':>12s}{'ratio':>8s}{'one process':>14s}{'ratio':>8s}")
    for name, seconds in spent.items():
        base = "tonic, cached" if "cached" in name else "tonic"
        n = len(paths)
        print(f"{name:22s}{seconds / n * case.batch * 1e3:12.2f}{n / seconds:12.0f}{spent[base] / seconds:7.1f}x"
              f"{single[name] / n * 1e3:11.3f} ms{single[base] / single[name]:7.1f}x", flush=True)  # fmt: skip
    print(target(f"{case.name}, from file to batch, against tonic", spent["tonic"] / spent["ours"], at_least=TARGET))
    if sums["ours"] != total:
        print(f"ours lack {total - sums['ours']:,.0f} events")
    return sums["ours"] == total


def main() -> int:
    """Print the table of each case; 1 if one lost events."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(f"{machine()}, tonic {tonic.__version__}")
    good = True
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            good &= measure(case, Path(folder), options.rounds, options.workers)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
