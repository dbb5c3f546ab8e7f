"""Compatibility: each layer held against a chip's limits. Every finding names the rule, the number, the limit and its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from neuro import graph as g
from neuro.deploy.chips import Chip, Fact, Shapes
from neuro.deploy.mapping_counts import counted, demand
from neuro.deploy.mapping_layers import Layer, Network, Product
from neuro.deploy.mapping_rewrites import binary, divisible, on_grid, width_of
from neuro.deploy.shift_decay import dash_of
from neuro.graph import Graph
from neuro.reset import name_of

FITS, CHANGE, RETRAIN, CANNOT = "fits", "fits after a change", "fits after retraining", "cannot"
VERDICTS = (FITS, CHANGE, RETRAIN, CANNOT)


@dataclass(frozen=True)
class Finding:
    """One rule that a layer does not meet as it is.

    verdict: CHANGE (made for you by `apply`), RETRAIN (a change of the model that training must follow) or CANNOT.
    what: rule and number. change: what would make it fit, "" where nothing would. limit: the chip's fact.
    """

    layer: str
    rule: str
    verdict: str
    what: str
    limit: Fact
    change: str = ""

    def __str__(self) -> str:
        change = f" Change: {self.change}." if self.change else ""
        return f"{self.layer}: {self.verdict}. {self.rule}: {self.what}; limit {self.limit}.{change}"


@dataclass(frozen=True)
class Question:
    """What is checked: the graph as it is, its layers, and what the caller said of it. steps: T of a recording, None: not told."""

    graph: Graph
    network: Network
    chip: Chip
    bits: Callable[[Layer, str], int]  # of weights
    input_bits: int | None
    steps: int | None

    def first(self, layer: Layer) -> bool:
        return self.network.input in layer.sources


def reads_image(chip: Chip, network: Network, layer: Layer) -> bool:
    """Whether it is the chip's layer for images: convolutions of the input, of as many channels as the chip's table has."""
    products = [p for p in layer.products if network.input in p.sources]
    if not products or chip.first is None or any(p.kind != "conv" for p in products):
        return False
    filters = chip.first.filters.value
    return filters is None or all(p.in_map[0] in {c for c, _ in filters} for p in products)


def findings(asked: Question) -> tuple[Finding, ...]:
    """All findings, in order of layers."""
    return tuple(f for layer in asked.network.layers for rule in RULES for f in rule(asked, layer))


def verdict(found: tuple[Finding, ...]) -> str:
    """The worst of several findings; FITS where there is none.

    >>> verdict(())
    'fits'
    """
    return max((f.verdict for f in found), key=VERDICTS.index, default=FITS)


def _operations(asked: Question, layer: Layer) -> Iterator[Finding]:
    for name, node in layer.operations:
        fact = asked.chip.operations[name]
        if fact.value == "yes" or (fact.value != "no" and isinstance(asked.graph[node], g.SumPool2d)):  # a sum is the change itself
            continue
        what = f"{node} is {OPERATION_WORDS[name]}"
        if fact.value == "no":
            yield Finding(layer.name, name, CANNOT, what, fact)
        elif name in ("bias", "readout"):
            yield Finding(layer.name, name, RETRAIN, what, fact, fact.value)
        elif not _rewritable(asked, name, node):
            yield Finding(layer.name, name, CANNOT, f"{what}, and the change does not apply: {WHY_NOT[name]}", fact)
        else:
            yield Finding(layer.name, name, CHANGE, what, fact, fact.value)


def _rewritable(asked: Question, name: str, node: str) -> bool:
    graph = asked.graph
    if name == "max_pool":
        return binary(graph, graph[node].inputs[0], asked.input_bits)
    if name == "avg_pool":
        return divisible(graph, graph[node])
    return name == "groups"


def _neuron(asked: Question, layer: Layer) -> Iterator[Finding]:
    chip, neuron = asked.chip, layer.neuron
    if neuron is None:
        return
    if not layer.known and chip.operations["adaptive"].value != "yes":
        yield Finding(layer.name, "neuron model", CANNOT, f"{neuron.model} is not one that is known here", chip.leak)
        return
    if chip.steps.value == "one":
        if asked.steps != 1:
            told = "is not told" if asked.steps is None else f"is {asked.steps}"
            yield Finding(layer.name, "time steps", RETRAIN, f"T {told}", chip.steps, "one step per input (T = 1), in which a neuron is a threshold")
        return
    if not chip.leak.value and _leaks(neuron):
        yield Finding(layer.name, "leak", RETRAIN, f"{neuron.model} leaks", chip.leak, "train with IF, which does not leak")
    if not chip.current.value and layer.states > 1:
        yield Finding(layer.name, "current", RETRAIN, f"{neuron.model} has {layer.states} states", chip.current, "train with a neuron of one state")
    if chip.decays.value == "shift":
        yield from _shifts(asked, layer)
    if chip.one_spike.value and (most := _per_event(asked, layer)) >= (threshold := float(torch.as_tensor(neuron.params.threshold).min())):
        yield Finding(layer.name, "events", RETRAIN, f"one event can add {most:.4g} to a membrane, the threshold is {threshold:.4g}", chip.one_spike, "keep every weight below the threshold, or train with several spikes per step")
    if name_of(neuron.reset, getattr(neuron.params, "decay", 1.0)) not in chip.resets.value:
        yield Finding(layer.name, "reset", RETRAIN, f"reset {neuron.reset}", chip.resets, f"train with a reset among: {', '.join(chip.resets.value)}")


def _shifts(asked: Question, layer: Layer) -> Iterator[Finding]:
    """Decays that no shift gives."""
    assert layer.neuron is not None
    decays = torch.as_tensor(getattr(layer.neuron.params, "decay", 1.0)).double().unique().tolist()
    wrong = [d for d in decays if (k := dash_of(min(max(d, 0.0), 1.0))) is None or abs(1 - 2.0**-k - d) > 1e-6]
    if wrong:
        near = [dash_of(min(max(d, 0.0), 1.0)) for d in wrong]
        shown = ", ".join("the longest shift there is" if k is None else f"{1 - 2.0**-k:.4g} (shift by {k})" for k in dict.fromkeys(near))
        what = f"decay {', '.join(f'{d:.4g}' for d in wrong[:4])}{' ...' if len(wrong) > 4 else ''}"
        yield Finding(layer.name, "decay", RETRAIN, what, asked.chip.decays, f"train with {shown}" if len(set(near)) < 4 else "train with decays of 1/2, 3/4, 7/8, ...")


def _per_event(asked: Question, layer: Layer) -> float:
    """The most that one event of a source adds to a membrane; a mean over a window divides it."""
    assert layer.neuron is not None
    gain, found = torch.as_tensor(getattr(layer.neuron.params, "gain", 1.0)).double().abs().max(), 0.0
    for p in layer.products:
        pools = [asked.network[s].pool for s in p.sources if s != asked.network.input]
        area = min((pool.kernel[0] * pool.kernel[1] if pool is not None and pool.kind == "avg" else 1 for pool in pools), default=1)
        found = max(found, float((p.weight.double().abs().max() if p.weight is not None else 1.0) * gain) / area)
    return found


def _leaks(neuron: g.Neuron) -> bool:
    decay = getattr(neuron.params, "decay", 1.0)
    return bool((torch.as_tensor(decay) != 1).any())


def _weights(asked: Question, layer: Layer) -> Iterator[Finding]:
    for p in layer.products:
        if p.weight is not None and not on_grid(p.weight, asked.bits(layer, p.name)):
            bits = asked.bits(layer, p.name)
            fact = widths(asked.chip, asked.network, layer)
            whole = bool((p.weight == p.weight.round()).all())
            held = f"whole numbers of {width_of(p.weight)} bits" if whole else f"{str(p.weight.dtype).removeprefix('torch.')} weights"
            yield Finding(layer.name, "weight bits", CHANGE, f"{p.name} holds {held}", fact, f"round them to {bits} bits, one scale per layer")


def _messages(asked: Question, layer: Layer) -> Iterator[Finding]:
    chip = asked.chip
    if layer.levels > 1 and (bits := layer.levels.bit_length()) > chip.spike_bits.value:
        yield Finding(layer.name, "spike bits", RETRAIN, f"spikes up to {layer.levels}, {bits} bits", chip.spike_bits, "train with spikes of 0 and 1")
    if asked.first(layer) and asked.input_bits is not None:
        special = chip.first is not None and chip.first.filters.value is not None
        fact = chip.spike_bits if special and not reads_image(chip, asked.network, layer) else chip.input_bits
        if asked.input_bits > fact.value:
            yield Finding(layer.name, "input bits", RETRAIN, f"{asked.input_bits} bits", fact, "train on coarser counts, or on events one by one")


def _shapes(asked: Question, layer: Layer) -> Iterator[Finding]:
    for p in layer.products:
        if p.kind in ("attention", "direct"):
            if p.kind == "direct" and asked.chip.steps.value == "one":
                yield Finding(layer.name, "layers", CANNOT, f"{p.name}: neurons without weights", asked.chip.steps)
            continue
        shapes = shapes_of(asked, layer, p)
        if shapes is None:
            yield Finding(layer.name, "layers", CANNOT, f"{p.name} is a convolution", Fact("dense layers only", asked.chip.title, "inferred"))
        elif p.kind == "dense":
            yield from _dense(layer, p, shapes)
        else:
            yield from _conv(layer, p, shapes)
    pool = layer.pool
    if pool is not None and asked.chip.operations["max_pool" if pool.kind == "max" else "avg_pool"].value != "no" and layer.products[-1].kind != "attention":
        shapes = shapes_of(asked, layer, layer.products[-1])
        allowed = None if shapes is None else shapes.max_pools if pool.kind == "max" else shapes.sum_pools
        if allowed is not None and allowed.value is not None and not _pool_fits(pool.kernel, pool.stride, pool.padding, allowed.value):
            what = f"{pool.name}: {pool.kind} of {pool.kernel[0]}x{pool.kernel[1]}, stride {pool.stride[0]}x{pool.stride[1]}, padding {pool.padding[0]}x{pool.padding[1]}"
            yield Finding(layer.name, "pooling", CANNOT, what, allowed)
        if shapes is not None and shapes.after_pool.value is not None and pool.kind == "max":
            wrong = [p.name for r in asked.network.readers(layer.name) for p in r.products if p.kind != shapes.after_pool.value and layer.name in p.sources]
            if wrong:
                yield Finding(layer.name, "pooling", CANNOT, f"{wrong[0]}, no convolution, reads {pool.name}", shapes.after_pool)


def shapes_of(asked: Question, layer: Layer, p: Product) -> Shapes | None:
    """The row of the chip's table that holds for this product: an input layer of other channels is a plain convolution."""
    chip = asked.chip
    if p.kind == "dense":
        return chip.dense
    return chip.first if chip.conv is not None and asked.network.input in p.sources and reads_image(chip, asked.network, layer) else chip.conv


def widths(chip: Chip, network: Network, layer: Layer) -> Fact:
    """Widths that a layer's weights may have."""
    return chip.first_weight_bits if chip.first_weight_bits is not None and reads_image(chip, network, layer) else chip.weight_bits


def _pool_fits(kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], allowed: tuple[tuple[int, int], ...]) -> bool:
    return kernel[0] == kernel[1] and stride[0] == stride[1] and not any(padding) and (kernel[0], stride[0]) in allowed


def _dense(layer: Layer, p: Product, shapes: Shapes) -> Iterator[Finding]:
    if shapes.kernels.value is not None:  # a chip on which a dense layer is a convolution as wide as its map
        yield from _conv(layer, p, shapes)
    inputs = p.in_map[0] * p.in_map[1] * p.in_map[2]
    if p.out_map[1] * p.out_map[2] > 1 and shapes.inputs.value is not None:
        yield Finding(layer.name, "inputs", CANNOT, f"{p.name} works on {p.out_map[1]} tokens, one by one", shapes.inputs)
    if shapes.inputs.value is not None and inputs > shapes.inputs.value:
        yield Finding(layer.name, "inputs", CANNOT, f"{p.name} reads {inputs:,}", shapes.inputs)
    if shapes.outputs.value is not None and p.out_map[0] > shapes.outputs.value:
        yield Finding(layer.name, "outputs", CANNOT, f"{p.name} gives {p.out_map[0]:,}", shapes.outputs)


def _conv(layer: Layer, p: Product, shapes: Shapes) -> Iterator[Finding]:
    def cannot(rule: str, what: str, fact: Fact) -> Finding:
        return Finding(layer.name, rule, CANNOT, f"{p.name}: {what}", fact)

    k, s = p.kernel, p.stride
    if shapes.kernels.value is not None and (k[0] != k[1] or k[0] not in shapes.kernels.value):
        yield cannot("kernel", f"{k[0]}x{k[1]}", shapes.kernels)
    if shapes.strides.value is not None and (s[0] != s[1] or s[0] not in shapes.strides.value.get(k[0], shapes.strides.value[0])):
        yield cannot("stride", f"{s[0]}x{s[1]} with kernel {k[0]}x{k[1]}", shapes.strides)
    if isinstance(shapes.padding.value, int) and max(p.padding) > shapes.padding.value:
        yield cannot("padding", f"{max(p.padding)}", shapes.padding)
    elif isinstance(shapes.padding.value, str):
        same = all(q == n // 2 for q, n in zip(p.padding, k, strict=True))
        if not same and not ("valid" in shapes.padding.value and not any(p.padding)):
            yield cannot("padding", f"{p.padding[0]}x{p.padding[1]} with kernel {k[0]}x{k[1]}", shapes.padding)
        elif same and max(s) > 1 and any((n - 1) % 2 == 1 for n in p.in_map[1:]):
            what = f"{p.name}: stride {s[0]} on {p.in_map[1]}x{p.in_map[2]} pads all sides, 'same' pads right and below"
            yield Finding(layer.name, "padding", RETRAIN, what, shapes.padding, "shift the map by one pixel and train on")
    if shapes.filters.value is not None:
        most = shapes.filters.value.get((p.in_map[0], k[0]))
        if most is not None and p.out_map[0] > most:
            yield cannot("filters", f"{p.out_map[0]} with kernel {k[0]}x{k[1]} on {p.in_map[0]} channels, at most {most}", shapes.filters)
    if shapes.channels.value is not None and max(p.in_map[0], p.out_map[0]) > shapes.channels.value:
        yield cannot("channels", f"{max(p.in_map[0], p.out_map[0]):,}", shapes.channels)
    for rule, fact, size in (("input size", shapes.in_size, p.in_map[1:]), ("output size", shapes.out_size, p.out_map[1:])):
        if fact.value is not None and not (fact.value[0] <= min(size) and max(size) <= fact.value[1]):
            yield cannot(rule, f"{size[0]}x{size[1]}", fact)


def _wiring(asked: Question, layer: Layer) -> Iterator[Finding]:
    chip, readers = asked.chip, asked.network.readers(layer.name)
    if chip.fan_out.value is not None and len(readers) > chip.fan_out.value:
        yield Finding(layer.name, "fan-out", CANNOT, f"{len(readers)} layers read it", chip.fan_out)
    if chip.delays.value is not None and layer.waits > chip.delays.value:
        yield Finding(layer.name, "delays", CANNOT, f"its inputs {'wait up to' if any(p.held for p in layer.products) else 'differ by'} {layer.waits} steps", chip.delays)
    last = layer.role == "readout" or not readers
    for rule, number, there in (
        ("inputs", asked.network.input_map[0] * asked.network.input_map[1] * asked.network.input_map[2], asked.first(layer)),
        ("outputs", layer.neurons, last),
    ):
        fact = chip.whole.get(rule)
        if there and fact is not None and number > fact.value:
            yield Finding(layer.name, rule, CANNOT, f"{number:,}", fact)


def _one_neuron(asked: Question, layer: Layer) -> Iterator[Finding]:
    """A neuron that overfills an empty core by itself; on chips that do not split layers, the layer."""
    if any(p.kind == "attention" for p in layer.products) and asked.chip.operations["attention"].value != "yes":
        return
    what = counted(layer, asked.bits(layer, layer.products[0].name))
    whole = not asked.chip.splits.value
    if not whole and (n := _widest(layer)) is not None:
        start, stop = n, n + 1
    else:
        start, stop = 0, layer.neurons
    for resource, number in demand(asked.chip, what, start, stop).items():
        fact = asked.chip.core[resource]
        most = max(fact.value) if isinstance(fact.value, tuple) else fact.value
        if most is not None and number > most:
            of = "the layer takes" if whole else f"neuron {start} alone takes"
            yield Finding(layer.name, resource.replace("_", " "), CANNOT, f"{of} {number:,} of a core's {most:,}", fact)


def _widest(layer: Layer) -> int:
    """The neuron in the middle of the map, away from borders: no other has more connections."""
    _, H, W = layer.map
    return H // 2 * W + W // 2


OPERATION_WORDS = {
    "bias": "a bias", "residual": "a sum of branches", "attention": "a product of spikes with spikes", "recurrent": "a loop",
    "max_pool": "a max pool", "avg_pool": "a mean or sum over windows", "groups": "a convolution in groups", "dilation": "a dilated convolution",
    "conv1d": "a convolution over one axis", "token_mean": "a mean over tokens", "readout": "an accumulator that never fires",
    "adaptive": "a neuron with an adaptive threshold", "relay": "a product that another product reads", "norm": "a norm or scale that no weights could take in",
}  # fmt: skip
WHY_NOT = {"max_pool": "what it reads is not spikes of 0 and 1", "avg_pool": "what reads it has no weights that could take the divisor", "groups": ""}
RULES = (_operations, _neuron, _weights, _messages, _shapes, _wiring, _one_neuron)
