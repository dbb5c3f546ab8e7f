"""SpikingJelly's neurons: IFNode, LIFNode and ParametricLIFNode, hard and soft reset. They fire at `v >= threshold`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuro.errors import GraphError, explain
from neuro.interop.walking import Library, compared, first
from neuro.neurons import IF, LIF, PLIF
from neuro.reset import Reset, Subtract, ToZero
from neuro.surrogate import ATan


def from_spikingjelly(net: nn.Module, example: Tensor) -> nn.Module:
    """A native module with the spikes of a SpikingJelly network, weights copied, state by `neuro.run`.

    Args:
        net: Sequential, or a module whose forward can be followed; single-step or multi-step.
        example: input [T, B, ...] on which both are run and compared; the state that `net` held is cleared.

    Raises:
        GraphError: a module without an equal here, by its path, or other spikes on the example.
    """
    modes = {getattr(m, "step_mode", None) for m in net.modules() if _LIBRARY.maker(m) is not None}
    if modes == {"s", "m"}:
        raise GraphError(explain("from SpikingJelly: some neurons are single-step and some multi-step.", cure="functional.set_step_mode(net, 'm')."))

    def theirs(x: Tensor) -> Tensor:
        training = {m: m.training for m in net.modules()}
        net.eval()
        _clear(net)
        try:
            return first(net(x)) if modes == {"m"} else torch.stack([first(net(x_t)) for x_t in x])
        finally:
            _clear(net)
            for m, mode in training.items():
                m.training = mode

    return compared(_LIBRARY, _LIBRARY.converted(net), theirs, example)


def _clear(net: nn.Module) -> None:
    for m in net.modules():
        if _LIBRARY.maker(m) is not None:
            m.reset()  # type: ignore[operator]


def _reset(m: Any, path: str) -> Reset:
    if m.v_reset is None:
        return Subtract(detach=m.detach_reset)
    if m.v_reset != 0:
        fact = f"v_reset {m.v_reset}: its neurons also start there"
        raise GraphError(explain(f"from SpikingJelly: {path!r} resets to a potential other than 0.", fact, cure="Shift potentials and threshold so that v_reset is 0."))
    return ToZero(detach=m.detach_reset)


def _lif(m: Any, path: str) -> nn.Module:
    made = LIF(tau=float(m.tau), threshold=float(m.v_threshold), spike=ATan(), reset=_reset(m, path))
    made.gain = made.gain if m.decay_input else 1.0
    return made


def _plif(m: Any, path: str) -> nn.Module:
    if not m.decay_input:
        raise GraphError(explain(f"from SpikingJelly: {path!r} has decay_input=False, which PLIF has not.", cure="decay_input=True, or a LIFNode."))
    made = PLIF(threshold=float(m.v_threshold), spike=ATan(), reset=_reset(m, path))
    made.w = nn.Parameter(m.w.detach().clone())
    return made


_LIBRARY = Library(
    "SpikingJelly",
    "spikingjelly",
    {
        "IFNode": lambda m, path: IF(threshold=float(m.v_threshold), spike=ATan(), reset=_reset(m, path)),
        "LIFNode": _lif,
        "ParametricLIFNode": _plif,
    },
)
