"""Losses that know time: logits or spikes [T, B, K], labels [B], and `lengths` [B] that leave padding out.

`cross_entropy` and `tet` also take soft labels [B, K]: shares of the classes, floating, each row summing to 1.

Without `lengths` those of the current `neuro.run` count, if there is one; else all steps.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from neuro.errors import ParameterError, ShapeError, explain
from neuro.state import lengths as lengths_of_run


def cross_entropy(logits: Tensor, labels: Tensor, *, lengths: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of the logits' mean over time: [T, B, K] or, already read out, [B, K].

    >>> cross_entropy(torch.zeros(4, 2, 8), torch.tensor([0, 1])).item()  # ln 8
    2.0794415...
    """
    if logits.dim() == 3:
        weight = _weights("cross_entropy", logits, labels, lengths)
        logits = (torch.where(weight > 0, logits, 0) * weight).sum(0) / weight.sum(0)
    elif logits.dim() != 2:
        raise ShapeError(explain("loss.cross_entropy: logits must be [T, B, K] or [B, K].", f"logits {list(logits.shape)}"))
    elif lengths is not None:
        raise ShapeError(
            explain("loss.cross_entropy: lengths were given with logits that have no time axis.", f"logits {list(logits.shape)} is [B, K]")
        )
    elif labels.is_floating_point() and labels.shape != logits.shape:
        raise ShapeError(explain("loss.cross_entropy: soft labels must be [B, K].", f"logits {list(logits.shape)}   labels {list(labels.shape)}"))
    return F.cross_entropy(logits, _typed(labels, logits), label_smoothing=smoothing)


def tet(
    logits: Tensor, labels: Tensor, *, lengths: Tensor | None = None, lamb: float = 0.0, target: float = 1.0, smoothing: float = 0.0
) -> Tensor:
    """Temporal efficient training: `(1 - lamb) * mean_t CE(o_t, y) + lamb * mean_t MSE(o_t, target)`.

    Every step is taught, so that fewer steps also answer. The mean is over the steps of a sample, then over samples.

    Args:
        logits: [T, B, K]; labels: [B], or shares of the classes [B, K].
        lamb: share of the term that keeps logits near `target`, usually the threshold; in 0 .. 1.

    Source: Deng et al. 2022, arXiv:2202.11946.
    """
    if not 0 <= lamb <= 1:
        raise ParameterError(explain(f"loss.tet: lamb={lamb} is a share, from 0 to 1."))
    weight = _weights("tet", logits, labels, lengths)
    share = (weight / weight.sum(0))[..., 0]  # [T, B], sums to 1 over time
    logits = torch.where(weight > 0, logits, 0)
    flat, repeated = logits.flatten(0, 1), _typed(labels, logits).repeat(logits.shape[0], *[1] * (labels.dim() - 1))
    ce = F.cross_entropy(flat, repeated, reduction="none", label_smoothing=smoothing).view_as(share)
    loss = (1 - lamb) * ce
    if lamb:
        loss = loss + lamb * (logits - target).square().mean(-1)
    return (loss * share).sum(0).mean()


def count_cross_entropy(spikes: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of spike counts: [T, B, K] -> the scalar of `snntorch.functional.ce_count_loss`. All steps count."""
    from snntorch import functional

    _weights("count_cross_entropy", spikes, labels, None, soft=False)
    return functional.ce_count_loss()(spikes, labels)


def count_mse(spikes: Tensor, labels: Tensor, *, correct_rate: float = 0.8, incorrect_rate: float = 0.2) -> Tensor:
    """Squared distance of spike counts from target counts, over T: [T, B, K] -> scalar.

    Target counts are `int(T * rate)`, of the right class and of the others. `snntorch.functional.mse_count_loss`.
    """
    from snntorch import functional

    for name, value in (("correct_rate", correct_rate), ("incorrect_rate", incorrect_rate)):
        if not 0 <= value <= 1:
            raise ParameterError(explain(f"loss.count_mse: {name}={value} is spikes per step, from 0 to 1."))
    _weights("count_mse", spikes, labels, None, soft=False)
    return functional.mse_count_loss(correct_rate=correct_rate, incorrect_rate=incorrect_rate)(spikes, labels)


def firing_rate_penalty(
    spikes: Tensor | Iterable[Tensor], *, low: float = 0.0, high: float = 1.0, lengths: Tensor | None = None
) -> Tensor:
    """Mean square of how far each neuron's firing rate lies outside `low .. high`: add it, scaled, to a loss.

    Args:
        spikes: [T, B, *N] of one layer, or several such. The rate is over the steps that count, of all samples.
        low, high: spikes per step.
    """
    if not 0 <= low <= high:
        raise ParameterError(explain(f"loss.firing_rate_penalty: low={low}, high={high}.", cure="Give 0 <= low <= high, in spikes per step."))
    penalties = []
    for s in [spikes] if isinstance(spikes, Tensor) else spikes:
        weight = _weights("firing_rate_penalty", s, None, lengths)
        rate = (torch.where(weight > 0, s, 0)).sum((0, 1)) / weight.sum()
        penalties.append(((low - rate).clamp(min=0) + (rate - high).clamp(min=0)).square().mean())
    if not penalties:
        raise ShapeError(explain("loss.firing_rate_penalty: there are no spikes.", cure="Give at least one tensor [T, B, ...]."))
    return torch.stack(penalties).mean()


def _typed(labels: Tensor, logits: Tensor) -> Tensor:
    """Soft labels in the type of the logits; others as they are."""
    return labels.to(logits.dtype) if labels.is_floating_point() else labels


def _weights(name: str, x: Tensor, labels: Tensor | None, lengths: Tensor | None, soft: bool = True) -> Tensor:
    """1 for the steps that count, else 0: [T, B, 1, ...], after checking that the sizes fit. soft: labels may be [B, K]."""
    fits = labels is None or (x.dim() == 3 and labels.shape == (x.shape[1:] if soft and labels.is_floating_point() else x.shape[1:2]))
    if x.dim() < 3 or x.shape[0] == 0 or not fits:
        raise ShapeError(
            explain(
                f"loss.{name}: the inputs do not fit.",
                f"x {list(x.shape)}" + (f"   labels {list(labels.shape)}" if labels is not None else ""),
                cure="Time is axis 0: [T, B, K], labels [B]" + (", or floating [B, K]." if soft else "."),
            )
        )
    t, b = x.shape[:2]
    lengths = lengths_of_run() if lengths is None else lengths
    steps = torch.arange(t, device=x.device)[:, None]
    if lengths is None:
        counted = torch.ones(t, b, dtype=torch.bool, device=x.device)
    elif lengths.shape != (b,) or int(lengths.min()) < 1 or int(lengths.max()) > t:
        raise ShapeError(explain(f"loss.{name}: lengths must be from 1 to T={t}, one for each of B={b} samples.", f"lengths {lengths.tolist()}"))
    else:
        counted = steps < lengths.to(x.device)[None]
    return counted.view(t, b, *[1] * (x.dim() - 2)).to(x.dtype if x.is_floating_point() else torch.float32)
