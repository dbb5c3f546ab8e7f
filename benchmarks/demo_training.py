"""A training step of the demo's network before and after: plain loops over time against kernels, dense products against chosen ones.

    python benchmarks/demo_training.py [--rounds 5] [--batch 32]

A step is forward, cross entropy, backward and AdamW on 2x32x32 frames of 10 bins from the demo's own simulated camera. The sides take
turns, each with a network of its own that starts from the same weights; times are medians. Exit status 1 where the first losses differ by more than 1 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import peers
import torch
from torch import Tensor
from torch.nn import functional as F

from neuro import models
from neuro.datasets.motions import CLASSES, make_motions
from neuro.demo import LR, MODEL, WEIGHT_DECAY, task
from neuro.kernels import choosing
from neuro.scanning import plain_loop

SIDES: dict[str, tuple[Callable[[], Any], str | None]] = {
    "before: plain loop, dense products": (plain_loop, "dense"),
    "kernels, dense products": (nullcontext, "dense"),
    "now: kernels, chosen products": (nullcontext, None),
}


def trainer(side: str, x: Tensor, labels: Tensor, losses: list[float]) -> Callable[[], None]:
    context, form = SIDES[side]
    torch.manual_seed(0)
    model = models.create(MODEL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)

    def step() -> None:
        choosing.use(form)  # type: ignore[arg-type]
        with context():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())

    return step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    print(f"{peers.machine()}, {torch.get_num_threads()} threads; {MODEL}, batch {given.batch}, {task.BINS} steps, {len(CLASSES)} classes")
    recordings = make_motions(given.batch, seed=0)
    x = torch.from_numpy(task.frames(recordings)).float().transpose(0, 1).contiguous()
    labels = torch.tensor([r.label for r in recordings])
    losses: dict[str, list[float]] = {side: [] for side in SIDES}
    t = peers.alternating({side: trainer(side, x, labels, losses[side]) for side in SIDES}, given.rounds)
    choosing.use(None)
    slow = t[next(iter(SIDES))]
    print(peers.table(["a step of training", "ms", "ratio", "first loss"], [[s, f"{1e3 * t[s]:.1f}", f"{slow / t[s]:.2f}", f"{losses[s][0]:.5f}"] for s in SIDES]))
    firsts = [found[0] for found in losses.values()]
    equal = max(firsts) - min(firsts) <= 0.01 * min(firsts)
    print(f"check: first losses {'are equal within 1 %' if equal else 'are NOT equal'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
