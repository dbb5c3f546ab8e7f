"""The costs of products on this machine, measured in some three seconds; before that loops are compiled, once per machine."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro.kernels import dense, gating, programs, spike_attention, spike_conv, spike_linear, spike_lookup, winograd
from neuro.kernels.bits import Packed, pack
from neuro.kernels.choosing import Costs
from neuro.kernels.gating import Gate
from neuro.surrogate import Rectangle, Surrogate

_DENSITY = 0.25  # near where forms are worth the same
_WIDTH, _BATCH, _STEPS = 512, 1024, 16  # of the linear layer; the neuron before it has so many steps
_CHANNELS, _OUTPUTS, _MAP, _IMAGES, _MANY = 128, 256, 16, 4, 32  # of the convolution; tiles are worth while in many images
_HEADS, _SAMPLES = 12, 8  # of the attention
_TYPE = torch.float32
_normal = functools.partial(torch.randn, dtype=_TYPE)


def measure() -> Costs:
    """Time dense, event-driven and looked-up products of one layer of each kind in float32, on one thread.

    The first product that asks may stand in an inference mode, or in a process whose default is float64: neither shows here.
    """
    threads, generator = torch.get_num_threads(), torch.Generator().manual_seed(0)
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.no_grad():
            return Costs(**_linear(generator), **_gates(generator), **_conv(generator), **_attention(generator), **_common(generator))
    finally:
        torch.set_num_threads(threads)


def _linear(generator: torch.Generator) -> dict[str, float]:
    w, products = _normal(_WIDTH, _WIDTH, generator=generator), _BATCH * _WIDTH * _WIDTH
    few, some, many = (torch.rand(n, _WIDTH, generator=generator, dtype=_TYPE) for n in (16, 128, _BATCH))
    spikes, g = _spikes((_BATCH, _WIDTH), generator), _normal(_BATCH, _WIDTH, generator=generator)
    none, kept, outputs = pack(torch.zeros(_BATCH, _WIDTH, dtype=_TYPE)), pack(spikes), _BATCH * _WIDTH
    calls = {
        "dense_16": lambda: F.linear(few, w), "dense_128": lambda: F.linear(some, w), "dense_1024": lambda: F.linear(many, w),
        "silent": lambda: spike_linear.forward(none, w, None), "active": lambda: spike_linear.forward(kept, w, None),
        "quiet": lambda: spike_linear.weight_gradient(none, g), "driven": lambda: spike_linear.weight_gradient(kept, g),
    }  # fmt: skip
    if dense.has_onednn(w.dtype):
        calls["onednn_1024"] = lambda: dense.product(many, w, None, onednn=True)
    if spike_lookup.has_lookup(w.dtype):
        calls["lookup_linear"], calls["lookup_linear_gradient"] = lambda: spike_lookup.linear(kept, 1, w, None), lambda: spike_lookup.linear_gradient(kept, 1, g)
    t = _in_turns(calls)
    sizes = {"dense_16": 16 * w.numel(), "dense_128": 128 * w.numel()}
    rates = {name: t[name] / sizes.get(name, products) for name in calls if "dense" in name or "lookup" in name or "onednn" in name}
    return {**rates, **_by_events("linear", t, outputs, kept.events * _WIDTH)}


def _conv(generator: torch.Generator) -> dict[str, float]:
    shape = (_IMAGES, _CHANNELS, _MAP, _MAP)
    w, spikes = _normal(_OUTPUTS, _CHANNELS, 3, 3, generator=generator), _spikes(shape, generator)
    g, many = (_normal(images, _OUTPUTS, _MAP, _MAP, generator=generator) for images in (_IMAGES, _MANY))
    none, kept, products = pack(torch.zeros(shape, dtype=_TYPE)), pack(spikes), spikes.numel() * _OUTPUTS * 9
    sizes = spike_conv.sizes_of(spikes.shape, w.shape, (1, 1), (1, 1), (1, 1), 1)
    calls = {
        "dense_conv": lambda: F.conv2d(spikes, w, None, 1, 1),
        "silent": lambda: spike_conv.forward(none, w, None, sizes), "active": lambda: spike_conv.forward(kept, w, None, sizes),
        "quiet": lambda: spike_conv.weight_gradient(none, g, sizes), "driven": lambda: spike_conv.weight_gradient(kept, g, sizes),
        "input_dense": lambda: spike_conv.input_gradient(many, w, sizes, torch.Size((_MANY, *spikes.shape[1:]))),
        "input_winograd": lambda: winograd.input_gradient(many, w, sizes),
    }  # fmt: skip
    if spike_lookup.has_lookup(w.dtype):
        calls["lookup_conv"] = lambda: spike_lookup.convolution(kept, 1, w, None, sizes)
        calls["lookup_conv_gradient"] = lambda: spike_lookup.convolution_gradient(kept, 1, g, sizes)
    t = _in_turns(calls)
    rates = {name: t[name] / products for name in calls if "dense" in name or "lookup" in name}
    rates |= {name: t[name] / (products * _MANY // _IMAGES) for name in ("input_dense", "input_winograd")}
    return {**rates, **_by_events("conv", t, g.numel(), kept.events * _OUTPUTS * 9)}


def _by_events(kind: str, t: dict[str, float], outputs: int, adds: int) -> dict[str, float]:
    """Costs of an output and of an addition, from products without any event and with many."""
    return {
        f"{kind}_add": max(0.0, t["active"] - t["silent"]) / adds, f"{kind}_output": t["silent"] / outputs,
        f"{kind}_gradient_add": max(0.0, t["driven"] - t["quiet"]) / adds, f"{kind}_gradient_output": t["quiet"] / outputs,
    }  # fmt: skip


def _attention(generator: torch.Generator) -> dict[str, float]:
    shape, d = (4, _SAMPLES, 64, _HEADS * 32), 32
    q, k, v = (_spikes(shape, generator) for _ in range(3))
    none, spikes, values = pack(torch.zeros(shape, dtype=_TYPE)), pack(q), pack(v)

    g, wanted = _normal(shape, generator=generator), [x.requires_grad_() for x in (q, k, v)]

    def trained() -> None:
        with torch.enable_grad():
            torch.autograd.grad(spike_attention.dense(q, k, v, _HEADS, 0.125), wanted, g)

    def formed(queries: Packed, keys: Packed) -> Callable[[], Tensor]:
        return lambda: spike_attention.forward(queries, keys, values, _HEADS, 0.125)

    t = _in_turns({
        "dense": lambda: spike_attention.dense(q, k, v, _HEADS, 0.125), "training": trained,
        "silent": formed(none, none), "paired": formed(none, pack(k)), "active": formed(spikes, none),
        "quiet": lambda: spike_attention.gradients(none, none, none, g, _HEADS, 0.125),
        "driven": lambda: spike_attention.gradients(spikes, spikes, spikes, g, _HEADS, 0.125),
    })  # fmt: skip
    outputs = q.numel()  # 64 tokens: a word
    return {
        "attention_dense": t["dense"] / (2 * outputs * d),
        "attention_output": t["silent"] / outputs,
        "attention_pair": max(0.0, t["paired"] - t["silent"]) / (outputs // 64 * d),
        "attention_add": max(0.0, t["active"] - t["silent"]) / (spikes.events * d),
        "attention_training_dense": t["training"] / (2 * outputs * d),
        "attention_gradient_product": t["quiet"] / (outputs * d),
        "attention_gradient_add": max(0.0, t["driven"] - t["quiet"]) / (3 * spikes.events * d),
    }


def _common(generator: torch.Generator) -> dict[str, float]:
    many, few = _spikes((1 << 20,), generator), _spikes((64, 64), generator)
    w, small, kept = _normal(_WIDTH, _WIDTH, generator=generator), _normal(64, 64, generator=generator), pack(many)
    t = _in_turns({
        "pack": lambda: pack(many), "unpack": lambda: kept.unpack(), "weight": lambda: spike_linear.turned(w),
        "call": lambda: spike_linear.forward(pack(few), small, None),
    })  # fmt: skip
    return {"pack": t["pack"] / many.numel(), "unpack": t["unpack"] / many.numel(), "weight": t["weight"] / w.numel(), "call": t["call"]}


def _gates(generator: torch.Generator) -> dict[str, float]:
    """In backward these follow a dense product, which leaves nothing else in the caches: they are measured as they find them."""
    w, g, spikes = _normal(_WIDTH, _WIDTH, generator=generator), _normal(_BATCH, _WIDTH, generator=generator), _spikes((_BATCH, _WIDTH), generator)
    none, kept = pack(torch.zeros(_BATCH, _WIDTH, dtype=_TYPE)), pack(spikes)
    shape = (_MANY, _CHANNELS, _MAP, _MAP)
    kernel, maps = _normal(_OUTPUTS, _CHANNELS, 3, 3, generator=generator), _normal(_MANY, _OUTPUTS, _MAP, _MAP, generator=generator)
    far, near = pack(torch.zeros(shape, dtype=_TYPE)), pack(_spikes(shape, generator))
    sizes = spike_conv.sizes_of(far.shape, kernel.shape, (1, 1), (1, 1), (1, 1), 1)
    wide, narrow = (_gate(_normal(_STEPS, n, _WIDTH, generator=generator)) for n in (_BATCH // _STEPS, 1))
    t = _in_turns({
        "shut": lambda: spike_linear.input_gradient_at(none, g, w), "open": lambda: spike_linear.input_gradient_at(kept, g, w),
        "conv_shut": lambda: spike_conv.input_gradient_at(far, maps, kernel, sizes), "conv_open": lambda: spike_conv.input_gradient_at(near, maps, kernel, sizes),
        "whole": lambda: wide.places(1.0), "call": lambda: narrow.places(1.0), "look": lambda: narrow.places(0.0),
    }, before=lambda: g @ w)  # fmt: skip
    elements = _BATCH * _WIDTH
    return {
        "gate": max(0.0, t["whole"] - t["call"]) / elements, "gate_call": t["call"], "gate_look": t["look"],
        "gated_linear_add": max(0.0, t["open"] - t["shut"]) / (kept.events * _WIDTH), "gated_linear_output": t["shut"] / (2 * elements),
        "gated_conv_add": max(0.0, t["conv_open"] - t["conv_shut"]) / (near.events * 9 * _OUTPUTS), "gated_conv_output": t["conv_shut"] / (far.shape.numel() + maps.numel()),
    }  # fmt: skip


def _gate(x: Tensor) -> Gate:
    """Of a leaky neuron with the input x."""
    state, spike = (x.new_zeros(x.shape[1:]),), Rectangle(1.0)
    found = gating.gate(programs.find(_leaky, x, state, None, {"spike": spike}, x.dtype), x, state, None)
    assert found is not None
    return found


def _leaky(x: Tensor, state: tuple[Tensor], p: None, *, spike: Surrogate) -> tuple[Tensor, tuple[Tensor]]:
    v = 0.5 * state[0] + 0.5 * x
    s = spike(v - 1.0)
    return s, (v - s,)


def _spikes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator, dtype=_TYPE) < _DENSITY).to(_TYPE)


def _in_turns(calls: dict[str, Callable[[], Any]], before: Callable[[], Any] | None = None) -> dict[str, float]:
    """The shortest of ten turns of each, in seconds of this thread: others may be using the machine.

    Before each a call that is not counted: layers are larger than these, and find their weights in the caches. Or else `before`.
    """
    for call in calls.values():
        call()  # what is compiled at the first call is not counted either
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(10):
        for name, call in calls.items():
            (before or call)()
            start = time.thread_time()
            call()
            times[name].append(time.thread_time() - start)
    return {name: min(spent) for name, spent in times.items()}
