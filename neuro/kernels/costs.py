"""What products with spikes cost on a machine, and what follows for a product of given sizes: a table of measured seconds, and its file."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from neuro.errors import FormatError, explain
from neuro.files import read_json, write_json

FORMAT, VERSION = "neuro-product-costs", 11
MARGIN = 0.9  # bits must promise at most this share of the dense time: costs are estimates
KEPT = 0.04  # share of a layer's dense training time that keeping its input as bits may cost
_REMEMBERED = 4096  # sizes of products
_ROWS = (16.0, 128.0, 1024.0)
_INPUTS = (256.0, 1024.0)
EVERY = 16  # of so many samples one is looked at before a gate is formed whole
_MANY = 512  # rows from which the figure for 1024 stands for a product by oneDNN

Fixed = Literal["dense", "events", "lookup"]
FIXED = ("dense", "events", "lookup")


class Work(NamedTuple):
    """Sizes of a product: elements of input, weight and output, rows of the dense product, outputs that one event adds to.

    Of attention: elements of q, k and v together, no weight; events are those of q, and one adds to the channels of its head. `tiles`: of a convolution
    whose gradient by its input may be formed from Winograd's tiles.
    """

    kind: Literal["linear", "conv", "attention"]
    inputs: int
    weights: int
    outputs: int
    rows: int
    fan: int
    tiles: bool = False

    @property
    def products(self) -> int:
        return 2 * self.outputs * self.fan if self.kind == "attention" else self.inputs * self.fan


class Ways(NamedTuple):
    """Seconds of a product or of a weight's gradient: what dense takes, less the margin; a plane looked up; bits alone; by no events, and for each."""

    limit: float
    plane: float
    start: float
    silent: float
    event: float

    def form(self, counts: Sequence[float], looks: bool) -> int | None:
        """As `Costs.form`."""
        best, form = self.limit, None
        for looked in range(len(counts) + 1 if looks and self.plane else 1):
            rest = sum(counts[looked:])
            seconds = looked * self.plane + (self.silent + self.event * rest if rest or not looked else self.start)
            if seconds < best:
                best, form = seconds, looked
        return form


class Known(NamedTuple):
    """What a table says of a linear layer or a convolution."""

    forward: Ways
    gradient: Ways
    may_keep: bool
    onednn: bool
    places: float
    winograd: bool


@dataclass(frozen=True)
class Costs:
    """Seconds: of dense products per multiplication, of events per output added to, per output, weight and input element."""

    dense_16: float  # linear, at 16, 128 and 1024 rows
    dense_128: float
    dense_1024: float
    dense_conv: float
    linear_add: float
    linear_output: float
    conv_add: float
    conv_output: float
    linear_gradient_add: float  # the same of the weight's gradient
    linear_gradient_output: float
    conv_gradient_add: float
    conv_gradient_output: float
    weight: float
    pack: float
    unpack: float
    call: float  # of a product by events, whatever its size
    linear_add_short: float = 0.0  # as linear_add, which is of 1024 inputs, of 256: more of what is added lies near; 0: of before it was measured
    linear_gradient_pass: float = 0.0  # of a linear layer's weight gradient, of a product whatever the events
    onednn_1024: float = 0.0  # as dense_1024, by oneDNN; 0: it is not there, or the table is of before it was measured
    lookup_linear: float = 0.0  # of a product that is looked up, for each plane; 0: as with oneDNN
    lookup_linear_gradient: float = 0.0
    lookup_conv: float = 0.0
    lookup_conv_gradient: float = 0.0
    input_dense: float = 0.0  # a convolution's gradient by its input, of a product
    input_dense_output: float = 0.0  # the same, of an element of the gradient by the output or by the input
    input_winograd: float = 0.0  # the same by Winograd's tiles; 0: as with oneDNN
    input_winograd_output: float = 0.0
    gate: float = 0.0  # of forming and packing a gate, of an input element
    gate_call: float = 0.0  # the same once a sample was looked at, whatever its size
    gate_look: float = 0.0  # of looking at a sample of it first, whatever its size
    gated_linear_add: float = 0.0  # the gradient by the input at named places, of a product; 0: of before it was measured, never done
    gated_linear_output: float = 0.0  # the same, of an element of the gradient by the output or by the input
    gated_conv_add: float = 0.0
    gated_conv_output: float = 0.0
    attention_dense: float = 0.0  # a table of before this was measured: attention stays dense, as it was
    attention_output: float = 0.0
    attention_pair: float = 0.0  # of a word of 64 tokens and a pair of channels
    attention_add: float = 0.0
    attention_training_dense: float = 0.0  # forward and backward
    attention_gradient_product: float = 0.0  # of the gradients from bits, of an output and a channel of its head, whatever the events
    attention_gradient_add: float = 0.0  # of an event of q, k or v and a channel

    def dense(self, work: Work) -> float:
        """Seconds of the dense product."""
        if work.kind == "linear":
            rate = self.onednn_1024 if self.prefers_onednn(work) else _rate(work.rows, _ROWS, (self.dense_16, self.dense_128, self.dense_1024))
        else:
            rate = self.dense_conv if work.kind == "conv" else self.attention_dense
        return work.products * rate

    def prefers_onednn(self, work: Work) -> bool:
        """Whether the dense products of a linear layer of many rows are oneDNN's."""
        return work.kind == "linear" and work.rows >= _MANY and 0 < self.onednn_1024 < self.dense_1024

    def prefers_winograd(self, work: Work) -> bool:
        """Whether a convolution's gradient by its input is formed from Winograd's tiles."""
        return work.tiles and 0 < self.input_winograd and self.input_gradient(work, tiles=True) < MARGIN * self.input_gradient(work, tiles=False)

    def input_gradient(self, work: Work, *, tiles: bool) -> float:
        """Seconds of a convolution's whole gradient by its input. The fewer its channels, the more of them pass in moving numbers about."""
        product, output = (self.input_winograd, self.input_winograd_output) if tiles else (self.input_dense, self.input_dense_output)
        return product * work.products + output * (work.inputs + work.outputs)

    def events(self, work: Work, events: float) -> float:
        """Seconds of the product driven by so many events, packing included."""
        add, output = getattr(self, f"{work.kind}_add"), getattr(self, f"{work.kind}_output")
        if work.kind == "linear" and self.linear_add_short:
            add = _rate(work.inputs / work.rows, _INPUTS, (self.linear_add_short, add))
        pairs = self.attention_pair * -(-work.rows // 64) / work.rows * work.outputs * work.fan if work.kind == "attention" else 0.0
        return self.call + self.pack * work.inputs + self.weight * work.weights + output * work.outputs + add * events * work.fan + pairs

    def prefers_events(self, work: Work, events: float) -> bool:
        return self.events(work, events) < MARGIN * self.dense(work)

    def gradient(self, work: Work, events: float) -> float:
        """Seconds of the weight's gradient driven by so many events of an input that is packed already."""
        add, output = getattr(self, f"{work.kind}_gradient_add"), getattr(self, f"{work.kind}_gradient_output")
        passing = self.linear_gradient_pass * work.products if work.kind == "linear" else 0.0
        return self.call + self.weight * work.weights + output * work.outputs + passing + add * events * work.fan

    def lookup(self, work: Work, *, gradient: bool = False) -> float:
        """Seconds that a plane takes when it is looked up; 0.0 where that was not measured. Lanes come in blocks of 64."""
        rate = getattr(self, f"lookup_{work.kind}{'_gradient' if gradient else ''}")
        lanes = 64 if work.kind == "conv" else work.inputs // work.rows if gradient else work.rows
        return rate and rate * work.products * (-(-lanes // 64) * 64 / lanes) + self.weight * work.weights

    def form(self, work: Work, counts: Sequence[float], *, looks: bool) -> int | None:
        """How many planes of so many events each are best looked up, the rest driven by its events; None: dense is best.

        Args:
            looks: whether any may be looked up.
        """
        return self.known(work).forward.form(counts, looks)

    def form_of_gradient(self, work: Work, counts: Sequence[float], *, looks: bool) -> int | None:
        """The same of the weight's gradient; the input is packed already."""
        return self.known(work).gradient.form(counts, looks)

    def known(self, work: Work) -> Known:
        """What is asked at every call of a linear layer or convolution, remembered."""
        found = self._known.get(work)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[work] = self._found(work)
        return found

    @functools.cached_property
    def _known(self) -> dict[Work, Known]:
        return {}

    def _found(self, work: Work) -> Known:
        dense, packing, products = self.dense(work), self.call + self.pack * work.inputs, float(work.inputs)
        ways = [
            Ways(limit, self.lookup(work, gradient=gradient), start, driven(work, 0.0), (driven(work, products) - driven(work, 0.0)) / products)
            for driven, gradient, start, limit in (
                (self.events, False, packing, MARGIN * dense), (self.gradient, True, self.call, MARGIN * (dense + self.unpack * work.inputs)),
            )
        ]  # fmt: skip
        return Known(*ways, self.may_keep(work), self.prefers_onednn(work), self.most_places(work), self.prefers_winograd(work))

    def prefers_bits_in_training(self, work: Work, queries: float, events: float) -> bool:
        """Of attention, forward and backward together; events are those of q, k and v, queries those of q alone.

        No margin: bits keep a thirty-second of what the dense product keeps.
        """
        gradient = self.call + self.attention_gradient_product * work.outputs * work.fan + self.attention_gradient_add * events * work.fan
        return self.events(work, queries) + gradient < self.attention_training_dense * work.products

    def most_places(self, work: Work) -> float:
        """The share of its places up to which a layer's gradient by its input is best formed only where a gate is open.

        0.0: never, or the layer is so small that to look at a sample, in vain, would cost too much.
        """
        add, output = getattr(self, f"gated_{work.kind}_add", 0.0), getattr(self, f"gated_{work.kind}_output", 0.0)
        looking = self.gate_look + self.gate * work.inputs / EVERY
        if not add or (self.pack + self.unpack) * work.inputs + looking > KEPT * 3 * self.dense(work):
            return 0.0
        whole = self.dense(work) if work.kind == "linear" else self.input_gradient(work, tiles=self.prefers_winograd(work))
        start = looking + self.gate_call + self.gate * work.inputs + output * (work.inputs + work.outputs) + self.weight * work.weights
        return min(1.0, max(0.0, (MARGIN * whole - start) / (add * work.products)))

    def may_keep(self, work: Work) -> bool:
        """Whether packing and unpacking an input is cheap beside a dense forward and backward."""
        return (self.pack + self.unpack) * work.inputs < KEPT * 3 * self.dense(work)

    def on(self, threads: int) -> Costs:
        """The same products shared by so many threads; a call's own cost is not shared."""
        return Costs(**{name: seconds if name in ("call", "gate_call", "gate_look") else seconds / threads for name, seconds in asdict(self).items()})

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, whole or not at all; WriteError where that is refused."""
        save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> Costs:
        """Read a table; FormatError where it is missing, damaged, newer, or a fixed form."""
        found = load(path)
        if not isinstance(found, cls):
            raise FormatError(explain(f"{path} holds no table.", f"it says: always {found}"))
        return found


@functools.lru_cache(4096)
def _rate(n: float, measured: tuple[float, ...], rates: tuple[float, ...]) -> float:
    """Between the measured numbers of rows or inputs, on a scale of logarithms. Asked again and again, with few different values."""
    return float(np.interp(np.log(max(1, n)), np.log(measured), rates))


def save(path: str | Path, choice: Costs | Fixed) -> None:
    """Write a table, or the one form that is always taken."""
    said = {"seconds": asdict(choice)} if isinstance(choice, Costs) else {"form": choice}
    write_json(path, {"format": FORMAT, "version": VERSION, **said})


def load(path: str | Path) -> Costs | Fixed:
    """Read what `save` wrote; FormatError where it is missing, damaged or newer."""
    whole = read_json(path, FORMAT, VERSION)
    found, names = whole.get("seconds"), {f.name for f in fields(Costs)}
    needed = {f.name for f in fields(Costs) if f.default is MISSING}
    if found is None and whole.get("form") in FIXED:
        return whole["form"]
    if not isinstance(found, dict) or not needed <= set(found) <= names or not all(isinstance(v, (int, float)) and v >= 0 for v in found.values()):
        raise FormatError(explain(f"{path} does not hold the costs of products.", f"expected {sorted(names)}, numbers >= 0", cure="Remove it; it is measured anew."))
    return Costs(**found)
