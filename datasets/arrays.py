"""Labelled arrays for Lightning: as `EventDataModule`, for pictures, waves, series and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader

from neuro.datasets.datamodule import EventDataModule
from neuro.datasets.examples import EncodedExamples
from neuro.datasets.loading import collate
from neuro.datasets.sampling import EpochBatches


class ArrayDataModule(EventDataModule):
    """Train, validation and test examples as loaders of `Batch`es: order, position, ranks and checkpoints as in `EventDataModule`.

    train, val, test: sequences of `Example`s, or of `Passage`s of text, whose label is the next symbol at every step.
    encode: `(x, rng) -> [T, ...]`, such as those of `neuro.datasets.encoding`, for all three; it is saved with the model.
    augment: `(x, rng) -> x`, for training alone.
    """

    def __init__(
        self,
        train: Sequence | None = None,
        val: Sequence | None = None,
        test: Sequence | None = None,
        *,
        encode: Callable,
        augment: Callable | None = None,
        classes: Sequence[str] = (),
        batch_size: int = 32,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(train, val, test, frames=None, classes=classes, batch_size=batch_size, workers=workers, seed=seed)
        self.encode, self.augment = encode, augment

    def loader(self, name: str, batches: EpochBatches, augment: Callable | None = None, mix: None = None) -> DataLoader:
        """A DataLoader over one set."""
        encode = self.encode if augment is None else Both(augment, self.encode)
        data = EncodedExamples(self.recordings(name), encode, self.seed)
        pin = bool(self.trainer) and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            data, batch_sampler=batches, collate_fn=collate, num_workers=self.workers, persistent_workers=self.workers > 0, pin_memory=pin
        )


@dataclass(frozen=True)
class Both:
    """First the one, then the other, fed by one generator."""

    first: Callable
    then: Callable

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.then(self.first(x, rng), rng)
