"""`neuro lava`: the interpreter that runs Lava, and networks as its users read them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from neuro.deploy.lava_environment import doctor as find_out
from neuro.deploy.lava_environment import install as make
from neuro.deploy.network import IntegerNetwork
from neuro.errors import LavaError


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
    return file / "network.npz" if file.is_dir() else file


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
