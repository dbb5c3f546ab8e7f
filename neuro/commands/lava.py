"""`neuro lava`: the interpreter that runs Lava, and networks as its users read them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from neuro.deploy.lava_environment import doctor as find_out
from neuro.deploy.lava_environment import install as make
from neuro.deploy.network import IntegerNetwork
from neuro.errors import FormatError, LavaError, ParameterError, explain
from neuro.files import read_npy, replacing


def install(pip_args: str | None = None, if_possible: bool = False) -> None:
    """Make the Python 3.10 environment that holds Lava, from the first Python 3.10 that starts.

    Args:
        pip_args: added to `pip install`, in one string; default: the environment variable PIP_ARGS.
        if_possible: say so and succeed where there is no Python 3.10.
    """
    extra = os.environ.get("PIP_ARGS", "") if pip_args is None else pip_args
    try:
        make(shlex.split(extra))
    except LavaError as error:
        if not if_possible:
            raise
        print(f"Lava is not installed, and the rest works without it: {error}")


def doctor() -> None:
    """Say which interpreters were looked at, which one runs Lava, and how to get it."""
    print(find_out())


def of_run(file: Path) -> Path:
    """The network file of a run's folder, or the file itself."""
    if not file.is_dir():
        return file
    if not (file / "network.npz").exists():
        raise FormatError(explain(f"there is no network.npz in {file}.", cure="neuro export RUN --data FOLDER writes one."))
    return file / "network.npz"


def netx(file: Path, out: Path | None = None, expand: bool = False, round_bias: bool = False) -> None:
    """Write an integer network as netx, lava-dl's HDF5 format, checked by reading it back and running it.

    Args:
        file: a network file of `neuro export`, or the folder of its run.
        out: the file to write; default network.net beside it.
        expand: replace pools of spikes by convolutions and neurons with the same spikes, one step later.
        round_bias: move biases to the multiples of 64 that netx holds, and say how far.
    """
    from neuro.deploy.netx import write_netx

    file = of_run(file)
    print(write_netx(IntegerNetwork.load(file), out or file.with_suffix(".net"), expand=expand, round_bias=round_bias))


def read(file: Path, out: Path | None = None, input_shape: tuple[int, int, int] | None = None) -> None:
    """Read a netx file, of lava-dl's or our own writing, and write it as a network file.

    Args:
        file: the netx file.
        out: the file to write; default: its name with .npz.
        input_shape: C, H, W of the input, where the file does not say them.
    """
    from neuro.deploy.netx import read_netx

    network, notes = read_netx(file, input_shape)
    print("\n".join([repr(network), *notes, f"written to {network.save(out or file.with_suffix('.npz'))}"]))


def script(file: Path, out: Path | None = None) -> None:
    """Write an integer network as a folder that runs with lava-nc and numpy alone, without this package.

    Args:
        file: a network file of `neuro export`, or the folder of its run.
        out: the folder to write; default lava beside the file.
    """
    from neuro.deploy.lava_script import write_script

    file = of_run(file)
    path = write_script(IntegerNetwork.load(file), out or file.parent / "lava")
    print(f"written to {path.parent}; in a Python 3.10 with lava-nc 0.10.0: python {path}")


def run(file: Path, inputs: Path, time_limit: float = 600.0, probe: list[str] | None = None, at: list[int] | None = None,
        step_by_step: bool = False, out: Path | None = None) -> None:
    """Run recordings in Lava and in the twin, and compare every spike and membrane, or every value that is probed. Exit status 2 where they differ.

    Args:
        file: a network file of `neuro export`, or the folder of its run.
        inputs: .npy of integers [T, B, ...], event counts.
        time_limit: seconds after which Lava is ended.
        probe: names of nodes, as "[a.conv, a.lif]": spikes, membranes, currents of neurons, what other nodes send.
        at: steps of each recording to probe, as "[0, 3]"; default all.
        step_by_step: true: Lava runs one time step at a time, and everything is read from it between steps.
        out: .npz to write what Lava computed: spikes/NODE, membranes/NODE, currents/NODE, values/NODE [T, B, ...], and acc.
    """
    import numpy as np

    from neuro.deploy.lava import PROBED, compare, run_lava
    from neuro.deploy.lava_probes import compare_probes, table_of, twin_probes
    from neuro.deploy.twin import run_twin

    if not time_limit > 0:
        raise ParameterError(explain("neuro lava run: the time limit must be above 0.", f"time_limit {time_limit:g} s"))
    network = IntegerNetwork.load(of_run(file))
    x = read_npy(inputs, "integers [T, B, ...], event counts")
    probe = probe or []
    expected = twin_probes(network, x, probe, at) if probe else {}
    lava = run_lava(network, x, time_limit=time_limit, probe=probe, at=at, step_by_step=step_by_step)
    if out is not None:
        found = {f"{what}/{name}": a for what in PROBED for name, a in getattr(lava, what).items()}
        with replacing(out) as target:
            np.savez_compressed(target, acc=lava.acc, at=np.arange(len(x)) if lava.at is None else lava.at, **found)
    twin = run_twin(network, x, record=True)
    probes = compare_probes(expected, lava)
    if probes:
        print(table_of(probes))
    if lava.spikes:
        agreement = compare(twin, lava, network.readout.name)
        print(agreement)
    differ = [a.node for a in probes if a.differ] + ([agreement.first_layer] if lava.spikes and not agreement.exact else [])
    if not (twin.acc == lava.acc).all():
        differ.append(network.readout.name)
    if differ:
        raise LavaError(explain("Twin and Lava differ.", f"They first part in {differ[0]}.", cure="Please report this, with the network and the inputs."))
    if probes:
        print("twin and Lava are equal in every value probed" + (", read between steps" if step_by_step else ""))
