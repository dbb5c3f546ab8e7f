"""The nodes of an integer network: what each computes, the shape it gives, and the values it can reach.

Shapes are per time step, without T and B, in PyTorch's order: `[C, H, W]` for maps, `[N, D]` for tokens, `[D]` for
vectors. All values are integers. A node with `synapse = True` delivers at step t+1 what it gathered at t, as Lava's do.
Weights are integers on the chip's 8-bit grid; `neuro.deploy.rules` checks that, a node only checks that it is coherent.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from neuro.errors import GraphError, explain

Shape = tuple[int, ...]
Range = tuple[int, int]     # smallest and largest value an output can take
NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def refuse(node: Any, *facts: str, cure: str = "") -> GraphError:
    """The error for a node that cannot be built: names the node and its kind."""
    return GraphError(explain(f"{type(node).__name__} {node.name!r} cannot be built.", *facts, cure=cure))


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) from one number or two."""
    first, second = (value, value) if isinstance(value, (int, np.integer)) else value
    return operator.index(first), operator.index(second)


@dataclass(frozen=True, eq=False)
class Node:
    """Base of all nodes. `name` is a dotted module path such as `stem.0.conv`."""

    name: str
    synapse: ClassVar[bool] = False
    array_fields: ClassVar[dict[str, Any]] = {}     # field -> dtype in which it is kept
    integer_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise refuse(self, "A name is letters, digits and underscores, joined by dots.")
        for field in self.integer_fields:
            try:
                object.__setattr__(self, field, operator.index(getattr(self, field)))
            except TypeError:
                raise refuse(self, f"{field} is {getattr(self, field)!r}.", cure="It must be an integer.") from None
        for field, dtype in self.array_fields.items():
            value = np.asarray(getattr(self, field))
            if value.dtype.kind not in "iu":
                raise refuse(self, f"{field} has dtype {value.dtype}.", cure="Round it to integers first.")
            if value.size and (value.max() > np.iinfo(dtype).max or value.min() < np.iinfo(dtype).min):
                raise refuse(self, f"{field} reaches {value.min()}..{value.max()}, beyond {np.dtype(dtype).name}.")
            value = np.array(value, dtype=dtype, order="C")
            value.setflags(write=False)
            object.__setattr__(self, field, value)

    def out_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return ranges[0]

    def parameters(self) -> dict[str, Any]:
        """Everything but name, inputs and arrays: plain numbers and lists of numbers."""
        skip = {"name", "input", "inputs", "q", "k", "v", *self.array_fields}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in skip}


@dataclass(frozen=True, eq=False)
class Unary(Node):
    """A node with one input, named by `input`."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Input(Node):
    """Graded events entering the network: integers 0 .. 2**message_bits - 1, shape `shape`."""

    shape: Shape
    message_bits: int = 1
    integer_fields: ClassVar[tuple[str, ...]] = ("message_bits",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if not 1 <= len(self.shape) <= 3 or min(self.shape) < 1:
            raise refuse(self, f"shape {list(self.shape)}: one to three positive sizes are needed.")
        if not 1 <= self.message_bits <= 16:
            raise refuse(self, f"message_bits is {self.message_bits}; 1..16 are possible.")

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    def out_shape(self, *shapes: Shape) -> Shape:
        return self.shape

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return 0, 2**self.message_bits - 1


def times(a: Range, b: Range) -> Range:
    """Bounds of a product of numbers in two ranges, 0 included."""
    ends = [x * y for x in a for y in b]
    return min(0, *ends), max(0, *ends)


def scaled(a: Range, by: int) -> Range:
    """Bounds of a range times a number."""
    return min(a[0] * by, a[1] * by), max(a[0] * by, a[1] * by)


def weighted_range(weight: np.ndarray, low: int, high: int) -> Range:
    """Bounds of `w . x` over rows of weight [O, ...] for x in low..high, where an x may also be absent (0)."""
    rows = weight.reshape(weight.shape[0], -1).astype(np.int64)
    positive, negative = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    low, high = min(low, 0), max(high, 0)
    return int((positive * low + negative * high).min()), int((positive * high + negative * low).max())


@dataclass(frozen=True, eq=False)
class Conv(Unary):
    """Cross-correlation as `torch.nn.functional.conv2d`: [C, H, W] -> [O, H', W']. weight [O, C/groups, kh, kw]."""

    weight: np.ndarray
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    synapse: ClassVar[bool] = True
    integer_fields: ClassVar[tuple[str, ...]] = ("groups",)
    array_fields: ClassVar[dict[str, Any]] = {"weight": np.int32}

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("stride", "padding", "dilation"):
            object.__setattr__(self, field, pair(getattr(self, field)))
        if self.weight.ndim != 4 or 0 in self.weight.shape:
            raise refuse(self, f"weight {list(self.weight.shape)} is not [O, C/groups, kh, kw].")
        if self.groups < 1 or self.weight.shape[0] % self.groups:
            raise refuse(self, f"{self.weight.shape[0]} output channels do not split into {self.groups} groups.")
        if min(self.stride) < 1 or min(self.dilation) < 1 or min(self.padding) < 0:
            raise refuse(self, f"stride {self.stride}, dilation {self.dilation}, padding {self.padding}.")

    def out_shape(self, *shapes: Shape) -> Shape:
        outputs, inputs, *kernel = self.weight.shape
        if len(shapes[0]) != 3 or shapes[0][0] != inputs * self.groups:
            raise refuse(self, f"input {list(shapes[0])}   weight {list(self.weight.shape)}   groups {self.groups}")
        out = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in
                    zip(shapes[0][1:], self.padding, self.dilation, kernel, self.stride, strict=True))
        if min(out) < 1:
            raise refuse(self, f"input {list(shapes[0])} is smaller than the kernel {kernel}.")
        return (outputs, *out)

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return weighted_range(self.weight, *ranges[0])


@dataclass(frozen=True, eq=False)
class Dense(Unary):
    """Product on the last axis: [N, I] -> [N, O] for each token, [I] -> [O]. weight [O, I]."""

    weight: np.ndarray
    synapse: ClassVar[bool] = True
    array_fields: ClassVar[dict[str, Any]] = {"weight": np.int32}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise refuse(self, f"weight {list(self.weight.shape)} is not [O, I].")

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) not in (1, 2) or shapes[0][-1] != self.weight.shape[1]:
            raise refuse(self, f"input {list(shapes[0])}   weight {list(self.weight.shape)}",
                         cure="The input is [I] or [N, I]; put Tokens or Flatten before it.")
        return (*shapes[0][:-1], self.weight.shape[0])

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return weighted_range(self.weight, *ranges[0])


@dataclass(frozen=True, eq=False)
class Attention(Node):
    """weight * (q k^T) v in each head and step. q, k, v [N, D]; head h owns columns h*d .. (h+1)*d, d = D/heads.

    Of spikes an output reaches N * d * weight; of levels 0 .. L in all three that times L^3, which soon fills the accumulator.
    """

    q: str
    k: str
    v: str
    heads: int
    weight: int = 1
    synapse: ClassVar[bool] = True
    integer_fields: ClassVar[tuple[str, ...]] = ("heads", "weight")

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.q, self.k, self.v

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or self.heads < 1 or shapes[0][1] % self.heads:
            raise refuse(self, f"q {list(shapes[0])}   k {list(shapes[1])}   v {list(shapes[2])}   heads {self.heads}",
                         cure="All three are [N, D] and D splits into heads.")
        return shapes[0]

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        N, D = shapes[0]
        score = scaled(times(ranges[0], ranges[1]), D // self.heads)
        return scaled(times(score, ranges[2]), N * self.weight)


@dataclass(frozen=True, eq=False)
class LIF(Unary):
    """Lava's fixed-point LIF. With q(x, k) = sign(x) * (|x| * (4096 - k) >> 12), per step:

        u <- q(u, du + 1) + (a << 6),   wrapped once into (-2^23, 2^23]
        v <- clip(q(v, dv) + u + (bias_mant << bias_exp), -(2^23 - 1), 2^23 - 1)
        s  = v > (vth << 6);   v <- 0 where s

    `du = 4095` keeps no current. `bias_mant` is one number or one per channel: axis 0 of [C, H, W], else the last axis.
    """

    dv: int
    vth: int
    bias_mant: np.ndarray | int = 0
    bias_exp: int = 0
    du: int = 4095
    integer_fields: ClassVar[tuple[str, ...]] = ("dv", "vth", "bias_exp", "du")
    array_fields: ClassVar[dict[str, Any]] = {"bias_mant": np.int32}

    def out_shape(self, *shapes: Shape) -> Shape:
        channels = shapes[0][0] if len(shapes[0]) == 3 else shapes[0][-1]
        if self.bias_mant.shape not in ((), (channels,)):
            raise refuse(self, f"input {list(shapes[0])}   bias_mant {list(self.bias_mant.shape)}",
                         cure=f"One number, or {channels} of them.")
        return shapes[0]

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return 0, 1

    def bias(self, channels: int) -> np.ndarray:
        """bias_mant << bias_exp for each channel, int32 [channels]."""
        return np.ascontiguousarray(np.broadcast_to(self.bias_mant << self.bias_exp, (channels,)), np.int32)


def windows(node: Any) -> None:
    """Kernel, stride and padding of a pool as pairs, checked."""
    for field in ("kernel", "stride", "padding"):
        object.__setattr__(node, field, pair(getattr(node, field)))
    if min(node.kernel + node.stride) < 1 or any(p < 0 or p * 2 > k for p, k in zip(node.padding, node.kernel, strict=True)):
        raise refuse(node, f"kernel {node.kernel}, stride {node.stride}, padding {node.padding}.", cure="The padding is at most half the kernel.")


def pooled(node: Any, shape: Shape) -> Shape:
    """Shape of a pool's output."""
    if len(shape) != 3:
        raise refuse(node, f"input {list(shape)} is not [C, H, W].")
    out = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape[1:], node.padding, node.kernel, node.stride, strict=True))
    if min(out) < 1:
        raise refuse(node, f"input {list(shape)} is smaller than the window {node.kernel}.")
    return (shape[0], *out)


@dataclass(frozen=True, eq=False)
class MaxPool(Unary):
    """Largest value of each window of [C, H, W], as `max_pool2d`: padding is never the largest. Takes no step of its own."""

    kernel: int | tuple[int, int]
    stride: int | tuple[int, int]
    padding: int | tuple[int, int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        windows(self)

    def out_shape(self, *shapes: Shape) -> Shape:
        return pooled(self, shapes[0])
