"""snnTorch's neurons: Leaky, Synaptic, Alpha, RLeaky, RSynaptic.

snnTorch resets one step late (`reset_delay=True`): its soft rule is `neuro.reset.Subtract(delayed=True)`. Two of its rules have no
name here and get a step of their own, `snn_step`: the soft rule with `reset_delay=False`, which subtracts at the next step what
the membrane still holds above the threshold; and the hard rule of Synaptic and RLeaky, which clears the step after a spike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuro.deploy.nir_neurons import CurrentLIF, Held, PointLIF
from neuro.errors import GraphError, explain
from neuro.interop.walking import Library, compared, first
from neuro.neurons import CUBALIF, LIF, CUBAState, Neuron, Recurrent
from neuro.reset import Reset, Subtract, ToZero, none
from neuro.surrogate import ATan, Surrogate


class SnnParams(NamedTuple):
    current_decay: Tensor
    decay: Tensor
    threshold: Tensor


def snn_step(x: Tensor, state: CUBAState, p: SnnParams, *, spike: Surrogate, reset: Reset) -> tuple[Tensor, CUBAState]:
    """`u <- a u + x; v <- b v + u`, then with r = spike(v of the last step): v (1 - r), or v - r * threshold.

    Not delayed: the spike s subtracts at once what r did not. snnTorch 1.0.0 `Leaky.forward`, `Synaptic._base_zero`.
    """
    r = spike(state.v - p.threshold).detach()
    u = p.current_decay * state.u + x
    v = p.decay * state.v + u
    v = v * (1 - r) if reset.hard else v - r * p.threshold
    s = spike(v - p.threshold)
    return s, CUBAState(u, v if reset.delayed or reset.hard else v - (s - r) * p.threshold)


class SnnNeuron(Held):
    """A rule of snnTorch that has no name here."""

    step, State, Params = staticmethod(snn_step), CUBAState, SnnParams


class AlphaState(NamedTuple):
    e: Tensor  # excitatory current [B, *N]
    i: Tensor  # inhibitory current
    v: Tensor  # membrane


class AlphaParams(NamedTuple):
    excitatory_decay: Tensor
    inhibitory_decay: Tensor
    gain: Tensor
    threshold: Tensor


def alpha_step(x: Tensor, state: AlphaState, p: AlphaParams, *, spike: Surrogate, reset: Reset) -> tuple[Tensor, AlphaState]:
    """`e <- a e + x; i <- b i - x; v = gain (e + i)`; the hard rule clears all three one step after a spike."""
    keep = 1 - spike(state.v - p.threshold).detach() if reset.hard else 1.0
    e = p.excitatory_decay * state.e + x
    i = p.inhibitory_decay * state.i - x
    v = p.gain * (e + i)
    e, i, v = e * keep, i * keep, v * keep
    return spike(v - p.threshold), AlphaState(e, i, v)


class AlphaNeuron(Held):
    """snnTorch's Alpha: the membrane is the difference of two currents."""

    step, State, Params = staticmethod(alpha_step), AlphaState, AlphaParams


def from_snntorch(net: nn.Module, example: Tensor) -> nn.Module:
    """A native module with the spikes of an snnTorch network, weights copied, state by `neuro.run`.

    Args:
        net: Sequential, or a module whose forward is one step; its neurons keep their state (`init_hidden=True`).
        example: input [T, B, ...] on which both are run and compared; the state that `net` held is cleared.

    Raises:
        GraphError: a module without an equal here, by its path, or other spikes on the example.
    """

    def theirs(x: Tensor) -> Tensor:
        modes = {m: m.training for m in net.modules()}
        net.eval()
        _clear(net)
        try:
            return torch.stack([first(net(x_t)) for x_t in x])
        finally:
            _clear(net)
            for m, mode in modes.items():
                m.training = mode

    return compared(_LIBRARY, _LIBRARY.converted(net), theirs, example)


def _clear(net: nn.Module) -> None:
    for m in net.modules():
        if _LIBRARY.maker(m) is not None:
            m.reset_mem()  # type: ignore[operator]


def _n(x: Any) -> Any:
    return x.detach().double().cpu().numpy()


def _plain(m: Any, path: str) -> tuple[ATan, str, bool]:
    """The spike, the name of the reset and whether it is delayed, after refusing what has no equal."""
    for name, odd in (("inhibition", bool(m.inhibition)), ("state_quant", bool(m.state_quant)), ("graded_spikes_factor", bool((torch.as_tensor(m.graded_spikes_factor) != 1).any()))):
        if odd:
            raise GraphError(explain(f"from snnTorch: {path!r} uses {name}, which has no equal here.", cure=f"Leave {name} at its default."))
    return ATan(strict=True), str(m.reset_mechanism), bool(getattr(m, "reset_delay", True))


def _clamped(x: Tensor) -> Any:
    return _n(x.clamp(0, 1))


def _neuron(m: Any, path: str, wipes: bool) -> Neuron:
    """Leaky, or Synaptic where m has an alpha."""
    spike, rule, delayed = _plain(m, path)
    a, b, th = (_clamped(m.alpha) if hasattr(m, "alpha") else None), _clamped(m.beta), _n(m.threshold)
    if rule == "subtract" and not delayed or rule == "zero" and wipes and delayed:
        reset: Reset = ToZero(delayed=True) if rule == "zero" else Subtract(delayed=False)
        return SnnNeuron(spike, reset, current_decay=0 * b if a is None else a, decay=b, threshold=th)
    reset = {"subtract": Subtract(delayed=True), "zero": ToZero(delayed=delayed and not wipes), "none": none}[rule]
    if all(v is None or v.size == 1 for v in (a, b, th)) and float(th.reshape(-1)[0]) > 0:
        how: dict[str, Any] = {"decay": float(b.reshape(-1)[0]), "threshold": float(th.reshape(-1)[0]), "spike": spike, "reset": reset}
        return LIF(**how) if a is None else CUBALIF(float(a.reshape(-1)[0]), **how)
    values = {"decay": b, "gain": 0 * b + 1, "shift": 0 * b, "threshold": th, "v_reset": 0 * b}
    return PointLIF(spike, reset, **values) if a is None else CurrentLIF(spike, reset, current_decay=a, current_gain=0 * a + 1, **values)


def _recurrent(m: Any, path: str) -> nn.Module:
    back = m.recurrent
    neuron = _neuron(m, path, wipes=True)
    if isinstance(back, nn.Linear):
        made = Recurrent(neuron, back.out_features)
        made.weight = nn.Parameter(back.weight.detach().clone())
        made.bias = None if back.bias is None else nn.Parameter(back.bias.detach().clone())
        return made
    v = getattr(back, "V", None)
    if v is None or v.dim() != 1:
        shown = f"{type(back).__name__}" if v is None else f"V {list(v.shape)}"
        cure = "Give all_to_all=True with linear_features, or a vector V."
        raise GraphError(explain(f"from snnTorch: the feedback of {path!r} has no equal here.", shown, cure=cure))
    made = Recurrent(neuron, len(v))
    made.weight = nn.Parameter(torch.diag(v.detach()))
    return made


def _alpha(m: Any, path: str) -> nn.Module:
    spike, rule, _ = _plain(m, path)
    if rule == "subtract":
        raise GraphError(explain(f"from snnTorch: {path!r} is an Alpha with soft reset, which has no equal here.", cure='reset_mechanism="zero".'))
    a, b = m.alpha.detach().clamp(0, 1), m.beta.detach().clamp(0, 1)
    gain = torch.log(a) / (torch.log(b) - torch.log(a)) + 1  # in float32, as it is there
    values = {"excitatory_decay": _n(a), "inhibitory_decay": _n(b), "gain": _n(gain), "threshold": _n(m.threshold)}
    return AlphaNeuron(spike, ToZero(delayed=True) if rule == "zero" else none, **values)


_LIBRARY = Library(
    "snnTorch",
    "snntorch",
    {
        "Leaky": lambda m, path: _neuron(m, path, wipes=False),
        "Synaptic": lambda m, path: _neuron(m, path, wipes=True),
        "RLeaky": _recurrent,
        "RSynaptic": _recurrent,
        "Alpha": _alpha,
    },
)
