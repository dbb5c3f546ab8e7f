"""Running an integer network in Lava, in another interpreter, and coming back with its spikes or with its error.

    result = run_lava(network, inputs)              # inputs as for run_twin
    print(compare(run_twin(network, inputs, record=True), result))
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neuro.deploy.conformance import Agreement, compare
from neuro.deploy.lava_environment import doctor, find_interpreter, install, why_none
from neuro.deploy.lava_stepping import LavaSteps, Prepared, checked_steps, fields
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.supervise import start

__all__ = ["Agreement", "LavaResult", "LavaSteps", "compare", "doctor", "find_interpreter", "install", "run_lava", "why_none"]

PROBED = ("spikes", "membranes", "currents", "adaptations", "values")


@dataclass(frozen=True, eq=False)
class LavaResult:
    """What Lava computed, aligned and in the layout of TwinResult.

    acc int64 [B, classes]; logits float64; predictions int64 [B]; of a network that answers at every step with T before; spikes uint8 and membranes (after reset) int32 [T, B, ...] by
    neuron layer; seconds: to build and to run; steps: time steps run, pipeline included.
    currents, adaptations: int32 [T, B, ...] of neurons that were probed; values: of other nodes, what they send (of the readout, the
    sum so far, or the answer of the step). at: the steps that all of these hold, instead of all T; None: all.
    """

    acc: np.ndarray
    logits: np.ndarray
    predictions: np.ndarray
    spikes: dict[str, np.ndarray]
    membranes: dict[str, np.ndarray]
    seconds: tuple[float, float]
    steps: int
    currents: dict[str, np.ndarray] = field(default_factory=dict)
    adaptations: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    at: tuple[int, ...] | None = None


def run_lava(network: IntegerNetwork | str | Path, inputs: np.ndarray, *, python: str | Path | None = None,
             time_limit: float = 600.0, probe: Sequence[str] = (), at: Sequence[int] | None = None,
             step_by_step: bool = False, unroll: int = 256) -> LavaResult:
    """Run recordings in Lava's CPU simulation.

    Args:
        network: the network, or a file as it stands (its delays are obeyed, not derived anew).
        inputs: integers [T, B, ...], as for `run_twin`; every recording has all T steps.
        python: interpreter with lava-nc; None: `find_interpreter()`.
        time_limit: seconds, after which Lava and all its processes are ended.
        probe: nodes to bring back: of a neuron spikes, membranes and currents, of a cell adaptations too, of any other node
            the values that it sends. Default: spikes and membranes of all neurons.
        at: steps of each recording to keep of that; None: all.
        step_by_step: run one time step at a time and read Lava's Vars between steps, instead of letting processes write down
            what they do. The same integers; Lava takes about 40 us to read one. `LavaSteps` leaves each step to the caller.
        unroll: a Conv with this many pairs of channels or more runs as Lava's Dense with the matrix written out: Lava's
            Conv takes 20 us per pair and step. The integers are the same.

    Raises:
        LavaError: no interpreter, Lava failed (with its workers' traceback), or the time ran out.
        UnknownName: a probe that is no node.   ParameterError: steps that are none of a recording.
    """
    if step_by_step:
        return by_steps(network, inputs, python, time_limit, probe, checked_steps(at, len(inputs)), unroll)
    prepared = Prepared(network, inputs, python, probe, unroll)
    try:
        kept = checked_steps(at, len(inputs))
        start([*prepared.command, *(["--at", *map(str, kept)] if kept is not None else [])], time_limit, prepared.folder)
        with np.load(prepared.folder / "out.npz", allow_pickle=False) as out:
            found = {key: out[key] for key in out.files}
    finally:
        prepared.close()
    layers = {what: {key.split("/", 1)[1]: np.ascontiguousarray(np.swapaxes(x, 0, 1)) for key, x in found.items()
                     if key.startswith(f"{what}/")} for what in PROBED}
    build, run, steps = found["timing"]
    acc = found["acc"].swapaxes(0, 1) if prepared.every_step else found["acc"]
    return result(acc, prepared.unit, layers, (float(build), float(run)), int(steps), kept)


def by_steps(network: IntegerNetwork | str | Path, inputs: np.ndarray, python: str | Path | None, time_limit: float,
             probe: Sequence[str], at: list[int] | None, unroll: int) -> LavaResult:
    """`run_lava`, one time step at a time, with everything read between two of them."""
    begin = time.monotonic()
    with LavaSteps(network, inputs, python=python, probe=probe, time_limit=time_limit, unroll=unroll) as lava:
        built = time.monotonic()
        T, B = np.shape(inputs)[:2]
        kept = {t: i for i, t in enumerate(range(T) if at is None else at)}
        names = lava.probed
        wanted = [(name, what) for name in names for what in (fields(lava.nodes[name]) if probe else ("spikes", "membranes"))]
        layers: dict[str, dict[str, np.ndarray]] = {what: {} for what in PROBED}
        for name, what in wanted:
            layers[what][name] = np.zeros((len(kept), B, *lava.nodes[name]["shape"]), np.uint8 if what == "spikes" else np.int32)
        readout = next(reversed(lava.nodes))
        acc = np.zeros((T, B, *lava.nodes[readout]["shape"]), np.int64)
        while lava.time < lava.steps:
            lava.time_limit = max(begin + time_limit - time.monotonic(), 0.0)
            lava.step()
            for name, what in wanted:
                if (seen := lava.when(name)) and seen[1] in kept:
                    layers[what][name][kept[seen[1]], seen[0]] = lava.look(name, what)
            if (seen := lava.when(readout)) and (lava.every_step or seen[1] == T - 1):
                acc[seen[1], seen[0]] = lava.look(readout)
        return result(acc if lava.every_step else acc[-1], lava.unit, layers, (built - begin, time.monotonic() - built), lava.steps, at)


def result(acc: np.ndarray, scale: float, layers: dict[str, dict[str, np.ndarray]], seconds: tuple[float, float],
           steps: int, at: Sequence[int] | None) -> LavaResult:
    """A LavaResult of what was read. scale: of a score."""
    return LavaResult(acc, acc * scale, acc.argmax(-1), layers["spikes"], layers["membranes"], seconds, steps,
                      layers["currents"], layers["adaptations"], layers["values"], None if at is None else tuple(at))
