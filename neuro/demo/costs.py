"""What the demo's network costs: operations by value type, energy, and the same layers as an 8-bit ANN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from neuro.demo.chip import Deployed, integers
from neuro.deploy.elementwise import RULE, Elementwise
from neuro.deploy.energy import CONVENTIONS, EnergyComparison, compare_on, from_twin, int8
from neuro.deploy.twin import run_twin
from neuro.deploy.work import Work
from neuro.measuring import activity
from neuro.tracing import trace

SAMPLED = 48  # test recordings on which both networks are priced, and the float one's operations counted
SIDES = {"snn": "SNN", "dense": "ANN dense", "sparse": "ANN sparse", "once": "ANN once"}


@dataclass(frozen=True, eq=False)
class Cost:
    """Energy and operations per recording, for the screen, the summary and the report."""

    text: str
    words: str
    notes: str
    summary: dict[str, float]
    bars: dict[str, dict[str, dict[str, float]]]
    tables: dict[str, list[dict[str, Any]]]


def count(model: nn.Module, deployed: Deployed, frames_NTCHW: np.ndarray) -> Cost:
    """Price the twin's counts and an ANN on the pre-activations, of the same recordings: a sample of the test set."""
    counts, _ = integers(frames_NTCHW[:SAMPLED])
    work = from_twin(run_twin(deployed.network, counts), deployed.network)
    x = torch.from_numpy(counts).float()
    graph = trace(model, x[:, :1])
    compared = compare_on(work, graph, x)
    snn, dense, sparse, even_dense, even_sparse = compared.reports[int8.name]
    assert dense is not None and sparse is not None
    layers, whole = compared.layers(int8.name), compared.whole(int8.name)
    return Cost(
        text=_indented(_verdict(compared, x.shape[1])),
        words=_verdict(compared, x.shape[1]),
        notes=_notes(compared),
        summary={
            "energy_snn_uj": snn.total, "energy_ann_dense_uj": dense.total, "energy_ann_sparse_uj": sparse.total,
            "energy_break_even_rate": even_sparse, "energy_break_even_rate_dense": even_dense,
            "energy_ann_once_uj": layers["once"], "spikes_per_neuron_per_step": compared.rate,
            **{f"energy_elementwise_{side}_uj": whole[side] - layers[side] for side in whole},
        },
        bars=_bars(snn, dense, sparse),
        tables={
            "Energy per recording, by price list": [_short(row) for row in _as_rows(compared.HEAD, compared.rows())],
            "Operations per recording, integer network": [_operations(w) for w in work],
            f"Elementwise work per recording of the spiking network, and nJ on every side, {int8.name}": _elementwise(compared),
            "Operations per recording, float network": _by_type(model, x),
        },
    )  # fmt: skip


def _verdict(compared: EnergyComparison, recordings: int) -> str:
    """Who wins, in the main profile, on how many recordings, and at which firing rate they would draw."""
    snn, dense, sparse, even_dense, even_sparse = compared.reports[int8.name]
    lines = [f"SNN {snn.total:.3g} µJ per recording; the same layers as an 8-bit ANN once per bin: dense {dense.total:.3g} µJ, zeros of ReLU skipped {sparse.total:.3g} µJ ({int8.name})."]
    for name, ann, even in (("the dense ANN", dense, even_dense), ("the ANN that skips zeros", sparse, even_sparse)):
        won = "less than" if snn.total < ann.total else "MORE than"
        rate = "at no firing rate would they draw" if even is None else f"they would draw at {even:.4f} spikes per neuron and step, measured {compared.rate:.4f}"
        lines.append(f"The spiking network costs {won} {name} ({snn.total / ann.total:.2f} of it); {rate}.")
    return "\n".join([*lines, *_others(compared), f"Means over {recordings} test recordings: an estimate from counted operations and memory accesses, not a measurement."])


def _others(compared: EnergyComparison) -> list[str]:
    """The opponent that is run once, and what changes with the work between layers."""
    once, even = compared.once[int8.name]
    snn, whole = compared.reports[int8.name][0], compared.whole(int8.name)
    between = {side: whole[side] - e for side, e in compared.layers(int8.name).items()}
    rate = "at no firing rate would they draw" if even is None else f"they would draw at {even:.4f}"
    work = ", ".join(f"{SIDES[side]} {e:.3g} µJ" for side, e in between.items())
    ratios = ", ".join(f"{whole['snn'] / whole[side]:.2f} of {SIDES[side]}" for side in whole if side != "snn")
    return [
        f"The same ANN run once on the mean of the bins, activations of {once.profile.activation_bits} bits, costs {once.total:.3g} µJ: the SNN is {snn.total / once.total:.2f} of it; {rate}. "
        "It is shown no order of the bins, by which this task is decided.",
        f"Residual sums, pools, scaling and means come on top, with their memory: {work}. With them the SNN is {ratios}.",
    ]  # fmt: skip


def _bars(snn: Any, dense: Any, sparse: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Joules by layer and network."""
    bars: dict[str, dict[str, dict[str, float]]] = {}
    for name, report in (("SNN", snn), ("ANN sparse", sparse), ("ANN dense", dense)):
        for layer in report.layers:
            bars.setdefault(layer.name, {})[name] = {"compute": layer.compute * 1e-12, "memory": layer.memory * 1e-12}
    return bars


def _notes(compared: EnergyComparison) -> str:
    """How it was counted and priced."""
    dense, sparse = compared.range("dense"), compared.range("sparse")
    prices = "\n".join(f"- `{name}`: {report[0].profile.source}" for name, report in compared.reports.items())
    return "\n\n".join([
        f"Over the price lists the spiking network costs {dense[0]:.2f} to {dense[1]:.2f} of the dense ANN and {sparse[0]:.2f} to {sparse[1]:.2f} of the "
        "sparse one. Break-even is the number of spikes per neuron and step at which both would cost the same.",
        "The integer network was counted over the whole test set, the ANN and the float network on "
        f"{SAMPLED} of its recordings. AC: the input is 1; graded: another whole number; MAC: anything else.",
        "Elementwise work of the SNN is that of the float network, whose spikes differ from the integer network's where rounding changed them.",
        prices,
        " ".join(CONVENTIONS),
        " ".join(RULE),
    ])  # fmt: skip


def _short(row: dict[str, str]) -> dict[str, str | None]:
    """Without the parts of the spiking network's energy; nothing where a price list knows no ANN."""
    names = {"ANN dense µJ": "ANN dense", "ANN sparse µJ": "ANN sparse"}
    return {names.get(k, k): None if v == "-" else v for k, v in row.items() if k not in ("compute", "memory")}


def _operations(w: Work) -> dict[str, Any]:
    return {"layer": w.name, "input events": round(w.events), "additions": round(w.adds), "multiplications": round(w.multiplies),
            "neuron updates": round(w.updates), "spikes": round(w.spikes)}  # fmt: skip


def _elementwise(compared: EnergyComparison) -> list[dict[str, Any]]:
    """Nodes between layers: operations and words of the spiking network, and nJ of arithmetic and memory by side, each as large a memory as it needs."""
    by_name = {side: {w.name: w for w in found} for side, found in compared.elementwise.items()}

    def row(w: Elementwise) -> dict[str, Any]:
        counted = {"layer": w.name, "kind": w.kind, "additions, comparisons": round(w.adds + w.comparisons), "multiplications": round(w.multiplies), "words moved": round(sum(m.words for m in w.moved))}
        same = {SIDES[side]: found.get(w.name) for side, found in by_name.items()}
        return counted | {f"{side} nJ": None if e is None else f"{(e.arithmetic(int8) + e.memory(int8)) * 1e-3:.3g}" for side, e in same.items()}

    return [row(w) for w in compared.elementwise["snn"]]


def _by_type(model: nn.Module, x: torch.Tensor) -> list[dict[str, Any]]:
    """Means per recording of the layers that hold products, and their sum."""
    counted = activity(model, x)
    names = {"dense": "dense", "AC": "ac", "graded": "graded", "MAC": "mac"}
    rows = [
        {"layer": layer.path, "input": layer.input_class, "inputs not 0": f"{layer.rate:.1%}"} | {k: round(getattr(layer, v).mean()) for k, v in names.items()}
        for layer in counted
        if layer.dense.any()
    ]
    total = {"layer": "all", "input": None, "inputs not 0": None} | {k: round(counted.total(v).mean()) for k, v in names.items()}
    return [*rows, total]


def _as_rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[dict[str, str]]:
    return [dict(zip(head, row, strict=True)) for row in rows]


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
