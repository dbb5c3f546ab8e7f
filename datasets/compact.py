"""Batches that travel small: worker processes send counts as bytes, and whoever asks for a batch gets float32.

A tensor that a worker sends goes through shared memory of its own: a file to make, to hand over and to map, whose pages
cost more than reading and counting the events does. An array goes through the worker's pipe. Counts up to 255 need a
quarter of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from neuro.datasets.loading import Batch, Sample, collate
from neuro.errors import ParameterError, explain
from neuro.memory import keep_small_blocks

MOST = 255  # of a byte
KEPT = 32 << 20  # bytes


class Counted(Protocol):
    """What `EventFrames`, `MixedFrames` and `CachedFrames` are: frames by key, in the type that they were made in, and the label."""

    def __len__(self) -> int: ...

    def counted(self, key: Any) -> tuple[np.ndarray, Any]: ...


class ByteSamples(Dataset):
    """The samples of `data`, whose x is uint8 where that holds all of its values, integers, and float32 otherwise."""

    def __init__(self, data: Counted) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> Sample:
        x, label = self.data.counted(key)
        x = x.astype(np.uint8 if is_small(x) else np.float32, copy=False)
        return Sample(torch.from_numpy(np.require(x, requirements="CW")), label)


def is_small(x: np.ndarray) -> bool:
    """Whether all values are integers of 0 to 255, and of an integer type or boolean."""
    if x.dtype in (np.uint8, np.bool_) or not x.size:
        return x.dtype.kind in "bui"
    return x.dtype.kind in "ui" and x.min() >= 0 and x.max() <= MOST


def collate_bytes(samples: Sequence[Sample]) -> tuple[np.ndarray, ...]:
    """What `collate` gives, as arrays, x of uint8 where all samples are."""
    small = all(s.x.dtype == torch.uint8 for s in samples)
    return tuple(part.numpy() for part in collate(samples, torch.uint8 if small else torch.float32))


def start_worker(given: Callable[[int], Any] | None, number: int) -> None:
    """What a worker does first: it keeps up to 32 MiB that it has freed, because pages that are given back and asked for
    again with each batch take a third of its time; then what the caller wants.
    """
    keep_small_blocks(KEPT)
    if given is not None:
        given(number)


class CompactLoader(DataLoader):
    """A DataLoader of the very batches that it gives with `collate_fn=collate`, float32, sooner.

    dataset: `EventFrames`, `MixedFrames` or `CachedFrames`; frames of dtype uint8 are made and sent soonest.
    how: as for DataLoader.

    Raises:
        ParameterError: data of another kind, or a collate_fn.

    >>> from neuro.datasets.loading import EventFrames
    >>> from neuro.datasets.motions import make_motions
    >>> from neuro.datasets.transforms import Frames
    >>> data = EventFrames(make_motions(4), Frames(bins=5, dtype=np.uint8))
    >>> [(batch.x.dtype, list(batch.x.shape)) for batch in CompactLoader(data, batch_size=4)]
    [(torch.float32, [5, 4, 2, 32, 32])]
    """

    def __init__(self, dataset: Counted | ByteSamples, *, pin_memory: bool = False, **how: Any) -> None:
        # Lightning makes a loader anew from what it finds in it: the wrapped data set, and collate_fn
        data = dataset.data if isinstance(dataset, ByteSamples) else dataset
        if not hasattr(data, "counted"):
            cure = "Give EventFrames or CachedFrames; for others use DataLoader with collate_fn=collate."
            raise ParameterError(explain("CompactLoader: this data set has no frames of counts.", type(data).__name__, cure=cure))
        if how.setdefault("collate_fn", collate_bytes) is not collate_bytes:
            raise ParameterError(explain("CompactLoader: it collates by itself.", f"collate_fn={how['collate_fn']!r}"))
        how["worker_init_fn"] = partial(start_worker, how.get("worker_init_fn"))
        self.pinned = pin_memory and torch.cuda.is_available()
        super().__init__(ByteSamples(data), **how)

    def __iter__(self) -> Iterator[Batch]:
        for x, lengths, label in super().__iter__():
            # by NumPy, in one thread: torch's others would wait for cores that the workers have
            parts = [torch.from_numpy(part) for part in (x.astype(np.float32, copy=False), lengths, label)]
            yield Batch(*(part.pin_memory() if self.pinned else part for part in parts))
