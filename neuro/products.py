"""What one product costs by the values that it is given: the rules behind `neuro.activity`.

A product is counted where a nonzero input meets a weight, or a nonzero of the other factor if both are activations. Values
count, not layer types: an input of +-1 makes an accumulation (AC), another integer a graded one, any other value a
multiplication (MAC); of two activations one of +-1 is enough for an AC. Weights are taken as they come, their zeros included;
padding is not an operand, so a tap outside the map is not counted, whether a layer pads or `constant_pad_nd` did before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

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


def kinds(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indicators, float64, of nonzero values, of +-1, and of nonzero whole numbers."""
    x = x.detach()
    if x.is_complex():
        return (x != 0).double(), torch.zeros(x.shape, dtype=torch.float64), torch.zeros(x.shape, dtype=torch.float64)
    nonzero = x != 0
    whole = nonzero & (x == x.round()) if x.is_floating_point() else nonzero
    return nonzero.double(), (x.abs() == 1).double() if x.dtype != torch.bool else nonzero.double(), whole.double()


def _enter(p: Product, x: Tensor, k: tuple[Tensor, Tensor, Tensor]) -> None:
    nonzero, unit, whole = (int(i.sum()) for i in k)
    p.inputs += x.numel()
    p.unit += unit
    p.integer += whole - unit
    p.real += nonzero - whole
    if x.dtype != torch.bool and not x.is_complex():
        p.negative += int((x < 0).sum())


def _add(p: Product, total: int, unit: int, whole: int) -> None:
    p.ac += unit
    p.graded += whole - unit
    p.mac += total - whole


def count_convolution(p: Product, out: Tensor, x: Tensor, w: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
                      transposed: bool, output_padding: Any, groups: int, inside: Tensor | None = None) -> None:  # fmt: skip
    """Taps that read each input, by a convolution of the indicator with ones, in float64 (exact below 2^53).

    inside: of an input that was padded before, which of its elements are no padding; None: all.
    """
    spatial = w.dim() - 2
    batched = x.dim() == w.dim()
    xs = x if batched else x[None]
    per_tap = w.shape[1] if transposed else w.shape[0] // groups  # outputs that one input of one channel meets at one tap
    ones = torch.ones(1, 1, *w.shape[2:], dtype=torch.float64, device=x.device)
    k = kinds(xs)
    real = torch.ones(xs.shape, dtype=torch.float64, device=x.device) if inside is None else inside.to(torch.float64).reshape(xs.shape)
    maps = torch.stack([i.sum((0, 1)) for i in (*k, real)])
    met = aten.convolution(maps[:, None], ones, None, stride, padding, dilation, transposed, output_padding, 1)
    total, unit, whole, dense = ((met.flatten(1).sum(1) * per_tap).round().long()).tolist()
    _enter(p, xs, k)
    p.inputs -= xs.numel() - int(real.sum())
    _add(p, total, unit, whole)
    p.dense += dense
    reads = xs.shape[2:].numel() * xs.shape[1] * w.shape[1] if transposed else out[0 if batched else ...].numel() * w.shape[1]
    p.padded += xs.shape[0] * reads * w.shape[2:].numel()
    p.weights = max(p.weights, w.numel())
    p.outputs += out.numel()
    p.biases += out.numel() if bias is not None else 0
    assert spatial >= 1


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
    columns, rows = (of_a, 0 * present, of_a), (of_b, 0 * present, of_b)  # a weight: never free, whole
    if not a_weight:
        k = kinds(a)
        columns = tuple(i.sum(1) for i in k)
        _enter(p, a, k)
    else:
        p.weights = max(p.weights, _distinct(a) if held_a is None else int(held_a.sum()))
    if b_weight:
        p.weights = max(p.weights, _distinct(b) if held_b is None else int(held_b.sum()))
    else:
        k = kinds(b)
        rows = tuple(i.sum(2) for i in k)
        _enter(p, b, k)
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
