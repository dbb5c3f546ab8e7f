"""Batches from any position of any epoch on.

Lightning counts epochs from the start of each `Trainer.fit`. A resumed run is to it a shorter run whose first epoch is the
rest of the one that was cut off, so none of its own restart rules come into play.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from torch.utils.data import DistributedSampler

from neuro.datasets.sampling import EpochBatches
from neuro.errors import ParameterError, explain
from neuro.training.schedule import mixed


class Rest:
    """The batches of one epoch from batch `start` on. Its loader's workers start at the first batch, not at `iter`."""

    def __init__(self, loader: Any, epoch: int, start: int, seed: int):
        self.loader, self.epoch, self.start, self.seed = loader, epoch, start, seed

    def __len__(self) -> int:
        return len(self.loader) - self.start

    def __iter__(self) -> Iterator[Any]:
        sampler = getattr(self.loader, "batch_sampler", None)
        if isinstance(sampler, EpochBatches):
            sampler.epoch, sampler.start_batch = self.epoch, self.start
            yield from self.loader
        else:  # any other loader: its order is drawn from torch's generator, and what was seen is skipped
            torch.manual_seed(mixed(self.seed, self.epoch))
            yield from itertools.islice(iter(self.loader), self.start, None)


class Positioned(lightning.LightningDataModule):
    """A data module whose training loader starts where the module in training says that it is."""

    def __init__(self, data: Any, module: Any):
        super().__init__()
        self.data, self.module, self.loader = data, module, None

    def prepare_data(self) -> None:
        if hasattr(self.data, "prepare_data"):
            self.data.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        self.data.trainer = self.trainer
        if hasattr(self.data, "setup"):
            self.data.setup(stage)

    def train_dataloader(self) -> Rest:
        if self.loader is None:
            self.loader = self.data.train_dataloader()
        _refuse_copies(self.loader, self.trainer)
        self.module.batches = len(self.loader)
        return Rest(self.loader, self.module.epoch, self.module.batch, self.module.seed)

    def val_dataloader(self) -> Rest:
        return Rest(self.data.val_dataloader(), 0, 0, self.module.seed)


def _refuse_copies(loader: Any, trainer: Any) -> None:
    """Several processes with one and the same plain loader would all train on the same batches, and gain nothing."""
    samplers = (getattr(loader, "batch_sampler", None), getattr(loader, "sampler", None))
    if trainer is not None and trainer.world_size > 1 and not any(isinstance(s, (EpochBatches, DistributedSampler)) for s in samplers):
        facts = f"{trainer.world_size} processes   sampler {type(samplers[0] or samplers[1]).__name__}"
        cure = "Use neuro.datasets.EventDataModule, or a loader with batch_sampler=neuro.datasets.EpochBatches(..., rank=, world=)."
        raise ParameterError(explain("fit: every process would be given the same batches.", facts, cure=cure))
