"""WISDM smartwatch: acceleration at the wrist during six activities, cut into windows, to be split by subject."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from neuro.datasets.examples import Examples
from neuro.datasets.npz import read_arrays
from neuro.errors import FormatError, ParameterError, explain

RUN = 2400  # samples of one subject and one activity without a gap
RATE_HZ = 20


class WISDMWatch(Examples):
    """Windows x [T, 3] float32, m/s^2 (x, y, z) at 20 Hz. No window crosses from one run of 120 s to another.

    path: an npz with `acc` [N, 3], `subject` [N] and `activity` [N], in runs of 2400 rows.
    steps, stride: of the windows, in samples of 50 ms, 1 to 2400.
    subjects: of every window, for `neuro.datasets.splits.by_group`. Overlapping windows of one subject must not be
        divided between training and test.

    Raises:
        FileNotFoundError: no such file. FormatError: shapes that differ, or a run of two subjects or activities.
        ParameterError: steps or stride outside the range.
    """

    classes = ("walking", "jogging", "climbing stairs", "sitting", "standing", "kicking a ball")
    rate_hz = RATE_HZ
    licence = "CC BY 4.0"
    source = "G. Weiss, WISDM Smartphone and Smartwatch Activity and Biometrics Dataset, Fordham University, 2019"

    def __init__(self, path: str | os.PathLike, steps: int = 100, stride: int = 100) -> None:
        acc, subject, activity = read_arrays(Path(path), ("acc", "subject", "activity"))
        if acc.ndim != 2 or acc.shape[1] != 3 or len(acc) % RUN or not len(acc) == len(subject) == len(activity):
            fact = f"acc {acc.shape}   subject {subject.shape}   activity {activity.shape}"
            raise FormatError(explain(f"{path}: not rows of three in runs of {RUN}.", fact))
        who, what = subject.reshape(-1, RUN), activity.reshape(-1, RUN)
        mixed = np.flatnonzero((who != who[:, :1]).any(1) | (what != what[:, :1]).any(1))
        if len(mixed):
            raise FormatError(explain(f"{path}: a run has two subjects or activities.", f"first: run {mixed[0]}"))
        self.cut(acc.reshape(-1, RUN, 3), what[:, 0], who[:, 0], steps, stride)

    def cut(self, runs: np.ndarray, labels: np.ndarray, subjects: np.ndarray, steps: int, stride: int) -> None:
        """Fill this object with the windows of runs [R, S, 3]."""
        if not 1 <= steps <= runs.shape[1] or not 1 <= stride <= runs.shape[1]:
            raise ParameterError(
                explain(f"WISDMWatch: windows must fit a run of {runs.shape[1]}.", f"steps={steps}   stride={stride}")
            )
        starts = range(0, runs.shape[1] - steps + 1, stride)
        x = np.concatenate([runs[:, None, s : s + steps] for s in starts], axis=1).reshape(-1, steps, 3)
        self.subjects = tuple(int(s) for s in np.repeat(subjects, len(starts)))
        names = [f"{who}/run{r}/{s}" for r, who in enumerate(subjects) for s in starts]
        Examples.__init__(self, x, np.repeat(labels, len(starts)), names)

    @classmethod
    def simulated(cls, count: int, seed: int = 0, steps: int = 100):
        """`count` windows of noisy swings whose frequency tells the activity; four subjects of different strength."""
        rng = np.random.default_rng(seed)
        labels, subjects, t = rng.integers(0, 6, count), np.arange(count) % 4, np.arange(steps) / RATE_HZ
        swing = (1 + subjects)[:, None] * np.sin(2 * np.pi * (0.5 + labels[:, None]) * t + rng.uniform(0, 6, (count, 1)))
        x = (swing[..., None] * (1.0, 0.5, 0.2) + rng.normal(0, 0.3, (count, steps, 3))).astype(np.float32)
        new = cls.__new__(cls)
        new.cut(x, labels, subjects, steps, steps)
        return new
