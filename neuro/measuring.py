"""What a network really did on real inputs: operations counted by value, at operator dispatch, for any torch network."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuro.counting import Counter, Tally
from neuro.errors import ParameterError, ShapeError, explain
from neuro.module_paths import module_paths, unwrapped
from neuro.products import Product
from neuro.restoring import keeper
from neuro.watching import Watch, quiet, watched

CONVENTION = (
    "Counted per sample: a product is effective where a nonzero input meets a weight (zero weights included, padding excluded), or where\n"
    "both factors are nonzero if both are activations. AC: input +-1 (of two, one is enough); graded: another integer; MAC: any other value.\n"
    "Updates are neurons x steps. Norms, softmax and other elementwise work are listed in elements, not in operations."
)
_PRODUCT = ("inputs", "unit", "integer", "real", "negative", "dense", "padded", "ac", "graded", "mac", "outputs", "biases")


@dataclass(eq=False)
class LayerActivity:
    """Counts of one module, int64 [samples] each.

    inputs: elements that enter its products, of which unit (+-1), integer (other whole numbers) and real (others) are not zero.
    dense, padded: operations of a dense layer, without and with the taps on padding. ac, graded, mac: effective ones.
    outputs, biases: elements that leave, and bias additions. weights: held by the layer (a plain number).
    updates, spikes, steps: of a neuron layer, over all its calls: of a network that ends early, those that were run.
    """

    path: str
    kind: str
    samples: int
    weights: int = 0
    inputs: np.ndarray = field(init=False)
    unit: np.ndarray = field(init=False)
    integer: np.ndarray = field(init=False)
    real: np.ndarray = field(init=False)
    negative: np.ndarray = field(init=False)
    dense: np.ndarray = field(init=False)
    padded: np.ndarray = field(init=False)
    ac: np.ndarray = field(init=False)
    graded: np.ndarray = field(init=False)
    mac: np.ndarray = field(init=False)
    outputs: np.ndarray = field(init=False)
    biases: np.ndarray = field(init=False)
    updates: np.ndarray = field(init=False)
    spikes: np.ndarray = field(init=False)
    steps: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        for name in (*_PRODUCT, "updates", "spikes", "steps"):
            setattr(self, name, np.zeros(self.samples, np.int64))

    @property
    def effective(self) -> np.ndarray:
        """ac + graded + mac."""
        return self.ac + self.graded + self.mac

    @property
    def events(self) -> np.ndarray:
        """Nonzero inputs."""
        return self.unit + self.integer + self.real

    @property
    def input_class(self) -> str:
        """zero, binary, ternary, integer or real: the narrowest that holds every input value of every sample."""
        if not self.inputs.any():
            return "-"
        if self.real.any():
            return "real"
        if self.integer.any():
            return "integer"
        return "ternary" if self.negative.any() else "binary" if self.unit.any() else "zero"

    @property
    def rate(self) -> float:
        """Of a layer with products, the share of inputs that are not zero; of a neuron, spikes per neuron and step."""
        whole, part = (self.inputs, self.events) if self.inputs.any() else (self.updates, self.spikes)
        return float(part.sum() / whole.sum()) if whole.sum() else 0.0


class Activity:
    """What `neuro.activity` found. Iterates over its `LayerActivity`; `activity["path"]` is one.

    Attributes:
        layers: every module with products or neurons, in order of first use.
        elementwise: elements of other understood work, int64 [samples] by (path, operator).
        moved: elements read from tables by an index (embeddings), without arithmetic, likewise.
        not_counted: the same of operators that are not understood. Empty, or the other figures are a lower bound.
        samples, steps: number of samples, and steps of each [samples] (all ones without a time axis).
    """

    HEAD = ("layer", "kind", "input", "rate", "dense", "effective", "AC", "graded", "MAC", "updates", "spikes")

    def __init__(self, tallies: list[Tally], neurons: list[dict[str, list[int]]], kinds: dict[str, str], steps: np.ndarray):
        self.samples, self.steps = len(tallies), steps
        self._by_path: dict[str, LayerActivity] = {}
        self.elementwise: dict[tuple[str, str], np.ndarray] = {}
        self.not_counted: dict[tuple[str, str], np.ndarray] = {}
        self.moved: dict[tuple[str, str], np.ndarray] = {}
        for b, (tally, seen) in enumerate(zip(tallies, neurons, strict=True)):
            for path, product in tally.products.items():
                self._enter(b, path, kinds, product)
            for path, (updates, spikes, ran) in seen.items():
                layer = self._layer(path, kinds)
                layer.updates[b], layer.spikes[b], layer.steps[b] = updates, spikes, ran
            for found, into in ((tally.elementwise, self.elementwise), (tally.unknown, self.not_counted), (tally.moved, self.moved)):
                for key, elements in found.items():
                    into.setdefault(key, np.zeros(self.samples, np.int64))[b] = elements
        order = {path: i for i, path in enumerate(kinds)}
        self.layers = tuple(sorted(self._by_path.values(), key=lambda layer: order[layer.path]))

    def _layer(self, path: str, kinds: dict[str, str]) -> LayerActivity:
        return self._by_path.setdefault(path, LayerActivity(path, kinds[path], self.samples))

    def _enter(self, b: int, path: str, kinds: dict[str, str], product: Product) -> None:
        layer = self._layer(path, kinds)
        layer.weights = max(layer.weights, product.weights)
        for name in _PRODUCT:
            getattr(layer, name)[b] = getattr(product, name)

    def __iter__(self) -> Iterator[LayerActivity]:
        return iter(self.layers)

    def __getitem__(self, path: str) -> LayerActivity:
        return self._by_path[path]

    def total(self, quantity: str) -> np.ndarray:
        """Sum over layers of one quantity of `LayerActivity`, int64 [samples]."""
        return sum((getattr(layer, quantity) for layer in self.layers), np.zeros(self.samples, np.int64))

    @property
    def share_not_counted(self) -> float:
        """Elements of operators that are not understood, per element of all operators that are no products."""
        unknown = sum(int(v.sum()) for v in self.not_counted.values())
        known = sum(int(v.sum()) for v in self.elementwise.values()) + int(self.total("outputs").sum() + self.total("updates").sum())
        return unknown / (unknown + known) if unknown else 0.0

    @property
    def executed(self) -> dict[int, float]:
        """Share of the samples by number of steps that were run, in the layer of neurons that ran most; empty without neurons.

        Of a network that ends early these are fewer than `steps`; a layer that is called twice in each step has run twice as many.
        """
        ran = [layer.steps for layer in self.layers if layer.steps.any()]
        found, times = np.unique(np.max(ran, axis=0), return_counts=True) if ran else (np.zeros(0), np.zeros(0))
        return {int(n): float(k) / self.samples for n, k in zip(found, times, strict=True)}

    def rows(self) -> list[tuple[str, ...]]:
        """Means per sample, as text, in the order of `HEAD`."""
        names = ("dense", "effective", "ac", "graded", "mac", "updates", "spikes")
        found = [
            (layer.path or "(model)", layer.kind, layer.input_class, f"{layer.rate:.4f}", *(_mean(getattr(layer, n)) for n in names)) for layer in self.layers
        ]
        return [*found, ("total", "", "", "", *(_mean(self.total(n)) for n in names))]

    def notes(self) -> list[str]:
        """Other work and what was not understood, in elements per sample."""
        by_name: dict[str, np.ndarray] = {}
        for (_, name), elements in self.elementwise.items():
            by_name[name] = by_name.get(name, 0) + elements
        said = [f"{self.samples} samples; means per sample.", CONVENTION]
        shares = self.executed
        if shares and sum(n * share for n, share in shares.items()) < self.steps.mean():
            said.append(f"Steps run, of {_mean(self.steps)} given: " + ", ".join(f"{n} in {share:.1%}" for n, share in shares.items()) + " of the samples.")
        if by_name:
            said.append("elementwise: " + ", ".join(f"{name} {_mean(e)}" for name, e in sorted(by_name.items(), key=lambda i: -i[1].sum())))
        if self.moved:
            said.append("read from tables, without arithmetic: " + ", ".join(f"{name} at {path or '(model)'} {_mean(e)}" for (path, name), e in self.moved.items()))
        for (path, name), elements in self.not_counted.items():
            said.append(f"NOT COUNTED: {name} at {path or '(model)'}, {_mean(elements)} elements")
        if self.not_counted:
            said.append(f"Not understood: {self.share_not_counted:.1%} of all elements; the operations above are a lower bound.")
        return said

    def __repr__(self) -> str:
        rows = [self.HEAD, *self.rows()]
        widths = [max(len(r[i]) for r in rows) for i in range(len(self.HEAD))]
        lines = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))) for r in rows]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *self.notes()])

    def _repr_html_(self) -> str:
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in self.rows())
        head = "".join(f"<th>{h}</th>" for h in self.HEAD)
        return f"<table><tr>{head}</tr>{body}</table>" + "".join(f"<p>{html.escape(n)}</p>" for n in self.notes())

    def to_frame(self) -> Any:
        """One row per layer and sample, as a pandas DataFrame."""
        import pandas

        names = (*_PRODUCT, "effective", "updates", "spikes", "steps")
        rows = [
            {"layer": layer.path, "kind": layer.kind, "input": layer.input_class, "sample": b, "weights": layer.weights}
            | {n: int(getattr(layer, n)[b]) for n in names}
            for layer in self.layers
            for b in range(self.samples)
        ]
        return pandas.DataFrame(rows)


def activity(
    model: nn.Module, x: Tensor, lengths: Tensor | None = None, *, batch_axis: int = 1, neurons: tuple[type[nn.Module], ...] = ()
) -> Activity:
    """Count what `model(x)` does, in eval mode, for each sample by itself.

    Every operator that torch dispatches is seen: layers, functional calls, attention, einsum, and networks of other packages.
    Each sample is run alone and for its own length, so that its counts depend neither on its batch nor on padding. A network
    that keeps state in its modules starts each sample from the state in which it was given.

    Args:
        model: any module that takes one tensor. Its mode and state are left as they are.
        x: inputs [T, B, ...], or with `batch_axis=0` [B, ...] for a network without time.
        lengths: steps of each sample, int64 [B]; None: all T.
        batch_axis: where samples stand, 0 or 1.
        neurons: classes of modules whose output, or the first part of it, are spikes. Ours and those of snnTorch,
            SpikingJelly, Norse and sinabs are known.

    Raises:
        ShapeError: lengths that do not fit x.
        ParameterError: an input that is no tensor, a batch_axis other than 0 or 1, no samples, neurons that are no classes, or a scripted model, which cannot be watched.

    >>> found = activity(nn.Linear(100, 50), torch.eye(2, 100), batch_axis=0)
    >>> found.total("ac").tolist(), found.total("dense").tolist()
    ([50, 50], [5000, 5000])
    """
    bare = unwrapped(model)
    steps = _steps(x, lengths, batch_axis)
    if not isinstance(neurons, tuple) or not all(isinstance(n, type) for n in neurons):
        raise ParameterError(explain("activity: neurons is a tuple of classes of modules.", f"neurons {neurons!r}", cure="neurons=(MyNeuron,)"))
    paths = module_paths(bare)
    if scripted := [path for module, path in paths.items() if isinstance(module, torch.jit.ScriptModule)]:
        raise ParameterError(explain(f"activity: {scripted[0] or 'the model'!r} is scripted, and its layers cannot be watched.", cure="Count the module that was scripted."))
    kinds = {path: type(module).__name__ for module, path in paths.items()}
    restore, state = keeper(bare), list[Tensor]()
    with torch.inference_mode(False), torch.no_grad(), quiet(bare), watched(paths, neurons) as watch:
        tallies, seen = [], []
        for b, n in enumerate(steps.tolist()):
            sample = x.narrow(batch_axis, b, 1)
            sample = (sample[:n] if batch_axis == 1 else sample).detach().clone()  # an ordinary tensor, also under inference_mode
            tally, changed = _counted(bare, sample, watch, restore, state)
            if new := [c for c in changed if not any(c is s for s in state)]:
                state += new  # buffers that the network writes are no weights: count again with that known
                tally, _ = _counted(bare, sample, watch, restore, state)
            tallies.append(tally)
            seen.append(watch.seen)
    return Activity(tallies, seen, kinds, steps)


def _counted(model: nn.Module, sample: Tensor, watch: Watch, restore: Callable[[], list[Tensor]], state: list[Tensor]) -> tuple[Tally, list[Tensor]]:
    """The tally of one forward, and the buffers that it changed, which are put back."""
    weights = [p.data for p in (*model.parameters(), *model.buffers()) if not any(p is s for s in state)]
    watch.start()
    changed: list[Tensor] = []
    try:
        with Counter(watch.where, weights) as counter:
            watch.counter = counter
            model(sample)
    finally:
        watch.counter = None
        changed += restore()
    return counter.tally, changed


def _steps(x: Tensor, lengths: Tensor | None, batch_axis: int) -> np.ndarray:
    if not isinstance(x, Tensor):
        raise ParameterError(explain("activity: the input must be one tensor.", f"got {type(x).__name__}", cure="Give torch.as_tensor(x), with the samples along batch_axis."))
    if batch_axis not in (0, 1) or x.dim() <= batch_axis or x.shape[batch_axis] == 0:
        raise ParameterError(explain("activity: there are no samples.", f"x {list(x.shape)}   batch_axis {batch_axis}", cure="Give [T, B, ...], or [B, ...] with batch_axis=0."))
    samples, most = x.shape[batch_axis], x.shape[0] if batch_axis == 1 else 1
    if lengths is None:
        return np.full(samples, most)
    found = np.asarray(torch.as_tensor(lengths).cpu())
    if batch_axis == 0 or found.shape != (samples,) or found.dtype.kind not in "iu" or found.min() < 1 or found.max() > most:
        raise ShapeError(explain("activity: the lengths do not fit the input.", f"x {list(x.shape)}   lengths {list(found.shape)} {found.dtype}", cure="One whole number in 1 .. T per sample, time on axis 0."))
    return found


def _mean(counts: np.ndarray) -> str:
    mean = counts.mean()
    return f"{mean:.0f}" if mean == round(mean) else f"{mean:.1f}"
