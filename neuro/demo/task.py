"""The demo's task: eight motions that only their timing tells apart, and what plain networks make of their frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuro.datasets.events import Recording
from neuro.datasets.motions import CLASSES, DURATION_US, make_motions
from neuro.datasets.transforms import Frames
from neuro.training.baselines import LinearOnFrames, SmallCNN, train_until_it_fits

BINS = 10
FRAMES = Frames(bins=BINS, duration_us=DURATION_US, origin_us=0, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Task:
    """Recordings of the three parts, and the frames [N, T, C, H, W] of training and test."""

    train: list[Recording]
    val: list[Recording]
    test: list[Recording]
    train_frames: np.ndarray
    test_frames: np.ndarray

    @property
    def test_labels(self) -> np.ndarray:
        return np.array([r.label for r in self.test])


def record(train: int, val: int, test: int, seed: int, tick: Any) -> Task:
    """Record all parts with the simulated camera; each has a seed of its own. `tick(n)` reports progress."""
    parts = []
    for number, count in enumerate((train, val, test)):
        recordings: list[Recording] = []
        for start in range(0, count, 80):
            recordings += make_motions(min(80, count - start), seed=_part_seed(seed, number, start))
            tick(len(recordings) - start)
        parts.append(recordings)
    return Task(*parts, train_frames=frames(parts[0]), test_frames=frames(parts[2]))


def _part_seed(seed: int, part: int, start: int) -> int:
    return int(np.random.SeedSequence([seed, part, start]).generate_state(1)[0])


def frames(recordings: list[Recording]) -> np.ndarray:
    """Counts [N, T, C, H, W] of every recording."""
    return np.stack([FRAMES(r.events, r.sensor) for r in recordings])


def plain_networks(task: Task, seed: int, on_epoch: Any) -> dict[str, dict[str, float]]:
    """Accuracy of a linear classifier and a CNN on frames summed over time, and of the same CNN with the bins as channels."""
    train, test = (torch.from_numpy(f).float() for f in (task.train_frames, task.test_frames))
    labels = [torch.tensor([r.label for r in part]) for part in (task.train, task.test)]
    channels, image = train.shape[2], train.shape[-1]
    summed = ((train.sum(1), labels[0]), (test.sum(1), labels[1]))
    stacked = ((train.flatten(1, 2), labels[0]), (test.flatten(1, 2), labels[1]))
    torch.manual_seed(seed)
    networks: dict[str, tuple[nn.Module, Any]] = {
        "linear, summed over time": (LinearOnFrames(channels, image, len(CLASSES)), summed),
        "CNN, summed over time": (SmallCNN(channels, image, len(CLASSES)), summed),
        "CNN, bins as channels": (SmallCNN(BINS * channels, image, len(CLASSES)), stacked),
    }
    found = {}
    for name, (network, (fit, held)) in networks.items():
        t = train_until_it_fits(network, fit, held, seed=seed, on_epoch=lambda epoch, a, name=name: on_epoch(name, epoch, a))
        found[name] = {"train_accuracy": t.train_accuracy, "test_accuracy": t.test_accuracy, "epochs": t.epochs}
    return found


@torch.no_grad()
def answers(model: nn.Module, frames_NTCHW: np.ndarray, batch: int = 100, tick: Any = None) -> Tensor:
    """Logits [N, classes] of frames [N, T, C, H, W]."""
    model.eval()
    logits = []
    for start in range(0, len(frames_NTCHW), batch):
        x = torch.from_numpy(frames_NTCHW[start : start + batch]).float().transpose(0, 1)
        logits.append(model(x))
        if tick:
            tick(x.shape[1])
    return torch.cat(logits)


def shuffled_bins(frames_NTCHW: np.ndarray, seed: int) -> np.ndarray:
    """The same frames with the bins of every recording in an order of its own."""
    rng = np.random.default_rng([seed, 7])
    order = np.argsort(rng.random(frames_NTCHW.shape[:2]), axis=1)
    return np.take_along_axis(frames_NTCHW, order[:, :, None, None, None], axis=1)
