"""Lightning without its chatter: we say what a user needs to know."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import TQDMProgressBar

LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning")


def quiet() -> None:
    """Let Lightning report errors only. Its hints on workers, loggers and checkpoints do not fit our loaders."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", category=UserWarning, message=r".*(num_workers|isinstance\(treespec, LeafSpec\)).*")


class Bar(TQDMProgressBar):
    """Lightning's bar with the epoch of the whole run and the loss, for a terminal."""

    def __init__(self, epochs: int):
        super().__init__(leave=False)
        self.epochs = epochs

    def get_metrics(self, trainer: Any, module: Any) -> dict[str, Any]:
        return {} if module.shown is None else {"loss": f"{float(module.shown):.3f}"}

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        super().on_train_epoch_start(trainer, module)
        self.train_progress_bar.set_description(f"epoch {module.epoch + 1}/{self.epochs}")


class Lines:
    """One line per epoch, where there is no terminal to draw a bar on, and below the bar where there is."""

    def __init__(self, epochs: int, write: Callable[[str], Any] = print):
        self.epochs, self.write = epochs, write

    def __call__(self, row: dict[str, Any]) -> None:
        parts = [f"epoch {row['epoch']:>3}/{self.epochs}", f"train loss {row['train_loss']:.3f} accuracy {row['train_accuracy']:.4f}"]
        if "val_accuracy" in row:
            parts.append(f"val loss {row['val_loss']:.3f} accuracy {row['val_accuracy']:.4f}")
        self.write("   ".join([*parts, f"{row['seconds']:.1f} s"]))
