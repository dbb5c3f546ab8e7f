"""What each torch operator costs by the values that it is given: the rules behind `neuro.activity`.

A product is counted where a nonzero input meets a weight, or a nonzero of the other factor if both are activations. Values
count, not layer types: an input of +-1 makes an accumulation (AC), another integer a graded one, any other value a
multiplication (MAC); of two activations one of +-1 is enough for an AC. Weights are taken as they come, their zeros included;
padding is not an operand, so a tap outside the map is not counted, whether a layer pads or `constant_pad_nd` did before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

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


@dataclass
class Tally:
    """Everything counted in one forward."""

    products: dict[str, Product] = field(default_factory=lambda: defaultdict(Product))
    elementwise: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    unknown: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))


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


def count_matmul(p: Product, a: Tensor, b: Tensor, a_weight: bool, b_weight: bool) -> None:
    """[m, k] x [k, n], also batched. A weight counts as present everywhere; of two activations both must be nonzero.

    AC where an activation is +-1, so that the other factor is only added.
    """
    a, b = (a[None], b[None]) if a.dim() == 2 else (a, b)
    _, m, inner = a.shape
    n = b.shape[-1]
    dense = a.shape[0] * m * inner * n
    present = torch.ones(a.shape[0], inner, dtype=torch.float64, device=a.device)
    columns, rows = (present * m, 0 * present, present * m), (present * n, 0 * present, present * n)  # a weight: never free, whole
    if not a_weight:
        k = kinds(a)
        columns = tuple(i.sum(1) for i in k)
        _enter(p, a, k)
    else:
        p.weights = max(p.weights, a.numel())
    if b_weight:
        p.weights = max(p.weights, b[0].numel())
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


_MATMUL = {  # operator -> the positions of its two factors and of what is added
    aten.mm.default: (0, 1, None),
    aten.bmm.default: (0, 1, None),
    aten.addmm.default: (1, 2, 0),
    aten.baddbmm.default: (1, 2, 0),
    aten.mv.default: (0, 1, None),
    aten.addmv.default: (1, 2, 0),
    aten.dot.default: (0, 1, None),
    aten._addmm_activation.default: (1, 2, 0),
}

_FREE = set(
    "clone copy_ copy contiguous _to_copy empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like ones ones_like "
    "new_zeros new_ones new_full full full_like scalar_tensor cat stack detach detach_ alias lift_fresh lift_fresh_copy arange linspace "
    "eye fill_ zero_ resize_ set_ _reshape_alias _unsafe_view constant_pad_nd pad reflection_pad1d reflection_pad2d replication_pad2d "
    "index index_select gather scatter scatter_ select_scatter slice_scatter embedding flip roll repeat tril triu bernoulli bernoulli_ "
    "native_dropout rand rand_like randn randn_like normal_ uniform_ _local_scalar_dense is_same_size _has_compatible_shallow_copy_type "
    "split_copy unsafe_split unsafe_split_with_sizes unsafe_chunk narrow_copy unfold_copy repeat_interleave im2col masked_fill masked_fill_ channel_shuffle pixel_shuffle sym_size record_stream".split()
)

_ELEMENTWISE = set(
    "add sub mul div rsub neg abs exp exp2 expm1 log log2 log1p sqrt rsqrt reciprocal pow square sign sgn relu leaky_relu sigmoid tanh gelu silu elu "
    "selu celu mish softplus hardtanh hardswish hardsigmoid clamp clamp_min clamp_max maximum minimum fmod remainder round floor ceil trunc "
    "where eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor isnan isinf "
    "isfinite sin cos tan atan erf lerp addcmul addcdiv heaviside threshold prelu _prelu_kernel rrelu_with_noise log_sigmoid_forward "
    "softmax _softmax _safe_softmax _log_softmax logsumexp native_layer_norm native_group_norm native_batch_norm _native_batch_norm_legit_no_training "
    "_native_batch_norm_legit cudnn_batch_norm miopen_batch_norm _batch_norm_no_update batch_norm_elemt mean sum prod amax amin max min "
    "argmax argmin var var_mean std std_mean any all norm linalg_vector_norm cumsum cumprod topk sort max_pool2d_with_indices "
    "max_pool3d_with_indices avg_pool2d avg_pool3d avg_pool1d max_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d "
    "upsample_nearest2d upsample_bilinear2d count_nonzero equal glu _fused_rms_norm".split()
)


def base_name(func: Any) -> str:
    """`add` of `aten::add_.Tensor`: without namespace, overload and the mark of in-place operators."""
    name = func._schema.name
    name = name[6:] if name.startswith("aten::") else name
    return name if name in _FREE or name in _ELEMENTWISE or not name.endswith("_") else name[:-1]


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


class _Fused(TorchFunctionMode):
    """Counts `scaled_dot_product_attention` by its definition, whichever kernel torch takes; torch's own result is returned."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        attention(*args, **kwargs)
        with _disable_current_modes():
            return func(*args, **kwargs)


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
        self._fused, self._depth = _Fused(), 0
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
        if isinstance(func, HigherOrderOperator):  # flex_attention, cond: run as they are, and said
            out = func(*args, **kwargs)
            path, _ = self.where()
            self.tally.unknown[path, func.name()] += max([t.numel() for t in _tensors([args, list(kwargs.values()), out])], default=0)
            return out
        if func._schema.name.startswith("aten::_scaled_dot_product"):
            return self._attention(func, args, kwargs)
        known = func in _MATMUL or func is aten.convolution.default
        if not known and not func.is_view and func._can_decompose():
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        out = func(*args, **kwargs)
        if not func.is_view:
            self._count(func, args, kwargs, out)
        return out

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
        if func in _MATMUL:
            self._matmul(func, args, path, name)
        elif func is aten.convolution.default:
            p = self.tally.products[path]
            p.operators.add(name)
            _, inside = self._inside.get(_place(args[0]), (None, None))
            count_convolution(p, out, *args, inside=inside if inside is not None and inside.shape == args[0].shape else None)
        elif name in _FREE:
            return
        elif name in _ELEMENTWISE:
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

    def _matmul(self, func: Any, args: Any, path: str, name: str) -> None:
        i, j, bias = _MATMUL[func]
        a, b = args[i], args[j]
        wa, wb = self._is_weight(a), self._is_weight(b)
        a, b = (a[None] if a.dim() == 1 else a), (b[:, None] if b.dim() == 1 else b)
        p = self.tally.products[path]
        before = p.outputs
        p.operators.add(name)
        count_matmul(p, a, b, wa, wb)
        p.biases += p.outputs - before if bias is not None else 0

    def _attention(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A fused kernel that was called as such: counted by its definition; the kernel's own result is returned."""
        named = dict(zip([a.name for a in func._schema.arguments], args, strict=False)) | kwargs
        q, k, v = (named[n] for n in ("query", "key", "value"))
        with self:
            attention(q, k, v, named.get("attn_mask", named.get("attn_bias")), is_causal=named.get("is_causal", False), scale=named.get("scale"), enable_gqa=True)
        return func(*args, **kwargs)

    def _is_weight(self, x: Tensor) -> bool:
        return _place(x) in self._held


def _place(x: Tensor) -> int | None:
    """Where the values lie; None where a tensor has no storage of its own (sparse)."""
    return x.untyped_storage().data_ptr() if x.layout is torch.strided else None


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
    return found
