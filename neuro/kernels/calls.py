"""One call of a program: its shapes, how it is cut into rows of neurons, and what every backend asks of its tensors."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Call(NamedTuple):
    """T steps, R rows (samples) of C neurons; without lengths and per-neuron parameters, one row of all."""

    T: int
    R: int
    C: int
    params: tuple[str, ...]  # how each varies: see `kinds`

    def items(self, block: int) -> int:
        """Pieces of at most `block` neighbouring neurons of one row."""
        return self.R * ((self.C + block - 1) // block)


def cut_up(shape: tuple[int, ...], kinds: tuple[str, ...], lengths: bool) -> Call:
    """How a call of this shape [T, B, ...] is cut into items."""
    rows, columns = shape[1], 1
    for n in shape[2:]:
        columns *= n
    if not lengths and all(kind == "one" for kind in kinds):
        rows, columns = 1, rows * columns
    return Call(shape[0], rows, columns, kinds)


_remembered = functools.lru_cache(maxsize=4096)(cut_up)


def kinds(shape: tuple[int, ...], params: Sequence[Tensor]) -> tuple[str, ...]:
    """How each parameter varies: "one" value, one for each "column" of a row, or a value for "each" neuron of each sample."""
    return tuple(["one" if p.numel() == 1 else "each" if p.dim() == len(shape) - 1 and p.shape[0] != 1 else "column" for p in params])


def of(shape: torch.Size, params: Sequence[Tensor], lengths: Tensor | None) -> Call:
    """The call of these tensors, remembered."""
    return _remembered(tuple(shape), kinds(shape, params), lengths is not None)


def param_values(param: Tensor, kind: str, shape: torch.Size) -> Tensor:
    """Its values as a kernel reads them: 1, C or R * C of them in a row, for a state of `shape` [B, ...]; of "row" as they are."""
    param = param.detach()
    if kind in ("one", "row"):
        return param.contiguous()
    if kind == "each":
        return param.expand(shape).contiguous()
    inner = param.reshape(param.shape[1:]) if param.dim() == len(shape) else param
    return inner.expand(shape[1:]).contiguous()


def param_gradient(param: Tensor, summed: Tensor | None, kind: str, shape: torch.Size) -> Tensor:
    """From what a kernel has summed over time: partial sums of one value, or a value for each neuron. None is zero."""
    if summed is None:
        return torch.zeros_like(param)
    if kind == "one":
        return summed.sum().to(param.dtype).reshape(param.shape)
    if kind == "row":  # pieces of rows that repeat the values in order
        return summed.view(shape[0] // param.numel(), param.numel(), -1).sum((0, 2)).to(param.dtype).view(param.shape)
    return summed.view(shape).sum_to_size(param.shape)


def precision(x: Tensor) -> torch.dtype:
    """The precision of a step: double for double inputs, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def fits(x: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], lengths: Tensor | None, dtypes: Collection[torch.dtype]) -> bool:
    """Whether a kernel can be given these tensors: on one device, strided, of one shape, in one precision."""
    first = x[0]
    shape, dtype, device = first.shape, precision(first), first.device
    if first.dtype not in dtypes or len(shape) < 2 or first.numel() == 0:
        return False
    for v in x:
        if v.shape != shape or v.dtype != first.dtype or not _is_plain(v, device):
            return False
    for s in state:
        if s.shape != shape[1:] or s.dtype != dtype or not _is_plain(s, device):
            return False
    for p in params:
        if p.dtype != dtype or not _is_plain(p, device) or not _broadcasts(p.shape, shape[1:]):
            return False
    return lengths is None or (lengths.dtype == torch.int64 and lengths.device == device and lengths.shape == shape[1:2])


def _is_plain(tensor: Tensor, device: torch.device) -> bool:
    return tensor.device == device and tensor.layout == torch.strided


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) <= len(to) and all([a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False)])
