"""How well a model classifies: accuracy, figures per class, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neuro.errors import ShapeError, explain
from neuro.state import run
from neuro.training.tables import write_table


@dataclass(frozen=True, eq=False)
class Scores:
    """Counts of (true class, given class), from which everything else follows. Fractions are 0..1; 0/0 is nan."""

    confusion: np.ndarray  # [classes, classes], row: true, column: given
    classes: tuple[str, ...]

    @property
    def recordings(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / self.recordings) if self.recordings else float("nan")

    def rows(self) -> list[dict[str, Any]]:
        """Per class: recordings, how many were found, the share found, and the share that is right among those so named."""
        right, true, given = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        with np.errstate(invalid="ignore"):
            recall, precision = right / true, right / given
        columns = zip(self.classes, true.tolist(), right.tolist(), recall.tolist(), precision.tolist(), strict=True)
        return [dict(zip(("class", "recordings", "right", "recall", "precision"), row, strict=True)) for row in columns]

    def table(self) -> str:
        """The rows as text."""
        width = max(5, *(len(c) for c in self.classes))
        lines = [f"{'class':<{width}}  recordings  right  recall  precision"]
        for r in self.rows():
            recall, precision = (f"{r[k]:.3f}" if r[k] == r[k] else "-" for k in ("recall", "precision"))
            lines.append(f"{r['class']:<{width}}  {r['recordings']:>10}  {r['right']:>5}  {recall:>6}  {precision:>9}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write classes.csv, a row per class, and confusion.csv, a row per true class and a column per given one."""
        rows = self.rows()
        write_table(folder / "classes.csv", list(rows[0]), [list(row.values()) for row in rows])
        counts = [[name, *row] for name, row in zip(self.classes, self.confusion.tolist(), strict=True)]
        write_table(folder / "confusion.csv", ["true", *self.classes], counts)


def scores(labels: Sequence[int], given: Sequence[int], classes: Sequence[str]) -> Scores:
    """Count the answers `given` to recordings of the true `labels`.

    >>> scores([0, 1, 1], [0, 1, 0], ["a", "b"]).confusion.tolist()
    [[1, 0], [1, 1]]
    """
    n = len(classes)
    flat = np.asarray(labels, dtype=np.int64) * n + np.asarray(given, dtype=np.int64)
    return Scores(np.bincount(flat, minlength=n * n).reshape(n, n), tuple(str(c) for c in classes))


def one_each(logits: torch.Tensor, label: torch.Tensor, lengths: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, K] and labels [N], of a model that answers once, or at every step: [T, B, K] and [B, T], then N counts the steps.

    lengths: steps that count for each sample, or None for all.

    Raises:
        ShapeError: answers at every step with one label per sample, or the other way round.
    """
    steps = logits.dim() == 3
    if steps != (label.dim() == 2 and not label.is_floating_point()):
        facts = f"logits {list(logits.shape)}   labels {list(label.shape)} {label.dtype}"
        cure = "A model that answers at every step needs a label for each; else read out one answer, as MeanOverTime does."
        raise ShapeError(explain("labels and answers differ in kind.", facts, cure=cure))
    if not steps:
        return logits, label
    logits = logits.transpose(0, 1)
    if lengths is None:
        return logits.flatten(0, 1), label.flatten()
    counts = torch.arange(logits.shape[1], device=logits.device) < lengths.to(logits.device)[:, None]
    return logits[counts], label[counts.to(label.device)]


@torch.no_grad()
def answers(model: nn.Module, batches: Iterable[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels [N] and logits [N, classes] of every recording in a loader, or of each of its steps, in evaluation mode."""
    was_training = model.training
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    labels, logits = [], []
    for x, lengths, label in batches:
        whole = bool((lengths == x.shape[0]).all())
        y, _ = run(model, x.to(device), lengths=None if whole else lengths.to(device))
        y, label = one_each(y.float().cpu(), label, None if whole else lengths)
        labels.append(label)
        logits.append(y)
    model.train(was_training)
    return torch.cat(labels), torch.cat(logits)
