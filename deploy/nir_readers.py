"""What other libraries are known to do with a NIR node: run it as something else without a word, or refuse it. A table.

Each row was found in the reader's source or by running it, most by both; docs/nir_conformance.md has what was run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from neuro.deploy.nir_file import Net, Part
from neuro.deploy.nir_pooling import MARK


class Row(NamedTuple):
    """`applies(part, dt)` says whether a node is concerned; `misread` whether the reader goes on without an error."""

    reader: str
    misread: bool
    applies: Callable[[Part, float | None], bool]
    what: str


def _kind(*kinds: str) -> Callable[[Part, float | None], bool]:
    return lambda part, dt: part.kind in kinds


def _all(*tests: Callable[[Part, float | None], bool]) -> Callable[[Part, float | None], bool]:
    return lambda part, dt: all(test(part, dt) for test in tests)


def _stated_reset(part: Part, dt: float | None) -> bool:
    return str(part.said.get("reset", "hard")) not in ("hard", "none")


def _fires_at_equality(part: Part, dt: float | None) -> bool:
    return str(part.said.get("fires")) == ">="


def _other(key: str, value: float) -> Callable[[Part, float | None], bool]:
    return lambda part, dt: key in part.values and part.values[key] is not None and bool((np.asarray(part.values[key]) != value).any())


def _uneven(part: Part, dt: float | None) -> bool:
    return any(np.asarray(part.values[k]).size > 1 and np.ptp(np.asarray(part.values[k])) > 0 for k in ("tau", "r", "v_threshold") if k in part.values)


def _uneven_gain(part: Part, dt: float | None) -> bool:
    share = np.asarray(part.values["r"]) / np.asarray(part.values["tau"])
    return bool(np.ptp(share) > 1e-6 * np.abs(share).max())


def _gain_of_spikingjelly(part: Part, dt: float | None) -> bool:
    r, tau = np.asarray(part.values["r"]), np.asarray(part.values["tau"])
    return not np.allclose(r, 1, rtol=1e-6) and (dt is None or not np.allclose(r, tau / dt, rtol=1e-6))


def _current_gain(step: Callable[[Part, float | None], float | None]) -> Callable[[Part, float | None], bool]:
    """A CubaLIF whose r is not tau_mem over this step."""

    def test(part: Part, dt: float | None) -> bool:
        seconds = step(part, dt)
        return part.kind == "CubaLIF" and seconds is not None and not np.allclose(part.values["r"], np.asarray(part.values["tau_mem"]) / seconds)

    return test


_LIF = _kind("LIF")
_FIRE = _kind("LIF", "IF", "CubaLIF")

ROWS = (
    Row("snnTorch 1.0.0", True, lambda p, dt: p.kind in ("LIF", "CubaLIF") and dt is not None and not np.isclose(dt, 1e-4), "takes dt for 1e-4 s"),
    Row("snnTorch 1.0.0", True, _kind("IF"), "runs it with a leak of 0.9 per step and soft reset"),
    Row("snnTorch 1.0.0", True, _all(_kind("LIF", "CubaLIF"), _stated_reset), "resets to zero"),
    Row("snnTorch 1.0.0", True, _all(_FIRE, _other("v_reset", 0.0)), "resets to zero, whatever v_reset says"),
    Row("snnTorch 1.0.0", True, _all(_FIRE, _fires_at_equality), "does not fire at the threshold, only above"),
    Row("snnTorch 1.0.0", True, _all(_LIF, _uneven_gain), "takes the gain of one neuron for all"),
    Row("snnTorch 1.0.0", True, _all(_kind("SumPool2d"), _other("padding", 0)), "does not pad"),
    Row("snnTorch 1.0.0", False, _kind("Scale", "Threshold", "LI", "I", "CubaLI", "Delay"), "does not know it"),
    Row("snnTorch 1.0.0", False, _current_gain(lambda part, dt: 1e-4), "refuses r other than tau_mem / 1e-4 s"),
    Row("Norse 1.1.0", True, _all(_kind("LIF", "IF"), _other("r", 1.0)), "takes r for 1 (a line in the log says so)"),
    Row("Norse 1.1.0", True, _all(_FIRE, _stated_reset), "resets to zero unless told otherwise"),
    Row("Norse 1.1.0", True, _all(_FIRE, _other("v_reset", 0.0)), "resets to zero, whatever v_reset says"),
    Row("Norse 1.1.0", True, _all(_FIRE, _fires_at_equality), "does not fire at the threshold, only above"),
    Row("Norse 1.1.0", True, _all(_kind("SumPool2d"), _other("padding", 0)), "does not pad (a line in the log says so)"),
    Row("Norse 1.1.0", True, _kind("AvgPool2d"), "does not pool as it says: its output has another shape"),
    Row("Norse 1.1.0", True, _kind("Scale", "Threshold", "LI", "I", "CubaLI", "Conv1d", "Delay"), "leaves it out: what it gives is not the network's, if it does not fail"),
    Row("SpikingJelly 2.0.0", False, _kind("Scale", "Threshold", "LI", "I", "CubaLI", "Delay"), "does not know it"),
    Row("SpikingJelly 2.0.0", False, _current_gain(lambda part, dt: dt), "refuses r other than tau_mem / dt"),
    Row("SpikingJelly 2.0.0", False, _kind("IF"), "refuses it unless r is 1/dt"),
    Row("SpikingJelly 2.0.0", False, _all(_LIF, _gain_of_spikingjelly), "refuses r other than 1 or tau/dt"),
    Row("SpikingJelly 2.0.0", False, _all(_FIRE, _uneven), "refuses numbers that differ from neuron to neuron"),
    Row("SpikingJelly 2.0.0", True, _all(_FIRE, _stated_reset), "resets to v_reset"),
    Row("SpikingJelly 2.0.0", True, lambda p, dt: p.kind in ("LIF", "IF", "CubaLIF") and not _fires_at_equality(p, dt) and MARK not in p.said, "fires at the threshold already"),
    Row("sinabs 3.1.3", True, _LIF, "takes tau (seconds) for a number of steps, resets by subtraction, fires more than once a step"),
    Row("sinabs 3.1.3", True, _kind("IF"), "resets by subtraction, fires more than once a step, holds the membrane above -threshold"),
    Row("sinabs 3.1.3", True, _kind("CubaLIF"), "leaves it out: its input is passed on"),
    Row("sinabs 3.1.3", True, _kind("Linear", "Scale", "Threshold", "I", "CubaLI", "AvgPool2d", "Delay"), "leaves it out: what it gives is not the network's, if it does not fail"),
    Row("sinabs 3.1.3", True, _kind("LI"), "takes tau (seconds) for a number of steps"),
    Row("Rockpool 3.1.0", False, _LIF, "fails: it asks the node for tau_mem, which NIR's LIF has not"),
    Row("Rockpool 3.1.0", True, _kind("CubaLIF"), "takes a time step of its own, from tau and r"),
    Row("Rockpool 3.1.0", True, _kind("LI"), "gives other values"),
    Row("Rockpool 3.1.0", False, _kind("IF", "I", "CubaLI", "Threshold", "Scale", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "Delay"), "does not know it"),
)


def remarks(net: Net, dt: float | None) -> list[tuple[str, bool, str, list[str]]]:
    """(reader, whether silently, what it does, to which nodes), for what concerns this net."""
    loops = [p.name for p in net.parts.values() if p.kind == "Affine" and set(net.sources(p.name)) & set(net.readers(p.name))]
    found = [(reader, True, "leaves out the bias of a loop in the first step", loops) for reader in ("Norse 1.1.0", "SpikingJelly 2.0.0")]
    found += [(row.reader, row.misread, row.what, [p.name for p in net.parts.values() if row.applies(p, dt)]) for row in ROWS]
    return [f for f in found if f[3]]
