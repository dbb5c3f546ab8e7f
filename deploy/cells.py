"""Neurons beyond Lava's LIF, in the same arithmetic: constants per channel, soft reset, adaptation, levels, feedback.

Lava's library has no process for these; Loihi 2 would need a microcode program. Reference, twin and torch agree on them bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neuro.deploy.nodes import Range, Shape, Unary, refuse, weighted_range
from neuro.reset import RULES

LEVELS = 15
PER_CHANNEL = ("dv", "vth", "du", "bias_mant", "dh", "jump")


@dataclass(frozen=True, eq=False)
class Cell(Unary):
    """A neuron in Lava's fixed point. With q(x, k) = sign(x) * (|x| * (4096 - k) >> 12), per step:

        u <- q(u, du + 1) + (a << 6) + (bias_mant << bias_exp)
        v <- clip(q(v, dv) - r + u, -(2^23 - 1), 2^23 - 1)
        theta = (vth << 6) + h
        s  = how many of 1 .. levels are k with v > k * theta
        v <- 0 where s ("zero"),  v - s * theta ("subtract"),  v ("none", "late")
        r <- s * (vth << 6) ("late": taken from the next membrane, behind the leak),  0 otherwise
        h <- min(q(h, dh) + s * jump, 2^23 - 1)

    Unlike in LIF the bias goes through the current's memory, as a bias of the layer before does in a float CUBALIF; without such
    memory (`du = 4095`) that is the same. u never wraps: `neuro.deploy.rules` bounds it, bias included. `dv`, `vth`, `du`,
    `bias_mant`, `dh` and `jump` are one number or one per channel: axis 0 of [C, H, W], else the last axis.
    """

    dv: np.ndarray | int
    vth: np.ndarray | int
    bias_mant: np.ndarray | int = 0
    bias_exp: int = 0
    du: np.ndarray | int = 4095
    reset: str = "zero"
    levels: int = 1
    dh: np.ndarray | int = 4096
    jump: np.ndarray | int = 0
    integer_fields: ClassVar[tuple[str, ...]] = ("bias_exp", "levels")
    array_fields: ClassVar[dict[str, Any]] = dict.fromkeys(PER_CHANNEL, np.int32)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reset not in RULES:
            raise refuse(self, f"reset is {self.reset!r}.", cure=f"One of {', '.join(RULES)}.")
        if not 1 <= self.levels <= LEVELS:
            raise refuse(self, f"levels is {self.levels}; 1..{LEVELS} are possible.")
        if not -32 <= self.bias_exp <= 32:
            raise refuse(self, f"bias_exp is {self.bias_exp}; 0..7 are possible.")

    def out_shape(self, *shapes: Shape) -> Shape:
        channels = shapes[0][0] if len(shapes[0]) == 3 else shapes[0][-1]
        for name in PER_CHANNEL:
            found = getattr(self, name).shape  # type: ignore[union-attr]
            if found not in ((), (channels,)):
                raise refuse(self, f"input {list(shapes[0])}   {name} {list(found)}", cure=f"One number, or {channels} of them.")
        return shapes[0]

    def out_range(self, shapes: tuple[Shape, ...], ranges: tuple[Range, ...]) -> Range:
        return 0, self.levels

    def constants(self, channels: int) -> np.ndarray:
        """dv, vth, du, bias (shifted), dh and jump of each channel, int64 [6, channels]."""
        rows = [getattr(self, name).astype(np.int64) for name in PER_CHANNEL]
        rows[3] = rows[3] << max(self.bias_exp, 0) >> max(-self.bias_exp, 0)
        return np.stack([np.broadcast_to(row, (channels,)) for row in rows])


@dataclass(frozen=True, eq=False)
class RecurrentCell(Cell):
    """A Cell on [N] whose spikes of the last step come back: a <- a + weight s[t-1]. weight int [N, N], on the grid of a Dense.

    The loop takes the one step that a synapse takes.
    """

    weight: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    array_fields: ClassVar[dict[str, Any]] = {**Cell.array_fields, "weight": np.int32}

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 1 or self.weight.shape != shapes[0] * 2:
            raise refuse(self, f"input {list(shapes[0])}   weight {list(self.weight.shape)}", cure="They are [N] and [N, N].")
        return super().out_shape(*shapes)

    def feedback_range(self) -> Range:
        """Bounds of weight s."""
        return weighted_range(self.weight, 0, self.levels)
