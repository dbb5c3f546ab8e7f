"""UCI-HAR: a smartphone at the waist during six activities, windows of 2.56 s, split by subject."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from neuro.datasets.downloads import Remote, download
from neuro.datasets.examples import Examples
from neuro.datasets.unpacking import unpack
from neuro.errors import FormatError, explain, nothing_there, unknown

SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
STEPS = 128
LIMIT = 64 * 2**20  # bytes of one table


class UCIHAR(Examples):
    """Windows x [T=128, 9] float32 at 50 Hz: body acceleration (g), angular velocity (rad/s), total acceleration (g).

    folder: holds `train` and `test` as published, or `UCI HAR Dataset` with them, or what `download` makes. Windows overlap by half; the official
        split is by subject (21 train, 9 test), so none of them is in both. subjects: of every window.

    Raises:
        FileNotFoundError: a table is missing. FormatError: tables that do not fit. UnknownName: no such split.
    """

    classes = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")
    rate_hz = 50
    sizes = {"train": 7352, "test": 2947}
    remotes = (Remote("UCI HAR Dataset.zip", "https://archive.ics.uci.edu/ml/machine-learning-databases/00240/UCI%20HAR%20Dataset.zip"),)
    licence = "CC BY 4.0"
    source = "D. Anguita, A. Ghio, L. Oneto, X. Parra, J. Reyes-Ortiz, A Public Domain Dataset for Human Activity Recognition Using Smartphones, ESANN 2013"

    def __init__(self, folder: str | os.PathLike, split: str) -> None:
        if split not in self.sizes:
            raise unknown("UCIHAR split", str(split), self.sizes)
        places = [Path(folder) / inner for inner in ("", "UCI HAR Dataset", "uci-har/UCI HAR Dataset")]
        base = next((place for place in places if (place / split).is_dir()), places[0]) / split
        labels = table(base / f"y_{split}.txt", 1)[:, 0]
        subjects = table(base / f"subject_{split}.txt", 1)[:, 0]
        signals = [table(base / "Inertial Signals" / f"{name}_{split}.txt", STEPS) for name in SIGNALS]
        if {len(labels)} != {len(t) for t in (subjects, *signals)} or not np.isin(labels, range(1, 7)).all():
            fact = f"labels {len(labels)}   subjects {len(subjects)}   signals {sorted({len(t) for t in signals})}"
            raise FormatError(explain(f"{base}: the tables do not fit, or a label is not 1 to 6.", fact))
        self.subjects = tuple(int(s) for s in subjects)
        super().__init__(np.stack(signals, -1), labels.astype(int) - 1, [f"{split}/{i}" for i in range(len(labels))])

    @classmethod
    def download(cls, folder: str | os.PathLike) -> list[Path]:
        """Get the zip and unpack it into `folder/uci-har`."""
        (path,) = download(cls.remotes, folder)
        if not (target := path.with_name("uci-har")).exists():
            unpack(path, target, limit=2**31)
        return [path]

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """Noisy swings whose frequency tells the activity; five subjects in turn."""
        rng = np.random.default_rng(seed)
        labels, t = rng.integers(0, 6, count), np.arange(STEPS) / cls.rate_hz
        swing = np.sin(2 * np.pi * (0.5 + labels[:, None]) * t + rng.uniform(0, 6, (count, 1)))
        x = (swing[..., None] * np.linspace(1, 0.2, 9) + rng.normal(0, 0.3, (count, STEPS, 9))).astype(np.float32)
        new = cls.made(x, labels, [f"simulated/{seed}/{i}" for i in range(count)])
        new.subjects = tuple(1 + i % 5 for i in range(count))
        return new


def table(path: Path, columns: int) -> np.ndarray:
    """Numbers [N, columns] float32 of a text file, separated by spaces."""
    if not path.is_file():
        raise FileNotFoundError(nothing_there("file", path, "Unpack UCI HAR Dataset.zip, or call UCIHAR.download(folder)."))
    if path.stat().st_size > LIMIT:
        raise FormatError(explain(f"{path} is too large for a table of this set.", f"{path.stat().st_size} bytes"))
    try:
        numbers = np.array(path.read_text(encoding="ascii").split(), np.float64)
    except ValueError as error:
        raise FormatError(explain(f"{path} is no table of numbers.", str(error)[:200])) from error
    if not len(numbers) or len(numbers) % columns or not np.isfinite(numbers).all():
        raise FormatError(explain(f"{path} has no rows of {columns} finite numbers.", f"{len(numbers)} numbers"))
    return numbers.reshape(-1, columns).astype(np.float32)
