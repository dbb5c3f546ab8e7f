"""Train once, answer the test examples once, and say what a linear classifier makes of the same input."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from neuro.datasets.sampling import EpochBatches
from neuro.datasets.splits import Split, by_draw, by_group
from neuro.errors import ParameterError, explain
from neuro.files import read_json, write_json
from neuro.models import recipes
from neuro.training.baselines import linear_classifier, mean_features
from neuro.training.described import describe
from neuro.training.fit import fit
from neuro.training.folds import Part
from neuro.training.runs import Run
from neuro.training.scores import Scores, answers, scores

FORMAT, VERSION = "neuro-judged", 1


class Parts(NamedTuple):
    """What a recipe trains on and what it is judged by, and how the two were divided."""

    train: Sequence
    test: Sequence
    split: Mapping[str, Any]  # name, rule, sizes

    def tuning(self, groups: Sequence[Hashable] | None = None, held_out: Sequence[Hashable] = (), seed: int = 0) -> Parts:
        """The training part divided anew, for the choice of settings: a fifth of every class, or whole groups, are held out.

        groups: of each training example, such as its subject; held_out: those to be judged by.
        """
        name = "held out of the training part"
        split = by_group(name, groups, held_out) if groups is not None else by_draw(name, labels_of(self.train), 0.2, seed)
        return Parts(Part(self.train, split.train), Part(self.train, split.test), {**split.facts(), "of": dict(self.split)})


def divided(examples: Sequence, split: Split) -> Parts:
    """The parts of a set that a named split makes."""
    return Parts(Part(examples, split.train), Part(examples, split.test), split.facts())


def official(train: Sequence, test: Sequence, rule: str) -> Parts:
    """The parts that the files of a set are themselves."""
    return Parts(train, test, {"name": "official", "rule": rule, "train": len(train), "test": len(test)})


def recipe_of(file: str) -> str:
    """What `Run.create` is told of a recipe, from its `__file__`: its name where it is one of ours, else its absolute path.

    So a copy, changed, is found again when its run is resumed or evaluated, from any folder.

    >>> recipe_of("/elsewhere/series_braille.py")
    '/elsewhere/series_braille.py'
    """
    path = Path(file).resolve()
    return path.stem if path.parent == Path(recipes.__file__).resolve().parent else str(path)


def made(kind: Any, count: int, seed: int, **how: Any) -> Parts:
    """Simulated examples of a data set, four fifths and one: what a recipe runs on without data. Says so."""
    say_simulated(kind, count, seed)
    train, test = kind.simulated(count - count // 5, 2 * seed, **how), kind.simulated(max(count // 5, 1), 2 * seed + 1, **how)
    return Parts(train, test, {"name": "simulated", "rule": f"made from seeds {2 * seed} and {2 * seed + 1}", "train": len(train), "test": len(test)})


def say_simulated(kind: Any, count: int, seed: int) -> None:
    """Tell that a recipe runs without data."""
    if count < 1 or seed < 0:
        raise ParameterError(explain("no --data, and nothing can be simulated.", f"simulated={count}   seed={seed}", cure="simulated from 1, seed from 0."))
    print(f"no --data: {count} simulated examples of {kind.__name__}", file=sys.stderr)


def labels_of(examples: Sequence) -> list[int]:
    """The label of each example."""
    return list(examples.labels) if hasattr(examples, "labels") else [e.label for e in examples]


@dataclass(frozen=True, eq=False)
class Judged:
    """What `train_and_judge` found. Accuracies are fractions."""

    run: Run
    model: nn.Module
    scores: Scores
    others: Mapping[str, float]  # accuracy of each opponent on the same test examples
    loss: float  # mean cross entropy on the test examples, in nats
    seconds: float  # of training
    split: str  # name of the division into training and test examples

    @property
    def accuracy(self) -> float:
        return self.scores.accuracy

    def summary(self) -> str:
        """A line per side."""
        rows = {"spiking network": self.accuracy, **self.others}
        width = max(map(len, rows))
        lines = [f"{name:<{width}}  {value:.4f}" for name, value in rows.items()]
        return "\n".join([f"accuracy on {self.scores.recordings} examples, {self.split}:", *lines, f"trained in {self.seconds / 60:.1f} min; saved in {self.run.folder}"])


def train_and_judge(
    model: nn.Module, data: Any, run: Run, split: Mapping[str, Any], *, linear: int = 16, others: Callable[[], Mapping[str, float]] | None = None, **how: Any
) -> Judged:
    """Train on the training part of `data`, answer its test part once, and write summary.json beside the model.

    Nothing is chosen by the test part: it is not looked at before training has ended. What could not be saved with the model is refused
    before it.

    Args:
        data: a data module with `train` and `test`.
        split: what `Run.keep_split` keeps: name and rule of the division into the two.
        linear: bins of the mean over time that a logistic regression gets of the same input; 0: none is trained.
        others: further opponents on the same examples: {name: accuracy}.
        how: to `fit`: epochs, lr, ...
    """
    run.keep_split(split)
    describe([getattr(data, "encode", None), getattr(data, "frames", None)])
    result = fit(model, data, run, report=False, **how)
    labels, logits = answers(model, data.test_dataloader())
    names = tuple(data.classes) or tuple(str(i) for i in range(logits.shape[1]))
    found = scores(labels.tolist(), logits.argmax(1).tolist(), names)
    against: dict[str, float] = {}
    if linear:
        began = time.monotonic()
        parts = (mean_features(plain(data, part), linear) for part in ("train", "test"))
        against["logistic regression on the same input"] = linear_classifier(*parts, seed=run.seed)
        print(f"logistic regression: {time.monotonic() - began:.0f} s")
    against |= dict(others()) if others else {}
    loss = float(F.cross_entropy(logits, labels))
    judged = Judged(run, model, found, against, loss, result.seconds, str(split["name"]))
    keep(judged, split, result.epochs)
    return judged


def plain(data: Any, part: str) -> Any:
    """A loader of one part in its own order, without augmentation."""
    return data.loader(part, EpochBatches(len(data.recordings(part)), data.batch_size, shuffle=False))


def keep(judged: Judged, split: Mapping[str, Any], epochs: int) -> None:
    """Write summary.json, the figures per class, and the report; of several processes, the first does."""
    if not judged.run.is_rank_zero:
        return
    from neuro.run_report import describe_run  # loads matplotlib

    folder = judged.run.folder
    facts = {
        "accuracy": judged.accuracy, "loss": judged.loss, "examples": judged.scores.recordings, "others": dict(judged.others), "split": dict(split),
        "seed": judged.run.seed, "epochs": epochs, "seconds": judged.seconds, "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in judged.model.parameters()),
    }  # fmt: skip
    judged.scores.write(folder)
    write_json(folder / "summary.json", {"format": FORMAT, "version": VERSION, **facts})
    describe_run(folder).save(folder / "report.html")


def judged_in(folder: Path) -> dict[str, Any]:
    """The facts that a judged run left in its folder."""
    return read_json(folder / "summary.json", FORMAT, VERSION)
