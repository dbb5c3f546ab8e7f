"""How fast are event transforms here, against those of tonic on the same events in the same run?

    python benchmarks/transforms.py [--events 1000000] [--rounds 7]

Events: uniform on 128 x 128 pixels over one second, ON and OFF alike. The two take turns; each is called once before, so that
nothing is compiled or loaded within the figures, which are medians. tonic gets integer polarity, because it misreads
booleans, and a copy where it writes into its input (the copying is not counted). What is compared does not always give
the same: faults of tonic that ours must not have are in the tests. `target` is the ratio that we answer for; a
median below it is named, as in every script here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tonic
import tonic.transforms as theirs

from neuro.datasets import augment, dropping, flipping, jitter
from neuro.datasets.denoise import Denoise
from neuro.datasets.events import Sensor, make_events
from neuro.datasets.resizing import SpatialDownsample
from neuro.datasets.slices import CountFrames
from neuro.datasets.stacking import BinaRep
from neuro.datasets.surfaces import TimeSurface
from neuro.datasets.thinning import Decimate, Refractory
from neuro.datasets.transforms import Frames
from neuro.datasets.voxels import VoxelGrid

SIDE, DURATION_US = 128, 1_000_000
SENSOR, SIZE = Sensor(SIDE, SIDE), (SIDE, SIDE, 2)
PLAIN = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "<i2")])


class Case(NamedTuple):
    """One row of the table; `small` divides the number of events where tonic would take minutes."""

    name: str
    ours: Callable
    theirs: Callable
    target: float
    small: int = 1


def drawing(step: Callable) -> Callable:
    """A random step of ours with a fresh generator for every call, as for every sample."""
    return lambda events, sensor: step(events, sensor, np.random.default_rng(0))


def binarep(events: np.ndarray) -> np.ndarray:
    """tonic's Bina-Rep needs the fine frames made first."""
    return theirs.ToBinaRep(4, 8)(theirs.ToFrame(SIZE, n_time_bins=32)(events))


CASES = (
    Case("frames, 16 bins, uint8", Frames(bins=16, dtype=np.uint8), theirs.ToFrame(SIZE, n_time_bins=16), 10),
    Case("frames, 16 bins, int64", Frames(bins=16), theirs.ToFrame(SIZE, n_time_bins=16), 10),
    Case("frames of 30 ms, uint8", Frames(window_us=30_000, dtype=np.uint8), theirs.ToFrame(SIZE, time_window=30_000), 10),
    Case("frames of 50 000 events", CountFrames(events=50_000, dtype=np.uint8), theirs.ToFrame(SIZE, event_count=50_000), 10),
    Case("voxel grid, 16 points", VoxelGrid(16), theirs.ToVoxelGrid(SIZE, 16), 10),
    Case("time surfaces of 50 ms", TimeSurface(window_us=50_000, tau_us=2e4), theirs.ToTimesurface(SIZE, 5e4, 2e4), 1),
    Case("Bina-Rep, 4 of 8 bits", BinaRep(bins=4, bits=8), binarep, 1),
    Case("denoise, 8 neighbours", Denoise(2000), theirs.Denoise(2000), 50),
    Case("refractory, 5 ms", Refractory(5000, every_event=True), theirs.RefractoryPeriod(5000), 50),
    Case("decimation, 1 of 4", Decimate(4), theirs.Decimation(4), 50),
    Case("jitter in space, clipped", drawing(jitter.SpatialJitter(1.0, clip=True)), theirs.SpatialJitter(SIZE, clip_outliers=True), 3),
    Case("jitter in time, sorted", drawing(augment.TimeJitter(100.0)), theirs.TimeJitter(100.0, sort_timestamps=True), 3),
    Case("drop 30 % of events", drawing(dropping.DropShare(0.3)), theirs.DropEvent(0.3), 3),
    Case("drop 30 % of time", drawing(dropping.DropTime(0.3)), theirs.DropEventByTime(0.3), 3),
    Case("drop a box", drawing(dropping.DropArea(0.09)), theirs.DropEventByArea(SIZE, 0.3), 3),
    Case("half the pixels", SpatialDownsample(2), theirs.Downsample(spatial_factor=0.5), 3),
    Case("mirror upside down", drawing(flipping.RandomFlipVertical(1.0)), theirs.RandomFlipUD(SIZE, 1.0), 1),
)  # fmt: skip


def seconds(call: Callable, *arguments: object) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin


def measure(case: Case, events: np.ndarray, rounds: int) -> tuple[float, float]:
    """Median seconds of (ours, theirs), taking turns; slow calls of theirs get three turns."""
    plain = np.empty(len(events), PLAIN)
    for name in PLAIN.names:
        plain[name] = events[name]
    case.ours(events, SENSOR)
    first = seconds(case.theirs, plain.copy())
    mine, peers = [], []
    for _ in range(rounds if first < 1 else 3):
        mine.append(seconds(case.ours, events, SENSOR))
        peers.append(seconds(case.theirs, plain.copy()))
    return statistics.median(mine), statistics.median(peers)


def main() -> None:
    """Print the table, and how many rows are below their target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    n, rng = options.events, np.random.default_rng(0)
    t = np.sort(rng.integers(0, DURATION_US, n))
    events = make_events(rng.integers(SIDE, size=n), rng.integers(SIDE, size=n), t, rng.integers(2, size=n))
    print(f"{n} events   neuro against tonic {tonic.__version__}   numpy {np.__version__}")
    print(f"{'':26s} {'ours':>10s} {'tonic':>11s} {'ratio':>7s} {'target':>7s}")
    below = 0
    for case in CASES:
        mine, peer = measure(case, events, options.rounds)
        missed = peer / mine < case.target
        below += missed
        line = f"{case.name:26s} {mine * 1e3:7.2f} ms {peer * 1e3:8.1f} ms {peer / mine:6.1f}x {case.target:6.0f}x"
        print(line + ("  below" if missed else ""), flush=True)
    print(f"{below} of {len(CASES)} below their target")


if __name__ == "__main__":
    main()
