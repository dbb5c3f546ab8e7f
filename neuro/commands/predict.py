"""`neuro predict`: the class of single recordings."""

from __future__ import annotations

from pathlib import Path

from neuro.training.evaluate import predict


def main(run: Path, files: list[Path]) -> None:
    """Print file, class and probability for each recording.

    Args:
        run: folder of a run, or a model.safetensors.
        files: event files of any format; of a model of arrays .npy of one, of a model of sound also .wav.
    """
    for answer in predict(run, files):
        print(f"{answer.name}  {answer.given}  {answer.probability:.3f}")
