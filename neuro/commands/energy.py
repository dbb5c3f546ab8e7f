"""`neuro energy`: operations and energy of a run's model on recordings."""

from __future__ import annotations

from pathlib import Path

import torch

from neuro.deploy.energy import ann_work, compare_energy, from_activity
from neuro.measuring import activity
from neuro.tracing import trace
from neuro.training.evaluate import Labelled, events_only
from neuro.training.runs import load


def main(run: Path, data: Path, samples: int = 32) -> None:
    """Count the operations of a run's model by value type and estimate energy per recording, beside an 8-bit ANN of the same layers.

    Args:
        run: folder of a run, or a model.safetensors.
        data: folder that holds .../LABEL/SAMPLE.bin, loose or in zips.
        samples: recordings to count on, evenly spread over the folder.
    """
    model = load(run)
    preprocess = events_only(model, run)
    found = Labelled(data, model.classes, preprocess.sensor)
    chosen = [found[i] for i in range(0, len(found), max(1, len(found) // samples))][:samples]
    frames = [preprocess(r.events, r.sensor) for r in chosen]
    lengths = torch.tensor([len(f) for f in frames])
    x = torch.zeros(int(lengths.max()), len(frames), *frames[0].shape[2:])
    for b, f in enumerate(frames):
        x[: len(f), b] = f[:, 0]
    counted = activity(model, x, lengths)
    graph = trace(model, x[:2, :1])
    print(counted)
    print()
    print(compare_energy(from_activity(counted, graph), *ann_work(graph, x, lengths)))
