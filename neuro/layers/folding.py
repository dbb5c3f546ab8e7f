"""Layers that do not know time, made to: time is folded into the batch and unfolded again."""

from __future__ import annotations

from torch import Tensor, nn

from neuro.errors import ShapeError, explain, not_a_tensor, sizes


def fold(x: Tensor) -> Tensor:
    """[T, B, ...] -> [T*B, ...]."""
    return x.flatten(0, 1)


def unfold(y: Tensor, like: Tensor) -> Tensor:
    """[T*B, ...] -> [T, B, ...] with T and B of `like`."""
    return y.unflatten(0, like.shape[:2])


def expect(name: str, x: Tensor, axes: str, **fixed: int) -> None:
    """Check the rank of `x` against axis letters such as "TBCHW" and the sizes named in `fixed`."""
    if not hasattr(x, "dim"):
        raise not_a_tensor(name, x)
    if x.dim() != len(axes):
        raise ShapeError(
            explain(
                f"{name}: the input must be [{', '.join(axes)}].",
                f"x {list(x.shape)} has {x.dim()} axes, not {len(axes)}",
                cure="Time is axis 0 and batch axis 1. Repeat a static input with neuro.encode.direct(x, steps)."
                if x.dim() == len(axes) - 1
                else "Time is axis 0 and batch axis 1.",
            )
        )
    for axis, size in fixed.items():
        if x.shape[axes.index(axis)] != size:
            have = sizes(**dict(zip(axes, x.shape, strict=True)))
            raise ShapeError(explain(f"{name}: the input does not fit.", f"x {have}   expected {axis}={size}", cure="Are axes swapped?"))


class Fold(nn.Module):
    """Apply any per-step layer to every step: [T, B, ...] -> [T*B, ...] -> layer -> [T, B, ...].

    Statistics of a wrapped norm are taken over time and batch, padded steps included; `neuro.layers.BatchNorm` leaves
    them out. A wrapped layer must keep axis 0.
    """

    folds_time = True

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(x, "dim"):
            raise not_a_tensor("Fold", x)
        y = self.layer(fold(x))
        if y.shape[0] != x.shape[0] * x.shape[1]:
            raise ShapeError(explain(f"Fold: {type(self.layer).__name__} changed axis 0.", f"in {list(x.shape)}   out {list(y.shape)}"))
        return unfold(y, x)
