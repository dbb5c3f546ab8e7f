"""Norse's neurons: LIF with its current (LIFCell, LIF, LIFRecurrentCell), LIFBoxCell, LICell and LI. They fire at `v > v_th`.

Norse lets the current jump, charges the membrane by it, and then lets it decay: `u <- (1 - dt/tau_syn) u + x`, and
`v <- (1 - dt/tau_mem) v + (dt/tau_mem) u` with the new u, which is `neuro.neurons.CUBALIF`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuro.deploy.nir_neurons import LI, CurrentLIF, PointLIF
from neuro.errors import GraphError, explain
from neuro.interop.walking import Library, compared, first
from neuro.layers import Linear, Sequential
from neuro.neurons import Recurrent
from neuro.reset import Reset, Subtract, ToZero
from neuro.surrogate import ATan

WHOLE = ("LIF", "LI", "LIFBox", "LIFRecurrent")  # these take the whole sequence; the cells take one step


def from_norse(net: nn.Module, example: Tensor) -> nn.Module:
    """A native module with the spikes of a Norse network, weights copied, state by `neuro.run`.

    Args:
        net: a cell, a SequentialState or Sequential of cells and layers, or such a row of whole-sequence modules.
        example: input [T, B, ...] on which both are run and compared.

    Raises:
        GraphError: a module without an equal here, by its path, or other spikes on the example.
    """
    whole = {type(m).__name__ in WHOLE for m in net.modules() if _LIBRARY.maker(m) is not None}
    if whole == {True, False}:
        raise GraphError(explain("from Norse: some neurons take one step and some the whole sequence.", cure="Use cells, or none."))

    def theirs(x: Tensor) -> Tensor:
        if whole == {True}:
            return first(net(x))
        state, seen = None, []
        for x_t in x:
            y, state = net(x_t, state) if state is not None else net(x_t)
            seen.append(y)
        return torch.stack(seen)

    return compared(_LIBRARY, _LIBRARY.converted(net), theirs, example)


def _rates(m: Any, path: str) -> dict[str, np.ndarray]:
    """Decay, gain and shift of the membrane, and the current's decay where it has one."""
    p, dt = m.p, float(m.dt)
    if bool((torch.as_tensor(p.v_leak) != 0).any()):
        fact = "its neurons also start there"
        raise GraphError(explain(f"from Norse: {path!r} has a resting potential other than 0.", fact, cure="Shift potentials and threshold so that v_leak is 0."))
    mem = dt * _n(p.tau_mem_inv)
    found = {"decay": 1 - mem, "gain": mem, "shift": 0 * mem}
    if hasattr(p, "tau_syn_inv"):
        found |= {"current_decay": 1 - dt * _n(p.tau_syn_inv), "current_gain": np.ones(())}
    return found


def _spiking(m: Any, path: str) -> nn.Module:
    values = _rates(m, path)
    values |= {"threshold": _n(m.p.v_th), "v_reset": _n(m.p.v_reset)}
    return (CurrentLIF if "current_decay" in values else PointLIF)(ATan(strict=True), _reset(m, path), **values)


def _reset(m: Any, path: str) -> Reset:
    method = getattr(m.p, "reset_method", None)
    if method is None or method.__name__ == "reset_value":
        return ToZero()
    if method.__name__ == "reset_subtract":
        return Subtract()
    raise GraphError(explain(f"from Norse: {path!r} resets by {method.__name__}, which has no equal here.", cure="reset_value or reset_subtract."))


def _integrator(m: Any, path: str) -> nn.Module:
    values = _rates(m, path)
    current = {"decay": values.pop("current_decay"), "gain": np.ones(()), "shift": np.zeros(())} if "current_decay" in values else None
    values.pop("current_gain", None)
    return LI(**values) if current is None else Sequential(LI(**current), LI(**values))


def _recurrent(m: Any, path: str) -> nn.Module:
    w_in, w_rec = m.input_weights.detach(), m.recurrent_weights.detach()
    back = Recurrent(_spiking(m, path), w_rec.shape[0])
    back.weight = nn.Parameter(w_rec.clone())
    into = Linear(w_in.shape[1], w_in.shape[0], bias=False)
    into.weight = nn.Parameter(w_in.clone())
    return Sequential(into, back)


def _n(x: Any) -> np.ndarray:
    return torch.as_tensor(x).detach().double().cpu().numpy()


_LIBRARY = Library(
    "Norse",
    "norse",
    {
        **dict.fromkeys(("LIFCell", "LIF", "LIFBoxCell", "LIFBox"), _spiking),
        **dict.fromkeys(("LICell", "LI", "LIBoxCell"), _integrator),
        **dict.fromkeys(("LIFRecurrentCell", "LIFRecurrent"), _recurrent),
    },
)
