"""Lava one time step at a time, so that one may look into it between steps.

    with LavaSteps(network, inputs, probe=["a.conv"]) as lava:
        while lava.time < lava.steps:
            lava.step()
            print(lava.when("a.lif"), lava.look("a.lif", "membranes"), lava.look("a.conv"))
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuro.deploy.lava_environment import HOW, find_interpreter, why_none
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.network_file import damaged
from neuro.deploy.supervise import end_group, failed, late, started
from neuro.deploy.twin import check_inputs
from neuro.errors import LavaError, ParameterError, ShapeError, explain, unknown
from neuro.scratch import Scratch

RUNNER = Path(__file__).with_name("lava_runner.py")
VARS = {"membranes": "v", "currents": "u", "adaptations": "h", "spikes": "value", "values": "value"}
NEURONS = {"lif": ("spikes", "membranes", "currents"), **dict.fromkeys(("cell", "recurrentcell"), ("spikes", "membranes", "currents", "adaptations"))}


class Prepared:
    """A network file and its inputs in a folder that lasts as long as this, and the command that runs them.

    Attributes:
        nodes: the file's description of each node, by name.  latency: in steps, by name.  unit: of a score, in the float model's units.
        every_step: whether it answers at every step.
        shape: (T, B) of the inputs.
    """

    def __init__(self, network: IntegerNetwork | str | Path, inputs: np.ndarray, python: str | Path | None, probe: Sequence[str], unroll: int) -> None:
        python = python or find_interpreter()
        if python is None:
            raise LavaError(explain("Lava was not found.", why_none(), cure=HOW))
        if isinstance(network, IntegerNetwork):
            inputs, _ = check_inputs(network, inputs, None)
        elif np.ndim(inputs) < 2:
            raise ShapeError(explain("Lava: the inputs are not [T, B, ...].", f"inputs {list(np.shape(inputs))}"))
        self._kept = Scratch("neuro-lava")
        self.folder = self._kept.path
        try:
            path = Path(network.save(self.folder / "network.npz") if isinstance(network, IntegerNetwork) else network).resolve()
            self.nodes, self.latency, scale = described(path)
            kind = list(self.nodes.values())[-1]["kind"]
            self.every_step, self.unit = kind == "stepreadout", scale / len(inputs) if kind == "readout" else scale
            self.probe = checked(probe, self.nodes)
            np.save(self.folder / "inputs.npy", np.ascontiguousarray(np.swapaxes(inputs, 0, 1)))
        except BaseException:
            self.close()
            raise
        self.shape = np.shape(inputs)[:2]
        self.command = [str(python), "-I", str(RUNNER), str(path), "inputs.npy", "out.npz", "--unroll", str(unroll), *(["--probe", *self.probe] if self.probe else [])]

    def close(self) -> None:
        self._kept.close()


def described(path: Path) -> tuple[dict[str, Any], dict[str, int], float]:
    """Nodes and latencies by name, and the readout's scale, as a network file says; Lava's runner checks all else of it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            document = json.loads(file["document"].tobytes())
        nodes = {n["name"]: n for n in document["nodes"]}
        return nodes, {name: int(steps) for name, steps in document["latency"].items()}, float(document["nodes"][-1]["parameters"]["scale"])
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, TypeError, AttributeError, EOFError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", cure="It may be truncated; write it anew.") from error


def checked(probe: Sequence[str], nodes: dict[str, Any]) -> list[str]:
    """The names to probe, each once. Raises UnknownName, with the nearest names, for one that is no node."""
    if isinstance(probe, str) or not isinstance(probe, (Sequence, set, frozenset)) or not all(isinstance(name, str) for name in probe):
        raise ParameterError(explain("Lava: probe is a list of names of nodes.", f"probe {probe!r}", cure='probe=["NODE"]'))
    for name in probe:
        if name not in nodes:
            raise unknown("node", name, nodes)
    return list(dict.fromkeys(probe))


def checked_steps(at: Sequence[int] | None, T: int) -> list[int] | None:
    """The steps of a recording to keep, in order."""
    if at is None:
        return None
    steps = np.asarray(at)
    if steps.ndim != 1 or steps.dtype.kind not in "iu" or not steps.size or steps.min() < 0 or steps.max() >= T:
        raise ParameterError(explain("Lava: there are no such steps to probe.", f"at {at}   T {T}", cure=f"A list of whole numbers in 0 .. {T - 1}, at least one."))
    return sorted(set(steps.tolist()))


def fields(node: dict[str, Any]) -> tuple[str, ...]:
    """What can be probed of a node."""
    return NEURONS.get(node["kind"], ("values",))


class LavaSteps:
    """A network in Lava's CPU simulation that runs a step when told to. Use it in a `with`, or call `close`.

    Recordings are streamed back to back, and a node sees them `latency` steps late, as on the chip: `when` says which
    recording and step a node has just seen.

    Args:
        network, inputs, python, unroll: as of `run_lava`.
        probe: nodes whose output will be looked at; default: every neuron. Membranes, currents and adaptations of all neurons
            can be looked at in any case. Each costs a process of Lava, 0.4 ms a step.
        time_limit: seconds that one answer may take; Lava is ended then.

    Attributes:
        time: Lava's time steps run so far.  steps: how many there are, the pipeline's included.

    Raises:
        LavaError: no interpreter, Lava failed (with its workers' traceback), or did not answer in time.
        UnknownName: a probe that is no node.
    """

    def __init__(self, network: IntegerNetwork | str | Path, inputs: np.ndarray, *, python: str | Path | None = None,
                 probe: Sequence[str] = (), time_limit: float = 60.0, unroll: int = 256) -> None:
        self._of = Prepared(network, inputs, python, probe, unroll)
        self.nodes, self.latency, self.time_limit = self._of.nodes, self._of.latency, time_limit
        self.every_step, self.unit = self._of.every_step, self._of.unit
        self._T, self._B = self._of.shape
        self.steps = self._T * self._B + max(self.latency.values())
        self._log = self._of.folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = started([*self._of.command, "--live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self._of.folder)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.time = self._answer("Lava had not started")["time"]
        except BaseException:
            self._end()
            raise

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self._answers.put(line)

    def _answer(self, late_by: str) -> dict[str, Any]:
        """The next answer; LavaError if the process ended or the time is over."""
        limit = time.monotonic() + self.time_limit
        while time.monotonic() < limit:
            ended = self._process.poll()
            try:
                return json.loads(self._answers.get(timeout=0 if ended is not None else 0.2))
            except queue.Empty:
                if ended is not None:
                    error = failed(ended, self._log)
                    self._end()
                    raise error from None
        error = late(late_by, self.time_limit, self._log, "Give a longer time_limit.")
        self._end()
        raise error

    def _ask(self, **order: Any) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdin.closed:
            raise LavaError(explain("LavaSteps: Lava has been ended.", cure="Make another LavaSteps."))
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass        # it died: _answer says of what
        return self._answer(f"Lava did not answer {order['do']!r}")

    def step(self, steps: int = 1) -> int:
        """Run so many time steps, one by one; the time steps run by then."""
        if steps < 1 or self.time + steps > self.steps:
            raise ParameterError(explain("LavaSteps: no such steps are left.", f"asked {steps}   run {self.time} of {self.steps}"))
        for _ in range(steps):
            self.time = self._ask(do="step")["time"]
        return self.time

    def when(self, node: str) -> tuple[int, int] | None:
        """(recording, step) that this node has just seen; None before the first and after the last of them."""
        if node not in self.nodes:
            raise unknown("node", node, self.nodes)
        passed = self.time - 1 - self.latency[node]
        return divmod(passed, self._T) if 0 <= passed < self._T * self._B else None

    def look(self, node: str, what: str | None = None) -> np.ndarray:
        """int32, in PyTorch's layout [...]: how a node stands after the last step.

        Args:
            what: membranes (after reset), currents, adaptations or spikes of a neuron; values, what another node sent. Default:
                membranes or values.
        """
        if node not in self.nodes:
            raise unknown("node", node, self.nodes)
        has = fields(self.nodes[node])
        what = what or ("membranes" if "membranes" in has else "values")
        if what not in has:
            raise unknown(f"of {self.nodes[node]['kind']} {node!r},", what, has)
        if VARS[what] == "value" and not self._watched(node):
            raise ParameterError(explain(f"LavaSteps: what {node!r} sends is not watched.", cure=f"LavaSteps(..., probe=[{node!r}])"))
        return np.load(self._of.folder / self._ask(do="look", node=node, what=VARS[what])["file"])

    @property
    def probed(self) -> list[str]:
        """The nodes that were asked for; every neuron if none was."""
        return self._of.probe or [name for name, node in self.nodes.items() if node["kind"] in NEURONS]

    def _watched(self, node: str) -> bool:
        return node in self.probed or self.nodes[node]["kind"] in ("readout", "stepreadout", "sumreadout")

    def close(self) -> None:
        """End Lava and every process of it. May be called again."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()     # the order to stop
                self._process.wait(10)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                pass        # ended below
        self._end()

    def _end(self) -> None:
        end_group(self._process)
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass        # nobody is there to read what was left to write
        self._of.close()

    def __enter__(self) -> LavaSteps:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

