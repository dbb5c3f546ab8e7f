"""The demo's network on the chip: integers, the twin over the whole test set, a few recordings through Lava."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neuro.deploy.agreement import QuantizationReport
from neuro.deploy.conformance import Agreement, compare
from neuro.deploy.lava import find_interpreter, run_lava, why_none
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.quantize import quantize
from neuro.deploy.twin import TwinResult, run_twin
from neuro.errors import LavaError, explain

MESSAGE_BITS = 5  # event counts 0 .. 31 in a cell of 10 ms


@dataclass(frozen=True, eq=False)
class Deployed:
    """The integer network, what quantising changed, and the twin's answers to the whole test set."""

    network: IntegerNetwork
    report: QuantizationReport
    twin: TwinResult
    clipped: int  # events that a count of MESSAGE_BITS could not hold


@dataclass(frozen=True, eq=False)
class OnLava:
    """What Lava's run showed; `agreement` is None where no Lava was found."""

    agreement: Agreement | None
    text: str
    summary: dict[str, Any]


def integers(frames_NTCHW: np.ndarray) -> tuple[np.ndarray, int]:
    """Frames as the chip's input [T, N, C, H, W], int32, and the number of events that did not fit."""
    x = frames_NTCHW.astype(np.int32).swapaxes(0, 1)
    held = np.minimum(x, 2**MESSAGE_BITS - 1)
    return np.ascontiguousarray(held), int((x - held).sum())


def deploy(model: nn.Module, frames_NTCHW: np.ndarray, folder: Path) -> Deployed:
    """Quantise, write `network.npz`, read it back, run the file's network over all recordings."""
    x, clipped = integers(frames_NTCHW)
    network, report = quantize(model, torch.from_numpy(x).float(), message_bits=MESSAGE_BITS, name="demo")
    network.save(folder / "network.npz")
    network = IntegerNetwork.load(folder / "network.npz")
    return Deployed(network, report, run_twin(network, x), clipped)


def on_lava(deployed: Deployed, frames_NTCHW: np.ndarray, count: int) -> OnLava:
    """Run the first recordings of the test set through Lava and compare every spike and membrane with the twin.

    Recordings follow each other in one run, every neuron reset before each; the second recording is also run alone, from
    a fresh start, and must give the same.
    """
    summary: dict[str, Any] = {"lava_recordings": None, "lava_spikes_compared": None, "lava_spike_mismatches": None}
    if count == 0:
        return OnLava(None, "  left out, as asked", summary)
    if find_interpreter() is None:
        return OnLava(None, f"  the twin's result stands alone: {why_none()}", summary)
    x, _ = integers(frames_NTCHW[: max(2, count)])
    begun = time.perf_counter()
    lava = run_lava(deployed.network, x)
    seconds = time.perf_counter() - begun
    agreement = compare(run_twin(deployed.network, x, record=True), lava)
    alone = run_lava(deployed.network, x[:, 1:2])
    for name, spikes in lava.spikes.items():
        same = np.array_equal(spikes[:, 1:2], alone.spikes[name]) and np.array_equal(lava.membranes[name][:, 1:2], alone.membranes[name])
        if not same:
            raise LavaError(explain("Lava: the second recording differs from a fresh start.", f"layer {name}", cure="State was carried over."))
    silent = [layer.name for layer in agreement.layers if layer.compared and not layer.fired]
    text = "\n".join([
        *("  " + line for line in str(agreement).splitlines()),
        f"  {x.shape[1]} recordings of {x.shape[0]} steps in {seconds:.1f} s; the second, run alone from a fresh start, is the same",
        *([f"  silent layers, which show nothing: {', '.join(silent)}"] if silent else []),
    ])  # fmt: skip
    summary = {
        "lava_recordings": x.shape[1], "lava_spikes_compared": agreement.compared, "lava_spike_mismatches": agreement.mismatches,
    }  # fmt: skip
    return OnLava(agreement, text, summary)
