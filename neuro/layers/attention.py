"""Spiking self-attention: products of spikes, without softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from neuro.errors import ParameterError, explain
from neuro.kernels.planning import packed_once
from neuro.kernels.spike_attention import by_heads, joined, spike_attention
from neuro.layers.folding import expect
from neuro.layers.fusing import fire
from neuro.layers.linear import Linear
from neuro.layers.norm import BatchNorm


class AttentionProduct(nn.Module):
    """`scale * (Q K^T) V` per head and time step. Of spikes it is an integer times `scale`.

    Args:
        heads: h; D must be a multiple of it.
        scale: fixed factor, 0.125 in Spikformer, independent of the width.
        order: which product comes first. Both are equal in exact arithmetic, so also for spikes in float32 (integers
            below 2^24); "cheapest" takes (Q K^T) V where N <= D/h and Q (K^T V) elsewhere. Q (K^T V) of spikes may be formed
            from bits: see `neuro.kernels.spike_attention`.

    Shapes: q, k, v [T, B, N, D] -> [T, B, N, D].

    Source: Zhou et al. 2023, Spikformer, arXiv:2209.15425, eq. 8 and 9.
    """

    def __init__(self, heads: int, scale: float = 0.125, order: Literal["cheapest", "qk_first", "kv_first"] = "cheapest"):
        super().__init__()
        self.heads, self.scale, self.order = heads, scale, order

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        for name, x in zip("qkv", (q, k, v), strict=True):
            expect(f"AttentionProduct: {name}", x, "TBND")
        if self.order == "kv_first" or (self.order == "cheapest" and q.shape[-2] * self.heads > q.shape[-1]):
            return spike_attention(q, k, v, self.heads, self.scale)
        q, k, v = (by_heads(x, self.heads) for x in (q, k, v))
        return joined((q @ k.transpose(-1, -2)) @ v * self.scale)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale:g}"


class SpikingSelfAttention(nn.Module):
    """Q, K, V = LIF(BN(x W)); A = scale * (Q K^T) V; out = LIF(BN(LIF_half(A) W_o)).

    Args:
        dim: D, a multiple of heads.
        heads: h.
        neuron: makes a neuron from its threshold; thresholds are 1, and 0.5 after the product.
        scale: see `AttentionProduct`.
        qkv_bias: whether q, k and v have a bias (Spikformer's CIFAR models do).

    Shapes: [T, B, N, D] -> spikes [T, B, N, D].

    Source: Zhou et al. 2023, arXiv:2209.15425, section 3.3.
    """

    def __init__(self, dim: int, heads: int, neuron: Callable[[float], nn.Module], *, scale: float = 0.125, qkv_bias: bool = False):
        super().__init__()
        if dim % heads:
            raise ParameterError(explain(f"SpikingSelfAttention: dim={dim} is not a multiple of heads={heads}."))
        for name in "qkv":
            setattr(self, name, Linear(dim, dim, bias=qkv_bias))
            setattr(self, f"{name}_norm", BatchNorm(dim, axis=-1))
            setattr(self, f"{name}_lif", neuron(1.0))
        self.product = AttentionProduct(heads, scale)
        self.product_lif = neuron(0.5)
        self.out = Linear(dim, dim)
        self.out_norm = BatchNorm(dim, axis=-1)
        self.out_lif = neuron(1.0)

    def forward(self, x: Tensor) -> Tensor:
        with packed_once(x):
            q = fire(self.q_lif, self.q_norm, self.q(x))  # [T, B, N, D], 0 or 1
            k = fire(self.k_lif, self.k_norm, self.k(x))
            v = fire(self.v_lif, self.v_norm, self.v(x))
        y = fire(self.product_lif, None, self.product(q, k, v), into=self.out)
        return fire(self.out_lif, self.out_norm, y)
