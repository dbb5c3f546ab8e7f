"""The costs of products on this machine, measured in some four seconds; before that loops are compiled, once per machine."""

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
from neuro.kernels.costs import EVERY, Costs
from neuro.kernels.gating import Gate
from neuro.surrogate import Rectangle, Surrogate

_DENSITY, _FEW = 0.25, 0.05  # near where forms are worth the same; few places where a gradient is wanted
_WIDTH, _BATCH, _STEPS = 512, 1024, 16  # of the linear layer; the neuron before it has so many steps
_SHORT, _LONG = 256, 1024  # inputs of those by events, as `costs` has them
_CHANNELS, _OUTPUTS, _MAP, _IMAGES, _MANY = 128, 256, 16, 4, 32  # of the convolution; tiles are worth while in many images
_NARROW = 64  # channels before and after a narrow one, for which a gradient at places alone has to be quickest to be worth while
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
    w, longer, products = _normal(_WIDTH, _WIDTH, generator=generator), _normal(_WIDTH, _LONG, generator=generator), _BATCH * _WIDTH * _WIDTH
    few, some, many = (torch.rand(n, _WIDTH, generator=generator, dtype=_TYPE) for n in (16, 128, _BATCH))
    spikes, g = _spikes((_BATCH, _LONG), generator), _normal(_BATCH, _WIDTH, generator=generator)
    none, hush, silence = (pack(torch.zeros(_BATCH, n, dtype=_TYPE)) for n in (_WIDTH, _SHORT, _LONG))
    kept, brief, shorter = pack(spikes), pack(_spikes((_BATCH, _SHORT), generator)), longer[:, :_SHORT].contiguous()
    calls = {
        "dense_16": lambda: F.linear(few, w), "dense_128": lambda: F.linear(some, w), "dense_1024": lambda: F.linear(many, w),
        "none": lambda: spike_linear.forward(none, w, None), "none_gradient": lambda: spike_linear.weight_gradient(none, g), "turned": lambda: spike_linear.turned(w),
        "hush": lambda: spike_linear.forward(hush, shorter, None), "brief": lambda: spike_linear.forward(brief, shorter, None),
        "silent": lambda: spike_linear.forward(silence, longer, None), "active": lambda: spike_linear.forward(kept, longer, None),
        "quiet": lambda: spike_linear.weight_gradient(silence, g), "driven": lambda: spike_linear.weight_gradient(kept, g),
    }  # fmt: skip
    if dense.has_onednn(w.dtype):
        calls["onednn_1024"] = lambda: dense.product(many, w, None, onednn=True)
    if spike_lookup.has_lookup(w.dtype):
        calls["lookup_linear"], calls["lookup_linear_gradient"] = lambda: spike_lookup.linear(kept, 1, longer, None), lambda: spike_lookup.linear_gradient(kept, 1, g)
    t = _in_turns(calls)
    sizes = {"dense_16": 16 * w.numel(), "dense_128": 128 * w.numel(), "lookup_linear": _BATCH * longer.numel(), "lookup_linear_gradient": _BATCH * longer.numel()}
    rates = {name: t[name] / sizes.get(name, products) for name in calls if "dense" in name or "lookup" in name or "onednn" in name}
    rates["linear_add_short"] = max(0.0, t["brief"] - t["hush"]) / (brief.events * _WIDTH)
    return {**rates, **_by_events("linear", t, g.numel(), kept.events * _WIDTH), **_without_events(t, g.numel(), products, longer.numel() / w.numel())}


def _without_events(t: dict[str, float], outputs: int, products: int, more: float) -> dict[str, float]:
    """Of a linear layer: costs of an output and, of the gradient, of a product, from a layer and one with so many times the inputs. Turning the weight has a cost of its own."""
    passing = max(0.0, t["quiet"] - more * t["turned"] - (t["none_gradient"] - t["turned"])) / ((more - 1) * products)
    return {
        "linear_output": max(0.0, t["none"] - t["turned"]) / outputs,
        "linear_gradient_output": max(0.0, t["none_gradient"] - t["turned"] - passing * products) / outputs, "linear_gradient_pass": passing,
    }  # fmt: skip


def _conv(generator: torch.Generator) -> dict[str, float]:
    shape = (_IMAGES, _CHANNELS, _MAP, _MAP)
    w, spikes = _normal(_OUTPUTS, _CHANNELS, 3, 3, generator=generator), _spikes(shape, generator)
    g = _normal(_IMAGES, _OUTPUTS, _MAP, _MAP, generator=generator)
    none, kept, products = pack(torch.zeros(shape, dtype=_TYPE)), pack(spikes), spikes.numel() * _OUTPUTS * 9
    sizes = spike_conv.sizes_of(spikes.shape, w.shape, (1, 1), (1, 1), (1, 1), 1)
    calls = {
        "dense_conv": lambda: F.conv2d(spikes, w, None, 1, 1),
        "silent": lambda: spike_conv.forward(none, w, None, sizes), "active": lambda: spike_conv.forward(kept, w, None, sizes),
        "quiet": lambda: spike_conv.weight_gradient(none, g, sizes), "driven": lambda: spike_conv.weight_gradient(kept, g, sizes),
    }  # fmt: skip
    if spike_lookup.has_lookup(w.dtype):
        calls["lookup_conv"] = lambda: spike_lookup.convolution(kept, 1, w, None, sizes)
        calls["lookup_conv_gradient"] = lambda: spike_lookup.convolution_gradient(kept, 1, g, sizes)
    t = _in_turns(calls)
    rates = {name: t[name] / products for name in calls if "dense" in name or "lookup" in name}
    return {**rates, **_by_events("conv", t, g.numel(), kept.events * _OUTPUTS * 9), **_conv_input(generator)}


def _conv_input(generator: torch.Generator) -> dict[str, float]:
    """Of the gradient by the input: costs of a product and of an element of the two gradients, from a wide and a narrow convolution."""
    calls, products, elements = {}, {}, {}
    for channels, outputs in ((_CHANNELS, _OUTPUTS), (_NARROW, _NARROW)):
        w, g = _normal(outputs, channels, 3, 3, generator=generator), _normal(_MANY, outputs, _MAP, _MAP, generator=generator)
        shape = torch.Size((_MANY, channels, _MAP, _MAP))
        sizes = spike_conv.sizes_of(shape, w.shape, (1, 1), (1, 1), (1, 1), 1)
        calls[f"dense_{channels}"] = functools.partial(spike_conv.input_gradient, g, w, sizes, shape)
        calls[f"winograd_{channels}"] = functools.partial(winograd.input_gradient, g, w, sizes)
        products[channels], elements[channels] = g.numel() * channels * 9, g.numel() + shape.numel()
    t, found = _in_turns(calls), {}
    for name in ("dense", "winograd"):
        wide, narrow, more = t[f"{name}_{_CHANNELS}"], t[f"{name}_{_NARROW}"], products[_NARROW] / products[_CHANNELS]
        each = (narrow - more * wide) / (elements[_NARROW] - more * elements[_CHANNELS])
        each = min(max(0.0, each), 0.5 * wide / elements[_CHANNELS])  # most of a wide one's time goes into products, whatever was measured
        found |= {f"input_{name}": (wide - each * elements[_CHANNELS]) / products[_CHANNELS], f"input_{name}_output": each}
    return found


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
    w, g = _normal(_WIDTH, _WIDTH, generator=generator), _normal(_BATCH, _WIDTH, generator=generator)
    kernel, maps = _normal(_NARROW, _NARROW, 3, 3, generator=generator), _normal(_MANY, _NARROW, _MAP, _MAP, generator=generator)
    rows, images = (_BATCH, _WIDTH), (_MANY, _NARROW, _MAP, _MAP)
    few, some, few_maps, some_maps = (pack(_spikes(shape, generator, density)) for shape in (rows, images) for density in (_FEW, _DENSITY))
    sizes = spike_conv.sizes_of(torch.Size(images), kernel.shape, (1, 1), (1, 1), (1, 1), 1)
    wide, narrow = (_gate(_normal(_STEPS, n, _WIDTH, generator=generator)) for n in (_BATCH // _STEPS, 1))
    t = _in_turns({
        "linear_few": lambda: spike_linear.input_gradient_at(few, g, w), "linear_some": lambda: spike_linear.input_gradient_at(some, g, w),
        "conv_few": lambda: spike_conv.input_gradient_at(few_maps, maps, kernel, sizes), "conv_some": lambda: spike_conv.input_gradient_at(some_maps, maps, kernel, sizes),
        "whole": lambda: wide.places(0.99), "call": lambda: narrow.places(0.99), "look": lambda: narrow.places(0.0),
    }, before=lambda: g @ w)  # fmt: skip
    return {
        "gate": max(0.0, t["whole"] - t["call"]) / (_BATCH * _WIDTH * (1 + 1 / EVERY)), "gate_call": max(0.0, t["call"] - t["look"]), "gate_look": t["look"],
        **_at_places("linear", t, few, some, _WIDTH, 2 * _BATCH * _WIDTH), **_at_places("conv", t, few_maps, some_maps, 9 * _NARROW, 2 * maps.numel()),
    }  # fmt: skip


def _at_places(kind: str, t: dict[str, float], few: Packed, some: Packed, terms: int, elements: int) -> dict[str, float]:
    """Costs of a product and of an element of the two gradients, from few places and from many: with none at all other work is missing too."""
    add = max(0.0, t[f"{kind}_some"] - t[f"{kind}_few"]) / ((some.events - few.events) * terms)
    return {f"gated_{kind}_add": add, f"gated_{kind}_output": max(0.0, t[f"{kind}_few"] - add * few.events * terms) / elements}


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


def _spikes(shape: tuple[int, ...], generator: torch.Generator, density: float = _DENSITY) -> Tensor:
    return (torch.rand(shape, generator=generator, dtype=_TYPE) < density).to(_TYPE)


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
