"""`neuro export`: the integer network of a run."""

from __future__ import annotations

from pathlib import Path

from neuro.datasets.loading import collate
from neuro.deploy.quantize import quantize
from neuro.training.evaluate import samples as samples_of
from neuro.training.evaluate import spread
from neuro.training.runs import load


def main(
    run: Path, data: Path, out: Path | None = None, samples: int = 64, message_bits: int | None = None, weight_bits: int = 8,
    clip: bool = False, calibrate: bool = False,
) -> None:  # fmt: skip
    """Quantise a run's model to the chip's integers and write network.npz, with what changed.

    Args:
        run: folder of a run, or a model.safetensors.
        data: recordings on which float and integer spikes are compared.
        out: the file to write; default network.npz in the run's folder.
        samples: recordings to compare on, evenly spread over the folder.
        message_bits: bits of an input count, 1 to 16; default: the fewest that hold these recordings.
        weight_bits: bits of a weight, 2 to 8; fewer are a coarser grid within the chip's 8 bits.
        clip: cut off outlying weights where that lowers their mean square error.
        calibrate: move biases so that rounding leaves the mean currents on these recordings alone.
    """
    model = load(run)
    frames = samples_of(model, run, data)
    x, lengths, _ = collate([frames[i] for i in spread(range(len(frames)), samples)])
    network, report = quantize(model, x, lengths=lengths, message_bits=message_bits, weight_bits=weight_bits, clip=clip, calibrate=calibrate)
    path = network.save(out or (run if run.is_dir() else run.parent) / "network.npz")
    print(report)
    print(f"{network!r}\nwritten to {path}")
