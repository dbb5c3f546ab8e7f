"""A trained run on recordings: the answer to each, figures per class, and what was taken for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from torch.utils.data import DataLoader, Dataset

from neuro.datasets.examples import EncodedExamples
from neuro.datasets.fsdd import read_wave
from neuro.datasets.labelled import Labelled, decoded
from neuro.datasets.loading import EventFrames, Sample, collate
from neuro.errors import FormatError, ParameterError, ShapeError, explain, nothing_there, unknown
from neuro.files import read_npy
from neuro.training.preprocess import Preprocess, PreprocessArray
from neuro.training.runs import Run, load
from neuro.training.scores import Scores, answers, scores
from neuro.training.tables import write_table


class Answer(NamedTuple):
    """What the model says of one recording."""

    name: str
    given: str  # class
    probability: float  # softmax of the logits; not calibrated
    label: str | None  # true class, where known


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The outcome of `evaluate`."""

    scores: Scores
    answers: list[Answer]
    skipped: list[tuple[str, str]]  # name and first line of the reason
    predictions: Path

    def parts(self) -> list[tuple[str, int, int]]:
        """Name, right answers and recordings of each part, where train and test stand in one folder; else empty."""
        found: dict[str, list[bool]] = {}
        for a in self.answers:
            above = a.name.split("/")[-3:-2]
            found.setdefault(above[0].lower() if above else "", []).append(a.given == a.label)
        if len(found) < 2 or not set(found) <= {"train", "test"}:
            return []
        return [(part, sum(right), len(right)) for part, right in sorted(found.items())]


def spread(found: Sequence, samples: int) -> list:
    """At most `samples` items, evenly spread over all; names are sorted by class, so the first ones would be of few classes.

    >>> spread(range(10), 4), spread(range(3), 8)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    if samples < 1:
        raise ParameterError(explain(f"samples={samples} is not a number of recordings.", cure="Give at least 1."))
    n = min(samples, len(found))
    return [found[i * len(found) // n] for i in range(n)]


def samples(model: nn.Module, run: str | Path, data: str | Path, split: str | None = None) -> Dataset:
    """The input of a loaded model, a `Sample` for each recording or example, with `names`, from data given anew.

    A run whose recipe says how its data set is divided (`parts`) is given that part: `split` is "train" or "test", None means
    test. Other models are given the recordings of a folder, see `Labelled`; None means all.

    Raises:
        FormatError: no such folder, or nothing in it. ParameterError: a model without preprocessing, or a text of other symbols.
        UnknownName: no such part.
    """
    preprocess = preprocessing(model, Path(run))
    options, parts = divided_by(Path(run))
    if parts is None:
        if not isinstance(preprocess, Preprocess):
            cure = "Name the folder of the run, which holds recipe.json; a recipe of your own must still lie where it was trained from."
            raise ParameterError(explain(f"nothing says how to read the examples for the model in {run}.", cure=cure))
        return Named(Labelled(Path(data), model.classes, preprocess.sensor, split), preprocess.frames)
    if split not in (None, "train", "test"):
        raise unknown("part", str(split), ("train", "test"))
    chosen = getattr(parts({**options, "data": Path(data)}), split or "test")
    if isinstance(preprocess, Preprocess):
        return Named(chosen, preprocess.frames)
    same_symbols(model, Path(run), chosen, Path(data))
    return EncodedExamples(chosen, preprocess.encode)


def same_symbols(model: nn.Module, run: Path, chosen: Any, data: Path) -> None:
    """Refuse a text whose symbols are numbered otherwise than those of the model."""
    if not hasattr(chosen, "vocabulary"):
        return
    now, then = ([*map(repr, chosen.vocabulary.symbols)], [*model.classes])
    if now != then:
        facts = [f"{what}: {' '.join(sorted(s)[:20])}" for what, s in (("only there", {*then} - {*now}), ("only here", {*now} - {*then})) if s]
        cure = "Evaluate it on the text that it was trained on."
        raise ParameterError(explain(f"{data} has other symbols than the model in {run}.", f"{len(then)} there, {len(now)} here", *facts, cure=cure))


def divided_by(run: Path) -> tuple[dict[str, Any], Callable | None]:
    """The options of a run and its recipe's `parts`; None where it has none, or where there is no run."""
    from neuro.models import recipes

    folder = run if run.is_dir() else run.parent
    if not (folder / "recipe.json").exists():
        return {}, None
    opened = Run.open(folder)
    known = opened.recipe in recipes.RECIPES or Path(opened.recipe).is_file()
    return dict(opened.options), getattr(recipes.load(opened.recipe), "parts", None) if known else None


def names_of(found: Dataset, labels: int) -> list[str]:
    """A name for each answer: that of the recording or example; where there are several answers to one, with their number."""
    inner = found.recordings if isinstance(found, EventFrames) else found.examples
    names = list(getattr(inner, "names", None) or (f"passage {i}" for i in range(len(inner))))
    each = labels // len(names)
    return names if each == 1 else [f"{name}/{k}" for name in names for k in range(each)]


class Named(EventFrames):
    """Frames of recordings, with the recording's name in every error."""

    def __getitem__(self, key: Any) -> Sample:
        try:
            return super().__getitem__(key)
        except FormatError as error:
            name = self.recordings.names[key[1] if isinstance(key, tuple) else key]
            if str(error).startswith(name):
                raise
            raise FormatError(explain(f"{name} cannot be used.", *str(error).split("\n  "))) from error


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    predictions: str | Path | None = None,
    skip_unreadable: bool = False,
    batch_size: int = 50,
    workers: int = 0,
) -> Evaluated:
    """Classify all recordings under `data`, or the part of a data set, and write the answers to a CSV file.

    Args: see `neuro evaluate --help`.

    Raises:
        FormatError: no such folder, no recordings, a damaged one (unless `skip_unreadable`), or no trained run.
        ParameterError: batch_size or workers out of range.
    """
    if batch_size < 1 or workers < 0:
        raise ParameterError(explain("evaluate: batch_size from 1, workers from 0.", f"batch_size={batch_size}   workers={workers}"))
    run, data = Path(run), Path(data)
    model = load(run)
    frames = samples(model, run, data, split)
    skipped = leave_out_unreadable(frames, model.preprocess) if skip_unreadable else []
    loader = DataLoader(frames, batch_size, collate_fn=collate, num_workers=workers)
    labels, logits = answers(model, loader)
    probability, given = logits.softmax(1).max(1)
    found = [
        Answer(name, model.classes[g], p, model.classes[label])
        for name, g, p, label in zip(names_of(frames, len(labels)), given.tolist(), probability.tolist(), labels.tolist(), strict=True)
    ]
    part = f"_{split}" if split else ""
    default = (run if run.is_dir() else run.parent) / f"predictions_{data.resolve().name}{part}.csv"
    path = Path(predictions) if predictions is not None else default
    write_answers(path, found)
    return Evaluated(scores(labels.tolist(), given.tolist(), model.classes), found, skipped, path)


def predict(run: str | Path, files: Sequence[str | Path]) -> list[Answer]:
    """The class of each recording file.

    Raises:
        FormatError, ShapeError: a file that cannot be read, or does not fit the model's input, with its name.
    """
    model = load(run)
    preprocess = preprocessing(model, Path(run))
    found = []
    for file in map(Path, files):
        array = isinstance(preprocess, PreprocessArray)
        held = read_array(file, preprocess) if array else read_events(file, preprocess.sensor)
        try:
            y = model(preprocess(held))
        except (FormatError, ShapeError) as error:
            raise type(error)(explain(f"{file} cannot be used.", *str(error).split("\n  "))) from error
        logits = y[..., 0, :].detach().float().view(-1, len(model.classes))[-1]  # of a model that answers at every step the last
        best = int(logits.argmax())
        found.append(Answer(str(file), model.classes[best], float(logits.softmax(0)[best]), None))
    return found


def read_array(file: Path, preprocess: PreprocessArray) -> np.ndarray:
    """The array of one file: .npy, or .wav at the rate that the model's input has."""
    if not file.is_file():
        raise FormatError(nothing_there("file", file))
    rate = getattr(preprocess.encode, "rate_hz", None)
    if file.suffix.lower() == ".wav" and rate is not None:
        return read_wave(file.read_bytes(), file.name, rate)
    if file.suffix.lower() != ".npy":
        reads = ".npy and .wav" if rate is not None else ".npy"
        raise FormatError(explain(f"{file} is of no kind that this model's predict reads.", f"it reads {reads}"))
    return read_npy(file, "an array of numbers")


def read_events(file: Path, sensor: Any) -> np.ndarray:
    """The events of one file, of any format of ours."""
    if not file.is_file():
        raise FormatError(nothing_there("file", file, "Name files; neuro evaluate takes a folder." if file.is_dir() else ""))
    return decoded(file, str(file), sensor)


def preprocessing(model: nn.Module, run: Path) -> Any:
    """The preprocessing of a loaded model, or an error where it was saved without."""
    if model.preprocess is None or not model.classes:
        cure = "Save it with classes and preprocess: neuro.training.save_model(model, folder, classes=..., preprocess=...)."
        raise ParameterError(explain(f"the model in {run} does not say what becomes its input.", cure=cure))
    return model.preprocess


def events_only(model: nn.Module, run: Path) -> Any:
    """The preprocessing of a loaded model of events, or an error where it takes none."""
    found = preprocessing(model, run)
    if not isinstance(found, Preprocess):
        raise ParameterError(explain(f"the model in {run} takes no events.", f"its input comes from {found}"))
    return found


def leave_out_unreadable(frames: Dataset, preprocess: Any) -> list[tuple[str, str]]:
    """Drop the names of recordings that cannot be read or framed; return them with the reason."""
    recordings = getattr(frames, "recordings", None)
    if not isinstance(recordings, Labelled):
        raise ParameterError(explain("evaluate: damaged recordings are left out only where they are files of a folder.", f"got {type(frames).__name__}"))
    skipped, kept = [], []
    for i, name in enumerate(recordings.names):
        try:
            preprocess(recordings[i].events)
            kept.append(name)
        except FormatError as error:
            skipped.append((name, str(error).split("\n")[0]))
    if not kept:
        raise FormatError(explain("none of the recordings can be read.", f"the first: {skipped[0][1]}"))
    recordings.names = kept
    return skipped


def write_answers(path: Path, found: Sequence[Answer]) -> None:
    """One row per recording: name, true class, given class, probability, 1 where right."""
    rows = [[a.name, a.label, a.given, a.probability, int(a.given == a.label)] for a in found]
    write_table(path, ["recording", "label", "given", "probability", "right"], rows)
