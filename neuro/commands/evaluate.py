"""`neuro evaluate`: the figures of a trained run on recordings or examples given anew."""

from __future__ import annotations

from pathlib import Path

from neuro.training.evaluate import evaluate


def main(
    run: Path,
    data: Path,
    split: str | None = None,
    predictions: Path | None = None,
    skip_unreadable: bool = False,
    batch_size: int = 50,
    workers: int = 0,
) -> None:
    """Classify every recording of a folder, or one part of a recipe's data set, and compare with its label.

    Args:
        run: folder of a run, or a model.safetensors.
        data: what the run's recipe takes as --data; of one without parts, a folder that holds .../LABEL/SAMPLE, event files of any format, loose or in zips.
        split: train or test part of the recipe's data set, default test; or only recordings whose folder above LABEL has this name.
        predictions: CSV file for the answer to each recording; default predictions_NAME.csv, or predictions_NAME_SPLIT.csv, in the run's folder.
        skip_unreadable: leave damaged recordings out and count them, instead of stopping at the first.
        batch_size: recordings shown at once.
        workers: processes that read.
    """
    result = evaluate(
        run, data, split=split, predictions=predictions, skip_unreadable=skip_unreadable, batch_size=batch_size, workers=workers
    )
    print(result.scores.table())
    for name, why in result.skipped:
        print(f"skipped {name}: {why}")
    for part, right, recordings in result.parts():
        print(f"{part}: {recordings} recordings, {right} right, {right / recordings:.4f}")
    print(f"{result.scores.recordings} recordings, {len(result.skipped)} skipped; predictions in {result.predictions}")
    print(f"accuracy {result.scores.accuracy:.4f}")
