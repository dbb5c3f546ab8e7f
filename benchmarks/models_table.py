"""What can be done with each registered model: trace, quantise, twin, Lava, NIR, chips; the reason for every "no".

    python benchmarks/models_table.py [--out docs/models.md] [--steps 6] [--batch 8] [--lava-seconds 300] [--only NAME ...]

Every column is run, on the small form of the model (its structure with less width, image and depth; weights at random, norms as after
passes over the input, with a gain of 2 and a bias of 0.5, seed 0), on random event counts. Models with one small form share its result. Chips are asked for the model at full size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import neuro
from neuro import models
from neuro.deploy import conformance, nir
from neuro.deploy.chips import CHIPS
from neuro.deploy.lava import run_lava
from neuro.deploy.lava_environment import find_interpreter
from neuro.deploy.mapping import assess, map_network
from neuro.deploy.mapping_checks import CANNOT
from neuro.deploy.mapping_layers import folded
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import run_twin
from neuro.errors import NeuroError
from neuro.layers import BatchNorm

COLUMNS = ("traces", "quantises", "same class", "firing", "spikes changed", "Lava", "NIR", "chips")
SMALL = COLUMNS[:-1]


@dataclass
class Row:
    """Cells by column, and why a cell says no."""

    cells: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def ask(self, column: str, act: Callable[[], Any], says: Callable[[Any], str] = lambda found: "yes") -> Any:
        """What `act` gives, or None where this project refuses it; any other error is a fault and is raised."""
        try:
            found = act()
        except NeuroError as error:
            self.cells[column] = "no"
            self.reasons[column] = reason(error)
            return None
        self.cells[column] = says(found)
        return found


def reason(error: Exception) -> str:
    """The message in one line."""
    return " ".join(line.strip() for line in str(error).splitlines())


def example(model: nn.Module, steps: int, batch: int) -> torch.Tensor:
    """Counts 0, 1 and some 2 that fit the model; its own input where it says one."""
    if hasattr(model, "example_input"):
        return model.example_input(steps, batch)
    c = model.config
    return torch.poisson(torch.full((steps, batch, c.channels, c.image, c.image), 0.4)).clamp(max=2)


def settled(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Norms with the statistics of the input and a gain of 2, bias 0.5: at random weights, untouched norms leave deep layers silent."""
    norms = [m for m in model.modules() if isinstance(m, (BatchNorm, nn.modules.batchnorm._BatchNorm))]
    if norms:
        model.train()
        with torch.no_grad():
            for m in norms:
                m.weight.fill_(2.0)
                m.bias.fill_(0.5)
            for _ in range(30):
                model(x)
    return model.eval()


def examine(name: str, steps: int, batch: int, lava_seconds: float) -> Row:
    """All columns of one model but the chips."""
    torch.manual_seed(0)
    row, model = Row(), models.small(name)
    x = example(model, steps, batch)
    settled(model, x)
    graph = row.ask("traces", lambda: neuro.trace(model, x))
    if graph is not None:
        row.ask("NIR", lambda: nir.export(graph, x, dt=1e-3))
        found = row.ask("quantises", lambda: quantize(graph, x, message_bits=2, name=name))
        if found is not None:
            network, report = found
            fired = sum(r.spikes for r in report.layers) / max(1, sum(r.compared for r in report.layers))
            row.cells |= {"same class": f"{report.agree} of {report.answers}{'' if report.answers == report.samples else ' steps'}", "firing": f"{fired:.2%}", "spikes changed": f"{report.changed:.2%}"}
            lava(row, network, x, lava_seconds)
    first = next((c for c in SMALL if row.cells.get(c) == "no"), None)
    for column in SMALL:
        if column not in row.cells:
            row.cells[column] = f"needs {first!r}" if first else "-"
    return row


def lava(row: Row, network: Any, x: torch.Tensor, seconds: float) -> None:
    if find_interpreter() is None:
        row.cells["Lava"] = "not run"
        row.reasons["Lava"] = "no Lava interpreter was found; `neuro lava install`"
        return
    counts = x[:, :1].numpy().astype("int32")
    found = row.ask("Lava", lambda: conformance.compare(run_twin(network, counts, record=True), run_lava(network, counts, time_limit=seconds)))
    if found is not None:
        row.cells["Lava"] = "equal" if found.exact else f"{found.mismatches} spikes differ"


def chips(name: str) -> Row:
    """Which chips hold the model at full size, with so many cores, and for the others the rules that refuse it."""
    row, model = Row(), models.create(name).eval()
    x = model.example_input(1, 1) if hasattr(model, "example_input") else torch.zeros(1, 1, model.config.channels, model.config.image, model.config.image)
    graph = row.ask("chips", lambda: folded(neuro.trace(model, x)))  # once, as every chip would
    fit = []
    for chip in CHIPS if graph is not None else ():
        if rules := sorted({f.rule for f in assess(graph, chip).findings if f.verdict == CANNOT}):
            row.reasons[chip] = ", ".join(rules)
            continue
        found = row.ask(chip, lambda chip=chip: map_network(graph, chip), lambda m: f"{chip} ({len(m.placement.cores)} cores, {m.compatibility.verdict()})")  # noqa: B023
        fit += [] if found is None else [row.cells[chip]]
    if graph is not None:
        row.cells["chips"] = "; ".join(fit) or "none"
    return row


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def same(names: list[str]) -> dict[str, str]:
    """name -> the first name with the same small form, which is examined for both."""
    firsts: dict[str, str] = {}
    found = {}
    for name in names:
        with torch.device("meta"):
            form = repr(getattr(models.small(name), "config", name))
        found[name] = firsts.setdefault(form, name)
    return found


def page(rows: dict[str, Row], steps: int, batch: int) -> str:
    numbers: dict[str, int] = {}
    lines = []
    for name, row in rows.items():
        marks: dict[str, str] = {}
        for c, why in row.reasons.items():
            column = c if c in COLUMNS else "chips"
            marks[column] = marks.get(column, "") + f" [{numbers.setdefault(f'{c}: {why}', len(numbers) + 1)}]"
        with torch.device("meta"):
            size = models.entry(name).parameters or sum(p.numel() for p in models.create(name).parameters())
        lines.append([f"`{name}`", f"{size:,}", *(row.cells[c] + marks.get(c, "") for c in COLUMNS)])
    why = "\n".join(f"{n}. {text}" for text, n in numbers.items())
    return f"""# What can be done with each model

Written by `benchmarks/models_table.py`; torch {torch.__version__.split("+")[0]}, {steps} steps, {batch} recordings of random event counts.

Each column was run on the small form of the model: its structure with less width, image and depth, weights at random, norms settled on the
input with a gain of 2 and a bias of 0.5. *same class* and *spikes changed*: the integer network on its twin against the float one, at each step where a model answers
at every one; *firing*: of the float one, per neuron and step.
*Lava*: one recording in Lava's simulation, every spike and membrane compared with the twin. *NIR*: exported, and run again from the export before it counts.
*chips*: those of `neuro map` that hold the model at full size, weights of 8 bits; the rules that refuse it are named below, their limits and sources
by `neuro map`.
These networks are not trained, so that a class here is no accuracy; those of trained networks stand in the README.

{table(["model", "parameters", *COLUMNS], lines)}

## Why not

{why or "Nothing was refused."}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/models.md"))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lava-seconds", type=float, default=300.0)
    parser.add_argument("--only", nargs="*", default=[], help="names of models; all if none is given")
    given = parser.parse_args()
    names = given.only or models.names()
    stands_for, found = same(names), {}
    for name in names:
        if stands_for[name] == name:
            found[name] = examine(name, given.steps, given.batch, given.lava_seconds)
            print(name, found[name].cells, flush=True)
    rows = {}
    for name in names:
        small, whole = found[stands_for[name]], chips(name)
        rows[name] = Row({**small.cells, "chips": whole.cells["chips"]}, {**small.reasons, **whole.reasons})
        print(name, whole.cells["chips"], flush=True)
    text = page(rows, given.steps, given.batch)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text)
    print(f"written to {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
