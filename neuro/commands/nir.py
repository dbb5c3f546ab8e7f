"""`neuro nir`: NIR files, looked at and written."""

from __future__ import annotations

from pathlib import Path

from neuro.datasets.loading import collate
from neuro.deploy import nir as exchange
from neuro.deploy.nir_check import describe
from neuro.training.evaluate import samples as samples_of
from neuro.training.evaluate import spread
from neuro.training.runs import load


def check(file: Path, dt: float | None = None) -> None:
    """Say what a NIR file holds, run it on random input, and name what other readers are known to misread.

    Args:
        file: the NIR file.
        dt: seconds of one step; default: as the file states.
    """
    print(describe(file, dt))


def export(run: Path, data: Path, dt: float, out: Path | None = None, samples: int = 4, soft_reset: str = "written out", max_pool: str = "LIF") -> None:
    """Write a run's model as NIR, network.nir, checked on recordings.

    Args:
        run: folder of a run, or a model.safetensors.
        data: recordings on which the export must spike as the model does.
        dt: seconds of one step of the model.
        out: the file to write; default network.nir in the run's folder.
        samples: recordings to check on, evenly spread over the folder.
        soft_reset: "written out" as nodes that no reader misreads, or "stated" in metadata.
        max_pool: what stands behind the sum of a window where the model takes the largest spike, "LIF" or "Threshold".
    """
    model = load(run)
    frames = samples_of(model, run, data)
    x, _, _ = collate([frames[i] for i in spread(range(len(frames)), samples)])
    path = out or (run if run.is_dir() else run.parent) / "network.nir"
    exchange.export(model, x, dt=dt, path=path, soft_reset=soft_reset, max_pool=max_pool)
    print(f"written to {path}; look at it with: neuro nir check {path}")
