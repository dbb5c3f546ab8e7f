"""Listening: what every neuron module of a model does during one forward, and which parameters feed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuro.module_paths import module_paths
from neuro.neurons import Neuron, Recurrent
from neuro.state import recomputing

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SAMPLES = 4  # of the batch, whose membranes are read
VALUES = 5_000  # membranes kept per step


@dataclass
class Heard:
    """One call of one neuron module."""

    layer: str
    kind: str
    neurons: int
    rate: float
    silent: float
    always: float
    membrane: tuple[float, ...] | None
    current: Any  # where the graph of autograd enters: the node of the input
    spikes: Any  # where it leaves
    own: list[nn.Parameter]


@dataclass
class Listening:
    """All calls in their order, and the size of the batch."""

    calls: list[Heard] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    looks: int = 0  # step-samples that count: how often each neuron could have fired

    def gradients(self, loss: Tensor) -> tuple[list[float | None], float | None]:
        """Gradient norm of the parameters that each call's current came through since the last neurons, and of the readout.

        Parameters without a path to the loss count as zero; a layer without parameters has None.
        """
        stops = {call.spikes for call in self.calls if call.spikes is not None}
        groups = [_unique([*_feeding(call.current, stops), *(p for p in call.own if p.requires_grad)]) for call in self.calls]
        groups.append(_unique(_feeding(loss.grad_fn, stops)))
        every = _unique([p for group in groups for p in group])
        if not every or loss.grad_fn is None:
            return [None] * len(self.calls), None
        grads = dict(zip(map(id, every), torch.autograd.grad(loss, every, allow_unused=True), strict=True))
        norms = [_norm([grads[id(p)] for p in group]) if group else None for group in groups]
        return norms[:-1], norms[-1]


@contextmanager
def listen(model: nn.Module, lengths: Tensor | None = None) -> Iterator[Listening]:
    """Collect what the neurons of `model` do until the block ends."""
    heard, paths, used = Listening(), module_paths(model), {}

    def after(module: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
        if recomputing():
            return
        path = paths.get(module, "") or type(module).__name__
        k = used[path] = used.get(path, -1) + 1
        x = args[0]
        heard.steps, heard.samples = y.shape[:2]
        looks = y.shape[0] * y.shape[1] if lengths is None else int(lengths.sum())
        heard.looks = max(heard.looks, looks)
        with torch.no_grad():
            counts = (y != 0).sum((0, 1))  # padded steps are zero
            neuron = module.neuron if isinstance(module, Recurrent) else module
            heard.calls.append(
                Heard(
                    layer=path if k == 0 else f"{path}#{k}",
                    kind=type(neuron).__name__ + (" recurrent" if module is not neuron else ""),
                    neurons=counts.numel(),
                    rate=float(y.double().sum() / (looks * counts.numel())),
                    silent=float((counts == 0).double().mean()),
                    always=float((counts == looks).double().mean()),
                    membrane=membranes(module, x, y, lengths),
                    current=x.grad_fn,
                    spikes=y.grad_fn,
                    own=list(module.parameters()),
                )
            )

    hooks = [m.register_forward_hook(after) for m in paths if isinstance(m, (Neuron, Recurrent))]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def membranes(module: nn.Module, x: Tensor, y: Tensor, lengths: Tensor | None) -> tuple[float, ...] | None:
    """Quantiles of membrane / threshold when the spike is decided, from the first samples; None where a neuron has no threshold.

    The step is run once more with a spike object that writes down what it was given: membrane minus threshold. What a
    recurrent neuron feeds back is known from its spikes y.
    """
    recurrent = isinstance(module, Recurrent)
    neuron = module.neuron if recurrent else module
    params, step = neuron.params(), type(neuron).step
    threshold = getattr(params, "threshold", None)
    if threshold is None:
        return None
    x = x.detach()[:, :SAMPLES]
    x = x if x.dtype == torch.float64 else x.float()
    if recurrent:
        before = torch.cat([torch.zeros_like(x[:1]), y.detach()[:-1, :SAMPLES].to(x.dtype)])
        x = x + F.linear(before, module.weight, module.bias)
    state, listener = neuron.initial(x[0]), _Listener(neuron.spike)
    choices = {**neuron.choices(), "spike": listener}
    kept = []
    for t in range(x.shape[0]):
        _, state = step(x[t], state, params, **choices)
        if listener.u is None:
            return None
        ratio = 1 + listener.u / threshold
        if lengths is not None:
            ratio = ratio[(t < lengths[: ratio.shape[0]]).to(ratio.device)]
        flat = ratio.flatten()
        kept.append(flat[:: max(1, flat.numel() // VALUES)])
    values = torch.cat(kept).double()
    values = values[:: max(1, values.numel() // 1_000_000)]  # torch.quantile takes 16 million at most
    if not values.numel():
        return None
    return tuple(torch.quantile(values, torch.tensor(QUANTILES, dtype=values.dtype, device=values.device)).tolist())


class _Listener:
    """A spike object that passes everything on and keeps what it was last called with: the decision of this step."""

    def __init__(self, spike: Any):
        self.spike, self.u = spike, None

    def __call__(self, u: Tensor) -> Tensor:
        self.u = u
        return self.spike(u)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.spike, name)


def _feeding(node: Any, stops: set[Any]) -> list[Tensor]:
    """Parameters in autograd's graph behind `node`, without crossing a node of `stops`."""
    found, seen, todo = [], set(), [node]
    while todo:
        node = todo.pop()
        if node is None or node in seen or node in stops:
            continue
        seen.add(node)
        if isinstance(getattr(node, "variable", None), nn.Parameter):
            found.append(node.variable)
        todo += [before for before, _ in node.next_functions]
    return found


def _unique(tensors: list[Any]) -> list[Any]:
    return list({id(t): t for t in tensors}.values())


def _norm(grads: list[Tensor | None]) -> float:
    squares = [g.detach().double().square().sum().item() for g in grads if g is not None]
    return sum(squares) ** 0.5
