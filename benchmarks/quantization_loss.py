"""What the chip's integers cost in accuracy: every trained recipe, in floats and in its integer twin, on the same test examples.

    python benchmarks/quantization_loss.py [DATA] [--runs runs/recipes] [--out docs/quantization.md] [--examples 500] [--only NAME ...]

The runs are those of `benchmarks/recipes.py`; a recipe without one is said to be missing, and nothing is trained here. Weights are rounded after
training, to 8, 4 and 3 bits, and to the fewest once more with biases moved (`calibrate`) on training examples. Where the input is no count of events,
the layers up to the first neurons stay in floats (`split_front`), and the integers begin behind them. Spikes that change are counted on training
examples, per layer of neurons and then over all.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recipes import WHERE
from torch import Tensor

from neuro.datasets.loading import collate
from neuro.deploy.agreement import PredictionAgreement, evaluate_quantized
from neuro.deploy.front import Front, split_front
from neuro.deploy.quantize import quantize
from neuro.errors import GraphError
from neuro.files import replacing
from neuro.tracing import trace
from neuro.training.evaluate import samples, spread
from neuro.training.runs import load

RECIPES = {**WHERE, "spikformer_nmnist": ("nmnist", "N-MNIST", "")}  # its run: neuro train spikformer_nmnist --data DATA/nmnist --out RUNS/spikformer_nmnist
BITS = (8, 4, 3)
KNOWN, BATCH = 48, 50  # training examples that quantising sees; test examples shown at once


@dataclass(frozen=True)
class Loss:
    """One recipe: what the integers gave by number of bits and whether biases were moved, and how many spikes changed at 8 bits."""

    found: dict[tuple[int, bool], PredictionAgreement]
    changed: float
    firing: float
    host: str  # the layers in floats, "" for none
    epochs: int

    def cells(self) -> list[str]:
        first = self.found[BITS[0], False]
        shown = [f"{f.integer_accuracy:.4f} ({f.same:.1%})" for f in self.found.values()]
        return [f"{first.samples:,}", str(self.epochs), self.host or "none", f"{self.firing:.2%}", f"{self.changed:.2%}", f"{first.float_accuracy:.4f}", *shown]


HEAD = ["recipe", "data", "answers", "epochs", "in floats", "firing", "spikes changed", "floats", *(f"{b} bits" for b in BITS), f"{BITS[-1]} bits, calibrated"]


def examine(run: Path, data: Path, examples: int) -> Loss:
    """Quantise the model of a run and answer its test part with it."""
    model = load(run)
    parts = {which: samples(model, run, data, which) for which in ("train", "test")}
    known, *_ = next(batches(parts["train"], KNOWN, KNOWN))
    front = host_part(model, known)
    network_of: Any = trace(model, known[:, :1]) if front is None else front.chip
    test = [(sent(front, x, lengths), lengths, y) for x, lengths, y in batches(parts["test"], examples, BATCH)]
    x, lengths, _ = next(batches(parts["train"], KNOWN, KNOWN))
    x = sent(front, x, lengths)
    bits = max(1, int(max(float(part.max()) for part in (x, *(t[0] for t in test)))).bit_length())
    found, reports = {}, []
    for weight_bits, calibrate in [*((b, False) for b in BITS), (BITS[-1], True)]:
        network, report = quantize(network_of, x, lengths=lengths, message_bits=bits, weight_bits=weight_bits, calibrate=calibrate)
        found[weight_bits, calibrate] = evaluate_quantized(network_of, network, test)
        reports.append(report)
    layers = [layer for layer in reports[0].layers if layer.compared]
    steps = sum(layer.compared for layer in layers)
    changed, fired = (sum(getattr(layer, what) for layer in layers) / max(1, steps) for what in ("changed", "spikes"))
    epochs = json.loads((run / "recipe.json").read_text())["options"]["epochs"]
    return Loss(found, changed, fired, ", ".join(n.name for n in front.host.nodes[1:]) if front else "", epochs)


def host_part(model: torch.nn.Module, x: Tensor) -> Front | None:
    """The layers that stay in floats: those before the first neurons, if the input is no count of events."""
    return None if bool((x >= 0).all()) and torch.equal(x, x.round()) else split_front(model, x)


def sent(front: Front | None, x: Tensor, lengths: Tensor | None) -> Tensor:
    """What the integer network is given for x."""
    return x if front is None else front.spikes(x, lengths)


def batches(part: Any, most: int, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(x, lengths, labels) of at most so many examples, evenly spread over a part."""
    chosen = spread(range(len(part)), most)
    for first in range(0, len(chosen), size):
        yield collate([part[i] for i in chosen[first : first + size]])


def page(rows: dict[str, list[str]], missing: dict[str, str]) -> str:
    """The table, and why a recipe is not in it."""
    lines = [
        "# What the integers cost", "",
        "Printed by `python benchmarks/quantization_loss.py DATA --out docs/quantization.md` from the runs of `benchmarks/recipes.py`: accuracy on the same test",
        "examples in floats and in the integer twin, weights rounded after training, in brackets the share of answers that are the same class. *in floats*: layers",
        "that stay with the host because the input is no count of events. *firing*, *spikes changed*: of the float network, and at 8 bits, per neuron and step of",
        f"{KNOWN} training examples. *calibrated*: biases moved on these examples so that the mean currents stay.", "",
        "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD),
    ]  # fmt: skip
    lines += ["| " + " | ".join(cells) + " |" for cells in rows.values()]
    lines += ["", *(f"- `{name}`: {why}" for name, why in missing.items())] if missing else []
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("NEURO_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--examples", type=int, default=500, help="of each test part, evenly spread")
    parser.add_argument("--only", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    given = parser.parse_args()
    if given.data is None:
        print("no data: name DATA, or set NEURO_DATA")
        return
    torch.set_num_threads(1)
    rows, missing = {}, {}
    for name in given.only:
        if not (given.runs / name / "model.safetensors").exists():
            missing[name] = f"not trained: no run in {given.runs.name}/{name}."
            continue
        try:
            loss = examine(given.runs / name, Path(given.data) / RECIPES[name][0], given.examples)
        except GraphError as error:
            missing[name] = " ".join(str(error).split())
            continue
        rows[name] = [f"`{name}`", RECIPES[name][1], *loss.cells()]
        print("  ".join(rows[name]), flush=True)
    text = page(rows, missing)
    print(text)
    if given.out:
        with replacing(given.out) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
