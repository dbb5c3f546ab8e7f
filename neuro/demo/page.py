"""The demo's report.html: what was seen, learned, spent, rounded, and checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neuro import plots
from neuro.demo.chip import Deployed, OnLava, integers
from neuro.demo.costs import Cost
from neuro.demo.task import BINS, CLASSES, Task
from neuro.deploy.energy import int8
from neuro.deploy.twin import run_twin
from neuro.report import Report
from neuro.training.runs import Run, versions
from neuro.training.scores import scores

SHOWN = ("stem.stages.3", "attention.q", "attention.out", "mlp.down")  # layers in the raster, by part of their name


def write(
    run: Run, data: Task, model: nn.Module, logits: torch.Tensor, plain: dict[str, dict[str, float]], deployed: Deployed,
    cost: Cost, lava: OnLava, summary: dict[str, Any],
) -> None:  # fmt: skip
    """Draw everything into the run's report.html."""
    page = Report("From events to the chip", f"neuro demo, seed {run.seed}")
    page.facts(_headlines(summary))
    _task(page, data)
    _learning(page, run, data, logits, plain, summary)
    _layers(page, data, deployed)
    _energy(page, cost)
    _chip(page, deployed, summary)
    page.section("Lava").text(_lava_words(lava, summary))
    if lava.agreement is not None:
        page.table(
            [{"layer": a.name, "spikes compared": a.compared, "fired": a.fired, "differ": a.mismatches,
              "membranes": a.membranes, "membranes that differ": a.membrane_mismatches} for a in lava.agreement.layers],
            "Twin against Lava, layer by layer",
        )  # fmt: skip
    page.section("How it was made").table([{"option": k, "value": str(v)} for k, v in {**run.options, "seed": run.seed}.items()], "Options")
    page.table([{"part": k, "version": str(v)} for k, v in versions().items()], "Versions")
    page.text(f"The model has {sum(p.numel() for p in model.parameters()):,} parameters. Install: {summary['seconds_install'] or '-'} s.")
    page.save(run.folder / "report.html")


def _headlines(summary: dict[str, Any]) -> dict[str, str]:
    lava = summary["lava_spike_mismatches"]
    return {
        "accuracy, unseen recordings": f"{summary['accuracy']:.1%}",
        "best without time": f"{summary['accuracy_time_collapsed']:.1%}",
        "bins shuffled": f"{summary['accuracy_bins_shuffled']:.1%}",
        "8-bit twin": f"{summary['twin_accuracy']:.1%}",
        "spikes differing on Lava": "Lava not found" if lava is None else f"{lava} of {summary['lava_spikes_compared']:,}",
        "energy per recording": f"{summary['energy_snn_uj']:.3g} µJ",
    }


def _task(page: Report, data: Task) -> None:
    page.section("What the camera saw").text(
        "Eight motions, in pairs that are each other's reverse. An object is brighter or darker than its background at random, so a "
        "picture summed over time is the same for both of a pair: only the order of the events tells them apart."
    )
    first = {r.label: i for i, r in reversed(list(enumerate(data.test)))}
    for label in (0, 2, 4, 6):
        recording = data.test[first[label]]
        page.figure(plots.event_strip(recording.events, recording.sensor, 8), f"{CLASSES[label].capitalize()}: {len(recording.events)} events.")
    page.text(f"The network sees counts of ON and OFF events in {BINS} bins of 10 ms:")
    for label in (0, 1, 4, 5):
        page.gif(plots.event_animation(data.test_frames[first[label]], pixels=160), CLASSES[label].capitalize())


def _learning(page: Report, run: Run, data: Task, logits: torch.Tensor, plain: dict[str, dict[str, float]], summary: dict[str, Any]) -> None:
    page.section("Learning").figure(
        plots.learning_curves(run.metrics.rows(), only=["loss", "accuracy"]), "Loss and accuracy per epoch; the circle marks the best."
    )
    found = scores(data.test_labels.tolist(), logits.argmax(1).tolist(), CLASSES)
    page.figure(plots.confusion(found.confusion, CLASSES), "Answers to the unseen recordings.")
    page.section("Does time matter?").text("Chance is 12.5 %; who sees the pair but not its direction reaches 50 %.").table(
        [
            {"network": "spiking transformer", "input": f"{BINS} bins in order", "accuracy": f"{summary['accuracy']:.1%}"},
            {"network": "spiking transformer", "input": "bins in shuffled order", "accuracy": f"{summary['accuracy_bins_shuffled']:.1%}"},
            *(
                {"network": name.split(",")[0], "input": name.split(", ")[1], "accuracy": f"{p['test_accuracy']:.1%}"}
                for name, p in plain.items()
            ),
        ],
        "Accuracy on the unseen recordings",
    )


def _layers(page: Report, data: Task, deployed: Deployed) -> None:
    x, _ = integers(data.test_frames[:1])
    spikes = {name: s[:, 0] for name, s in run_twin(deployed.network, x, record=True).spikes.items()}
    names = [next((n for n in spikes if part in n), "") for part in SHOWN]
    some = {n: spikes[n].reshape(len(spikes[n]), -1) for n in names if n}
    counts = {n: c for n, c in deployed.twin.counts.items() if c.kind == "LIF"}
    rates = {n: float(c.spikes.sum() / c.updates.sum()) for n, c in counts.items()}
    page.section("Spikes").figure(plots.raster(some, most=60), "The first test recording in the integer network, some neurons of a few layers.")
    page.figure(plots.firing_rates(rates), "Spikes per neuron and step over the whole test set.")


def _energy(page: Report, cost: Cost) -> None:
    page.section("Energy").text(cost.words)
    bars = plots.energy_bars(cost.bars)
    bars.set_figheight(1.8 + 0.36 * len(cost.bars))
    page.figure(bars, f"Energy per recording and layer, priced by {int8.name}.")
    for caption, rows in cost.tables.items():
        page.table(rows, caption)
    page.text(cost.notes)


def _chip(page: Report, deployed: Deployed, summary: dict[str, Any]) -> None:
    report = deployed.report
    fired = sum(r.spikes for r in report.layers) / max(1, sum(r.compared for r in report.layers))
    page.section("On the chip's integers").text(
        f"8-bit weights, integer membranes, strict threshold. On the whole test set the twin reaches {summary['twin_accuracy']:.1%}, the "
        f"float network {summary['accuracy']:.1%}; {report.agree} of {report.answers} recordings get the same class.\n\n"
        f"A neuron step has changed if one network fired and the other did not. {report.changed:.2%} of all have; the float network fires in "
        f"{fired:.2%}. Every layer is compared on what reached it, so changes add up from layer to layer. Events that did not fit the input's "
        f"bits: {deployed.clipped}."
    )
    changes = {r.neuron: r.fraction for r in report.layers if r.neuron}
    page.figure(plots.quantization_changes(changes, what="neuron steps that changed"), "What quantising changed, over the whole test set.")
    page.table(
        [
            {"layer": r.layer, "threshold": r.vth or None, "weight error": f"{r.rms_error / r.rms_weight:.2%}" if r.rms_weight else None,
             "neuron steps": r.compared or None, "spikes, float": r.spikes if r.compared else None,
             "changed": r.changed if r.compared else None, "at the threshold": r.float_equal if r.compared else None}
            for r in report.layers
        ],
        "Layers of the integer network",
    )  # fmt: skip
    page.text(
        "Weight error: root mean square, relative to the weights. At the threshold: neuron steps of the float network whose membrane is exactly "
        "there, which a chip that fires only above it must get right too."
    )


def _lava_words(lava: OnLava, summary: dict[str, Any]) -> str:
    if lava.agreement is None:
        return lava.text.strip()
    return (
        f"{summary['lava_recordings']} recordings ran through Lava's fixed-point simulation of Loihi 2, one after another with every neuron "
        f"reset between them. Of {summary['lava_spikes_compared']:,} spikes compared with the twin, {summary['lava_spike_mismatches']} differ."
    )

