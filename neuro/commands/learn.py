"""`neuro learn`: new classes for a run's integer network, from a few recordings, without touching what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuro.datasets.archive import Archive
from neuro.datasets.loading import collate
from neuro.deploy.added_classes import add_classes, head_of
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, ParameterError, explain
from neuro.files import read_json, write_json
from neuro.training.evaluate import SUFFIXES, Labelled, Named, events_only, spread
from neuro.training.runs import load

FORMAT, VERSION = "neuro-learned", 1
BATCH = 64  # recordings that are run at once


class Drawn(NamedTuple):
    """Indices of recordings: to learn from (new classes and replayed old ones), and to judge on."""

    shown: np.ndarray
    judged: np.ndarray


def main(
    run: Path, data: Path, shots: int, replay: int = 5, network: Path | None = None, out: Path | None = None, split: str | None = None,
    samples: int = 500, passes: int = 50, seed: int = 0,
) -> None:  # fmt: skip
    """Add the classes of a folder that a run does not know to its integer network, from a few recordings of each.

    Writes a new network file, and beside it as .json the names of its classes and what it was shown. Rows are added to the last layer, the
    rest stays: what the network gave for its old classes it still gives, bit by bit, and an answer changes only to a new class.

    Args:
        run: folder of a run, or a model.safetensors: how events become input, and the names of the old classes.
        data: folder that holds .../LABEL/SAMPLE.bin, loose or in zips; every LABEL that is not known is a new class.
        shots: recordings of each new class to learn from, drawn at random.
        replay: recordings of each old class to show among them, as far as they are there, so that the new ones learn to be silent for it.
        network: the network file; default network.npz in the run's folder. A file that this command wrote may learn further.
        out: the file to write; default network_learned.npz beside the network file.
        split: only recordings whose folder above LABEL has this name, such as train.
        samples: other recordings to judge on, at most, evenly spread.
        passes: over what is shown, at most; it ends when new rows have nothing left to mend.
        seed: of the draw.
    """
    for name, value, least in (("shots", shots, 1), ("replay", replay, 0), ("samples", samples, 0), ("passes", passes, 1)):
        if value < least:
            raise ParameterError(explain(f"learn: --{name} is {value}.", cure=f"Give {least} or more."))
    model = load(run)
    preprocess = events_only(model, run)
    source = network or (run if run.is_dir() else run.parent) / "network.npz"
    target = out or source.with_name("network_learned.npz")
    if target.resolve() == source.resolve():
        raise ParameterError(explain(f"learn: {target} would replace the network that it comes from.", cure="Give --out another name."))
    known = IntegerNetwork.load(source)
    old = names_of(known, source, model.classes)
    new = sorted(labels_in(data, split) - set(old), key=lambda name: (len(name), name) if name.isdigit() else (0, name))
    if not new:
        raise ParameterError(explain(f"learn: {data} holds no class that is not known.", f"known: {', '.join(old)}"))
    classes = [*old, *new]
    frames = Named(Labelled(data, classes, preprocess.sensor, split), preprocess.frames)
    truth = np.array([classes.index(name.split("/")[-2]) for name in frames.recordings.names])
    drawn = draw(truth, len(old), classes, shots, replay, samples, seed)
    x, lengths, _ = collate([frames[int(i)] for i in drawn.shown])
    added = add_classes(known, whole(x), truth[drawn.shown], new=len(new), lengths=lengths.numpy(), passes=passes)
    before, after = (answers(n, frames, drawn.judged) for n in (known, added.network))  # before anything is written: it may refuse a recording
    table = figures(before, after, truth[drawn.judged], len(old))
    path = added.network.save(target)
    names = [frames.recordings.names[int(i)] for i in drawn.shown]
    write_json(path.with_suffix(".json"), {"format": FORMAT, "version": VERSION, "classes": classes, "new": new, "from": source.name, "shots": shots, "replay": replay,
                                           "seed": seed, "shown": names, "mistakes": list(added.mistakes), "judged": table})  # fmt: skip
    replayed = int((truth[drawn.shown] < len(old)).sum())
    print(f"shown: {len(drawn.shown) - replayed} recordings of new classes, {replayed} of old ones{'' if replayed or not replay else ': none is there, so old recordings may more often be taken for new'}")
    print(told(new, added.mistakes, table, after, truth[drawn.judged], classes))
    print(f"written to {path}, and the names of its {len(classes)} classes to {path.with_suffix('.json').name}")


def names_of(network: IntegerNetwork, file: Path, classes: Sequence[str]) -> list[str]:
    """Names of the network's classes: those that were written beside it, else the run's."""
    beside = file.with_suffix(".json")
    names = list(read_json(beside, FORMAT, VERSION).get("classes", [])) if beside.exists() else list(classes)
    if len(names) != (outputs := len(head_of(network).weight)):
        fact = f"{outputs} classes in the file, {len(names)} names {'in ' + beside.name if beside.exists() else 'in the run'}"
        raise FormatError(explain(f"{file}: it is not known what its classes are called.", fact, cure="Give --network a file of this run, or with the .json that stood beside it."))
    return names


def labels_in(data: Path, split: str | None) -> set[str]:
    """The LABELs of a folder with .../LABEL/SAMPLE.bin."""

    def address(parts: tuple[str, ...]) -> str | None:
        fits = len(parts) >= 2 and parts[-1].lower().endswith(SUFFIXES)
        kept = split is None or (len(parts) >= 3 and parts[-3].lower() == split.lower())
        return "/".join(parts) if fits and kept else None

    return {name.split("/")[-2] for name in Archive(data, address, f"{split or '...'}/LABEL/SAMPLE.bin, loose or in zips").names}


def draw(truth: np.ndarray, old: int, classes: Sequence[str], shots: int, replay: int, samples: int, seed: int) -> Drawn:
    """What to learn from, in a random order, and what to judge on: no recording is in both."""
    rng, shown = np.random.default_rng(seed), []
    for label, name in enumerate(classes):
        there, wanted = np.flatnonzero(truth == label), replay if label < old else shots
        if label >= old and len(there) < shots:
            raise ParameterError(explain(f"learn: too few recordings of {name}.", f"{len(there)} there, {shots} shots asked for", cure=f"Give --shots {len(there)} or fewer."))
        shown.append(rng.permutation(there)[:wanted])
    chosen = rng.permutation(np.concatenate(shown))
    rest = np.setdiff1d(np.arange(len(truth)), chosen)
    return Drawn(chosen, np.array(spread(rest, samples) if samples and len(rest) else [], np.int64))


def whole(x: Any) -> np.ndarray:
    """Frames as the twin takes them. Raises FormatError where they are no counts."""
    if (x != x.round()).any():
        raise FormatError(explain("learn: the model's frames are not whole numbers.", "an integer network takes counts of events", cure="Use preprocessing that counts."))
    return x.numpy().astype(np.int32)


def answers(network: IntegerNetwork, frames: Named, which: np.ndarray) -> np.ndarray:
    """The class of each of these recordings."""
    found = [np.zeros(0, np.int64)]
    for some in (which[i : i + BATCH] for i in range(0, len(which), BATCH)):
        x, lengths, _ = collate([frames[int(i)] for i in some])
        found.append(run_twin(network, whole(x), lengths.numpy()).predictions)
    return np.concatenate(found)


def figures(before: np.ndarray, after: np.ndarray, truth: np.ndarray, old: int) -> dict[str, Any]:
    """Right answers before and after, of old and of new classes, and old recordings that went over to a new class."""
    is_old = truth < old
    return {"old": int(is_old.sum()), "old_right_before": int((before == truth)[is_old].sum()), "old_right_after": int((after == truth)[is_old].sum()),
            "old_to_new": int((after >= old)[is_old].sum()), "new": int((~is_old).sum()), "new_right_after": int((after == truth)[~is_old].sum())}  # fmt: skip


def told(new: Sequence[str], mistakes: Sequence[int], f: dict[str, Any], after: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> str:
    """What is printed."""
    end = "all right" if not mistakes[-1] else f"{mistakes[-1]} still wrong"
    lines = [f"learned {', '.join(new)} in {len(mistakes)} passes: {end}"]
    if f["old"]:
        lines.append(f"old classes: {f['old_right_before']} of {f['old']} others right before ({f['old_right_before'] / f['old']:.4f}), {f['old_right_after']} after ({f['old_right_after'] / f['old']:.4f}); "
                     f"{f['old_to_new']} are now taken for a new class")  # fmt: skip
    if f["new"]:
        each = [f"{classes[c]} {(after == c)[truth == c].mean():.4f}" for c in np.unique(truth) if classes[c] in new]
        lines.append(f"new classes: {f['new_right_after']} of {f['new']} others right ({f['new_right_after'] / f['new']:.4f}): {', '.join(each)}")
    for part in ("old", "new"):
        if not f[part]:
            lines.append(f"{part} classes: no other recordings to judge on")
    return "\n".join(lines)
