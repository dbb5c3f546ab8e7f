"""Nodes without weights and neurons: sums, reshapes, delays, and the readout that ends a network; and the table of all kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neuro.deploy.cells import Cell, RecurrentCell
from neuro.deploy.nodes import (
    LIF,
    Attention,
    Conv,
    Dense,
    Input,
    MaxPool,
    Node,
    Range,
    Shape,
    Unary,
    pooled,
    refuse,
    windows,
)


@dataclass(frozen=True, eq=False)
class Add(Node):
    """Sum of integers of one shape: a residual join. Branches that arrive early are delayed by the network."""

    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if len(self.inputs) < 2:
            raise refuse(self, f"inputs {list(self.inputs)}: a sum has at least two.")

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(set(shapes)) > 1:
            raise refuse(self, "   ".join(f"{n} {list(s)}" for n, s in zip(self.inputs, shapes, strict=True)))
        return shapes[0]

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return sum(r[0] for r in ranges), sum(r[1] for r in ranges)


@dataclass(frozen=True, eq=False)
class Tokens(Unary):
    """[C, H, W] -> [H*W, C]: pixels become tokens, row by row, as `x.flatten(-2).transpose(-1, -2)`."""

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 3:
            raise refuse(self, f"input {list(shapes[0])} is not [C, H, W].")
        C, H, W = shapes[0]
        return H * W, C


@dataclass(frozen=True, eq=False)
class Flatten(Unary):
    """[C, H, W] or [N, D] -> one vector in PyTorch's order."""

    def out_shape(self, *shapes: Shape) -> Shape:
        return (int(np.prod(shapes[0])),)


@dataclass(frozen=True, eq=False)
class TokenSum(Unary):
    """[N, C] -> [C]: sum over tokens."""

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 2:
            raise refuse(self, f"input {list(shapes[0])} is not [N, C].")
        return shapes[0][1:]

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return shapes[0][0] * ranges[0][0], shapes[0][0] * ranges[0][1]


@dataclass(frozen=True, eq=False)
class SumPool(Unary):
    """Sum of each window of [C, H, W]. Takes no step of its own. An average is this, its 1/area part of the next weights."""

    kernel: int | tuple[int, int]
    stride: int | tuple[int, int]
    padding: int | tuple[int, int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        windows(self)

    def out_shape(self, *shapes: Shape) -> Shape:
        return pooled(self, shapes[0])

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        area = self.kernel[0] * self.kernel[1]  # type: ignore[index]
        return min(0, area * ranges[0][0]), max(0, area * ranges[0][1])


@dataclass(frozen=True, eq=False)
class Delay(Unary):
    """out[t] = in[t - steps], zero before: a delay that belongs to the function, not to the pipeline. steps 1 .. 62."""

    steps: int
    integer_fields: ClassVar[tuple[str, ...]] = ("steps",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.steps <= 62:
            raise refuse(self, f"steps is {self.steps}; 1..62 are possible.")

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return min(0, ranges[0][0]), max(0, ranges[0][1])


@dataclass(frozen=True, eq=False)
class Readout(Unary):
    """acc <- acc + a + bias in every step, from zero at the start of a recording. [classes].

    Class scores are acc at the end; in the float model's units they are `acc * scale / T`. bias: int [classes].
    """

    bias: np.ndarray
    scale: float = 1.0
    array_fields: ClassVar[dict[str, Any]] = {"bias": np.int64}

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 1 or self.bias.shape != shapes[0]:
            raise refuse(self, f"input {list(shapes[0])}   bias {list(self.bias.shape)}", cure="Both are [classes].")
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise refuse(self, f"scale is {self.scale}; it must be a positive number.")
        return shapes[0]

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        """Bounds of what one step adds."""
        return ranges[0][0] + int(self.bias.min()), ranges[0][1] + int(self.bias.max())

    def scores(self, acc: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
        """acc [B, classes] after so many steps, one number or [B], in the float model's units, float64."""
        return acc * self.scale / (np.asarray(steps)[:, None] if np.ndim(steps) else steps)


@dataclass(frozen=True, eq=False)
class SumReadout(Readout):
    """A Readout whose scores are the sum itself, `acc * scale`, and not its mean over the steps."""

    def scores(self, acc: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
        """acc [B, classes] in the float model's units, float64."""
        return acc * self.scale


@dataclass(frozen=True, eq=False)
class StepReadout(Readout):
    """An answer at every step: acc = a + bias, and nothing of it is kept. In the float model's units `acc * scale`."""

    def scores(self, acc: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
        """acc [T, B, classes] in the float model's units, float64."""
        return acc * self.scale


KINDS: dict[str, type[Node]] = {
    "input": Input, "conv": Conv, "dense": Dense, "attention": Attention, "lif": LIF, "maxpool": MaxPool, "add": Add,
    "tokens": Tokens, "flatten": Flatten, "tokensum": TokenSum, "readout": Readout,
    "cell": Cell, "recurrentcell": RecurrentCell, "sumpool": SumPool, "delay": Delay, "stepreadout": StepReadout, "sumreadout": SumReadout,
}
KIND_OF = {cls: kind for kind, cls in KINDS.items()}
