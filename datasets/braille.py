"""Braille letters under a fingertip: spikes of 12 taxels, 256 steps of 5 ms, 7 classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from neuro.datasets.examples import Examples
from neuro.datasets.npz import read_arrays
from neuro.errors import FormatError, explain


class Braille(Examples):
    """Spikes x [T=256, 12] uint8, 0 or 1, at 5 ms per step; time first. There is no official split in the file.

    path: an npz with `spikes` [N, 256, 12] and `label` [N].

    Raises:
        FileNotFoundError: no such file. FormatError: other arrays, shapes or values.
    """

    classes = ("Space", "A", "E", "I", "O", "U", "Y")
    step_s = 0.005
    shape = (256, 12)
    licence = "CC BY 4.0"
    source = "S. Mueller-Cleve et al., Braille letter reading, Frontiers in Neuroscience 16:951164, 2022"

    def __init__(self, path: str | os.PathLike) -> None:
        spikes, label = read_arrays(Path(path), ("spikes", "label"))
        if spikes.shape[1:] != self.shape or label.shape != spikes.shape[:1] or not np.isin(spikes, (0, 1)).all():
            fact = f"spikes {spikes.shape}, largest {spikes.max(initial=0)}   label {label.shape}"
            raise FormatError(explain(f"{path}: not spikes [N, 256, 12] of 0 and 1 with N labels.", fact))
        super().__init__(spikes, label, [str(i) for i in range(len(label))])

    @classmethod
    def simulated(cls, count: int, seed: int = 0):
        """Random spikes at 10 %, and at 60 % on the taxel that tells the class."""
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 7, count)
        rate = np.where(np.arange(12) == labels[:, None], 0.6, 0.1)[:, None]
        spikes = (rng.random((count, *cls.shape)) < rate).astype(np.uint8)
        return cls.made(spikes, labels, [f"simulated/{seed}/{i}" for i in range(count)])
