"""What a range of a layer's neurons takes: connections, distinct weights, distinct inputs, words. Exact, borders included."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuro.deploy.chips import Chip
from neuro.deploy.mapping_layers import Layer, Product


def taps(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """[out, size] bool: which inputs each output reads along one axis.

    >>> taps(4, 4, 3, 1, 1, 1).sum(1).tolist()
    [2, 3, 3, 2]
    """
    at = np.arange(out)[:, None] * stride - padding + np.arange(kernel) * dilation  # [out, kernel]
    found = np.zeros((out, size), bool)
    rows, k = np.nonzero((at >= 0) & (at < size))
    found[rows, at[rows, k]] = True
    return found


class Wiring:
    """A product's connections, so that ranges of neurons are counted without listing them."""

    def __init__(self, product: Product) -> None:
        self.product = product
        (_, H, W), (_, h, w) = product.in_map, product.out_map
        p = product
        self.rows = taps(H, h, p.kernel[0], p.stride[0], p.padding[0], p.dilation[0])
        self.columns = taps(W, w, p.kernel[1], p.stride[1], p.padding[1], p.dilation[1])
        depth = 0 if p.kind == "attention" else p.in_map[0] // p.groups * len(p.sources)
        per_position = np.outer(self.rows.sum(1), self.columns.sum(1)).ravel().astype(np.int64) * depth
        self.before = np.concatenate([[0], np.cumsum(per_position)])  # connections of the positions before each, of one channel

    @property
    def positions(self) -> int:
        return len(self.before) - 1

    def _up_to(self, n: int) -> int:
        channels, rest = divmod(n, self.positions)
        return channels * int(self.before[-1]) + int(self.before[rest])

    def connections(self, start: int, stop: int) -> int:
        """Connections into neurons start .. stop-1."""
        return self._up_to(stop) - self._up_to(start)

    def weights(self, start: int, stop: int) -> int:
        """Distinct weights that these neurons use: whole channels."""
        return (-(-stop // self.positions) - start // self.positions) * self.product.weights_per_channel if stop > start else 0

    def inputs(self, start: int, stop: int) -> int:
        """Distinct inputs that they read, over all sources."""
        p = self.product
        if stop <= start or p.kind == "attention":
            return 0
        size = self.positions * p.out_map[0] // p.groups  # neurons of a group
        first, last = start // size, (stop - 1) // size
        found = self._read(start - first * size, min(stop, (first + 1) * size) - first * size)
        if last > first:
            found += (last - first - 1) * self._read(0, size) + self._read(0, stop - last * size)
        return found * (p.in_map[0] // p.groups) * len(p.sources)

    @functools.lru_cache(maxsize=4096)  # noqa: B019, a wiring lives as long as its mapping
    def _read(self, start: int, stop: int) -> int:
        """Distinct positions read by neurons start .. stop-1 of a group."""
        h, w = len(self.rows), len(self.columns)
        touched = np.zeros(h * w, bool)
        if stop - start >= h * w:
            touched[:] = True
        else:
            touched[np.arange(start, stop) % (h * w)] = True
        M = touched.reshape(h, w).astype(np.float32)
        return int(np.count_nonzero(self.rows.T.astype(np.float32) @ M @ self.columns.astype(np.float32)))


@dataclass(frozen=True, eq=False)
class Counted:
    """A layer with its wiring and its width of weights on a chip."""

    layer: Layer
    wirings: tuple[Wiring, ...]
    weight_bits: int

    def connections(self, start: int, stop: int) -> int:
        return sum(w.connections(start, stop) for w in self.wirings)

    def weights(self, start: int, stop: int) -> int:
        return sum(w.weights(start, stop) for w in self.wirings)

    def inputs(self, start: int, stop: int) -> int:
        return sum(w.inputs(start, stop) for w in self.wirings)


def counted(layer: Layer, weight_bits: int) -> Counted:
    """A layer made ready to count."""
    return Counted(layer, tuple(Wiring(p) for p in layer.products), weight_bits)


def demand(chip: Chip, what: Counted, start: int, stop: int) -> Mapping[str, int]:
    """What neurons start .. stop-1 take of each resource that a core of this chip limits.

        synapse_bits   connections * weight bits                        ("synapses")
        memory_bits    distinct weights * weight bits + biases * state bits + neurons * states * state bits   ("kernels")
        kernel_words   c_in * 2^(ceil log2(kx ky) + ceil log2 f)        ("words", sinabs)
        neuron_words   f * 2^(ceil log2 fx + ceil log2 fy)              f channels of fx x fy before pooling
    """
    layer, (_, H, W) = what.layer, what.layer.map
    found: dict[str, int] = {}
    channels = -(-stop // (H * W)) - start // (H * W) if stop > start else 0
    biased = any(p.bias for p in layer.products)
    for resource in chip.core:
        if resource == "neurons":
            found[resource] = stop - start
        elif resource == "in_axons":
            found[resource] = what.inputs(start, stop)
        elif resource == "synapse_bits":
            found[resource] = what.connections(start, stop) * what.weight_bits
        elif resource == "memory_bits":
            state = chip.state_bits.value or 0
            words = (stop - start) * (layer.states if chip.steps.value != "one" else 1) + channels * biased
            found[resource] = what.weights(start, stop) * what.weight_bits + words * state
        elif resource == "kernel_words":
            found[resource] = sum(p.in_map[0] * 2 ** (up(p.kernel[0] * p.kernel[1]) + up(channels)) for p in layer.products) if channels else 0
        elif resource == "neuron_words":
            found[resource] = channels * 2 ** (up(H) + up(W))
        elif resource == "bias_words":
            found[resource] = channels * biased
    return found


def up(n: int) -> int:
    """ceil(log2 n).

    >>> [up(n) for n in (1, 2, 3, 9, 16)]
    [0, 1, 2, 4, 4]
    """
    return (n - 1).bit_length()
