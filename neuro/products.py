"""What one product costs by the values that it is given: the rules behind `neuro.activity`.

A product is counted where a nonzero input meets a weight, or a nonzero of the other factor if both are activations. Values
count, not layer types: an input of +-1 makes an accumulation (AC), another integer a graded one, any other value a
multiplication (MAC); of two activations one of +-1 is enough for an AC. Weights are taken as they come, their zeros included;
padding is not an operand, so a tap outside the map is not counted, whether a layer pads or `constant_pad_nd` did before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

aten = torch.ops.aten


@dataclass
class Product:
    """Counts of the products at one path, of one sample."""

    operators: set[str] = field(default_factory=set)
    inputs: int = 0  # elements of the activations that enter
    unit: int = 0  # of them +-1
    integer: int = 0  # other whole numbers
    real: int = 0  # other values
    negative: int = 0
    dense: int = 0  # taps inside the map
    padded: int = 0  # the same with padding
    ac: int = 0
    graded: int = 0
    mac: int = 0
    outputs: int = 0
    biases: int = 0  # bias additions
    weights: int = 0  # weights held, of the largest call


class Found(NamedTuple):
    """Values of a tensor by kind: `sums` [3, ...] of nonzero ones, of +-1 and of nonzero whole numbers; how many there are, and negative."""

    sums: Tensor
    count: int
    negative: int


def found(x: Tensor, axes: tuple[int, ...]) -> Found:
    """How many values of each kind lie along `axes`, float64 (exact below 2^53). Of zeros and ones alone one sum says it all."""
    x, count = x.detach(), x.numel()
    if x.dtype == torch.bool or (not x.is_complex() and torch.equal(x * x, x)):  # zeros and ones, or infinity
        ones = x.sum(axes, dtype=torch.float64)
        if bool(ones.sum().isfinite()):
            return Found(ones.expand(3, *ones.shape), count, 0)
    nonzero = x != 0
    if x.is_complex():
        sums = nonzero.sum(axes, dtype=torch.float64)
        return Found(torch.stack([sums, 0 * sums, 0 * sums]), count, 0)
    whole = nonzero & (x == x.round()) if x.is_floating_point() else nonzero
    sums = torch.stack([i.sum(axes, dtype=torch.float64) for i in (nonzero, x.abs() == 1, whole)])
    return Found(sums, count, int((x < 0).sum()))


def _enter(p: Product, values: Found) -> None:
    nonzero, unit, whole = (int(n) for n in values.sums.flatten(1).sum(1).tolist())
    p.inputs += values.count
    p.unit += unit
    p.integer += whole - unit
    p.real += nonzero - whole
    p.negative += values.negative


def _add(p: Product, total: int, unit: int, whole: int) -> None:
    p.ac += unit
    p.graded += whole - unit
    p.mac += total - whole


@lru_cache(maxsize=512)
def reads(sizes: tuple[int, ...], taps: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...],
          transposed: bool, output_padding: tuple[int, ...]) -> Tensor:  # fmt: skip
    """How many taps of a convolution read each element of a map [*sizes], float64; those on padding read none.

    >>> reads((4,), (3,), (1,), (1,), (1,), False, (0,)).tolist()
    [2.0, 3.0, 3.0, 2.0]
    """
    met = torch.ones((), dtype=torch.float64)
    for size, kernel, step, pad, apart, extra in zip(sizes, taps, stride, padding, dilation, output_padding, strict=True):
        reach = apart * (kernel - 1) + 1
        outputs = (size - 1) * step - 2 * pad + reach + extra if transposed else (size + 2 * pad - reach) // step + 1
        at = np.arange(size if transposed else outputs)[:, None] * step - pad + np.arange(kernel) * apart
        if transposed:  # an input is at its tap, the outputs are met
            along = ((at >= 0) & (at < outputs)).sum(1)
        else:
            along = np.bincount(at[(at >= 0) & (at < size)], minlength=size)
        met = met[..., None] * torch.from_numpy(along).double()
    return met


def count_convolution(p: Product, out: Tensor, x: Tensor, w: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
                      transposed: bool, output_padding: Any, groups: int, inside: Tensor | None = None) -> None:  # fmt: skip
    """Each input costs as many operations as taps read it, times the outputs that a tap leads to.

    inside: of an input that was padded before, which of its elements are no padding; None: all.
    """
    spatial = w.dim() - 2
    assert spatial >= 1
    batched = x.dim() == w.dim()
    xs = x if batched else x[None]
    per_tap = w.shape[1] if transposed else w.shape[0] // groups  # outputs that one input of one channel meets at one tap
    how = (tuple(v) * (spatial // len(v)) for v in (stride, padding, dilation))  # torch takes one number for all axes
    met = reads(tuple(xs.shape[2:]), tuple(w.shape[2:]), *how, transposed, tuple(output_padding) * (spatial // len(output_padding))).to(x.device)
    values = found(xs, (0, 1))
    if inside is None:
        real, dense = xs.numel(), int(met.sum()) * xs.shape[0] * xs.shape[1]
    else:
        here = inside.reshape(xs.shape).sum((0, 1), dtype=torch.float64)
        real, dense = int(here.sum()), int((here * met).sum())
    total, unit, whole = (int(n) * per_tap for n in (values.sums * met).flatten(1).sum(1).tolist())
    _enter(p, values._replace(count=real))
    _add(p, total, unit, whole)
    p.dense += dense * per_tap
    per_output = xs.shape[2:].numel() * xs.shape[1] * w.shape[1] if transposed else out[0 if batched else ...].numel() * w.shape[1]
    p.padded += xs.shape[0] * per_output * w.shape[2:].numel()
    p.weights = max(p.weights, w.numel())
    p.outputs += out.numel()
    p.biases += out.numel() if bias is not None else 0


def count_complex(p: Product, a: Tensor, b: Tensor, a_weight: bool, b_weight: bool) -> None:
    """A product of complex matrices as its four real ones; its inputs count as two elements each, and so do its outputs."""
    a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    parts = Product()
    for i in range(2):
        for j in range(2):
            count_matmul(parts, a[..., i], b[..., j], a_weight, b_weight)
    for name in ("dense", "padded", "ac", "graded", "mac"):
        setattr(p, name, getattr(p, name) + getattr(parts, name))
    for name in ("inputs", "unit", "integer", "real", "negative", "outputs"):  # each part met two others
        setattr(p, name, getattr(p, name) + getattr(parts, name) // 2)
    p.weights = max(p.weights, 2 * parts.weights)


def stored(x: Tensor) -> Tensor | None:
    """Where a sparse tensor holds entries, float64 and dense; None of a dense one, which holds all."""
    if x.layout is torch.strided:
        return None
    x = (x if x.layout is torch.sparse_coo else x.to_sparse_coo()).coalesce()
    return torch.sparse_coo_tensor(x.indices(), torch.ones_like(x.values(), dtype=torch.float64), x.shape, check_invariants=False).to_dense()


def _distinct(x: Tensor) -> int:
    """Elements in memory, where an axis may be expanded."""
    return prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride or n == 0)


def count_matmul(p: Product, a: Tensor, b: Tensor, a_weight: bool, b_weight: bool) -> None:
    """[m, k] x [k, n], also batched. A weight counts as present everywhere, a sparse one where it holds entries; of two activations
    both must be nonzero.

    AC where an activation is +-1, so that the other factor is only added.
    """
    held_a, held_b = stored(a), stored(b)
    a, b = (x if held is None else x.to_dense() for x, held in ((a, held_a), (b, held_b)))
    a, b = (a[None], b[None]) if a.dim() == 2 else (a, b)
    _, m, inner = a.shape
    n = b.shape[-1]
    dense = a.shape[0] * m * inner * n
    present = torch.ones(a.shape[0], inner, dtype=torch.float64, device=a.device)
    of_a, of_b = (present * m if held_a is None else held_a.sum(0)[None]), (present * n if held_b is None else held_b.sum(1)[None])
    columns, rows = (torch.stack(torch.broadcast_tensors(i, 0 * present, i)) for i in (of_a, of_b))  # a weight: never free, whole
    if not a_weight:
        values = found(a, (1,))
        columns = values.sums
        _enter(p, values)
    else:
        p.weights = max(p.weights, _distinct(a) if held_a is None else int(held_a.sum()))
    if b_weight:
        p.weights = max(p.weights, _distinct(b) if held_b is None else int(held_b.sum()))
    else:
        values = found(b, (2,))
        rows = values.sums
        _enter(p, values)
    (ca, cu, cw), (ra, ru, rw) = columns, rows
    total = int((ca * ra).sum().round())
    multiplied = int(((ca - cu) * (ra - ru)).sum().round())  # neither factor is +-1
    graded = int(((cw - cu) * (rw - ru)).sum().round())
    p.ac += total - multiplied
    p.graded += graded
    p.mac += multiplied - graded
    p.dense += dense
    p.padded += dense
    p.outputs += a.shape[0] * m * n


def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False, *,
              scale: float | None = None, enable_gqa: bool = False) -> Tensor:  # fmt: skip
    """`softmax(scale * (q k^T) + mask) v`, in this order: torch's own scales q and k first, and spikes would be none any more."""
    if enable_gqa and q.dim() > 2 and k.shape[-3] != q.shape[-3]:
        k, v = (t.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for t in (k, v))
    scores = (q @ k.transpose(-2, -1)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return aten._safe_softmax(scores, -1) @ v  # a row that sees nothing gives zeros, as in torch's kernels
