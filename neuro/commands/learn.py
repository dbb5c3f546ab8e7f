"""`neuro learn`: new classes for a run's integer network, from a few recordings, without touching what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from neuro.commands import teaching
from neuro.commands.teaching import Settings, Shown, Stage
from neuro.datasets.labelled import Labelled, labels_in
from neuro.datasets.loading import collate
from neuro.deploy.added_classes import head_of
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, ParameterError, explain
from neuro.files import read_json, write_json
from neuro.training.evaluate import Named, events_only, spread
from neuro.training.runs import load

FORMAT, VERSION = "neuro-learned", 1
BATCH = 64  # recordings that are run at once
REPLAY, PASSES = 5, 50  # of the rule "rows"


class Drawn(NamedTuple):
    """Indices of recordings: to learn from (new classes and replayed old ones), and to judge on."""

    shown: np.ndarray
    judged: np.ndarray


class File(NamedTuple):
    """A network file with what is written beside it: names of its classes, and of a binary last layer what it needs to learn further."""

    network: IntegerNetwork
    classes: list[str]
    binary: dict[str, Any] | None


def main(
    run: Path, data: Path, shots: int, rule: Literal["file", "rows", "binary"] = "file", replay: int | None = None, network: Path | None = None, out: Path | None = None,
    split: str | None = None, samples: int = 500, passes: int | None = None, seed: int = 0, num_neurons: int | None = None, num_weights: int | None = None, least: int | None = None,
    initial_plasticity: float | None = None, min_plasticity: float | None = None, plasticity_decay: float | None = None, learning_competition: float | None = None,
) -> None:  # fmt: skip
    """Add the classes of a folder that a run does not know to its integer network, from a few recordings of each.

    Writes a new network file, and beside it as .json the names of its classes and what it was shown. By "rows", as Loihi may learn, rows are
    added to the trained last layer: what the network gave for its old classes it still gives, bit by bit. By "binary", as Akida learns, a last
    layer of binary weights on binary spikes takes the trained one's place; it learns the old classes first, and their weights stay, bit by bit,
    when the new ones come. With either, once the old classes are there, an answer changes only to a new class.

    Args:
        run: folder of a run, or a model.safetensors: how events become input, and the names of the old classes.
        data: folder that holds .../LABEL/SAMPLE, event files of any format, loose or in zips; every LABEL that is not known is a new class.
        shots: recordings of each new class to learn from, drawn at random.
        rule: rows or binary; file: that by which the network file was made, rows for a run's own.
        replay: recordings of each old class to show, as far as they are there. rows: among the new ones, which so learn to be silent for them,
            default 5. binary: before them, for the first time, default half of those that are there.
        network: the network file; default network.npz in the run's folder. A file that this command wrote may learn further.
        out: the file to write; default network_learned.npz beside the network file.
        split: only recordings whose folder above LABEL has this name, such as train.
        samples: other recordings to judge on, at most, evenly spread.
        passes: rows: over what is shown, at most, default 50; it ends when new rows have nothing left to mend.
        seed: of the draw; of a binary layer's first weights and swaps.
        num_neurons: binary: of each class, default 10; no more than its recordings, or some never learn.
        num_weights: binary: ones of each neuron; default 1.2 times the median number of active inputs.
        least: binary: an input is active that gives so much over a recording; default the smallest sum that at most a quarter of them reach.
        initial_plasticity: binary: 0 .. 1, default 1.
        min_plasticity: binary: 0 .. 1, default 0.1.
        plasticity_decay: binary: 0 .. 1, default 0.25; what a neuron loses with each recording that it learns.
        learning_competition: binary: 0 .. 1, default 0.1; how far a neuron that has learned keeps others of its class from learning the like.
    """
    settings = Settings(num_neurons, num_weights, least, initial_plasticity, min_plasticity, plasticity_decay, learning_competition)
    model = load(run)
    preprocess = events_only(model, run)
    source = network or (run if run.is_dir() else run.parent) / "network.npz"
    target = out or source.with_name("network_learned.npz")
    free(target, source)
    if not source.is_file():
        raise FormatError(explain(f"learn: there is no network file {source}.", cure="neuro export RUN --data FOLDER writes one, or name another with --network."))
    known = opened(source, model.classes)
    rule = rule if rule != "file" else "rows" if known.binary is None else "binary"
    checked(rule, known, settings, shots=shots, replay=replay, samples=samples, passes=passes)
    new = sorted(labels_in(data, split) - set(known.classes), key=lambda name: (len(name), name) if name.isdigit() else (0, name))
    if not new:
        raise ParameterError(explain(f"learn: {data} holds no class that is not known.", f"known: {', '.join(known.classes)}"))
    classes, old = [*known.classes, *new], len(known.classes)
    frames = Named(Labelled(data, classes, preprocess.sensor, split), preprocess.frames)
    truth = np.array([classes.index(name.split("/")[-2]) for name in frames.recordings.names])
    replay = wanted(rule, known, replay)
    drawn = draw(truth, old, classes, shots, replay, samples, seed)
    x, lengths, _ = collate([frames[int(i)] for i in drawn.shown])
    shown = Shown(whole(x), truth[drawn.shown], lengths.numpy(), old, len(new))
    taught = taught_by(rule, known, shown, settings, PASSES if passes is None else passes, seed)
    given = [answers(stage, frames, drawn.judged) for stage in taught.stages]  # before anything is written: it may refuse a recording
    table = figures(given, truth[drawn.judged], old)
    path = taught.stages[-1].network.save(target)
    names = [frames.recordings.names[int(i)] for i in drawn.shown]
    write_json(path.with_suffix(".json"), {"format": FORMAT, "version": VERSION, "classes": classes, "new": new, "from": source.name, "shots": shots, "replay": replay,
                                           "seed": seed, "shown": names, **taught.about, "judged": table})  # fmt: skip
    replayed = int((shown.labels < old).sum())
    none = ": none is there, so old recordings may more often be taken for new" if rule == "rows" and replay != 0 and not replayed else ""
    print(f"shown: {len(drawn.shown) - replayed} recordings of new classes, {replayed} of old ones{none}")
    print(told(new, taught, table, given[-1], truth[drawn.judged], classes))
    print(f"written to {path}, and the names of its {len(classes)} classes to {path.with_suffix('.json').name}")


def free(target: Path, source: Path) -> None:
    """Refuse a name under which another file would be lost: the network that it comes from, what stands beside that, or another .json."""
    beside = target.with_suffix(".json")
    if target.resolve() == source.resolve() or beside.resolve() in (target.resolve(), source.with_suffix(".json").resolve()):
        raise ParameterError(explain(f"learn: {target} would replace the network that it comes from, or what is written beside one of them.", cure="Give --out another name, that ends in .npz."))
    if beside.exists():
        try:
            read_json(beside, FORMAT, VERSION)
        except FormatError as error:
            raise ParameterError(explain(f"learn: the names of the classes would replace {beside}.", *str(error).split("\n  "), cure="Give --out another name.")) from error


def taught_by(rule: str, known: File, shown: Shown, settings: Settings, passes: int, seed: int) -> teaching.Taught:
    """What the rule makes of what is shown."""
    if rule == "rows":
        return teaching.rows(known.network, shown, passes)
    if known.binary is None:
        return teaching.binary(known.network, shown, settings, seed, known.classes)
    return teaching.binary_further(known.network, known.binary, shown)


def checked(rule: str, known: File, settings: Settings, *, shots: int, replay: int | None, samples: int, passes: int | None) -> None:
    """Refuse numbers out of their range, and options that the rule does not have."""
    for name, value, least in (("shots", shots, 1), ("replay", replay, 0), ("samples", samples, 0), ("passes", passes, 1), ("num-neurons", settings.neurons, 1),
                               ("num-weights", settings.weights, 1), ("least", settings.least, 1)):  # fmt: skip
        if value is not None and value < least:
            raise ParameterError(explain(f"learn: --{name} is {value}.", cure=f"Give {least} or more."))
    for name, share in zip(OPTIONS[3:], settings[3:], strict=True):
        if share is not None and not 0 <= share <= 1:
            raise ParameterError(explain(f"learn: --{name} is {share:g}.", cure="Give a number in 0 .. 1."))
    of_binary = [f"--{name}" for name, value in zip(OPTIONS, settings, strict=True) if value is not None]
    if rule == "rows" and known.binary is not None:
        raise ParameterError(explain("learn: the last layer of this file is binary, and rows are added to trained ones.", cure="Use --rule binary, or name the run's own network.npz."))
    if rule == "rows" and of_binary:
        raise ParameterError(explain(f"learn: {', '.join(of_binary)} belong to --rule binary.", "the rule is rows"))
    if rule == "binary" and passes is not None:
        raise ParameterError(explain("learn: --passes belongs to --rule rows.", "a binary layer is shown each recording once"))
    fixed = of_binary + (["--replay"] if replay else [])
    if known.binary is not None and fixed:
        raise ParameterError(explain(f"learn: {', '.join(fixed)} cannot be changed in a binary layer that is there.", "its old classes keep every bit", cure="Leave them out, or start from the run's own network.npz."))


def wanted(rule: str, known: File, replay: int | None) -> int | None:
    """Recordings of each old class that are shown; None: half of those that are there."""
    if known.binary is not None:
        return 0
    return REPLAY if rule == "rows" and replay is None else replay


OPTIONS = ("num-neurons", "num-weights", "least", "initial-plasticity", "min-plasticity", "plasticity-decay", "learning-competition")


def opened(file: Path, classes: Sequence[str]) -> File:
    """A network file, the names of its classes (those that were written beside it, else the run's), and its binary layer."""
    network = IntegerNetwork.load(file)
    beside = file.with_suffix(".json")
    about = read_json(beside, FORMAT, VERSION) if beside.exists() else {"classes": list(classes)}
    names, binary = about.get("classes", []), about.get("binary")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not isinstance(binary, dict | None):
        raise FormatError(explain(f"{beside} does not say what the classes are called.", f"classes {names!r}", cure="Give --network a file with the .json that stood beside it."))
    neurons = 1 if binary is None else teaching.neurons_of(binary, beside)
    if len(names) * neurons != (outputs := len(head_of(network).weight)):
        fact = f"{outputs} classes in the file, {len(names) * neurons} names {'in ' + beside.name if beside.exists() else 'in the run'}"
        if neurons > 1:
            fact = f"{outputs} neurons in the file, {len(names)} names of {neurons} neurons each in {beside.name}"
        raise FormatError(explain(f"{file}: it is not known what its classes are called.", fact, cure="Give --network a file of this run, or with the .json that stood beside it."))
    return File(network, names, binary)


def draw(truth: np.ndarray, old: int, classes: Sequence[str], shots: int, replay: int | None, samples: int, seed: int) -> Drawn:
    """What to learn from, in a random order, and what to judge on: no recording is in both. replay None: half of each old class."""
    rng, shown = np.random.default_rng(seed), []
    for label, name in enumerate(classes):
        there = np.flatnonzero(truth == label)
        wanted = shots if label >= old else -(-len(there) // 2) if replay is None else replay
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


def answers(stage: Stage, frames: Named, which: np.ndarray) -> np.ndarray:
    """The class of each of these recordings."""
    found = [np.zeros(0, np.int64)]
    for some in (which[i : i + BATCH] for i in range(0, len(which), BATCH)):
        x, lengths, _ = collate([frames[int(i)] for i in some])
        if stage.one_step and lengths.max() > 1:
            raise teaching.too_long(stage.network)
        found.append(run_twin(stage.network, whole(x), lengths.numpy()).predictions // stage.neurons)
    return np.concatenate(found)


def figures(given: Sequence[np.ndarray], truth: np.ndarray, old: int) -> dict[str, Any]:
    """Right answers before and after, of old and of new classes, and old recordings that went over to a new class. given: answers of each stage."""
    is_old, (before, *between, after) = truth < old, given
    relearned = {"old_right_relearned": int((between[0] == truth)[is_old].sum())} if between else {}
    return {"old": int(is_old.sum()), "old_right_before": int((before == truth)[is_old].sum()), **relearned, "old_right_after": int((after == truth)[is_old].sum()),
            "old_to_new": int((after >= old)[is_old].sum()), "new": int((~is_old).sum()), "new_right_after": int((after == truth)[~is_old].sum())}  # fmt: skip


def told(new: Sequence[str], taught: teaching.Taught, f: dict[str, Any], after: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> str:
    """What is printed."""
    end, *more = taught.lines
    lines = [f"learned {', '.join(new)} {end}" if taught.about["rule"] == "rows" else f"learned {', '.join(new)}, {end}", *more]
    if f["old"]:
        keys = [key for key in ("old_right_before", "old_right_relearned", "old_right_after") if key in f]
        of = [f" of {f['old']} others", *[""] * len(keys)]
        right = [f"{f[key]}{others} {stage.what} ({f[key] / f['old']:.4f})" for key, others, stage in zip(keys, of, taught.stages, strict=False)]
        lines.append(f"old classes: {', '.join(right)}; {f['old_to_new']} are now taken for a new class")
    if f["new"]:
        each = [f"{classes[c]} {(after == c)[truth == c].mean():.4f}" for c in np.unique(truth) if classes[c] in new]
        lines.append(f"new classes: {f['new_right_after']} of {f['new']} others right ({f['new_right_after'] / f['new']:.4f}): {', '.join(each)}")
    for part in ("old", "new"):
        if not f[part]:
            lines.append(f"{part} classes: no other recordings to judge on")
    return "\n".join(lines)
