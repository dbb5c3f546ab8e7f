"""Recordings for Lightning: loaders whose batches depend on seed, epoch and batch number alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightning
from torch.utils.data import DataLoader

from neuro.datasets.compact import CompactLoader
from neuro.datasets.events import Recording
from neuro.datasets.loading import EventFrames
from neuro.datasets.mixed import MixedFrames
from neuro.datasets.sampling import EpochBatches
from neuro.errors import ParameterError, explain


class EventDataModule(lightning.LightningDataModule):
    """Train, validation and test recordings as loaders of `Batch`es.

    train, val, test: sequences of `Recording`s. Without `val` there is no validation; `train` and `test` raise when they
        are asked for and were not given.
    frames: `(events, sensor) -> [T, C, H, W]`, for all three.
    augment: `(events, sensor, rng) -> events`, for training alone.
    mix: such as `EventMixup`, for training alone; labels are then shares of the classes: see `MixedFrames`.
    classes: their names, in the order of the labels.
    batch_size: samples per batch and rank. workers: processes per loader, 0 for none. seed: of order and augmentation.

    The batches of a run are the same with any number of workers. A checkpoint carries the position in the epoch, and
    training goes on from it with the next batch, each sample once. On several ranks the Trainer needs
    `use_distributed_sampler=False`, because `EpochBatches` shards by itself.
    """

    def __init__(
        self,
        train: Sequence[Recording] | None = None,
        val: Sequence[Recording] | None = None,
        test: Sequence[Recording] | None = None,
        *,
        frames: Callable,
        augment: Callable | None = None,
        mix: Callable | None = None,
        classes: Sequence[str] = (),
        batch_size: int = 32,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sets = {"train": train, "val": val, "test": test}
        self.frames, self.augment, self.mix, self.classes = frames, augment, mix, tuple(classes)
        if mix is not None and not self.classes:
            raise ParameterError(explain("EventDataModule: to mix recordings, their classes must be known.", cure="Pass classes=."))
        if workers < 0:
            raise ParameterError(explain(f"{type(self).__name__}: workers={workers} is not a number of processes.", cure="Give 0, to prepare batches in this process, or more."))
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.batches: EpochBatches | None = None  # of training; lives as long as the module, and holds the position

    def setup(self, stage: str | None = None) -> None:
        """Learn rank and world size from the Trainer."""
        connector = getattr(self.trainer, "_accelerator_connector", None)
        if self.world > 1 and getattr(connector, "use_distributed_sampler", False):
            raise ParameterError(
                explain(
                    "EventDataModule: the Trainer would put its own sampler in place of ours.",
                    f"world size {self.world}   use_distributed_sampler=True",
                    cure="Pass Trainer(use_distributed_sampler=False).",
                )
            )
        if self.sets["train"] is not None and self.batches is None:
            self.batches = self.cut("train")

    def train_dataloader(self) -> DataLoader:
        if self.batches is None:
            self.batches = self.cut("train")
        return self.loader("train", self.batches, self.augment, self.mix)

    def val_dataloader(self) -> DataLoader | list:
        if self.sets["val"] is None:
            return []  # training without validation
        return self.loader("val", self.cut("val"))

    def test_dataloader(self) -> DataLoader:
        return self.loader("test", self.cut("test"))

    def state_dict(self) -> dict:
        """The position in training: epoch and the first batch that was not yet used."""
        if self.batches is None:
            return {}
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.processed if self.trainer else None
        return {"batches": self.batches.state_dict(done)}

    def load_state_dict(self, state_dict: dict) -> None:
        if "batches" in state_dict:
            self.batches = self.batches or self.cut("train")
            self.batches.load_state_dict(state_dict["batches"])

    @property
    def world(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def recordings(self, name: str) -> Sequence[Recording]:
        """The recordings of one set, or an error that says which sets there are."""
        if self.sets[name] is None:
            given = ", ".join(key for key, value in self.sets.items() if value is not None) or "none"
            raise ParameterError(explain(f"EventDataModule: no {name} recordings were given.", f"given: {given}"))
        return self.sets[name]

    def cut(self, name: str) -> EpochBatches:
        """The batches of one set for this rank; only training is shuffled."""
        rank = self.trainer.global_rank if self.trainer else 0
        how = {"seed": self.seed, "shuffle": name == "train", "rank": rank, "world": self.world}
        return EpochBatches(len(self.recordings(name)), self.batch_size, **how)

    def loader(self, name: str, batches: EpochBatches, augment: Callable | None = None, mix: Callable | None = None) -> DataLoader:
        """A loader over one set; its workers send counts as bytes, see `CompactLoader`."""
        if mix is None:
            data = EventFrames(self.recordings(name), self.frames, augment, self.seed)
        else:
            data = MixedFrames(self.recordings(name), self.frames, mix, len(self.classes), augment, seed=self.seed)
        pin = bool(self.trainer) and self.trainer.strategy.root_device.type == "cuda"
        return CompactLoader(
            data,
            batch_sampler=batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=pin,
        )
