"""What a product with spikes does in this call: which form each part takes, and what is kept for backward."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from neuro.kernels.bits import PLANES, Packed, pack
from neuro.kernels.choosing import current
from neuro.kernels.costs import Work
from neuro.kernels.memory import values_of
from neuro.kernels.spike_lookup import has_lookup


class Plan(NamedTuple):
    """The packed input, and how the product and the weight's gradient are formed.

    A form is None for dense, else how many of the input's planes are looked up; the rest is driven by its events.
    """

    packed: Packed
    forward: int | None
    gradient: int | None
    onednn: bool = False  # whether the dense products among them are oneDNN's
    places: float = 0.0  # the largest share of places at which alone the gradient by the input is formed, where a gate names them
    winograd: bool = False  # whether a convolution's gradient by its input is Winograd's


_PLAIN = (Tensor, nn.Parameter)


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary CPU tensors of one floating type that nothing watches: no compiler, transform, counter or autocast."""
    if torch.compiler.is_compiling():
        return False
    dtype = tensors[0].dtype  # type: ignore[union-attr]
    if dtype is not torch.float32 and dtype is not torch.float64:
        return False
    for t in tensors:
        if t is not None and not (type(t) in _PLAIN and t.is_cpu and t.dtype is dtype and t.layout is torch.strided and t.numel()):
            return False
    return not (
        torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._is_tracing()
    )


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd watches; where it does not, a product that is planned needs no node of its graph."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def plan(x: Tensor, work: Work, *, keeps: bool, looks: bool = True) -> Plan | None:
    """How to form this product, or None for plain torch. Where nothing is to be kept, a plan's forward is never dense.

    Args:
        keeps: whether backward will need x.
        looks: whether the weight's gradient may be looked up.
    """
    table = current()
    if table == "dense":
        return None
    values, can = values_of(x), has_lookup(x.dtype)
    if isinstance(table, str):
        packed = _packed(x, values)
        planes = len(packed.held) if table == "lookup" and can else 0
        return Plan(packed, planes, planes if looks else 0, places=1.0) if packed.is_planes else None
    expected = expected_events(values)
    if expected is None:
        return None
    known = table.known(work)
    kept = keeps and known.may_keep
    if not kept and known.forward.form(expected, can) is None:
        return None
    packed = _packed(x, values)
    counts = packed.by_plane() if packed.is_planes else None
    forward = None if counts is None else known.forward.form(counts, can)
    if forward is None and not (kept and packed.is_smaller):
        return None
    gradient = None if counts is None or not keeps else known.gradient.form(counts, can and looks)
    return Plan(packed, forward, gradient, known.onednn, known.places, known.winograd)


_shared = threading.local()


@contextmanager
def packed_once(x: Tensor) -> Iterator[None]:
    """Inside, layers that take this very tensor, as query, key and value do, turn it into bits once for all of them.

    It must not change meanwhile: only who writes the block can promise that, so nothing is remembered outside of one.
    """
    before = getattr(_shared, "input", None)
    _shared.input = [x, None]
    try:
        yield
    finally:
        _shared.input = before


def _packed(x: Tensor, values: np.ndarray) -> Packed:
    """The bits of x, which has these values."""
    shared = getattr(_shared, "input", None)
    if shared is None or shared[0] is not x:
        return pack(x, values)
    if shared[1] is None:
        shared[1] = pack(x, values)
    return shared[1]


def expected_events(values: np.ndarray) -> tuple[float, ...] | None:
    """How many of these values are above 0, 1 and so on, from a sample, or None where they are not small whole numbers."""
    from neuro.kernels import bit_loops

    found = np.empty(PLANES, np.int64)
    seen, odd = bit_loops.look(values, found)
    return None if odd else tuple([n * values.size / seen for n in found.tolist() if n]) or (0.0,)
