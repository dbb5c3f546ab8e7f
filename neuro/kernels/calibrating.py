"""The costs of products on this machine, measured in about a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro.kernels import dense, spike_attention, spike_conv, spike_linear, spike_lookup
from neuro.kernels.bits import Packed, pack
from neuro.kernels.choosing import Costs

_DENSITY = 0.1
_WIDTH, _BATCH = 512, 1024  # of the linear layer
_CHANNELS, _MAP, _IMAGES = 64, 24, 8  # of the convolution
_HEADS = 4  # of the attention


def measure() -> Costs:
    """Time dense and event-driven products of one layer of each kind with torch's present number of threads."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        return Costs(**_linear(generator), **_conv(generator), **_attention(generator), **_common(generator))


def _linear(generator: torch.Generator) -> dict[str, float]:
    w = torch.randn(_WIDTH, _WIDTH, generator=generator)
    own = {f"dense_{n}": _seconds(lambda x: F.linear(x, w), torch.rand(n, _WIDTH, generator=generator)) / (n * w.numel()) for n in (16, 128)}
    many = torch.rand(_BATCH, _WIDTH, generator=generator)
    usual, other = _in_turns(lambda x: F.linear(x, w), lambda x: dense.product(x, w, None, onednn=True), given=many)
    own["dense_1024"] = usual / (_BATCH * w.numel())
    own["onednn_1024"] = other / (_BATCH * w.numel()) if dense.has_onednn(w.dtype) else 0.0
    empty, spikes = torch.zeros(_BATCH, _WIDTH), _spikes((_BATCH, _WIDTH), generator)
    silent, active = _pair(lambda kept: spike_linear.forward(kept, w, None), empty, spikes)
    add = max(0.0, active - silent) / (int(spikes.sum()) * _WIDTH)
    g = torch.randn(_BATCH, _WIDTH, generator=generator)
    quiet, driven = _pair(lambda kept: spike_linear.weight_gradient(kept, g), empty, spikes)
    gradient = max(0.0, driven - quiet) / (int(spikes.sum()) * _WIDTH)
    outputs = _BATCH * _WIDTH
    own |= _looked_up("linear", spikes, spikes.numel() * _WIDTH, lambda kept: spike_lookup.linear(kept, 1, w, None), lambda kept: spike_lookup.linear_gradient(kept, 1, g))
    return {**own, "linear_add": add, "linear_output": silent / outputs, "linear_gradient_add": gradient, "linear_gradient_output": quiet / outputs}


def _conv(generator: torch.Generator) -> dict[str, float]:
    shape = (_IMAGES, _CHANNELS, _MAP, _MAP)
    w = torch.randn(_CHANNELS, _CHANNELS, 3, 3, generator=generator)
    spikes = _spikes(shape, generator)
    products = spikes.numel() * _CHANNELS * 9
    sizes = spike_conv.sizes_of(spikes.shape, w.shape, (1, 1), (1, 1), (1, 1), 1)
    silent, active = _pair(lambda kept: spike_conv.forward(kept, w, None, sizes), torch.zeros(shape), spikes)
    add = max(0.0, active - silent) / (int(spikes.sum()) * _CHANNELS * 9)
    usual = _seconds(lambda x: F.conv2d(x, w, None, 1, 1), spikes) / products
    g = torch.randn(shape, generator=generator)
    quiet, driven = _pair(lambda kept: spike_conv.weight_gradient(kept, g, sizes), torch.zeros(shape), spikes)
    gradient = max(0.0, driven - quiet) / (int(spikes.sum()) * _CHANNELS * 9)
    outputs = spikes.numel()  # as many as inputs
    looked = _looked_up("conv", spikes, products, lambda kept: spike_lookup.convolution(kept, 1, w, None, sizes), lambda kept: spike_lookup.convolution_gradient(kept, 1, g, sizes))
    return {**looked, "dense_conv": usual, "conv_add": add, "conv_output": silent / outputs, "conv_gradient_add": gradient, "conv_gradient_output": quiet / outputs}


def _attention(generator: torch.Generator) -> dict[str, float]:
    shape, d = (4, _IMAGES, 64, _HEADS * 32), 32
    q, k, v = (_spikes(shape, generator) for _ in range(3))
    none, spikes, values = pack(torch.zeros(shape)), pack(q), pack(v)

    def formed(queries: Packed, keys: Packed) -> float:
        return _seconds(lambda _: spike_attention.forward(queries, keys, values, _HEADS, 0.125), None)

    def differentiated(three: Packed) -> float:
        return _seconds(lambda _: spike_attention.gradients(three, three, three, g, _HEADS, 0.125), None)

    g, wanted = torch.randn(shape, generator=generator), [x.requires_grad_() for x in (q, k, v)]
    with torch.enable_grad():
        training = _seconds(lambda _: torch.autograd.grad(spike_attention.dense(q, k, v, _HEADS, 0.125), wanted, g), None)
    silent, paired, active = formed(none, none), formed(none, pack(k)), formed(spikes, none)
    quiet, driven = differentiated(none), differentiated(spikes)
    outputs = q.numel()  # 64 tokens: a word
    return {
        "attention_dense": _seconds(lambda _: spike_attention.dense(q, k, v, _HEADS, 0.125), None) / (2 * outputs * d),
        "attention_output": silent / outputs,
        "attention_pair": max(0.0, paired - silent) / (outputs // 64 * d),
        "attention_add": max(0.0, active - silent) / (spikes.events * d),
        "attention_training_dense": training / (2 * outputs * d),
        "attention_gradient_product": quiet / (outputs * d),
        "attention_gradient_add": max(0.0, driven - quiet) / (3 * spikes.events * d),
    }


def _common(generator: torch.Generator) -> dict[str, float]:
    many, few = _spikes((1 << 20,), generator), _spikes((64, 64), generator)
    w = torch.randn(_WIDTH, _WIDTH, generator=generator)
    small = torch.randn(64, 64, generator=generator)
    return {
        "pack": _seconds(pack, many) / many.numel(),
        "unpack": _seconds(Packed.unpack, pack(many)) / many.numel(),
        "weight": _seconds(spike_linear.turned, w) / w.numel(),
        "call": _seconds(lambda x: spike_linear.forward(pack(x), small, None), few),
    }


def _looked_up(kind: str, spikes: Tensor, products: int, forward: Callable[..., Any], gradient: Callable[..., Any]) -> dict[str, float]:
    if not spike_lookup.has_lookup(spikes.dtype):
        return {}
    kept = pack(spikes)
    return {f"lookup_{kind}": _seconds(forward, kept) / products, f"lookup_{kind}_gradient": _seconds(gradient, kept) / products}


def _pair(product: Callable[..., Any], *inputs: Tensor) -> tuple[float, ...]:
    return tuple(_seconds(product, pack(x)) for x in inputs)


def _spikes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) < _DENSITY).float()


def _seconds(call: Callable[[Any], Any], given: Any) -> float:
    return _in_turns(call, given=given)[0]


def _in_turns(*calls: Callable[[Any], Any], given: Any) -> list[float]:
    """The shortest of twenty turns of each after one that is not counted: others may be using the machine. One thread is timed by the processor."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(21):
        for call, spent in zip(calls, times, strict=True):
            start = clock()
            call(given)
            spent.append(clock() - start)
    return [min(spent[1:]) for spent in times]
