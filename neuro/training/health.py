"""Health: does every layer fire, does no neuron fire always, and does a gradient arrive?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuro.errors import ParameterError, ShapeError, explain
from neuro.module_paths import unwrapped
from neuro.state import run
from neuro.training.listening import Heard, listen
from neuro.training.verdicts import verdict

COLUMNS = ("layer", "rate", "silent", "always", "v/threshold", "gradient", "verdict")


@dataclass(frozen=True)
class Layer:
    """What one call of one neuron module did. Shares are in 0 .. 1, over its neurons."""

    layer: str  # path; `path#1` for the second call in one forward
    kind: str  # class of the neuron
    neurons: int  # per sample
    rate: float  # spikes per neuron and step
    silent: float  # share of neurons without a spike in the whole batch
    always: float  # share of neurons that fired at every step of every sample
    membrane: tuple[float, ...] | None  # 5, 25, 50, 75, 95 % quantiles of membrane / threshold, before the reset; 1 fires
    gradient: float | None  # norm over the parameters between the neurons before and this one, its own included
    verdict: str = "ok"
    remedy: str = ""


@dataclass(frozen=True)
class Health:
    """The layers of a model in the order in which they ran, and what to do about them. `repr` is a table."""

    layers: tuple[Layer, ...]
    steps: int
    samples: int
    training: bool  # whether the model was in training mode
    loss: float | None
    readout: float | None  # gradient norm of the parameters behind the last neurons

    @property
    def ok(self) -> bool:
        """Whether no layer calls for anything."""
        return all(layer.verdict == "ok" for layer in self.layers)

    def table(self) -> list[dict[str, Any]]:
        """All figures of all layers as rows."""
        return [asdict(layer) for layer in self.layers]

    def figure(self) -> Any:
        """Firing, shares, membranes and gradients of all layers, side by side."""
        from neuro.plots import layer_health

        return layer_health(self.layers)

    def __repr__(self) -> str:
        rows = [COLUMNS, *(self._shown(layer) for layer in self.layers)]
        widths = [max(len(row[k]) for row in rows) for k in range(len(COLUMNS))]
        lines = ["  ".join(c.ljust(w) if k in (0, 6) else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True))) for r in rows]
        cures = [f"  {', '.join(names)}: {remedy}" for remedy, names in self.remedies().items()]
        return "\n".join([self._about(), *(line.rstrip() for line in lines), *(["What to do:", *cures] if cures else [])])

    def remedies(self) -> dict[str, list[str]]:
        """What to do -> the layers that call for it."""
        cures: dict[str, list[str]] = {}
        for layer in self.layers:
            if layer.remedy:
                cures.setdefault(layer.remedy, []).append(layer.layer)
        return cures

    def _repr_html_(self) -> str:
        from neuro.plots import inline

        right, left = ' style="text-align:right;white-space:nowrap;padding:2px 9px"', ' style="text-align:left;padding:2px 9px"'
        head = "".join(f"<th{right if 0 < k < 6 else left}>{name}</th>" for k, name in enumerate(COLUMNS))
        body = ""
        for layer in self.layers:
            cells = (f"<td{right if 0 < k < 6 else left}>{escape(c)}</td>" for k, c in enumerate(self._shown(layer)))
            body += f"<tr{'' if layer.verdict == 'ok' else ' style=font-weight:600'}>{''.join(cells)}</tr>"
        cures = "".join(f"<li><b>{escape(', '.join(names))}</b>: {escape(cure)}</li>" for cure, names in self.remedies().items())
        picture = inline(self.figure(), "firing rates, silent and saturated shares, membranes and gradients per layer")[0]
        return f"<div><p>{escape(self._about())}</p><table><tr>{head}</tr>{body}</table><ul>{cures}</ul>{picture}</div>"

    def _about(self) -> str:
        mode = "training" if self.training else "evaluation"
        wrong = sum(layer.verdict != "ok" for layer in self.layers)
        gradient = "" if self.loss is None else f", loss {self.loss:.4g}"
        return (
            f"{len(self.layers)} layers, {wrong} of them call for something; T={self.steps}, B={self.samples}, {mode} mode{gradient}"
        )

    @staticmethod
    def _shown(layer: Layer) -> tuple[str, ...]:
        spread = "-" if layer.membrane is None else f"{layer.membrane[0]:.2f} .. {layer.membrane[4]:.2f}"
        gradient = "-" if layer.gradient is None else f"{layer.gradient:.2e}"
        return (layer.layer, f"{layer.rate:.4f}", f"{layer.silent:.1%}", f"{layer.always:.1%}", spread, gradient, layer.verdict)


def health(
    model: nn.Module,
    batch: Any,
    label: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
) -> Health:
    """Run the model once and say of every neuron layer whether it works.

    With a label or a loss also one backward. The model is left as it was: parameters, gradients, buffers, mode, and the
    random numbers that come after. It is looked at in the mode it is in, so call `model.train()` first to see it as
    training sees it.

    Args:
        model: made of ours; time on axis 0.
        batch: input [T, B, ...], or a `neuro.datasets` batch with x, lengths and label.
        label: classes [B], or [T, B] for an output at every step; None: no gradient, unless the batch or `loss` has one.
        lengths: steps that count for each sample [B]; the others are left out of every figure.
        loss: `(output, label) -> scalar`; default: cross-entropy, of the mean over the counted steps where only [B] labels are given.

    Raises:
        ParameterError: the model has no neurons.
        ShapeError: output and label do not fit, or the loss is not one number.

    >>> net = nn.Sequential(nn.Linear(3, 5), __import__("neuro").neurons.LIF(threshold=50.0))
    >>> health(net, torch.ones(4, 2, 3)).layers[0].verdict
    'silent'
    """
    model = unwrapped(model)
    x = getattr(batch, "x", batch)
    label = getattr(batch, "label", None) if label is None else label
    lengths = getattr(batch, "lengths", None) if lengths is None else lengths
    backward = label is not None or loss is not None
    with _untouched(model), torch.inference_mode(False), torch.set_grad_enabled(backward), listen(model, lengths) as heard:
        output, _ = run(model, x, lengths=lengths)
        if not heard.calls:
            cure = "Build it with neuro.neurons; plain torch activations are not looked at."
            raise ParameterError(explain("health: no neuron ran in this model.", type(model).__name__, cure=cure))
        value = _loss(output, label, lengths, loss) if backward else None
        norms, readout = heard.gradients(value) if backward else ([None] * len(heard.calls), None)
    layers = [_layer(call, norm) for call, norm in zip(heard.calls, norms, strict=True)]
    typical = sorted(n for n in norms if n)[len([n for n in norms if n]) // 2] if any(norms) else None
    judged = tuple(verdict(layer, heard.looks, typical) for layer in layers)
    return Health(judged, heard.steps, heard.samples, model.training, None if value is None else value.item(), readout)


def _layer(call: Heard, gradient: float | None) -> Layer:
    return Layer(call.layer, call.kind, call.neurons, call.rate, call.silent, call.always, call.membrane, gradient)


def _loss(output: Any, label: Any, lengths: Tensor | None, loss: Callable[[Any, Any], Tensor] | None) -> Tensor:
    if loss is not None:
        value = loss(output, label)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ShapeError(explain("health: the loss is not one number.", f"it gave {getattr(value, 'shape', type(value).__name__)}"))
        return value.reshape(())
    shape = list(getattr(output, "shape", []))
    if isinstance(output, Tensor) and isinstance(label, Tensor) and label.is_floating_point() and list(label.shape) == shape[-2:]:
        if output.dim() == 3:
            counted = _counted(output, lengths)
            output = (output * counted).sum(0) / counted.sum(0)
        return F.cross_entropy(output.float(), label.float())
    if isinstance(output, Tensor) and output.dim() == 3 and list(label.shape) == shape[:2]:
        losses = F.cross_entropy(output.flatten(0, 1).float(), label.flatten(), reduction="none").view(label.shape)
        counted = _counted(output, lengths)[..., 0]
        return (losses * counted).sum() / counted.sum()
    if isinstance(output, Tensor) and output.dim() == 3 and list(label.shape) == shape[1:2]:
        counted = _counted(output, lengths)
        output = (output * counted).sum(0) / counted.sum(0)
    if not isinstance(output, Tensor) or output.dim() != 2 or list(label.shape) != list(output.shape[:1]):
        facts = f"output {shape or type(output).__name__}   label {list(label.shape)}"
        raise ShapeError(explain("health: output and label do not fit cross-entropy.", facts, cure="Give loss=, a function of both."))
    return F.cross_entropy(output.float(), label)


def _counted(output: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return output.new_ones(*output.shape[:2], 1)
    steps = torch.arange(output.shape[0], device=output.device)[:, None]
    return (steps < lengths.to(output.device)).to(output.dtype)[..., None]


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Put buffers, modes and random numbers back, whatever happens inside. Gradients are never written."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(m, name, b, None if b is None else b.detach().clone()) for m in model.modules() for name, b in m._buffers.items()]
    cuda = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer
                if buffer is not None and not torch.equal(buffer, before):
                    buffer.copy_(before)
        for module, training in modes:
            module.training = training
