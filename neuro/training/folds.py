"""Parts of a data set for cross-validation, drawn from a seed, each with its share of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuro.errors import ParameterError, explain


def folds(labels: Sequence[int], count: int, seed: int) -> list[np.ndarray]:
    """Indices of `count` parts that together are all recordings; sizes per class differ by at most one.

    >>> [sorted(np.take([0, 0, 1, 1], f).tolist()) for f in folds([0, 0, 1, 1], 2, seed=0)]
    [[0, 1], [0, 1]]
    """
    labels = np.asarray(labels)
    if not 2 <= count <= len(labels):
        raise ParameterError(explain(f"folds: {len(labels)} recordings cannot be cut into {count} parts.", cure="Give at least 2."))
    rng = np.random.default_rng([seed, 0xF01D])
    order = np.concatenate([rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)])
    return [np.sort(order[k::count]) for k in range(count)]


class Part(Sequence):
    """Some of the recordings of a sequence, still read one at a time when asked for. Has `labels` and `names` where known."""

    def __init__(self, recordings: Sequence[Any], indices: Sequence[int]):
        self.recordings, self.indices = recordings, np.asarray(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Any:
        return self.recordings[int(self.indices[i])]

    @property
    def labels(self) -> list[int]:
        return self._every("label")

    @property
    def names(self) -> list[str]:
        return self._every("name")

    def _every(self, what: str) -> list[Any]:
        known = getattr(self.recordings, f"{what}s", None)
        return [known[i] if known is not None else getattr(self.recordings[i], what) for i in self.indices.tolist()]
