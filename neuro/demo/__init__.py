"""The whole path once: events, a spiking transformer, its cost, its integer form, Lava, and a report.

`neuro demo` calls `main`; the parts are in `task` (data and plain networks), `costs`, `chip` (integer network, twin, Lava) and `page`.
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from neuro import models
from neuro.datasets.datamodule import EventDataModule
from neuro.demo import chip, costs, page, task
from neuro.errors import LavaError, ParameterError, explain
from neuro.files import replacing, write_json
from neuro.training.fit import fit
from neuro.training.runs import Run

MODEL = "spikformer_motions"
LR, WEIGHT_DECAY, BATCH = 4e-3, 0.05, 32


def main(
    out: Path = Path("runs/demo"),
    seed: int = 0,
    train: int = 2400,
    val: int = 160,
    test: int = 800,
    epochs: int = 3,
    lava_recordings: int = 8,
    seconds_install: float | None = None,
) -> dict[str, Any]:
    """Record synthetic events, train a spiking transformer, count its cost, quantise it, run it on Lava, and draw a report.

    Args:
        out: folder for everything; an earlier demo in it is replaced.
        seed: of scenes, noise, weights and order.
        train: recordings to learn from.
        val: recordings to watch the learning by.
        test: recordings that are only judged on.
        epochs: passes over the training recordings.
        lava_recordings: test recordings to run through Lava; 0 leaves it out.
        seconds_install: how long installing took, for the summary.
    """
    begun = time.perf_counter()
    _refuse_options(train=train, val=val, test=test, epochs=epochs, lava_recordings=lava_recordings)
    options = {"train": train, "val": val, "test": test, "epochs": epochs, "lava_recordings": lava_recordings,
               "model": MODEL, "lr": LR, "weight_decay": WEIGHT_DECAY, "batch": BATCH, "bins": task.BINS}  # fmt: skip
    run = _fresh(Path(out), options, seed)
    part = _Parts()

    with part("recording events", train + val + test) as bar:
        data = task.record(train, val, test, seed, bar.update)
    print(f"  {train + val + test} recordings, {_mean_events(data):.0f} events each, {len(task.CLASSES)} motions: {', '.join(task.CLASSES)}")

    with part("training the spiking transformer"):
        torch.manual_seed(seed)
        model = models.create(MODEL)
        module = EventDataModule(data.train, data.val, frames=task.FRAMES, classes=task.CLASSES, batch_size=BATCH, seed=seed)
        fit(model, module, run, epochs, LR, weight_decay=WEIGHT_DECAY)
    labels = torch.from_numpy(data.test_labels)
    with part("testing", 2 * test) as bar:
        logits = task.answers(model, data.test_frames, tick=bar.update)
        accuracy = _share(logits, labels)
        shuffled = _share(task.answers(model, task.shuffled_bins(data.test_frames, seed), tick=bar.update), labels)
    print(f"  on {test} unseen recordings: accuracy {accuracy:.4f}; with the bins in shuffled order {shuffled:.4f}")

    with part("plain networks on the same frames") as bar:
        plain = task.plain_networks(data, seed, lambda name, epoch, reached: bar.set_postfix_str(f"{name}: epoch {epoch}, {reached:.0%}"))
    for name, found in plain.items():
        print(f"  {name}: accuracy {found['test_accuracy']:.4f} (training {found['train_accuracy']:.4f}, {found['epochs']} epochs)")

    with part("integer network, whole test set on the twin"):
        deployed = chip.deploy(model, data.test_frames, run.folder)
    twin_accuracy = float((deployed.twin.predictions == data.test_labels).mean())
    print(f"  twin accuracy {twin_accuracy:.4f}; {deployed.report.summary()}")

    with part("operations and energy"):
        cost = costs.count(model, deployed, data.test_frames)
    print(cost.text)

    with part("Lava's Loihi 2 simulation"):
        lava = chip.on_lava(deployed, data.test_frames, lava_recordings)
    print(lava.text)

    summed = [found["test_accuracy"] for name, found in plain.items() if "summed" in name]
    summary = {
        "accuracy": accuracy,
        "accuracy_time_collapsed": max(summed),
        "accuracy_bins_shuffled": shuffled,
        "accuracy_bins_as_channels": plain["CNN, bins as channels"]["test_accuracy"],
        "twin_accuracy": twin_accuracy,
        **lava.summary,
        **cost.summary,
        "seconds_install": seconds_install,
        "seconds_demo": round(time.perf_counter() - begun, 1),
    }
    with part("report"):
        _write_plain(run.folder / "baselines.csv", plain)
        page.write(run, data, model, logits, plain, deployed, cost, lava, summary)
    summary["seconds_demo"] = round(time.perf_counter() - begun, 1)
    write_json(run.folder / "summary.json", summary)
    _say(run, summary, part)
    if lava.agreement is not None and not lava.agreement.exact:
        cure = f"See the table in {run.folder / 'report.html'}; the first layer that differs is {lava.agreement.first_layer}."
        raise LavaError(explain("demo: Lava and the twin differ.", f"{summary['lava_spike_mismatches']} spikes differ", cure=cure))
    return summary


def _refuse_options(*, lava_recordings: int, test: int, **others: int) -> None:
    """Before an earlier demo is replaced and minutes are spent."""
    wrong = {name: n for name, n in {**others, "test": test}.items() if n < 1}
    if not 0 <= lava_recordings <= test:
        wrong["lava_recordings"] = lava_recordings
    if wrong:
        facts = "   ".join(f"{name}={n}" for name, n in wrong.items())
        cure = f"Recordings and epochs are at least 1, and lava_recordings 0 to test={test}."
        raise ParameterError(explain("demo: an option is outside its range.", facts, cure=cure))


def _fresh(out: Path, options: dict[str, Any], seed: int) -> Run:
    """A new run; an earlier demo in the folder is removed, anything else is left alone."""
    if out.exists() and any(out.iterdir()):
        if not (out / "recipe.json").exists() or Run.open(out).recipe != "demo":
            raise ParameterError(explain(f"demo: {out} holds something else than a demo.", cure="Choose another folder: neuro demo --out FOLDER"))
        shutil.rmtree(out)
    return Run.create(out, recipe="demo", options=options, seed=seed)


class _Parts:
    """Announces each part, shows its progress, and keeps its seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, total: int | None = None) -> Iterator[Any]:
        from tqdm import tqdm

        begun = time.perf_counter()
        print(f"{name} ...", flush=True)
        bar_format = None if total else "{desc} {elapsed} {postfix}"
        with tqdm(total=total, desc="  ", leave=False, disable=None, bar_format=bar_format) as bar:
            yield bar
        self.seconds[name] = time.perf_counter() - begun


def _share(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def _mean_events(data: task.Task) -> float:
    every = [*data.train, *data.val, *data.test]
    return sum(len(r.events) for r in every) / len(every)


def _write_plain(path: Path, plain: dict[str, dict[str, float]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, ["network", "train_accuracy", "test_accuracy", "epochs"], lineterminator="\n")
    table.writeheader()
    table.writerows({"network": name, **found} for name, found in plain.items())
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _say(run: Run, summary: dict[str, Any], part: _Parts) -> None:
    """The summary on screen."""
    print("\nsummary")
    for name, value in summary.items():
        shown = "-" if value is None else f"{value:.4f}" if isinstance(value, float) and "seconds" not in name else value
        print(f"  {name:<28} {shown}")
    print("seconds by part: " + ", ".join(f"{name} {s:.0f}" for name, s in part.seconds.items()))
    print(f"report: {run.folder / 'report.html'}")
