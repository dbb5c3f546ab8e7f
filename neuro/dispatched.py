"""Operators of torch by what they cost: products, elementwise work, reads of a table, and what only moves or makes tensors."""

from __future__ import annotations

from typing import Any

import torch

aten = torch.ops.aten

MATMUL = {  # operator -> the positions of its two factors and of what is added
    aten.mm.default: (0, 1, None),
    aten.bmm.default: (0, 1, None),
    aten.addmm.default: (1, 2, 0),
    aten.baddbmm.default: (1, 2, 0),
    aten.mv.default: (0, 1, None),
    aten.addmv.default: (1, 2, 0),
    aten.dot.default: (0, 1, None),
    aten._addmm_activation.default: (1, 2, 0),
    aten.addbmm.default: (1, 2, 0),
    aten.vdot.default: (0, 1, None),
    aten._int_mm.default: (0, 1, None),
    aten._sparse_addmm.default: (1, 2, 0),
}

FREE = set(
    "clone copy_ copy contiguous _to_copy empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like ones ones_like "
    "new_zeros new_ones new_full full full_like scalar_tensor cat stack detach detach_ alias lift_fresh lift_fresh_copy arange linspace "
    "eye fill_ zero_ resize_ set_ _reshape_alias _unsafe_view constant_pad_nd pad reflection_pad1d reflection_pad2d replication_pad2d "
    "scatter scatter_ select_scatter slice_scatter flip roll repeat tril triu bernoulli bernoulli_ "
    "native_dropout rand rand_like randn randn_like normal_ uniform_ _local_scalar_dense is_same_size _has_compatible_shallow_copy_type "
    "split_copy unsafe_split unsafe_split_with_sizes unsafe_chunk narrow_copy unfold_copy repeat_interleave im2col masked_fill masked_fill_ channel_shuffle pixel_shuffle sym_size record_stream "
    "complex transpose t squeeze unsqueeze as_strided _to_sparse _to_sparse_csr _to_dense _coalesce _conj_physical".split()
)

# Read elements of a table by an index: no arithmetic, and listed, because such a layer may be all that a network does with its input.
MOVED = set("embedding index _unsafe_index index_select gather take upsample_nearest1d upsample_nearest2d upsample_nearest3d".split())

ELEMENTWISE = set(
    "add sub mul div rsub neg abs exp exp2 expm1 log log2 log1p sqrt rsqrt reciprocal pow square sign sgn relu leaky_relu sigmoid tanh gelu silu elu "
    "selu celu mish softplus hardtanh hardswish hardsigmoid clamp clamp_min clamp_max maximum minimum fmod remainder round floor ceil trunc "
    "where eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor isnan isinf "
    "isfinite sin cos tan atan erf lerp addcmul addcdiv heaviside threshold prelu _prelu_kernel rrelu_with_noise log_sigmoid_forward "
    "softmax _softmax _safe_softmax _log_softmax logsumexp native_layer_norm native_group_norm native_batch_norm _native_batch_norm_legit_no_training "
    "_native_batch_norm_legit cudnn_batch_norm miopen_batch_norm _batch_norm_no_update batch_norm_elemt mean sum prod amax amin max min "
    "argmax argmin var var_mean std std_mean any all norm linalg_vector_norm cumsum cumprod topk sort max_pool2d_with_indices "
    "max_pool3d_with_indices avg_pool2d avg_pool3d avg_pool1d max_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d "
    "upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d scatter_add index_add index_put addr count_nonzero equal glu _fused_rms_norm".split()
)


def base_name(func: Any) -> str:
    """`add` of `aten::add_.Tensor`: without namespace, overload and the mark of in-place operators."""
    name = func._schema.name
    name = name[6:] if name.startswith("aten::") else name
    return name if name in FREE or name in ELEMENTWISE or name in MOVED or not name.endswith("_") else name[:-1]
