"""From recordings to batches of frames [T, B, C, H, W], the same whatever the number of workers.

Every random draw of a sample comes from (seed, epoch, index), never from a worker's own generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from neuro.datasets.augment import resized
from neuro.datasets.events import Recording
from neuro.errors import ParameterError, ShapeError, explain


class Batch(NamedTuple):
    """What a model gets. Sample b is valid for the first `lengths[b]` steps and zero after them."""

    x: torch.Tensor  # [T, B, C, H, W] float32
    lengths: torch.Tensor  # [B] int64
    label: torch.Tensor  # [B] int64, or shares of the classes [B, K] float32


class Sample(NamedTuple):
    """One recording as frames."""

    x: torch.Tensor  # [T, C, H, W] float32
    label: int | np.ndarray  # or shares of the classes [K]


class EventFrames(Dataset):
    """Recordings, augmented and counted into frames.

    recordings: anything with a length whose items are `Recording`s; read when asked for.
    frames: `(events, sensor) -> [T, C, H, W]`, such as `neuro.datasets.transforms.Frames`.
    augment: `(events, sensor, rng) -> events`, such as those of `neuro.datasets.augment`, or None.

    A key is (epoch, index), as `EpochBatches` yields them, or an index alone, which means epoch 0.

    >>> from neuro.datasets.motions import make_motions
    >>> from neuro.datasets.transforms import Frames
    >>> list(EventFrames(make_motions(2), Frames(bins=10))[1].x.shape)
    [10, 2, 32, 32]
    """

    def __init__(
        self, recordings: Sequence[Recording], frames: Callable, augment: Callable | None = None, seed: int = 0
    ):
        if seed < 0:
            raise ParameterError(explain("EventFrames: the seed must not be negative.", f"seed={seed}"))
        self.recordings, self.frames, self.augment, self.seed = recordings, frames, augment, seed

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        x, label = self.counted(key)
        return Sample(torch.from_numpy(x.astype(np.float32)), label)

    def counted(self, key: int | tuple[int, int]) -> tuple[np.ndarray, int]:
        """Frames in the type that the transform gives them, and the label."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"EventFrames: no sample {index} among {len(self)}")
        recording = self.recordings[index]
        events = recording.events
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            events = self.augment(events, recording.sensor, rng)
        return self.frames(events, resized(self.augment, recording.sensor)), int(recording.label)


def collate(samples: Sequence[Sample], dtype: torch.dtype = torch.float32) -> Batch:
    """Stack samples with time first; shorter ones are filled up with zeros at the end. dtype: of the batch's x.

    Raises:
        ShapeError: no samples, or channels, height or width that differ.
    """
    shapes = {tuple(s.x.shape[1:]) for s in samples}
    if len(shapes) != 1:
        shown = ", ".join(str(list(shape)) for shape in sorted(shapes)) or "no samples"
        raise ShapeError(explain("collate: samples of one batch must agree in [C, H, W].", shown))
    lengths = torch.tensor([len(s.x) for s in samples])
    x = torch.zeros(int(lengths.max()), len(samples), *shapes.pop(), dtype=dtype)
    for b, sample in enumerate(samples):
        x[: len(sample.x), b] = sample.x
    return Batch(x, lengths, torch.from_numpy(np.stack([np.asarray(s.label) for s in samples])))
