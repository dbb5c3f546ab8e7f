"""NIR's neurons in discrete time: forward Euler with the step dt, one current per step.

`tau dv/dt = (v_leak - v) + r i` becomes `v <- (1 - dt/tau) v + (r dt/tau) i + (dt/tau) v_leak`, and `dv/dt = r i` becomes
`v <- v + r i`: a neuron without a time constant counts in steps, as every reader takes it. The current of CubaLIF is
advanced first, and the membrane sees the new one. Where all neurons are alike, the native `LIF`, `IF` or `CUBALIF` is made.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuro.deploy.nir_file import FIELDS, Part
from neuro.neurons import CUBALIF, IF, LIF, CUBAState, LIFState, Neuron
from neuro.reset import RULES, Reset, ToValue, charge, to_zero
from neuro.surrogate import ATan, Surrogate

WRITTEN = {"zero": "hard", "subtract": "subtract", "late": "subtract, delayed", "none": "none"}  # rules, by the names that metadata state
SLACK = 1e-6  # by which dt/tau may exceed 1: files hold tau in float32


class LIParams(NamedTuple):
    decay: Tensor
    gain: Tensor
    shift: Tensor


class PointParams(NamedTuple):
    decay: Tensor
    gain: Tensor
    shift: Tensor
    threshold: Tensor
    v_reset: Tensor


class CurrentParams(NamedTuple):
    current_decay: Tensor
    current_gain: Tensor
    decay: Tensor
    gain: Tensor
    shift: Tensor
    threshold: Tensor
    v_reset: Tensor


def li_step(x: Tensor, state: LIFState, p: LIParams) -> tuple[Tensor, LIFState]:
    """`v <- decay * v + gain * x + shift`, which is the output."""
    v = p.decay * state.v + p.gain * x + p.shift
    return v, LIFState(v)


def point_step(x: Tensor, state: LIFState, p: PointParams, *, spike: Surrogate, reset: Reset) -> tuple[Tensor, LIFState]:
    """`v <- decay * v + gain * x + shift`; spike; a hard reset goes to v_reset."""
    v = charge(state.v, p.gain * x + p.shift, p.decay, p.threshold, spike=spike, reset=reset)
    s = spike(v - p.threshold)
    if not reset.delayed:
        v = reset(v, s, p.threshold)
    return s, LIFState(v + p.v_reset * s if reset.hard else v)


def current_step(x: Tensor, state: CUBAState, p: CurrentParams, *, spike: Surrogate, reset: Reset) -> tuple[Tensor, CUBAState]:
    """`u <- current_decay * u + current_gain * x`, then `point_step` on u."""
    u = p.current_decay * state.u + p.current_gain * x
    s, (v,) = point_step(u, LIFState(state.v), PointParams(p.decay, p.gain, p.shift, p.threshold, p.v_reset), spike=spike, reset=reset)
    return s, CUBAState(u, v)


class Held(Neuron):
    """A neuron whose numbers are given, one per layer or one per neuron, as buffers in float32."""

    Params: ClassVar[type]

    def __init__(self, spike: Surrogate = ATan(strict=True), reset: Reset = to_zero, **values: np.ndarray):
        super().__init__(spike, reset)
        for name in self.Params._fields:  # type: ignore[attr-defined]
            self.register_buffer(name, torch.tensor(_small(values[name]), dtype=torch.float32))

    def params(self) -> Any:
        return self.Params(*(getattr(self, name) for name in self.Params._fields))  # type: ignore[attr-defined]


class CurrentLIParams(NamedTuple):
    current_decay: Tensor
    current_gain: Tensor
    decay: Tensor
    gain: Tensor
    shift: Tensor


def current_li_step(x: Tensor, state: CUBAState, p: CurrentLIParams) -> tuple[Tensor, CUBAState]:
    """`u <- current_decay * u + current_gain * x`, then `li_step` on u."""
    u = p.current_decay * state.u + p.current_gain * x
    v, _ = li_step(u, LIFState(state.v), LIParams(p.decay, p.gain, p.shift))
    return v, CUBAState(u, v)


class LI(Held):
    """Leaky integrator: the membrane itself is the output. With decay 1, NIR's I."""

    step, State, Params = staticmethod(li_step), LIFState, LIParams

    def choices(self) -> dict[str, Any]:
        return {}


class CurrentLI(LI):
    """CubaLI: a leaky integrator of a current that has a leak of its own."""

    step, State, Params = staticmethod(current_li_step), CUBAState, CurrentLIParams


class PointLIF(Held):
    """LIF with numbers per neuron, a resting potential and a reset potential."""

    step, State, Params = staticmethod(point_step), LIFState, PointParams


class CurrentLIF(Held):
    """CubaLIF with numbers per neuron, an input gain, a resting potential and a reset potential."""

    step, State, Params = staticmethod(current_step), CUBAState, CurrentParams


def neuron(part: Part, dt: float | None) -> Neuron:
    """The module of a NIR neuron, Threshold included; `part.said` may state `fires` and `reset`.

    Raises:
        FormatError: dt missing where a time constant needs it, tau below dt, a rule that is not known.
    """
    v = part.values
    shapes = {np.shape(v[k]) for k in (*FIELDS[part.kind], "v_reset") if np.size(v.get(k)) != 1}
    if len(shapes) > 1:
        raise part.refuse("its numbers differ in shape.", "   ".join(map(str, map(list, shapes))))
    if part.kind == "Threshold":
        return _spiking(part, decay=_a(0), gain=_a(1), shift=_a(0), threshold=_a(v["threshold"]), v_reset=_a(0))
    if part.kind in ("I", "IF"):
        leak = {"decay": _a(1), "gain": _a(v["r"]), "shift": _a(0)}
    else:
        step = _share(part, "tau_mem" if part.kind.startswith("Cuba") else "tau", dt)
        leak = {"decay": 1 - step, "gain": _a(v["r"]) * step, "shift": _a(v["v_leak"]) * step}
    current = {}
    if part.kind.startswith("Cuba"):
        step = _share(part, "tau_syn", dt)
        current = {"current_decay": 1 - step, "current_gain": _a(v["w_in"]) * step}
    if part.kind in ("I", "LI"):
        return LI(**leak)
    if part.kind == "CubaLI":
        return CurrentLI(**current, **leak)
    return _spiking(part, **current, **leak, threshold=_a(v["v_threshold"]), v_reset=_a(v.get("v_reset", 0)))


def _spiking(part: Part, **values: np.ndarray) -> Neuron:
    spike = ATan(strict=_strict(part))
    said = str(part.said.get("reset", "none" if part.kind == "Threshold" else "hard"))
    if said not in WRITTEN.values():
        raise part.refuse(f"its reset {said!r} is not known.", cure=f"{', '.join(WRITTEN.values())} are.")
    reset = RULES[next(name for name, written in WRITTEN.items() if written == said)]
    one = all(_small(a).ndim == 0 for a in values.values())
    n = {k: float(np.float64(_small(a))) for k, a in values.items()} if one else {}
    back = n.get("v_reset", 0.0)
    plain = one and n["shift"] == 0 and n["threshold"] > 0 and np.float32(n.get("current_gain", 1.0)) == 1
    if not plain:
        return (CurrentLIF if "current_decay" in values else PointLIF)(spike, reset, **values)
    reset = ToValue(back) if reset.hard and back != 0 else reset
    made: Any
    if "current_decay" in n:
        made = CUBALIF(n["current_decay"], decay=n["decay"], threshold=n["threshold"], spike=spike, reset=reset)
    elif n["decay"] == 1 and n["gain"] == 1:
        return IF(threshold=n["threshold"], spike=spike, reset=reset)
    else:
        made = LIF(decay=n["decay"], threshold=n["threshold"], spike=spike, reset=reset)
    made.gain = n["gain"]
    return made


def _strict(part: Part) -> bool:
    fires = str(part.said.get("fires", ">"))
    if fires not in (">", ">="):
        raise part.refuse(f"its comparison {fires!r} is not known.", cure="> and >= are.")
    return fires == ">"


def _share(part: Part, key: str, dt: float | None) -> np.ndarray:
    """dt / tau, in 0 .. 1."""
    tau = _a(part.values[key])
    if dt is None:
        raise part.refuse(
            f"{key} is in seconds, and the file does not say the time step.",
            f"{key} {tau.min():.4g} .. {tau.max():.4g} s",
            cure="Give dt, the seconds of one step; snnTorch, and the graphs of the NIR paper, use dt=1e-4.",
        )
    if not (tau > 0).all() or (tau * (1 + SLACK) < dt).any():
        raise part.refuse(f"{key} is shorter than one step.", f"{key} from {tau.min():.4g} s   dt {dt:.4g} s", cure="Give a smaller dt.")
    return np.minimum(dt / tau, 1.0)


def _a(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float64)


def _small(a: np.ndarray) -> np.ndarray:
    """One number where all are alike."""
    return a.reshape(-1)[0] if a.size and (a == a.reshape(-1)[0]).all() else a
