"""`neuro export`: the integer network of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from neuro.datasets.loading import collate
from neuro.deploy.agreement import evaluate_quantized
from neuro.deploy.front import split_front
from neuro.deploy.quantize import quantize
from neuro.errors import GraphError, explain
from neuro.files import replacing
from neuro.training.evaluate import samples as samples_of
from neuro.training.evaluate import spread
from neuro.training.runs import load


def main(
    run: Path, data: Path, out: Path | None = None, samples: int = 64, message_bits: int | None = None, weight_bits: int = 8,
    clip: bool = False, per_channel: bool = False, calibrate: bool = False, host_front: bool = False,
) -> None:  # fmt: skip
    """Quantise a run's model to the chip's integers and write network.npz; say what changed, and how well both classify.

    Args:
        run: folder of a run, or a model.safetensors.
        data: recordings on which float and integer spikes are compared.
        out: the file to write; default network.npz in the run's folder.
        samples: recordings to compare on, evenly spread over the folder.
        message_bits: bits of an input count, 1 to 16; default: the fewest that hold these recordings.
        weight_bits: bits of a weight, 2 to 8; fewer are a coarser grid within the chip's 8 bits.
        clip: cut off outlying weights where that lowers their mean square error.
        per_channel: a scale for each output channel; neurons are then none of Lava's own.
        calibrate: move biases so that rounding leaves the mean currents on these recordings alone.
        host_front: leave the layers up to the first neurons to the host, in floating point, for input that is no count of events; the
            spikes that they make of these recordings are written beside the network, as NAME_inputs.npy.
    """
    model = load(run)
    frames = samples_of(model, run, data)
    x, lengths, labels = collate([frames[i] for i in spread(range(len(frames)), samples)])
    path = out or (run if run.is_dir() else run.parent) / "network.npz"
    if not host_front and not (bool((x >= 0).all()) and torch.equal(x, x.round())):
        cure = "Pass --host-front true: the layers up to the first neurons stay with the host, and their spikes go to the chip."
        raise GraphError(explain("export: the run's input is no count of events, and the chip takes nothing else.", f"values {float(x.min()):g} .. {float(x.max()):g}", cure=cure))
    front = split_front(model, x) if host_front else None
    part, x = (model, x) if front is None else (front.chip, front.spikes(x, lengths))
    network, report = quantize(part, x, lengths=lengths, message_bits=message_bits, weight_bits=weight_bits, clip=clip, per_channel=per_channel, calibrate=calibrate)
    network.save(path)
    print(report)
    if not labels.is_floating_point():
        print(f"on these: {evaluate_quantized(part, network, [(x, lengths, labels)])}")
    if front is not None:
        beside = path.with_name(f"{path.stem}_inputs.npy")
        with replacing(beside) as file:
            np.save(file, x.numpy().astype(np.uint8))
        print(f"{front}; their spikes {list(x.shape)} are in {beside}")
    print(f"{network!r}\nwritten to {path}")
