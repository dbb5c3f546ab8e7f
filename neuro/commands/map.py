"""`neuro map`: a run's network on a neuromorphic chip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from neuro.commands.mapped import Source, source_of
from neuro.deploy import nir as exchange
from neuro.deploy.mapping import Compatibility, Mapped, assess, estimated, firing_rates, map_network
from neuro.errors import GraphError, ParameterError, explain
from neuro.files import replacing, write_json
from neuro.graph import Graph
from neuro.report import Report


def main(
    run: Path, chip: str, data: Path | None = None, out: Path | None = None, samples: int = 16, steps: int | None = None, weight_bits: int = 8,
    input_bits: int | None = None, dt: float | None = None, apply: bool = False,
) -> None:  # fmt: skip
    """Say which layers of a network fit a chip, what must change, which core holds what, how full it is, what may learn there.

    Written into the folder: map_CHIP.json, and where the network fits map_CHIP.html and map_CHIP.png.

    Args:
        run: folder of a run, a model.safetensors, an integer network.npz of neuro export, or the name of a registered model.
        chip: akida, loihi1, loihi2, speck, spinnaker2 or xylo.
        data: recordings from which steps, bits of the input and firing rates are taken: what the run's recipe takes as --data, or a folder that
            holds .../LABEL/SAMPLE, event files of any format; default: of a run whose input is no events its own test part, of another not known.
        out: folder to write into; default the run's, for a model's name the present one.
        samples: recordings to look at, evenly spread over the folder.
        steps: steps of a recording; default: as in the data. Of longer recordings the first so many are looked at.
        weight_bits: width of weights, at most; the chip's widest within it is taken.
        input_bits: bits of an input value; default: the fewest that hold the data, or those of the integer network.
        dt: seconds of one step, for energy where only power is known, and for --apply true.
        apply: true: make the changes that need no training, compare answers on the data, and write map_CHIP.nir; needs --data and --dt.
    """
    if apply and (data is None or dt is None):
        raise ParameterError(explain("map: --apply true needs --data and --dt.", "the changed network is compared on recordings and written as NIR, in seconds"))
    if dt is not None and not dt > 0:
        raise ParameterError(explain("map: dt must be positive.", f"dt {dt}"))
    source = source_of(run)
    x, lengths, seen, notes = looked = source.recordings(data, samples).first(steps)
    source = replace(source, notes=(*source.notes, *notes))
    graph = source.graph(x[: int(lengths[0]), :1])
    if seen:
        steps = int(lengths.max()) if steps is None else steps
        input_bits = looked.bits if input_bits is None else input_bits
    told: dict[str, Any] = {"weight_bits": weight_bits, "input_bits": source.input_bits if input_bits is None else input_bits, "steps": steps}
    found = assess(graph, chip, **told)
    folder = out or source.folder
    print("\n".join([*source.notes, str(found)]))
    try:
        mapped = map_network(graph, chip, **told)
    except GraphError as error:
        write_json(folder / f"map_{found.chip.name}.json", {**found.to_dict(), "verdict": "cannot", "refused": str(error), "notes": list(source.notes)})
        raise
    rates = None if not seen else firing_rates(mapped.graph, x, lengths)
    mapped = estimated(mapped, steps, rates, None if dt is None else dt * (steps or 1))
    print()
    print(mapped)
    lines = [] if not apply else _apply(graph, mapped, x, lengths, dt or 0.0, folder)
    write(mapped, found, folder, lines, source)


def _apply(graph: Graph, mapped: Mapped, x: Tensor, lengths: Tensor, dt: float, folder: Path) -> list[str]:
    """Answers before and after, and the changed network as NIR."""
    before, after = graph.run(x, lengths), mapped.graph.run(x, lengths)
    same = int((before.argmax(-1) == after.argmax(-1)).sum())
    what = f"{x.shape[1]} recordings get the same answer" if before.dim() == 2 else f"{before.argmax(-1).numel()} answers are the same"
    lines = [f"changed and not: {same} of {what}; outputs differ by {float((before - after).abs().max()):.4g} at most"]
    path = folder / f"map_{mapped.chip.name}.nir"
    exchange.export(mapped.graph, x[: int(lengths.min())], dt=dt, path=path)
    lines.append(f"the changed network is written to {path}")
    print("\n".join(lines))
    return lines


def write(mapped: Mapped, found: Compatibility, folder: Path, lines: list[str], source: Source) -> None:
    """JSON, picture and page of a mapping."""
    from neuro.plots import to_png
    from neuro.plots.placement import placement

    name = f"map_{mapped.chip.name}"
    shares = {r.replace("_", " "): used / most for r, (used, most) in mapped.utilisation().items() if most}
    title = f"{mapped.chip.title}: {len(mapped.placement.cores)} of {mapped.chip.cores.value} cores"
    figure = placement(mapped.chip.cores.value, mapped.shares(), title=title, totals=shares)
    page = Report(f"On {mapped.chip.title}", found.headline())
    page.facts({"network": source.title, "cores": f"{len(mapped.placement.cores)} of {mapped.chip.cores.value}", **{k: f"{v:.1%}" for k, v in shares.items()}})
    page.section("Placement").figure(figure, "Cores, filled by what is scarcest on each; colours are layers, in order.")
    page.table([dict(zip(mapped.HEAD, row, strict=True)) for row in mapped.rows()], "Layers as they are placed")
    page.section("Compatibility").table([dict(zip(found.HEAD, row, strict=True)) for row in found.rows()], "Layers as they are given")
    page.section("Changes, estimates, and what is not known").text("\n".join(f"- {line}" for line in [*source.notes, *lines, *mapped.summary()]))
    write_json(folder / f"{name}.json", {**mapped.to_dict(), "applied": lines, "notes": list(source.notes)})
    with replacing(folder / f"{name}.png") as file:
        file.write(to_png(figure))
    print(f"written: {page.save(folder / f'{name}.html')}, {name}.png, {name}.json")
