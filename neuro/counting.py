"""Every operator of a forward, seen at torch's dispatch and counted by the rules of `neuro.products`.

What is no product is listed in elements: work that is understood, reads of tables, and what is not understood.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from neuro.dispatched import ELEMENTWISE, FREE, MATMUL, MOVED, base_name
from neuro.products import Product, attention, count_complex, count_convolution, count_matmul

aten = torch.ops.aten


@dataclass
class Tally:
    """Everything counted in one forward."""

    products: dict[str, Product] = field(default_factory=lambda: defaultdict(Product))
    elementwise: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    unknown: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    moved: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))


class _Fused(TorchFunctionMode):
    """Counts `scaled_dot_product_attention` by its definition, whichever kernel torch takes; torch's own result is returned.

    leaves: told of a tensor that is handed to NumPy, where nothing is seen. made: told of a result that came unseen.
    """

    def __init__(self, leaves: Callable[[Tensor], None], made: Callable[[Any], None]) -> None:
        super().__init__()
        self.leaves, self.made = leaves, made

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.numpy, Tensor.__array__):
            self.leaves(args[0])
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        attention(*args, **kwargs)
        with _disable_current_modes():
            out = func(*args, **kwargs)
            self.made([out])
        return out


class Counter(TorchDispatchMode):
    """Counts every operator of a forward into a `Tally`.

    `where()` tells (module path, whether a neuron is running): what a neuron does elementwise is its update, counted as such.
    `weights`: parameters and buffers; what is computed from them alone is a weight too.
    """

    supports_higher_order_operators = True

    def __init__(self, where: Callable[[], tuple[str, bool]], weights: list[Tensor]):
        super().__init__()
        self.where = where
        self.tally = Tally()
        self._fused, self._depth = _Fused(self._to_numpy, self._note), 0
        self._made: dict[int, StorageWeakRef] = {}
        self._held = {place: w for w in weights if w.numel() and (place := _place(w)) is not None}
        self._inside: dict[int, tuple[Tensor, Tensor]] = {}  # of padded tensors, what is no padding

    def __enter__(self) -> Counter:
        self._depth += 1
        if self._depth == 1:  # a decomposition enters again
            self._fused.__enter__()
        return super().__enter__()

    def __exit__(self, *why: Any) -> None:
        super().__exit__(*why)
        self._depth -= 1
        if self._depth == 0:
            self._fused.__exit__(*why)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            if (plain := _PLAIN.get(func.name())) is not None:
                with self:
                    return plain(*args, **kwargs)
            out = func(*args, **kwargs)  # others run as they are, and it is said
            self._note([out])
            path, _ = self.where()
            self.tally.unknown[path, func.name()] += max([t.numel() for t in _tensors([args, list(kwargs.values()), out])], default=0)
            return out
        if func._schema.name.startswith("aten::_scaled_dot_product"):
            return self._attention(func, args, kwargs)
        known = func in MATMUL or func is aten.convolution.default
        if not known and not func.is_view and func._can_decompose():
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        out = func(*args, **kwargs)
        self._note([out])
        if not func.is_view:
            self._count(func, args, kwargs, out)
        return out

    def _note(self, made: Any) -> None:
        """Remember where the results of an operator lie."""
        for t in _tensors(made):
            if (place := _place(t)) is not None:
                self._made[place] = StorageWeakRef(_values(t).untyped_storage())

    def unseen(self, made: Any, given: Any = ()) -> None:
        """Say of tensors that a module gave, and that neither an operator made nor anybody handed in: another thread, or no torch, did."""
        kept = {_place(t) for t in _tensors([given])}
        for t in _tensors([made]):
            place = _place(t)
            if place is None or not t.numel() or place in kept or place in self._held or (place in self._made and not self._made[place].expired()):
                continue
            self.tally.unknown[self.where()[0], "made out of sight"] += t.numel()
            self._note([t])

    def _to_numpy(self, x: Tensor) -> None:
        path, neuron = self.where()
        if not neuron:
            self.tally.unknown[path, "numpy"] += x.numel()

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        tensors = [t for t in _tensors(args) + _tensors(list(kwargs.values())) if t.numel()]
        made = _tensors([out])
        name = base_name(func)
        if tensors and all(self._is_weight(t) for t in tensors):
            for t in made:
                if (place := _place(t)) is not None:
                    self._held[place] = t  # and keeps it alive, so that no activation comes to lie there
            return
        for t in _written(func, args, kwargs):  # state in a buffer: no weight from here on
            self._held.pop(_place(t), None)
        if name == "constant_pad_nd":
            self._pad(args, kwargs, out)
        path, neuron = self.where()
        if func in MATMUL:
            self._matmul(func, args, kwargs, path, name)
        elif func is aten.convolution.default:
            p = self.tally.products[path]
            p.operators.add(name)
            _, inside = self._inside.get(_place(args[0]), (None, None))
            count_convolution(p, out, *args, inside=inside if inside is not None and inside.shape == args[0].shape else None)
        elif name in FREE:
            return
        elif name in MOVED:
            self.tally.moved[path, name] += max([t.numel() for t in made], default=0)
        elif name in ELEMENTWISE:
            if not neuron:
                self.tally.elementwise[path, name] += max([t.numel() for t in tensors + made], default=0)
        else:
            self.tally.unknown[path, name] += max([t.numel() for t in tensors + made], default=0)

    def _pad(self, args: Any, kwargs: Any, out: Tensor) -> None:
        """Remember what of a zero-padded tensor is padding: taps there are not in the map."""
        x, pads, value = args[0], args[1], args[2] if len(args) > 2 else kwargs.get("value", 0)
        if value != 0 or (place := _place(out)) is None:
            return
        _, before = self._inside.get(_place(x), (None, None))
        inside = before if before is not None and before.shape == x.shape else torch.ones(x.shape, dtype=torch.bool, device=x.device)
        self._inside[place] = out, aten.constant_pad_nd(inside, pads, False)

    def _matmul(self, func: Any, args: Any, kwargs: Any, path: str, name: str) -> None:
        i, j, bias = MATMUL[func]
        a, b = args[i], args[j]
        wa, wb = self._is_weight(a), self._is_weight(b)
        a, b = (a[None] if a.dim() == 1 else a), (b[:, None] if b.dim() == 1 else b)
        p = self.tally.products[path]
        before = p.outputs
        p.operators.add(name)
        if name == "addbmm":  # its batch is one more axis of the sum
            a, b = a.transpose(0, 1).flatten(1), b.flatten(0, 1)
        (count_complex if a.is_complex() else count_matmul)(p, a, b, wa, wb)
        p.biases += p.outputs - before if bias is not None and kwargs.get("beta", 1) != 0 else 0

    def _attention(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A fused kernel that was called as such: counted by its definition; the kernel's own result is returned."""
        named = dict(zip([a.name for a in func._schema.arguments], args, strict=False)) | kwargs
        q, k, v = (named[n] for n in ("query", "key", "value"))
        with self:
            attention(q, k, v, named.get("attn_mask", named.get("attn_bias")), is_causal=named.get("is_causal", False), scale=named.get("scale"), enable_gqa=True)
        out = func(*args, **kwargs)
        self._note([out])
        return out

    def _is_weight(self, x: Tensor) -> bool:
        return _place(x) in self._held


def _cond(pred: Any, true: Any, false: Any, operands: Any, **kwargs: Any) -> Any:
    return (true if bool(pred) else false)(*operands)


def _while(proceed: Any, body: Any, carried: Any, additional: Any, **kwargs: Any) -> Any:
    carried = tuple(carried)
    while bool(proceed(*carried, *additional)):
        carried = tuple(body(*carried, *additional))
    return tuple(c.clone() if isinstance(c, Tensor) else c for c in carried)


def _flex(*args: Any, **kwargs: Any) -> Any:
    from torch._higher_order_ops.flex_attention import sdpa_dense

    return sdpa_dense(*args, **kwargs)


_PLAIN: dict[str, Callable[..., Any]] = {"cond": _cond, "while_loop": _while, "flex_attention": _flex}  # as ordinary operators


def _values(x: Tensor) -> Tensor:
    """The tensor itself, or the one in which a sparse tensor keeps its values."""
    return x if x.layout is torch.strided else x._values() if x.layout is torch.sparse_coo else x.values()


def _place(x: Tensor) -> int | None:
    """Where the values lie; None where a tensor has no memory that could be told."""
    if x.layout not in (torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        return None
    return _values(x).untyped_storage().data_ptr()


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Tensors that an operator changes in place."""
    named = dict(zip([a.name for a in func._schema.arguments], args, strict=False)) | kwargs
    changed = [named.get(a.name) for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [t for t in _tensors(changed) if t.numel()]


def _tensors(values: Any) -> list[Tensor]:
    found = []
    for v in values:
        if isinstance(v, Tensor):
            found.append(v)
        elif isinstance(v, (list, tuple)):
            found += _tensors(v)
        elif isinstance(v, dict):
            found += _tensors(v.values())
    return found
