"""Checkpoints of a run: when they are due, and how they come to the disk and back."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from neuro.errors import FormatError, explain
from neuro.files import replacing
from neuro.training.tables import Table


class WholeCheckpoints(CheckpointIO):
    """Lightning's checkpoint files, written whole or not at all and read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        image = io.BytesIO()  # first in memory: a full disk is then an OSError of ours, not one from inside torch
        torch.save(checkpoint, image)
        with replacing(path) as file:
            file.write(image.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            cure = "It is damaged, or no checkpoint of neuro. Delete it to train from the start."
            raise FormatError(explain(f"{path} cannot be read.", str(error).split("\n")[0][:300], cure=cure)) from error

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


@dataclass
class Keeper:
    """Writes the checkpoint of a run when `seconds` have passed since the last one, or every so many `batches`.

    The old checkpoint stands until the new one is on the disk.
    """

    path: Path
    seconds: float = 60.0
    batches: int = 0  # 0: by time alone
    tables: Sequence[Table] = ()  # whose rows must be on the disk before the checkpoint is
    since: float = field(default=0.0, init=False)
    count: int = field(default=0, init=False)
    clock: Callable[[], float] = time.monotonic

    def start(self) -> None:
        self.since, self.count = self.clock(), 0

    def due(self, trainer: Any) -> bool:
        """Whether to write after this batch: one answer for all processes."""
        self.count += 1
        if self.batches and self.count >= self.batches:
            return True
        late = self.clock() - self.since >= self.seconds
        return late if trainer.world_size == 1 else trainer.strategy.broadcast(late)

    def save(self, trainer: Any, state: dict[str, Any]) -> None:
        """Write the checkpoint, on rank zero."""
        if trainer.is_global_zero:
            for table in self.tables:
                table.sync()
        trainer.strategy.save_checkpoint(state, self.path)
        self.start()
