"""Cross-validation in which augmentation and stopping are chosen inside the training part of each fold.

Of the training part of a fold, an inner part is held out. Each candidate, a strength of augmentation, is trained on the rest
and judged on the inner part at a few moments of its course; the best strength and moment are taken, the network is trained
anew on the whole training part, and answers once to the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuro.errors import ParameterError, explain
from neuro.files import read_json, write_json
from neuro.training.folds import folds as cut
from neuro.training.jobs import side_by_side

FORMAT, VERSION = "neuro-accuracies", 1
LOOKS = (0.5, 0.75, 1.0)  # shares of the course at which a candidate is judged


@dataclass(frozen=True)
class Piece:
    """One training: of which network, with which augmentation, on what, for how long, and where it is judged.

    epochs: the course that the learning rate follows; stop: epochs of it that are trained; looks: epochs after which the
    accuracy on `judged` is asked for.
    """

    kind: str
    strength: float
    train: tuple[int, ...]
    judged: tuple[int, ...]
    epochs: int
    stop: int
    looks: tuple[int, ...]
    folder: Path


@dataclass(frozen=True)
class Choice:
    """What was chosen for one network in one fold: strength, share of the course, and its accuracy on the inner part."""

    strength: float
    share: float
    accuracy: float


def choose(curves: Mapping[float, Mapping[float, float]]) -> Choice:
    """The best of {strength: {share of the course: accuracy}}; of equals the weaker augmentation, then the earlier stop.

    >>> choose({1.0: {0.5: 0.8, 1.0: 0.9}, 0.5: {0.5: 0.7, 1.0: 0.9}})
    Choice(strength=0.5, share=1.0, accuracy=0.9)
    """
    every = [Choice(strength, share, accuracy) for strength, curve in curves.items() for share, accuracy in curve.items()]
    return min(every, key=lambda c: (-c.accuracy, c.strength, c.share))


def cross_validate(
    work: Callable[[Piece], Mapping[int, float]],
    labels: Sequence[int],
    epochs: Mapping[str, int],
    *,
    folds: int,
    strengths: Sequence[float],
    share: float,
    seed: int,
    folder: Path,
    inner: int = 5,
    jobs: int = 1,
    resume: bool = False,
    say: Callable[[str], Any] = print,
) -> dict[str, list[float]]:
    """Accuracy on each fold of each kind of network.

    Args:
        work: trains one `Piece` and gives the accuracies that it asks for, {epoch: accuracy}.
        labels: of all recordings. epochs: of the final training, by kind of network.
        folds: parts of the data; inner: parts of a fold's training part, one of which judges the candidates.
        strengths: candidates. share: of the epochs, for which candidates are trained, along a course of their own.
        seed: of both cuts. jobs: processes. resume: keep what trainings that had ended have reached. say: called with a line per training.

    Raises:
        ParameterError: no candidates, a share outside 0 .. 1, or too few recordings.
    """
    if not strengths or min(strengths) < 0 or not 0 < share <= 1:
        facts = f"strengths={list(strengths)}   share={share}"
        raise ParameterError(explain("cross-validation: there is nothing to choose from.", facts, cure="Strengths from 0 on, and a share in 0 .. 1."))
    labels, parts = np.asarray(labels), cut(labels, folds, seed)
    outer = [np.setdiff1d(np.arange(len(labels)), part) for part in parts]
    judges = [kept[cut(labels[kept], inner, seed + 1)[0]] for kept in outer]
    tried = [
        _candidate(kind, strength, np.setdiff1d(outer[k], judges[k]), judges[k], max(1, round(total * share)), folder / f"fold_{k}")
        for k in range(folds) for kind, total in epochs.items() for strength in sorted(set(strengths))
    ]  # fmt: skip
    found = _run(work, tried, jobs, resume, say)
    finals, choices = [], []
    for k in range(folds):
        for kind, total in epochs.items():
            mine = [(piece, curve) for piece, curve in zip(tried, found, strict=True) if (piece.kind, piece.folder.parent.name) == (kind, f"fold_{k}")]
            choice = choose({p.strength: {epoch / p.epochs: a for epoch, a in curve.items()} for p, curve in mine})
            stop = max(1, round(choice.share * total))
            finals.append(Piece(kind, choice.strength, _whole(outer[k]), _whole(parts[k]), total, stop, (stop,), folder / f"fold_{k}" / kind))
            choices.append(choice)
            say(f"fold {k}  {kind}: chosen strength {choice.strength:g}, {stop} of {total} epochs; inner accuracy {choice.accuracy:.4f}")
            inside = [{"strength": p.strength, "epochs": p.epochs, "accuracy": {str(e): a for e, a in curve.items()}} for p, curve in mine]
            write_json(folder / f"fold_{k}" / f"chosen_{kind}.json", {**asdict(choice), "stop": stop, "epochs": total, "candidates": inside})
    reached = _run(work, finals, jobs, resume, say)
    return {kind: [curve[p.stop] for p, curve in zip(finals, reached, strict=True) if p.kind == kind] for kind in epochs}


def _candidate(kind: str, strength: float, train: np.ndarray, judged: np.ndarray, epochs: int, folder: Path) -> Piece:
    looks = tuple(sorted({max(1, round(share * epochs)) for share in LOOKS}))
    return Piece(kind, strength, _whole(train), _whole(judged), epochs, epochs, looks, folder / f"{kind}_{strength:g}")


def _whole(indices: np.ndarray) -> tuple[int, ...]:
    return tuple(indices.tolist())


def _run(
    work: Callable[[Piece], Mapping[int, float]], pieces: Sequence[Piece], jobs: int, resume: bool, say: Callable[[str], Any]
) -> list[Mapping[int, float]]:
    """What each piece has reached, kept in its folder."""
    file = [piece.folder / "reached.json" for piece in pieces]
    todo = [i for i in range(len(pieces)) if not (resume and file[i].exists())]
    for done, (n, curve) in enumerate(side_by_side([(work, (pieces[i],)) for i in todo], jobs), len(pieces) - len(todo) + 1):
        p = pieces[todo[n]]
        write_json(file[todo[n]], {"format": FORMAT, "version": VERSION, "accuracy": {str(e): a for e, a in curve.items()}})
        accuracies = ", ".join(f"{a:.4f} after {epoch}" for epoch, a in sorted(curve.items()))
        say(f"[{done}/{len(pieces)}] {p.folder.parent.name}  {p.kind}, strength {p.strength:g}, {len(p.train)} recordings: {accuracies} epochs")
    return [{int(e): a for e, a in read_json(f, FORMAT, VERSION)["accuracy"].items()} for f in file]
