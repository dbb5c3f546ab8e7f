"""Batches that travel small: worker processes send counts as bytes, and whoever asks for a batch gets float32.

What a worker sends goes through shared memory, whose pages cost more than reading and counting the events does. Frames of
dtype uint8 need a quarter of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from neuro.datasets.loading import Batch, Sample, collate
from neuro.errors import ParameterError, explain


class Counted(Protocol):
    """What `EventFrames` and `CachedFrames` are: frames by key, in the type that they were made in, and the label."""

    def __len__(self) -> int: ...

    def counted(self, key: Any) -> tuple[np.ndarray, int]: ...


class ByteSamples(Dataset):
    """The samples of `data`, whose x is uint8 where the frames are, and float32 otherwise."""

    def __init__(self, data: Counted) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> Sample:
        x, label = self.data.counted(key)
        x = x if x.dtype == np.uint8 else x.astype(np.float32, copy=False)
        return Sample(torch.from_numpy(x), label)


def collate_bytes(samples: Sequence[Sample]) -> tuple[torch.Tensor, list[int], list[int]]:
    """What `collate` gives, x of uint8 where all samples are; the rest as lists, each tensor being a file of its own."""
    x, lengths, label = collate(samples, torch.uint8 if all(s.x.dtype == torch.uint8 for s in samples) else torch.float32)
    return x, lengths.tolist(), label.tolist()


class CompactLoader(DataLoader):
    """A DataLoader of the same batches as with `collate_fn=collate`, float32, sooner.

    data: `EventFrames` or `CachedFrames`, whose frames are best of dtype uint8; those of other types travel as float32.
    how: as for DataLoader.

    Raises:
        ParameterError: data of another kind.

    >>> from neuro.datasets.loading import EventFrames
    >>> from neuro.datasets.motions import make_motions
    >>> from neuro.datasets.transforms import Frames
    >>> data = EventFrames(make_motions(4), Frames(bins=5, dtype=np.uint8))
    >>> [(batch.x.dtype, list(batch.x.shape)) for batch in CompactLoader(data, batch_size=4)]
    [(torch.float32, [5, 4, 2, 32, 32])]
    """

    def __init__(self, data: Counted, **how: Any) -> None:
        if not hasattr(data, "counted"):
            cure = "Give EventFrames or CachedFrames; for others use DataLoader with collate_fn=collate."
            raise ParameterError(explain("CompactLoader: this data set has no frames of counts.", type(data).__name__, cure=cure))
        super().__init__(ByteSamples(data), collate_fn=collate_bytes, **how)

    def __iter__(self) -> Iterator[Batch]:
        for x, lengths, label in super().__iter__():
            yield Batch(x.float(), torch.tensor(lengths), torch.tensor(label))
