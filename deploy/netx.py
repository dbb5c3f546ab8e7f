"""netx, lava-dl's HDF5 format: networks written, checked by reading them back and running both, and read.

    report = write_netx(network, "network.net")     # names the first layer that netx cannot hold
    network, notes = read_netx("network.net")

The report says how lava-dl runs the file. Nothing of lava-dl is needed here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuro.deploy import netx_file
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.netx_export import expanded, rounded, to_layers
from neuro.deploy.netx_import import Importer
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, GraphError, explain

STEPS, RECORDINGS = 12, 2   # of the check


@dataclass(frozen=True)
class NetxReport:
    """What was written. most_steps: up to so many the last membrane holds the scores; None: no bound.

    compared: neuron steps in which the file's network and the given one were compared, spikes: of them; all agree.
    """

    path: Path
    layers: int
    most_steps: int | None
    compared: int
    spikes: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        bound = "" if self.most_steps is None else f"; scores are read from the last membrane (64 of it are one), for up to {self.most_steps} steps"
        said = f"{self.path}: {self.layers} layers{bound}"
        checked = f"read back and run: equal in {self.compared} neuron steps with {self.spikes} spikes, and in every score"
        return "\n".join([said, checked, *self.notes])


def write_netx(network: IntegerNetwork, path: str | os.PathLike[str], *, expand: bool = False, round_bias: bool = False) -> NetxReport:
    """Write a network as netx, read the file back and run both in the twin before it takes its name.

    Args:
        expand: replace pools of spikes by convolutions and neurons with the same spikes.
        round_bias: move biases to the multiples of 64 that netx holds; the report says how far. The check is against the moved ones.

    Raises:
        GraphError: the first node that netx cannot hold, with a remedy.
        WriteError: the file could not be written; what stood there still stands.
    """
    notes: list[str] = []
    for wanted, change in ((expand, expanded), (round_bias, rounded)):
        if wanted:
            network, said = change(network)
            notes += said
    chain = to_layers(network)
    path = Path(path)
    draft = netx_file.write(path.with_name(f".{path.name}.{os.getpid()}.part"), chain.layers, chain.document)
    try:
        compared, spikes = compare(network, read_netx(draft)[0], min(STEPS, chain.most_steps or STEPS))
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return NetxReport(path, len(chain.layers), chain.most_steps, compared, spikes, (*notes, *chain.notes))


def compare(a: IntegerNetwork, b: IntegerNetwork, steps: int) -> tuple[int, int]:
    """(neuron steps, spikes) of two networks on the same random events. Raises GraphError where they differ."""
    rng = np.random.default_rng(0)
    shape = (steps, RECORDINGS, *a.input.shape)
    x = ((rng.random(shape) < 0.3) * rng.integers(1, 2**a.input.message_bits, shape)).astype(np.int32)
    ours, theirs = run_twin(a, x, record=True), run_twin(b, x, record=True)
    for name, other in zip(ours.spikes, theirs.spikes, strict=True):
        if not np.array_equal(ours.spikes[name], theirs.spikes[other]) or not np.array_equal(ours.membranes[name], theirs.membranes[other]):
            raise GraphError(explain(f"netx: the file's network differs from the given one in {name!r}.", "Nothing was written.", cure="Please report this."))
    if not np.array_equal(ours.logits, theirs.logits):
        raise GraphError(explain("netx: the file's network gives other scores.", "Nothing was written.", cure="Please report this."))
    return sum(s.size for s in ours.spikes.values()), sum(int(s.sum()) for s in ours.spikes.values())


def read_netx(path: str | os.PathLike[str], input_shape: tuple[int, ...] | None = None) -> tuple[IntegerNetwork, tuple[str, ...]]:
    """(network, notes) of a netx file, of lava-dl's or our own writing.

    Args:
        input_shape: (C, H, W) of the input where the file has no input layer and begins with a convolution.

    Raises:
        FormatError: not netx, damaged, a layer that cannot be read, by its number; weights or thresholds the chip cannot hold.
        FileNotFoundError: no such file.
    """
    layers, document = netx_file.read(path)
    importer = Importer(path, layers, document, input_shape)
    try:
        network = importer.network()
        network.check()
    except GraphError as error:
        raise FormatError(explain(f"{path}: its network cannot run.", str(error).replace("\n", "\n  "))) from error
    return network, tuple(importer.notes)
