"""Recordings mixed with others for training: frames of the mixture, and the share of each class as its label."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from neuro.datasets.augment import resized
from neuro.datasets.events import Recording
from neuro.datasets.loading import Sample
from neuro.errors import ParameterError, ShapeError, explain


class MixedFrames(Dataset):
    """As `EventFrames`, each recording mixed with another one; labels are shares [K] that sum to 1, float32.

    mix: `(events, events, sensor, rng) -> Mixed`, such as `neuro.datasets.EventMixup`; both recordings are augmented first.
    classes: their number, K. chance: of mixing at all, 0 to 1; an unmixed recording has one share of 1.

    The partner, the mixture and the augmentation depend on (seed, epoch, index) alone. The losses of `neuro.loss` and
    `torch.nn.CrossEntropyLoss` take such labels.

    >>> from neuro.datasets import EventMixup, Frames, make_motions
    >>> x, label = MixedFrames(make_motions(4), Frames(bins=2), EventMixup(), classes=8)[0]
    >>> list(x.shape), round(float(label.sum()), 6)
    ([2, 2, 32, 32], 1.0)
    """

    def __init__(
        self, recordings: Sequence[Recording], frames: Callable, mix: Callable, classes: int, augment: Callable | None = None,
        chance: float = 1.0, seed: int = 0,
    ) -> None:  # fmt: skip
        if seed < 0 or classes < 1 or not 0 <= chance <= 1:
            fact = f"seed={seed}   classes={classes}   chance={chance}"
            raise ParameterError(explain("MixedFrames: seed from 0, classes from 1, chance from 0 to 1.", fact))
        self.recordings, self.frames, self.mix, self.classes = recordings, frames, mix, classes
        self.augment, self.chance, self.seed = augment, chance, seed

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        x, label = self.counted(key)
        return Sample(torch.from_numpy(x.astype(np.float32)), label)

    def counted(self, key: int | tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Frames in the type that the transform gives them, and the shares of the classes."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"MixedFrames: no sample {index} among {len(self)}")
        rng = np.random.default_rng([self.seed, epoch, index])
        first = self.recordings[index]
        sensor = resized(self.augment, first.sensor)
        events, share, other = self.augmented(first, rng), 1.0, first
        if rng.random() < self.chance:
            other = self.recordings[int(rng.integers(len(self)))]
            if other.sensor != first.sensor:
                raise ShapeError(explain("MixedFrames: recordings of two sensors cannot be mixed.", f"{first.sensor}   {other.sensor}"))
            events, share = self.mix(events, self.augmented(other, rng), sensor, rng)
        label = np.zeros(self.classes, np.float32)
        for recording, part in ((first, share), (other, 1 - share)):
            if not 0 <= recording.label < self.classes:
                raise ParameterError(explain(f"MixedFrames: {recording.name} has no class.", f"label {recording.label} of {self.classes}"))
            label[recording.label] += part
        return self.frames(events, sensor), label

    def augmented(self, recording: Recording, rng: np.random.Generator) -> np.ndarray:
        """The events of a recording, augmented."""
        return recording.events if self.augment is None else self.augment(recording.events, recording.sensor, rng)
