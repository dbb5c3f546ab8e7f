"""Products with spikes against PyTorch's dense ones, over densities: times in one run, alternating, medians, as ratios.

    python benchmarks/spike_products.py [threads]

A ratio above 1 means that ours was faster. `events` forces the form that touches active inputs only, `lookup` the one that looks sums up
(with AVX-512), `chosen` is what a layer of ours does: its choice, the look at the input included. `fw` is the forward without gradients; `dW` the weight's gradient alone; `all`
forward and backward to input and weight. The last column: bytes that backward keeps, of dense's. Then the products of attention, at the
shapes of Spikformer 4-384 (CIFAR), Spikformer 2-256 (128x128) and of 224x224 images; there is no weight, so no dW. Then `dX`, a layer's gradient
by its input where the surrogate of the neuron before it is not 0, over the share of such places, against the dense product that the layer takes
otherwise (torch's, oneDNN's or by Winograd's tiles), to find the places being part of it; `all` is forward and backward of neuron and layer. Then a
whole training step of a network whose surrogate has an end, with that and without.

At the end: where dense takes 0.5 ms or more, is what is chosen ever more than 5 % slower? A cell that looks so is measured again, with ten
times the rounds, and that figure counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import peers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro.kernels import choosing, spike_conv, winograd
from neuro.kernels.bits import Packed
from neuro.kernels.costs import Costs, Fixed, Work
from neuro.kernels.dense import input_gradient
from neuro.kernels.gating import Gate
from neuro.kernels.spike_conv import spike_conv2d
from neuro.kernels.spike_linear import input_gradient_at, spike_linear
from neuro.kernels.spike_lookup import has_lookup
from neuro.layers import AttentionProduct, BatchNorm, Conv1d, Conv2d, Linear, Sequential, fire
from neuro.neurons import LIF
from neuro.surrogate import Rectangle, Surrogate, Triangle

DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FORMS = ("dense", "events", "lookup", "chosen") if has_lookup(torch.float32) else ("dense", "events", "chosen")
PARTS = ("fw", "dW", "all")
Product = Callable[[Tensor, Tensor], Tensor]
Times = dict[tuple[str, str], float]  # of a form and a part, seconds


class Cell(NamedTuple):
    """A place of the table: what it is, its times, and how to measure it again."""

    name: str
    times: Times
    again: Callable[[int], Times]


def main(threads: int = 2) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    choosing.use(None)
    start = time.perf_counter()
    choosing.current()
    print(f"{threads} threads, torch {torch.__version__}; table of costs ready after {time.perf_counter() - start:.1f} s")
    heads = " | ".join(f"{form + ': fw':>10} {'dW':>6} {'all':>6}" for form in FORMS[1:])
    print(f"{'layer':38} {'density':>7} {'dense fw ms':>11} | {heads} | kept")
    cells = []
    for inner, outer in ((512, 512), (384, 1536)):
        for rows in (1, 64, 1024):
            cells += table(f"linear {inner}x{outer}, {rows} rows", spike_linear, F.linear, (rows, inner), (outer, inner))
    for channels, side, groups, images in ((64, 32, 1, 16), (64, 32, 1, 1), (128, 16, 1, 16), (128, 16, 1, 1), (128, 16, 128, 16)):
        how = ((1, 1), (1, 1), (1, 1), groups)

        def ours(x: Tensor, w: Tensor, how: tuple = how) -> Tensor:
            return spike_conv2d(x, w, None, *how)

        def theirs(x: Tensor, w: Tensor, how: tuple = how) -> Tensor:
            return F.conv2d(x, w, None, *how)

        kind = "depthwise" if groups > 1 else "conv"
        cells += table(f"{kind} 3x3 {channels}->{channels}, {side}x{side}, {images} images", ours, theirs, (images, channels, side, side), (channels, channels // groups, 3, 3))
    print(f"{'attention':38} {'density':>7} {'dense fw ms':>11} | {'bits: fw':>10} {'all':>6} | {'chosen: fw':>10} {'all':>6}")
    for name, images, tokens, heads, width in (("4-384", (4, 16), 64, 12, 384), ("2-256", (16, 8), 64, 8, 256), ("224x224", (4, 4), 196, 8, 512)):
        cells += attention(name, (*images, tokens, width), heads)
    print(f"{'gradient by the input':38} {'places':>7} {'dense dX ms':>11} | {'alone: dX':>10} | {'chosen: dX':>10} {'all':>6}")
    for inner, outer in ((512, 512), (384, 1536), (1536, 384), (1024, 1024)):
        cells += through_a_neuron(f"linear {inner}x{outer}, 1024 rows", Linear(inner, outer), (16, 64, inner))
    for inner, outer, side, stride in ((64, 64, 32, 1), (128, 128, 16, 1), (64, 128, 32, 2), (128, 256, 16, 2)):
        name = f"conv 3x3{'/2' if stride == 2 else ''} {inner}->{outer}, {side}x{side}, 16 images"
        cells += through_a_neuron(name, Conv2d(inner, outer, 3, stride, 1), (4, 4, inner, side, side))
    for size in (3, 9):
        cells += through_a_neuron(f"conv {size} 64->64, 128, 64 series", Conv1d(64, 64, size, padding=size // 2), (8, 8, 64, 128))
    for spike in (Rectangle(1.0), Triangle(1.0)):
        for norm in (False, True):
            step(spike, norm)
    report(cells)


def report(cells: list[Cell]) -> None:
    """What is chosen, against 0.95 of dense's speed."""
    asked = [(cell, part) for cell in cells for part in PARTS if cell.times.get(("dense", part), 0.0) >= 0.5e-3]
    slow = [(cell, part) for cell, part in asked if speed(cell.times, part) < 0.95]
    print(f"chosen: {len(asked) - len(slow)} of {len(asked)} figures with a dense time of 0.5 ms or more are at least 0.95 of dense's speed; the others again:")
    found = [1.0]
    for cell, part in slow:
        found.append(speed(cell.again(10), part))
        print(f"  {cell.name} {part}: {speed(cell.times, part):.2f}, again {found[-1]:.2f}", flush=True)
    print(peers.target("chosen, its least speed as a share of dense's", min(found), at_least=0.95))


def speed(times: Times, part: str) -> float:
    return times["dense", part] / times["chosen", part]


def medians(measure: Callable[[str], dict[str, float]], rounds: int, forms: tuple[str, ...] = FORMS) -> Times:
    """Of every form and part; the forms take turns in an order drawn anew, for what ran before warms the caches, and a first round is not counted."""
    draw = random.Random(0)
    times: dict[tuple[str, str], list[float]] = {}
    for again in range(rounds + 1):
        for form in draw.sample(forms, len(forms)):
            choosing.use(None if form == "chosen" else form)  # type: ignore[arg-type]
            for what, seconds in measure(form).items():
                if again:
                    times.setdefault((form, what), []).append(seconds)
    choosing.use(None)
    return {key: statistics.median(values) for key, values in times.items()}


def ratios(times: Times, *parts: tuple[str, int]) -> str:
    forms = [form for form in FORMS[1:] if (form, "fw") in times]
    return " | ".join(" ".join(f"{times['dense', what] / times[form, what]:{width}.2f}" for what, width in parts) for form in forms)


def attention(name: str, shape: tuple[int, ...], heads: int) -> list[Cell]:
    """As `table`, of scale * Q (K^T V)."""
    product, cells = AttentionProduct(heads), []
    for density in DENSITIES:
        inputs = [(torch.rand(shape) < density).float().requires_grad_() for _ in range(3)]
        g = torch.randn(shape)

        def again(more: int, inputs: list[Tensor] = inputs, g: Tensor = g) -> Times:
            return medians(lambda form: attended(product, inputs, g), 4 * more, ("dense", "events", "chosen"))

        times = again(1)
        print(f"{f'attention {name}':38} {density:7.0%} {1e3 * times['dense', 'fw']:11.3f} | {ratios(times, ('fw', 10), ('all', 6))}", flush=True)
        cells.append(Cell(f"attention {name}, {density:.0%}", times, again))
    return cells


def table(name: str, ours: Product, theirs: Product, shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> list[Cell]:
    cells = []
    for density in DENSITIES:
        x = (torch.rand(shape) < density).float().requires_grad_()
        w = torch.randn(weight_shape, requires_grad=True)
        g = torch.randn_like(theirs(x, w))

        def again(more: int, x: Tensor = x, w: Tensor = w, g: Tensor = g) -> Times:
            return medians(lambda form: measured(theirs if form == "dense" else ours, x, w, g), 6 * more)

        times = again(1)
        kept = kept_bytes(ours, x, w) / max(1, kept_bytes(theirs, x, w))
        print(f"{name:38} {density:7.0%} {1e3 * times['dense', 'fw']:11.3f} | {ratios(times, ('fw', 10), ('dW', 6), ('all', 6))} | {kept:.2f}", flush=True)
        cells.append(Cell(f"{name}, {density:.0%}", times, again))
    return cells


def through_a_neuron(name: str, layer: Linear | Conv1d | Conv2d, shape: tuple[int, ...]) -> list[Cell]:
    """As `table`, of a neuron and the layer behind it; `events` forms the gradient by the layer's input at the open places whatever their share."""
    cells, table = [], choosing.current()
    assert isinstance(table, Costs)
    without = dataclasses.replace(table, gated_linear_add=0.0, gated_conv_add=0.0)
    lif, g = LIF(tau=2.0, spike=Rectangle(1.0)), torch.randn_like(layer(torch.zeros(shape)))
    whole, alone = forms_of(layer, g, shape, table)
    for share in DENSITIES:
        x = near_threshold(shape, share).requires_grad_()

        def trained(choice: Costs | Fixed, x: Tensor = x) -> None:
            with choosing.deterministic(choice):
                torch.autograd.grad(fire(lif, None, x, into=layer), (x, layer.weight), g)

        with gates_seen() as by_events:
            trained("events")
        with gates_seen() as by_table:
            trained(table)
        gate, most = by_events[0][0], {"events": 1.0, "chosen": by_table[0][1] if by_table else 0.0}
        assert abs(gate.open().mean().item() - share) < 0.01

        def measured(form: str, gate: Gate = gate, most: dict[str, float] = most, trained: Callable[..., None] = trained) -> dict[str, float]:
            def gradient() -> Tensor:
                places = gate.places(most[form]) if most.get(form) else None
                return whole() if places is None else alone(places)

            return {"dX": timed(gradient), "all": timed(lambda: trained(table if form == "chosen" else without))}

        def again(more: int, measured: Callable[[str], dict[str, float]] = measured) -> Times:
            return medians(measured, 10 * more, ("dense", "events", "chosen"))

        times = again(1)
        forced = times["dense", "dX"] / times["events", "dX"]
        print(f"{name:38} {share:7.0%} {1e3 * times['dense', 'dX']:11.3f} | {forced:10.2f} | {speed(times, 'dX'):10.2f} {speed(times, 'all'):6.2f}", flush=True)
        cells.append(Cell(f"{name}, open {share:.0%}", times, again))
    return cells


def forms_of(layer: Linear | Conv1d | Conv2d, g: Tensor, shape: tuple[int, ...], table: Costs) -> tuple[Callable[[], Tensor], Callable[[Packed], Tensor]]:
    """The gradient by the input whole, as the table chooses, and at places alone."""
    w, g = layer.weight.detach(), g.flatten(0, 1)
    if isinstance(layer, Linear):
        work = Work("linear", len(g) * w.shape[1], w.numel(), g.numel(), len(g), len(w))
        return lambda: input_gradient(g, w, onednn=table.prefers_onednn(work)), lambda places: input_gradient_at(places, g, w)
    images, how = torch.Size((len(g), *shape[2:])), (layer.stride, layer.padding, layer.dilation)
    if isinstance(layer, Conv1d):  # a map of one row
        g, w, images, how = g[:, :, None], w[:, :, None], torch.Size((*images[:2], 1, images[2])), tuple((first, *pair) for first, pair in zip((1, 0, 1), how, strict=True))
    sizes = spike_conv.sizes_of(images, w.shape, *how, 1)
    fan = max(1, w[0, 0].numel() * len(w) // (sizes.s_h * sizes.s_w))
    tiles = table.prefers_winograd(Work("conv", images.numel(), w.numel(), g.numel(), len(g), fan, winograd.fits(sizes)))
    whole = (lambda: winograd.input_gradient(g, w, sizes)) if tiles else (lambda: spike_conv.input_gradient(g, w, sizes, images))
    return whole, lambda places: spike_conv.input_gradient_at(places, g, w, sizes)


def near_threshold(shape: tuple[int, ...], share: float) -> Tensor:
    """Input of a LIF neuron of tau 2 whose membrane is within 0.5 of its threshold 1 at this share of steps, and which fires at a tenth of the others."""
    v, x = torch.zeros(shape[1:]), torch.empty(shape)
    for t in range(shape[0]):
        far = torch.where(torch.rand(shape[1:]) < 0.1, 1.7, -1.0)
        wanted = torch.where(torch.rand(shape[1:]) < share, 0.9, far)
        x[t] = 2 * wanted - v
        v = torch.where(wanted > 1, 0.0, wanted)
    return x


def step(spike: Surrogate, norm: bool, width: int = 1024, depth: int = 3, steps: int = 10, samples: int = 100) -> None:
    """Forward, loss and backward of linear layers, after some training; gates as chosen, and none."""
    torch.manual_seed(0)
    layers = [layer for _ in range(depth) for layer in (Linear(width, width), *([BatchNorm(width, axis=-1)] if norm else []), LIF(tau=2.0, spike=spike))]
    net = Sequential(*layers, Linear(width, 10))
    x, wanted = (torch.rand(steps, samples, width) < 0.2).float(), torch.randint(0, 10, (samples,))
    if not norm:
        with torch.no_grad():
            for layer in net:
                if isinstance(layer, Linear):
                    layer.weight.mul_(4.0)  # else the deeper layers are silent
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x).mean(0), wanted).backward()

    for _ in range(20):
        run()
        optimizer.step()
    table = choosing.current()
    assert isinstance(table, Costs)
    tables = {"gates": table, "whole": dataclasses.replace(table, gated_linear_add=0.0, gated_conv_add=0.0)}
    times: dict[str, list[float]] = {name: [] for name in tables}
    with gates_seen() as gates, choosing.deterministic(table):
        run()
    for name in [*tables, *list(tables) * 12]:
        with choosing.deterministic(tables[name]):
            times[name].append(timed(run))
    medians = {name: statistics.median(spent[1:]) for name, spent in times.items()}
    seen = ", ".join(f"{gate.open().mean().item():.0%}" for gate, _ in gates[::-1])
    print(f"{depth} linear layers of {width}, T = {steps}, {samples} samples, {'norm, ' if norm else ''}{spike}: {1e3 * medians['whole']:.1f} ms whole, "
          f"{1e3 * medians['gates']:.1f} ms with gates, {medians['whole'] / medians['gates']:.2f} times as fast; open places by layer: {seen}", flush=True)  # fmt: skip


@contextlib.contextmanager
def gates_seen() -> Iterator[list[tuple[Gate, float]]]:
    """The gates that backward looks at, each with the share of open places up to which it is used."""
    seen: list[tuple[Gate, float]] = []
    places = Gate.places

    def look(gate: Gate, most: float) -> Packed | None:
        seen.append((gate, most))
        return places(gate, most)

    Gate.places = look  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Gate.places = places  # type: ignore[method-assign]


def attended(product: AttentionProduct, inputs: list[Tensor], g: Tensor) -> dict[str, float]:
    """Seconds of forward, and everything."""
    with torch.no_grad():
        forward = timed(lambda: product(*inputs))
    return {"fw": forward, "all": timed(lambda: torch.autograd.grad(product(*inputs), inputs, g))}


def measured(product: Product, x: Tensor, w: Tensor, g: Tensor) -> dict[str, float]:
    """Seconds of forward, weight gradient, and everything."""
    with torch.no_grad():
        forward = timed(lambda: product(x, w))
    y = product(x.detach(), w)
    weight = timed(lambda: torch.autograd.grad(y, w, g))
    return {"fw": forward, "dW": weight, "all": timed(lambda: torch.autograd.grad(product(x, w), (x, w), g))}


def timed(call: Callable[[], object]) -> float:
    start = peers.clock()
    call()
    return peers.clock() - start


def kept_bytes(product: Product, x: Tensor, w: Tensor) -> int:
    """Bytes kept for backward, the weight left out."""
    kept = {}

    def see(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() != w.untyped_storage().data_ptr():
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(see, lambda t: t):
        y = product(x, w)
    del y
    return sum(kept.values())


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
