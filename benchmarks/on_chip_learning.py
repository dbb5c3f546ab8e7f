"""New classes learned on the chip: accuracy against the number of shots, and what becomes of the classes known before. N-MNIST, Braille, objects.

    python benchmarks/on_chip_learning.py [FOLDER]     folder that holds nmnist/, braille_tactile/, dvs128_objects/; $NEURO_DATA if none is given

A small network learns the old classes (digits 0 to 7; Space, A, E, I, O; mug, cube, box cutter, pencil, mouse) with surrogate gradients and is
quantised; from here on all is in integers, on the twin. New classes (8 and 9; U and Y; box and scissors) are learned from a few recordings
each: in a binary last layer on its last spikes, and in rows added to its head, without and with a few old recordings replayed; these, and their
opponents on a host, are in `few_shot_readouts.py`. Binary features: which neurons fired at all (N-MNIST, objects); which fired in each of
the 16 steps (Braille, where the order tells).

Objects are windows of 100 ms of streams of a DVS128 before a turntable. "Objects, later" is judged on other seconds of the same streams, so that
each side of an object may have been seen; "Objects, other day" on streams of another day, of which there are box, scissors, and of the old
classes the mouse alone, so that two thirds of all are new. Of the streams learned from only the mouse's is of that day: what marks the day
marks the mouse too. With 20 shots of each new class, of those "later" the binary layer gave 0.39 of the new and 0.82 of the old right, rows with
replay 0.71 and 0.68, class means of counts 0.54 and 0.78, logistic regression 0.37 and 0.89; of another day 0.26 and 0.77, 0.64 and 0.54,
0.47 and 0.71, 0.32 and 0.72 (means over three networks and five draws; the penalty of logistic regression is one of 0.1, 1 and 10).

All are judged on recordings that none of them has seen: of all classes together ("all"), of the old, and of the new alone. Means and standard
deviations over networks, each with its split, and draws of the shots; a picture with --plot. One network alone misleads: at 20 shots on
N-MNIST rows with replay gave 0.892, 0.838 and 0.808 of all classes with the first three, ridge on the same binary features 0.882, 0.886 and 0.890.

*Check* (status 1): weights of the old classes are the same bit by bit, no old recording changes its answer but to a new class, and the twin
gives the overlaps.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import few_shot_readouts as readouts
import numpy as np
import peers
import torch
from few_shot_readouts import Features
from torch import Tensor, nn

from neuro.datasets import NMNIST, DVSObjects, Frames
from neuro.datasets.braille import Braille
from neuro.deploy.added_classes import head_of
from neuro.deploy.learning import spiked
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.layers import Conv2d, Flatten, Linear, MeanOverTime, Sequential
from neuro.neurons import LIF
from neuro.surrogate import ATan

SHOTS = (1, 2, 5, 10, 20)
STRICT = ATan(2.0, strict=True)  # the chip fires above the threshold, not at it
METHODS = ("binary", "rows", "replay", "means", "ridge", "logistic", "nearest", "means, counts", "ridge, counts")
BLOCKS = 10  # of a stream, each learned from or judged on as a whole
JUDGED = 60  # windows of a class, at most


def lif(decay: float) -> LIF:
    return LIF(decay=decay, threshold=1.0, spike=STRICT)


def digits(features: int, old: int) -> nn.Module:
    """[T, B, 2, 34, 34] -> features that spike -> old classes."""
    return Sequential(Conv2d(2, 12, 5, stride=2, padding=1), lif(0.75), Conv2d(12, 24, 3, stride=2, padding=1), lif(0.75), Flatten(),
                      Linear(24 * 8 * 8, features), lif(0.75), Linear(features, old), MeanOverTime())  # fmt: skip


def turning(features: int, old: int) -> nn.Module:
    """[T, B, 2, 32, 32] -> features that spike -> old classes."""
    return Sequential(Conv2d(2, 12, 5, stride=2, padding=2), lif(0.75), Conv2d(12, 24, 3, stride=2, padding=1), lif(0.75), Flatten(),
                      Linear(24 * 8 * 8, features), lif(0.75), Linear(features, old), MeanOverTime())  # fmt: skip


def letters(features: int, old: int) -> nn.Module:
    """[T, B, 12] -> features that spike -> old classes."""
    return Sequential(Linear(12, 256), lif(0.8), Linear(256, features), lif(0.8), Linear(features, old), MeanOverTime())


class Recordings(NamedTuple):
    """Counts [T, N, ...], labels [N]; groups [N] that are not divided between learning and judging; apart [N]: those to judge on, None: drawn."""

    x: Tensor
    labels: Tensor
    groups: np.ndarray
    apart: np.ndarray | None = None


def recordings_of_digits(folder: Path) -> Recordings:
    """Counts 0 to 3 [T=6, N, 2, 34, 34] of the training recordings that are there."""
    data, frames = NMNIST(folder / "nmnist", split="train"), Frames(bins=6)
    x = torch.stack([torch.as_tensor(frames(r.events, r.sensor)).float() for r in data], 1)
    return Recordings(x.clamp(max=3), torch.tensor(data.labels), np.arange(len(data)))


def recordings_of_letters(folder: Path) -> Recordings:
    """Counts 0 to 15 [T=16, N, 12] in bins of 80 ms."""
    data = Braille(folder / "braille_tactile" / "braille7_shared.npz")
    x = torch.stack([torch.as_tensor(np.asarray(data[i][0])).float() for i in range(len(data))])
    x = x.reshape(len(x), 16, 16, 12).sum(2).clamp(max=15).transpose(0, 1)
    return Recordings(x, torch.as_tensor(np.asarray(data.labels)).long(), np.arange(len(data)))


OBJECTS = ("mug", "cube", "box_cutter", "mechanical_pencil", "mouse", "box", "scissors")  # the last two are new


def recordings_of_objects(folder: Path, other_day: bool) -> Recordings:
    """Counts 0 to 4 [T=5, N, 2, 32, 32] around the object; groups are tenths of a stream. other_day: the part `valid` is judged on, else left out."""
    from neuro.models.recipes.conv_objects import frames

    data, prepared = DVSObjects(folder / "dvs128_objects"), frames(5)
    valid = np.array([name.startswith("valid") for name in data.names])
    streams = np.array(data.streams)
    place = np.concatenate([np.arange(n) * BLOCKS // n for n in np.bincount(streams)])
    kept = np.flatnonzero(np.ones_like(valid) if other_day else ~valid)
    x = torch.stack([torch.as_tensor(prepared(data.events(int(i)), data.sensor)).float() for i in kept], 1)
    labels = torch.tensor([OBJECTS.index(data.classes[data.labels[i]]) for i in kept])
    return Recordings(x, labels, (streams * BLOCKS + place)[kept], valid[kept] if other_day else None)


def later_objects(folder: Path) -> Recordings:
    return recordings_of_objects(folder, other_day=False)


def objects_of_another_day(folder: Path) -> Recordings:
    return recordings_of_objects(folder, other_day=True)


class Task(NamedTuple):
    """One data set: where it lies, recordings, network, binary features of spikes, classes, old ones, bits of the input, moves of frames."""

    title: str
    where: str
    read: Callable[[Path], Recordings]
    network: Callable[[int, int], nn.Module]
    features: int
    binary: Callable[[np.ndarray], np.ndarray]
    classes: tuple[str, ...]
    old: int
    bits: int
    epochs: int
    moved: int


TASKS = (
    Task("N-MNIST", "nmnist", recordings_of_digits, digits, 512, spiked, tuple("0123456789"), 8, 2, 25, 3),
    Task("Braille", "braille_tactile", recordings_of_letters, letters, 256, lambda s: s.swapaxes(0, 1).reshape(s.shape[1], -1).astype(np.uint8),
         Braille.classes, 5, 4, 40, 0),
    Task("Objects, later", "dvs128_objects", later_objects, turning, 512, spiked, OBJECTS, 5, 3, 8, 2),
    Task("Objects, other day", "dvs128_objects", objects_of_another_day, turning, 512, spiked, OBJECTS, 5, 3, 8, 2),
)  # fmt: skip


def parts(labels: np.ndarray, groups: np.ndarray, share: float, seed: int, apart: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices to learn from and to judge on, JUDGED of a class at most; of each class the same share of its groups, or those that stand apart."""
    rng, learn, judge = np.random.default_rng(seed), [], []
    for label in np.unique(labels):
        there = np.flatnonzero(labels == label)
        own = rng.permutation(np.unique(groups[there]))
        chosen = own[: int(share * len(own))] if apart is None else [g for g in own if not apart[groups == g].any()]
        rest = there[~np.isin(groups[there], chosen)]
        learn.append(np.concatenate([np.flatnonzero(groups == g) for g in chosen]) if len(chosen) else there[:0])
        judge.append(rest[np.arange(min(JUDGED, len(rest))) * len(rest) // max(1, min(JUDGED, len(rest)))])
    return np.concatenate(learn), np.sort(np.concatenate(judge))


def train(model: nn.Module, x: Tensor, labels: Tensor, epochs: int, moved: int, seed: int) -> None:
    """Surrogate gradients, Adam, small random shifts of frames."""
    order = torch.Generator().manual_seed(seed)
    best = torch.optim.Adam(model.parameters(), lr=2e-3)
    falls = torch.optim.lr_scheduler.OneCycleLR(best, 4e-3, total_steps=epochs * -(-len(labels) // 32))
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=order).split(32):
            batch = x[:, chosen]
            if moved:
                batch = batch.roll(torch.randint(-moved, moved + 1, (2,), generator=order).tolist(), (-2, -1))
            loss = nn.functional.cross_entropy(model(batch) * 4, labels[chosen])
            best.zero_grad()
            loss.backward()
            best.step()
            falls.step()
    model.eval()


def extracted(task: Task, folder: Path, seed: int) -> tuple[Features, np.ndarray, np.ndarray]:
    """Features of all recordings by the trained and quantised network; recordings to learn from and to judge on."""
    torch.manual_seed(seed)
    began = time.perf_counter()
    x, labels, groups, apart = task.read(folder)
    truth = labels.numpy()
    learn, judge = parts(truth, groups, 0.7, seed, apart)
    old, seen = learn[truth[learn] < task.old], judge[truth[judge] < task.old]
    model = task.network(task.features, task.old)
    train(model, x[:, old], labels[old], task.epochs, task.moved, seed)
    integer, report = quantize(model, x[:, old][:, :32], message_bits=task.bits)
    result = run_twin(integer, x.numpy().astype(np.int32), record=True)
    spikes = result.spikes[integer.lifs[-1].name].astype(np.int64)
    f = Features(integer, x.numpy().astype(np.int32), task.binary(spikes), spikes.sum(0), truth, len(task.classes), task.old)
    new = " and ".join(task.classes[task.old :])
    print(f"{task.title}: {len(truth)} recordings: {len(old)} of old classes and {len(learn) - len(old)} of {new} to learn from, {len(judge)} to judge on")
    print(f"integer network, old classes among themselves: {(result.acc.argmax(1)[seen] == truth[seen]).mean():.4f}; {report.summary()}")
    print(f"trained, quantised and run in {time.perf_counter() - began:.0f} s; of {f.binary.shape[1]} binary features {f.binary.mean():.1%} are active")
    return f, learn, judge


def judged(answers: np.ndarray, truth: np.ndarray, old: int) -> tuple[float, float, float]:
    """Accuracy on all, on the old and on the new classes, all being possible answers."""
    right = answers == truth
    return float(right.mean()), float(right[truth < old].mean()), float(right[truth >= old].mean())


def first(f: Features, known: np.ndarray, o: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The last layers when they know the old classes."""
    return {"binary": readouts.Binary(f, known, o.neurons, seed, o.competition), "rows": readouts.Rows(f, known),
            "replay": readouts.Rows(f, known, o.replay), "means": readouts.Means(f, f.binary, known), "ridge": readouts.Ridge(f, f.binary, known),
            "logistic": readouts.Logistic(f, f.binary, known), "nearest": readouts.Nearest(f, known),
            "means, counts": readouts.Means(f, f.counts, known), "ridge, counts": readouts.Ridge(f, f.counts, known)}  # fmt: skip


def faults(f: Features, before: dict[str, Any], after: dict[str, Any], judge: np.ndarray) -> list[str]:
    """What the chip's layers changed that they must not."""
    found = []
    kept = {name: (head_of(before[name].network).weight, head_of(after[name].network).weight) for name in ("rows", "replay")}
    for name, (old, new) in {"binary": (before["binary"].layer.weights, after["binary"].layer.weights), **kept}.items():
        if not np.array_equal(old[: f.old], new[: f.old]):
            found.append(f"{name}: an old weight")
        was, now = before[name].answers(judge), after[name].answers(judge)
        if ((was != now) & (now < f.old)).any():
            found.append(f"{name}: an answer, from an old class to another")
    layer, x = after["binary"].layer, f.binary[judge]
    if not np.array_equal(run_twin(layer.network(), x[None].astype(np.int32)).acc.reshape(len(x), f.classes, -1), layer.overlaps(x)):
        found.append("binary: the twin's overlaps")
    return found


def measured(task: Task, folder: Path, o: argparse.Namespace, seed: int) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """One data set, network and split: accuracies [shots + 1, draws, 3] by method, the first those before; KiB kept; faults."""
    f, learn, judge = extracted(task, folder, seed)
    truth, new = f.labels, range(f.old, f.classes)
    before = first(f, np.random.default_rng(seed).permutation(learn[truth[learn] < f.old]), o, seed)
    scores = {name: [np.tile(judged(before[name].answers(judge), truth[judge], f.old), (o.draws, 1))] for name in METHODS}
    wrong: list[str] = []
    for shots in SHOTS:
        rows: dict[str, list[Any]] = {name: [] for name in METHODS}
        for draw in range(o.draws):
            rng = np.random.default_rng((seed, shots, draw))
            chosen = rng.permutation(np.concatenate([rng.choice(learn[truth[learn] == c], shots, replace=False) for c in new]))
            after = {name: layer.add(chosen) for name, layer in before.items()}
            wrong += [f"{task.title}, seed {seed}, {shots} shots, draw {draw}: {fault}" for fault in faults(f, before, after, judge)]
            for name in METHODS:
                rows[name].append(judged(after[name].answers(judge), truth[judge], f.old))
        for name in METHODS:
            scores[name].append(np.array(rows[name]))
    print(f"penalty of ridge: {before['ridge'].penalty:g} and {before['ridge, counts'].penalty:g}, of logistic regression: {before['logistic'].penalty:g}; neurons of a class that have learned, binary, old: {(before['binary'].layer.times > 0).sum(1).tolist()}")
    return {name: np.stack(x) for name, x in scores.items()}, {name: f"{after[name].kept() / 1024:.0f}" for name in METHODS}, wrong


def table(task: Task, scores: dict[str, np.ndarray], kept: dict[str, str]) -> str:
    """Means and standard deviations; the best of each number of shots on all classes with a star."""
    rows = []
    for k, shots in enumerate(("before", *SHOTS)):
        best = max(METHODS, key=lambda name: scores[name][k, :, 0].mean())
        for name in METHODS:
            mean, spread = scores[name][k].mean(0), scores[name][k].std(0)
            cells = [f"{m:.3f} +- {s:.3f}" for m, s in zip(mean, spread, strict=True)]
            rows.append((str(shots), name, cells[0] + (" *" if name == best else ""), *cells[1:], kept[name]))
    return peers.table(("shots", "layer", "all", "old classes", f"new: {', '.join(task.classes[task.old :])}", "keeps, KiB"), rows)


def draw(found: dict[str, dict[str, np.ndarray]], path: Path, replay: int) -> None:
    """Accuracy over shots: a row of panels per data set, a line per layer, bars of one standard deviation."""
    from neuro.plots.figure import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY, legend, new_figure, percent_axis, style

    looks = {"binary": (BLUE, "-", "o"), "rows": (PURPLE, "-", "D"), "replay": (RED, "-", "s"), "means": (GREEN, "--", "^"), "ridge": (ORANGE, "--", "v"), "logistic": (SKY, "--", "P"), "nearest": (INK, ":", "x"),
             "means, counts": (GREEN, "-.", "^"), "ridge, counts": (ORANGE, "-.", "v")}  # fmt: skip
    figure = new_figure(2.6 * len(found) + 0.5, 9.5)
    figure.patch.set_facecolor("white")
    figure.patch.set_alpha(1)
    panels = figure.subplots(len(found), 3, squeeze=False, sharey="row", sharex=True)
    for row, (title, scores) in zip(panels, found.items(), strict=True):
        for part, (axes, what) in enumerate(zip(row, ("all classes", "old classes", "new classes"), strict=True)):
            style(axes, title=f"{title}: {what}", grid="y")
            for name, (colour, line, mark) in looks.items():
                x = scores[name]
                at = np.arange(1, len(SHOTS) + 1) + 0.05 * (list(looks).index(name) - 4)  # side by side, so that bars can be told apart
                axes.errorbar(at, x[1:, :, part].mean(1), x[1:, :, part].std(1), color=colour, linestyle=line, marker=mark, markersize=4, linewidth=1.4, elinewidth=0.8, markerfacecolor="white" if "counts" in name else colour)
                if part == 1:
                    axes.plot(0, x[0, :, part].mean(), color=colour, marker=mark, markersize=4, markerfacecolor="white" if "counts" in name else colour)
            axes.set_xticks(range(len(SHOTS) + 1), ["0", *map(str, SHOTS)])
            axes.set_ylim(-0.03, 1.03)
            percent_axis(axes.yaxis)
    for axes in panels[-1]:
        axes.set_xlabel("recordings of each new class", fontsize=10, color=INK)
    lines = [panels[0, 0].containers[k] for k in range(len(looks))]
    names = {"binary": "binary (Akida-style, integers)", "rows": "rows (Loihi-style, integers)", "replay": f"rows, replaying {replay} of each old class", "means": "class means", "ridge": "ridge", "logistic": "logistic regression", "nearest": "nearest recording",
             "means, counts": "class means, on counts", "ridge, counts": "ridge, on counts"}  # fmt: skip
    legend(figure, lines, [names[n] for n in looks], loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)
    print(f"drawn: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.environ.get("NEURO_DATA", "data")))
    parser.add_argument("--only", help="data sets whose title contains this")
    parser.add_argument("--neurons", type=int, default=10, help="of each class, in the binary layer")
    parser.add_argument("--competition", type=float, default=0.1, help="of the binary layer, 0 to 1; the vendor's tutorials use 0.1")
    parser.add_argument("--replay", type=int, default=5, help="recordings of each old class that the layer `replay` keeps and is shown again")
    parser.add_argument("--seeds", type=int, default=3, help="networks, each trained on a split of its own")
    parser.add_argument("--draws", type=int, default=5, help="of the shots, for each network")
    parser.add_argument("--plot", type=Path, help="picture to write")
    o = parser.parse_args()
    print(peers.machine())
    found, wrong = {}, []
    for task in (t for t in TASKS if (o.only or "").lower() in t.title.lower()):
        if not (o.folder / task.where).exists():
            print(f"on_chip_learning: no recordings at {o.folder / task.where}; name the folder that holds {task.where}, or set NEURO_DATA")
            continue
        runs = [measured(task, o.folder, o, seed) for seed in range(o.seeds)]
        found[task.title] = {name: np.concatenate([scores[name] for scores, _, _ in runs], 1) for name in METHODS}
        wrong += [fault for _, _, faults in runs for fault in faults]
        print(table(task, found[task.title], runs[-1][1]) + "\n")
    if found:
        print(f"check: old weights bit for bit, old answers and overlaps of the twin {'NOT ' if wrong else ''}as they must be, in {len(SHOTS) * o.draws * o.seeds} draws of each")
        print(*wrong, sep="\n", end="\n" if wrong else "")
    if found and o.plot:
        draw(found, o.plot, o.replay)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
