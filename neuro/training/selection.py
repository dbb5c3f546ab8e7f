"""Cross-validation in which augmentation and stopping are chosen inside the training part of each fold.

Of the training part of a fold, an inner part is held out. Each candidate, a strength of augmentation, is trained on the
rest and judged on the inner part at a few moments of its course; the best strength and moment are taken, the network is
trained anew on the whole training part, and answers once to the fold.
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

    epochs: the course that the learning rate follows; stop: epochs of it that are trained; looks: epochs after which
    the accuracy on `judged` is asked for. tried: whether it is a candidate; else `judged` is the fold, to be seen once.
    """

    kind: str
    strength: float
    train: tuple[int, ...]
    judged: tuple[int, ...]
    epochs: int
    stop: int
    looks: tuple[int, ...]
    folder: Path
    tried: bool


@dataclass(frozen=True)
class Choice:
    """What was chosen for one network in one fold: strength, share of the course, accuracy on the inner part."""

    strength: float
    share: float
    accuracy: float


def choose(curves: Mapping[float, Mapping[float, float]]) -> Choice:
    """The best of {strength: {share of the course: accuracy}}; of equals the weaker, then the earlier stop.

    >>> choose({1.0: {0.5: 0.8, 1.0: 0.9}, 0.5: {0.5: 0.7, 1.0: 0.9}})
    Choice(strength=0.5, share=1.0, accuracy=0.9)
    """
    every = [
        Choice(strength, share, accuracy) for strength, curve in curves.items() for share, accuracy in curve.items()
    ]
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
        seed: of both cuts. jobs: processes. resume: keep what trainings that had ended have reached.
        say: called with a line per training.

    Raises:
        ParameterError: no candidates, a share outside 0 .. 1, or too few recordings.
    """
    if not strengths or min(strengths) < 0 or not 0 < share <= 1:
        facts = f"strengths={list(strengths)}   share={share}"
        cure = "Strengths from 0 on, and a share in 0 .. 1."
        raise ParameterError(explain("cross-validation: there is nothing to choose from.", facts, cure=cure))
    tried = _candidates(np.asarray(labels), epochs, folds, inner, strengths, share, seed, folder)
    curves = _run(work, tried, jobs, resume, say)
    finals = []
    for k, fold in enumerate(cut(labels, folds, seed)):
        for kind, total in epochs.items():
            mine = {
                piece: curve
                for piece, curve in zip(tried, curves, strict=True)
                if piece.kind == kind and piece.folder.parent == folder / f"fold_{k}"
            }
            choice, stop = _chosen(mine, total, folder / f"fold_{k}" / f"chosen_{kind}.json")
            said = f"strength {choice.strength:g}, {stop} of {total} epochs; inner accuracy {choice.accuracy:.4f}"
            say(f"fold {k}  {kind}: chosen {said}")
            train, place = np.setdiff1d(np.arange(len(labels)), fold), folder / f"fold_{k}" / kind
            finals.append(Piece(kind, choice.strength, _whole(train), _whole(fold), total, stop, (stop,), place, False))
    reached = _run(work, finals, jobs, resume, say)
    return {kind: [c[p.stop] for p, c in zip(finals, reached, strict=True) if p.kind == kind] for kind in epochs}


def _candidates(
    labels: np.ndarray,
    epochs: Mapping[str, int],
    folds: int,
    inner: int,
    strengths: Sequence[float],
    share: float,
    seed: int,
    folder: Path,
) -> list[Piece]:
    """What is tried inside each fold: every kind of network with every strength, weaker ones first."""
    found = []
    for k, fold in enumerate(cut(labels, folds, seed)):
        kept = np.setdiff1d(np.arange(len(labels)), fold)
        judged = kept[cut(labels[kept], inner, seed + 1)[0]]
        train = _whole(np.setdiff1d(kept, judged))
        for kind, total in epochs.items():
            course = max(1, round(total * share))
            looks = tuple(sorted({max(1, round(look * course)) for look in LOOKS}))
            for s in sorted(set(strengths)):
                place = folder / f"fold_{k}" / f"{kind}_{s:g}"
                found.append(Piece(kind, s, train, _whole(judged), course, course, looks, place, True))
    return found


def _chosen(curves: Mapping[Piece, Mapping[int, float]], total: int, file: Path) -> tuple[Choice, int]:
    """The choice for one network in one fold, and after how many of `total` epochs to stop; written down."""
    choice = choose({p.strength: {epoch / p.epochs: a for epoch, a in curve.items()} for p, curve in curves.items()})
    stop = max(1, round(choice.share * total))
    tried = [
        {"strength": p.strength, "epochs": p.epochs, "accuracy": {str(e): a for e, a in curve.items()}}
        for p, curve in curves.items()
    ]
    about = {"format": "neuro-choice", "version": VERSION, **asdict(choice), "stop": stop, "epochs": total}
    write_json(file, {**about, "candidates": tried})
    return choice, stop


def _whole(indices: np.ndarray) -> tuple[int, ...]:
    return tuple(indices.tolist())


def _run(
    work: Callable[[Piece], Mapping[int, float]],
    pieces: Sequence[Piece],
    jobs: int,
    resume: bool,
    say: Callable[[str], Any],
) -> list[Mapping[int, float]]:
    """What each piece has reached, kept in its folder."""
    file = [piece.folder / "reached.json" for piece in pieces]
    todo = [i for i in range(len(pieces)) if not (resume and file[i].exists())]
    tasks = [(work, (pieces[i],)) for i in todo]
    for done, (n, curve) in enumerate(side_by_side(tasks, jobs), len(pieces) - len(todo) + 1):
        p = pieces[todo[n]]
        found = {str(epoch): a for epoch, a in curve.items()}
        write_json(file[todo[n]], {"format": FORMAT, "version": VERSION, "accuracy": found})
        accuracies = ", ".join(f"{a:.4f} after {epoch}" for epoch, a in sorted(curve.items()))
        what = f"{p.folder.parent.name}  {p.kind}, strength {p.strength:g}, {len(p.train)} recordings"
        say(f"[{done}/{len(pieces)}] {what}: {accuracies} epochs")
    return [{int(e): a for e, a in read_json(f, FORMAT, VERSION)["accuracy"].items()} for f in file]
