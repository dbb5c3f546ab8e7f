"""Running an integer network in Lava, in another interpreter, and coming back with its spikes or with its error.

    result = run_lava(network, inputs)              # inputs as for run_twin
    print(compare(run_twin(network, inputs, record=True), result))
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuro.deploy.conformance import Agreement, compare
from neuro.deploy.lava_environment import HOW, doctor, find_interpreter, install, why_none
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import check_inputs
from neuro.errors import LavaError, explain

__all__ = ["Agreement", "LavaResult", "compare", "doctor", "find_interpreter", "install", "run_lava", "why_none"]

RUNNER = Path(__file__).with_name("lava_runner.py")


@dataclass(frozen=True, eq=False)
class LavaResult:
    """What Lava computed, aligned and in the layout of TwinResult.

    acc int64 [B, classes]; logits float64; predictions int64 [B]; spikes uint8 and membranes int32 [T, B, ...] by LIF
    layer; seconds: to build and to run; steps: time steps run, pipeline included.
    """

    acc: np.ndarray
    logits: np.ndarray
    predictions: np.ndarray
    spikes: dict[str, np.ndarray]
    membranes: dict[str, np.ndarray]
    seconds: tuple[float, float]
    steps: int


def end_group(process: subprocess.Popen, grace: float = 3.0) -> None:
    """End a process and everything it started, and wait until they are gone.

    First politely: Python's resource tracker survives SIGTERM and, once the others are gone, frees their shared memory.
    """
    if os.name != "posix":
        process.kill()
        process.wait()
        return
    for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        limit = time.monotonic() + wait
        while time.monotonic() < limit:
            process.poll()      # reaps the leader; its orphans are reaped by the system
            try:
                os.killpg(process.pid, 0)
            except (ProcessLookupError, PermissionError):
                process.wait()
                return
            time.sleep(0.02)
    process.wait()


def start(command: Sequence[str], seconds: float, folder: Path) -> None:
    """Run a command in a process group of its own; raises LavaError if it fails or is not done within the time."""
    log = folder / "log.txt"
    with log.open("w+b") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                   start_new_session=True, cwd=folder)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            end_group(process)
            raise LavaError(explain(f"Lava was not done after {seconds:g} s and was ended.", tail(log),
                                    cure="Give fewer recordings or a longer time_limit.")) from None
        except BaseException:
            end_group(process)
            raise
        if status:
            end_group(process)
            raise LavaError(explain(f"Lava failed with exit status {status}.", tail(log, 6000)))


def tail(log: Path, characters: int = 2000) -> str:
    """The end of what it printed, indented."""
    text = log.read_text(errors="replace")[-characters:].strip()
    return text.replace("\n", "\n  ")


def run_lava(network: IntegerNetwork | str | Path, inputs: np.ndarray, *, python: str | Path | None = None,
             time_limit: float = 600.0, probe: Sequence[str] = (), unroll: int = 256) -> LavaResult:
    """Run recordings in Lava's CPU simulation.

    Args:
        network: the network, or a file as it stands (its delays are obeyed, not derived anew).
        inputs: integers [T, B, ...], as for `run_twin`; every recording has all T steps.
        python: interpreter with lava-nc; None: `find_interpreter()`.
        time_limit: seconds, after which Lava and all its processes are ended.
        probe: LIF layers to bring back; all by default.
        unroll: a Conv with this many pairs of channels or more runs as Lava's Dense with the matrix written out: Lava's
            Conv takes 20 us per pair and step. The integers are the same.

    Raises:
        LavaError: no interpreter, Lava failed (with its workers' traceback), or the time ran out.
    """
    python = python or find_interpreter()
    if python is None:
        raise LavaError(explain("Lava was not found.", why_none(), cure=HOW))
    with tempfile.TemporaryDirectory(prefix="neuro-lava-") as name:
        folder = Path(name)
        if isinstance(network, IntegerNetwork):
            inputs, _ = check_inputs(network, inputs, None)
            network = network.save(folder / "network.npz")
        np.save(folder / "inputs.npy", np.ascontiguousarray(np.swapaxes(inputs, 0, 1)))
        command = [str(python), "-I", str(RUNNER), str(Path(network).resolve()), "inputs.npy", "out.npz",
                   "--unroll", str(unroll), *(["--probe", *probe] if probe else [])]
        start(command, time_limit, folder)
        with np.load(folder / "out.npz", allow_pickle=False) as out, np.load(network, allow_pickle=False) as file:
            found = {key: out[key] for key in out.files}
            scale = json.loads(file["document"].tobytes())["nodes"][-1]["parameters"]["scale"]
    layers = {what: {key.split("/", 1)[1]: np.ascontiguousarray(np.swapaxes(x, 0, 1)) for key, x in found.items()
                     if key.startswith(what)} for what in ("spikes", "membranes")}
    acc, (build, run, steps) = found["acc"], found["timing"]
    return LavaResult(acc, acc * scale / len(inputs), acc.argmax(1), layers["spikes"], layers["membranes"],
                      (float(build), float(run)), int(steps))
